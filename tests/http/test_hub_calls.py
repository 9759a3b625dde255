"""Every call of the installed hub client works, or is refused in words; `make soak-hub` tries the other versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub_versions import AS_A_PERSON, tried
from tests.support.serving import Site, served

pytest.importorskip("huggingface_hub", reason="asks with the hub's clients")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("calls") / "dock") as site:
        yield site


def test_every_call_works_or_is_refused_in_words(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tried(site, tmp_path, monkeypatch=monkeypatch)
    worse = {call: detail for call, (outcome, detail) in found.items() if outcome == "fails"}
    assert not worse
    assert len(found) > 40
    assert AS_A_PERSON["HTTPS_PROXY"], "nothing leaves this machine"
