"""What publishing costs: transactions of both databases, counted where they begin.

A transaction is what ``BEGIN`` starts: of the service's tables (SQLAlchemy) and of the dock's records (sqlite3). Single
statements that the dock asks outside of one are not counted, they hold nothing.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from learndock.dock.storage import sqlite
from learndock.package.manifest import Manifest
from tests.support.docking import make_learnware, seal
from tests.support.serving import Site, served

API = "/api/v1"
Statements = list[str]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    # The chores of the service are kept away: only what requests do is counted.
    with served(tmp_path / "dock", gc_hours=0, scrub_hours=0, rate=0) as site:
        yield site


@contextlib.contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Statements]:
    """Every statement of both databases while the block runs."""
    seen: Statements = []

    def executed(_: Any, __: Any, statement: str, *___: Any) -> None:
        seen.append(statement)

    connect: Callable[..., sqlite3.Connection] = sqlite._connect

    def traced(*values: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*values, **named)
        connection.set_trace_callback(seen.append)
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "_connect", traced)
        event.listen(Engine, "before_cursor_execute", executed)
        try:
            yield seen
        finally:
            event.remove(Engine, "before_cursor_execute", executed)


def begun(statements: Statements) -> int:
    return sum(statement.startswith("BEGIN") for statement in statements)


def writes(statements: Statements) -> int:
    return sum(statement.startswith("BEGIN IMMEDIATE") for statement in statements)


def test_publishing_takes_four_writing_transactions(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request that publishes five files; they were uploaded before."""
    token = site.token("ada")
    folder = make_learnware(tmp_path / "good", "ada/good")
    manifest = Manifest.from_folder(folder)
    for file in manifest.files:
        site.upload((folder / file.path).read_bytes(), token)
    with counted(monkeypatch) as statements:
        answer = site.post(f"{API}/learnwares", {"manifest": manifest.model_dump(mode="json")}, token=token)
    assert answer.status == 201
    # Leases and repository; the dock's note of intent and its publication; the commit. And three that read: who asks,
    # whether the name is theirs, and the files.
    assert writes(statements) == 4
    assert begun(statements) <= 7
    asked = [s for s in statements if "FROM blobs" in s and s.startswith("SELECT")]
    assert len(asked) == 1, "one query for all files, however many there are"


def test_a_learnware_that_comes_in_one_request_takes_four_writing_transactions(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its files: no more than to publish what was uploaded before."""
    token = site.token("ada")
    folder = make_learnware(tmp_path / "good", "ada/good")
    body = inline(folder)
    with counted(monkeypatch) as statements:
        answer = site.post(f"{API}/learnwares/inline", body, token=token)
    assert answer.status == 201, answer
    assert writes(statements) == 4
    assert begun(statements) <= 6
    assert site.post(f"{API}/learnwares/inline", body, token=token).status == 200
    assert [p for p in site.service.dock.verify() if p.severity == "error"] == []


def inline(folder: Path, *left_out: str) -> bytes:
    """The body that publishes a learnware with its files, but for those that are left out."""
    manifest = Manifest.from_folder(folder)
    paths = [f.path for f in manifest.files if f.path not in left_out]
    line = json.dumps({"manifest": manifest.model_dump(mode="json"), "files": paths}).encode()
    return line + b"\n" + b"".join((folder / path).read_bytes() for path in paths)


def test_what_comes_in_one_request_is_checked_like_an_upload(site: Site, tmp_path: Path) -> None:
    token, other = site.token("ada"), site.token("bob")
    folder = make_learnware(tmp_path / "good", "ada/good")
    body = inline(folder)
    assert site.post(f"{API}/learnwares/inline", body, token=other).status == 404, "not bob's name"
    assert site.post(f"{API}/learnwares/inline", body).status == 401
    assert site.post(f"{API}/learnwares/inline", body[:-1], token=token).status == 400, "cut off"
    assert site.post(f"{API}/learnwares/inline", body + b"x", token=token).status == 400
    changed = body[:-1] + bytes([body[-1] ^ 1])
    assert site.post(f"{API}/learnwares/inline", changed, token=token).status == 422, "other bytes"
    weights = next(f for f in Manifest.from_folder(folder).files if f.path.endswith(".safetensors"))
    partly = inline(folder, weights.path)
    assert site.post(f"{API}/learnwares/inline", partly, token=token).status == 404, "not uploaded"
    assert site.get(f"{API}/learnwares").body["learnwares"] == []
    assert list(site.service.storage.blobs.digests()) == [], "what was refused is not stored"
    site.upload((folder / weights.path).read_bytes(), token)
    assert site.post(f"{API}/learnwares/inline", partly, token=token).status == 201


def test_the_number_of_transactions_does_not_grow_with_the_files(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = site.token("ada")
    counts = []
    for number in (0, 20):
        folder = make_learnware(tmp_path / f"l{number}", f"ada/l{number}")
        for i in range(number):
            (folder / f"extra-{i}.txt").write_text(f"{i}")
        manifest = seal(folder, f"ada/l{number}")
        for file in manifest.files:
            site.upload((folder / file.path).read_bytes(), token)
        with counted(monkeypatch) as statements:
            answer = site.post(f"{API}/learnwares", {"manifest": manifest.model_dump(mode="json")}, token=token)
        assert answer.status == 201, answer
        counts.append((begun(statements), writes(statements)))
    assert counts[0] == counts[1]
    assert counts[0][1] == 4


def test_an_upload_takes_six_transactions_for_its_two_requests(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Announcing a file and sending it, in one piece: who asks (twice), the announcement, where it goes on, its end."""
    token = site.token("ada")
    with counted(monkeypatch) as statements:
        site.upload(b"some bytes", token)
    assert begun(statements) == 6


def test_a_commit_of_many_files_takes_as_many_transactions_as_one_of_two(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files inside a hub client's commit get their leases together; their bytes are synced once each."""
    token = site.token("ada")
    counts = []
    for number in (2, 60):
        site.post("/api/repos/create", {"name": f"plain{number}"}, token=token)
        lines = [{"key": "header", "value": {"summary": "files"}}]
        for i in range(number):
            content = base64.b64encode(f"{number} {i}".encode()).decode()
            lines.append({"key": "file", "value": {"path": f"{i % 7}/{i}.txt", "content": content}})
        body = "\n".join(json.dumps(line) for line in lines).encode()
        synced: list[int] = []
        sync = os.fsync

        def counting(handle: int, synced: list[int] = synced, sync: Callable[[int], None] = sync) -> None:
            synced.append(handle)
            sync(handle)

        with counted(monkeypatch) as statements, monkeypatch.context() as patch:
            patch.setattr(os, "fsync", counting)
            answer = site.post(f"/api/models/ada/plain{number}/commit/main", body, token=token)
        assert answer.status == 200, answer
        counts.append(begun(statements))
        # Each file, its folder at most, and the folder of folders.
        assert number <= len(synced) <= 2 * number + 1
    assert counts[0] == counts[1] <= 10


def test_a_manifest_is_parsed_once(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the server's process; the process that looks at strangers' files reads it once more, by design."""
    token = site.token("ada")
    folder = make_learnware(tmp_path / "good", "ada/good")
    manifest = Manifest.from_folder(folder)
    for file in manifest.files:
        site.upload((folder / file.path).read_bytes(), token)
    calls = {"from_bytes": 0, "to_bytes": 0}
    parse, write = Manifest.from_bytes.__func__, Manifest.to_bytes  # type: ignore[attr-defined]

    def from_bytes(kind: type[Manifest], *values: Any, **named: Any) -> Any:
        calls["from_bytes"] += 1
        return parse(kind, *values, **named)

    def to_bytes(self: Manifest) -> bytes:
        calls["to_bytes"] += 1
        return write(self)

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "from_bytes", classmethod(from_bytes))
        patch.setattr(Manifest, "to_bytes", to_bytes)
        answer = site.post(f"{API}/learnwares", {"manifest": manifest.model_dump(mode="json")}, token=token)
    assert answer.status == 201
    assert calls["from_bytes"] == 1
    assert calls["to_bytes"] <= 3  # for its digest, for the repository's file, for the dock's record
