"""Progress where standard error is no terminal: lines with counts, and none for short work."""

from __future__ import annotations

import pytest

from learndock.cli import show


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with show.progress("packing") as report:
        assert report is not None
        for done in range(1, 101):
            report(done, 100)
    assert capsys.readouterr() == ("", "")


def test_long_work_prints_a_line_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("learndock.cli.show.time.monotonic", lambda: now[0])
    with show.progress("packing") as report:
        assert report is not None
        for done in range(1, 11):
            now[0] += 0.5
            report(done * 1_000, 10_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["... packing: 4,000 of 10,000", "... packing: 8,000 of 10,000"]


def test_stages_have_their_own_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("learndock.cli.show.time.monotonic", lambda: now[0])
    with show.stages() as report:
        for stage in ("one", "two"):
            for done in range(4):
                report(stage, done, 4)
                now[0] += show.SECONDS
    assert capsys.readouterr().err.splitlines() == [f"... {s}: {n} of 4" for s in ("one", "two") for n in (1, 2, 3)]


def test_quiet_work_has_no_report() -> None:
    with show.progress("packing", quiet=True) as report:
        assert report is None
