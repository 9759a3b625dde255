"""A service on a disk that is full or fails: what it says, what still works, and how it gets out of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from learndock.dock import open_dock
from tests.support.docking import make_learnware
from tests.support.killing import strace
from tests.support.processes import Serving, serving, stores
from tests.support.serving import Answer, Refused

API = "/api/v1"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount a small file system here; it takes root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def names_no_place(answer: Answer, place: Path) -> bool:
    said = json.dumps(answer.body)
    return not any(part in said for part in (str(place), "uploads/", ".sqlite", "blobs/", "staging", "/dock"))


def test_a_full_disk_is_named_and_deletions_free_it(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_disk)
    with serving(Path("dock"), "--gc-hours", "0") as site:
        operator = site.operator()
        ada = site.user(operator, "ada")
        other = site.post(f"{API}/tokens", {"name": "other", "scope": "write"}, token=ada).body
        names = [f"ada/m{number}" for number in range(3)]
        site.ready()
        assert site.get(f"{API}/ready").body["full"] is False
        for name in names:
            folder = make_learnware(tmp_path / name, name, numbers=500_000)
            assert published(site, folder, ada).status == 201
        with (small_disk / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        refused = [published(site, make_learnware(tmp_path / "new", "ada/new"), ada)]
        begun = site.post(f"{API}/uploads", {"sha256": "1" * 64, "size": 5}, token=ada)
        refused.append(begun)
        ready = site.get(f"{API}/ready")
        assert ready.status == 200
        assert ready.body["full"] is True
        assert "disk of the service's folder is full" in ready.body["problems"][0]
        assert b"learndock_full 1.0" in site.get(f"{API}/metrics").body
        for answer in refused:
            assert (answer.status, answer.body["error"]["code"]) == (507, "storage_full"), answer
            assert "delete" in answer.body["error"]["remedy"]
            assert names_no_place(answer, small_disk)
        # What takes something away works: privacy, tokens, learnwares.
        answer = site.ask("PATCH", f"{API}/repositories/{names[0]}", {"private": True}, token=ada)
        assert answer.status == 200, answer
        assert site.get(f"{API}/learnwares/{names[0]}/files/config.json").status == 404
        assert site.ask("DELETE", f"{API}/tokens/{other['id']}", token=ada).status == 204
        for name in names:
            answer = site.ask("DELETE", f"{API}/learnwares/{name}", token=ada)
            assert answer.status == 204, answer
        os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - (1 << 20))
        until = time.monotonic() + 30
        while site.get(f"{API}/ready").body["full"]:
            assert time.monotonic() < until, "what was deleted is still there"
            time.sleep(0.2)
        assert site.publish(make_learnware(tmp_path / "after", "ada/after", numbers=100_000), ada).status == 201
    assert [p for p in open_dock(Path("dock")).verify() if p.severity == "error"] == []


@contextlib.contextmanager
def failing(site: Serving, call: str) -> Iterator[None]:
    """Let the first ``call`` of each thread of the server say EIO."""
    tracer, why = strace()
    if tracer is None:
        pytest.skip(f"{why}; no call fails")
    command = [
        tracer,
        "-f",
        "-p",
        str(site.process.pid),
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:error=EIO:when=1",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "attached" in line:
            break
    time.sleep(0.2)
    try:
        yield
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.parametrize("backend", ["embedded", "server-backed"])
def test_a_disk_that_fails_is_507_and_never_success(tmp_path: Path, backend: str) -> None:
    with contextlib.ExitStack() as stack:
        flags = stack.enter_context(stores(backend))
        site = stack.enter_context(serving(tmp_path / "dock", *flags, "--gc-hours", "0", "--scrub-hours", "0"))
        ada = site.user(site.operator(), "ada")
        failures = 0
        for number, call in enumerate(("fsync", "fdatasync", "rename")):
            folder = make_learnware(tmp_path / "made" / call, f"ada/{call}")
            with failing(site, call):
                for _ in range(4):
                    answer = published(site, folder, ada)
                    if answer.status < 300:
                        break
                    failures += 1
                    assert answer.status == 507, answer
                    assert answer.body["error"]["code"] == "storage_failed"
                    assert names_no_place(answer, tmp_path)
            answer = published(site, folder, ada)
            assert answer.status in (200, 201), answer
            listed = site.get(f"{API}/learnwares").body["learnwares"]
            assert [r["name"] for r in listed] == [f"ada/{c}" for c in ("fsync", "fdatasync", "rename")[: number + 1]]
            for file in ("model.safetensors", "config.json"):
                got = site.get(f"{API}/learnwares/ada/{call}/files/{file}")
                assert got.body == (folder / file).read_bytes() or got.body == json.loads((folder / file).read_bytes())
        assert failures >= (3 if backend == "embedded" else 1)


def published(site: Serving, folder: Path, token: str) -> Answer:
    """Publish; returns the first answer that is not a success, of an upload too."""
    try:
        return site.publish(folder, token)
    except Refused as refused:
        return refused.answer
