"""One state of a repository, as hub clients see it: a commit id of 40 digits, and files with git object ids.

A learnware that the operator added to the dock's folder has no repository; it is shown as one such state.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from learndock.dock.protocol import Record
from learndock.errors import NotFound
from learndock.files import sha256_bytes
from learndock.http.hub.failures import Missing, missing
from learndock.package.manifest import MANIFEST
from learndock.service.changes import Entry, Repository
from learndock.service.principal import Principal
from learndock.service.repositories import MAIN
from learndock.service.service import Service

#: Files of more bytes than this are LFS objects: they come before a commit, and are known by their SHA-256. Clients
#: with `hf_xet` send them in chunks (`xet.py`). In a commit, a file costs the client four times its size in memory.
LARGE = 50_000_000
#: The commit of a repository that has none yet.
EMPTY = "0" * 40
#: The names of the newest commit.
HEADS = (MAIN, "HEAD", f"refs/heads/{MAIN}")


@dataclass(frozen=True)
class Snapshot:
    """``entries`` by path, sorted; ``kept`` has files that are not blobs; ``record`` is the published learnware."""

    name: str
    private: bool
    commit: str
    created: float
    changed: float
    note: str | None
    entries: dict[str, Entry]
    kept: dict[str, bytes]
    record: Record | None
    repository: Repository | None = None

    def entry(self, path: str) -> Entry:
        """Return one file.

        Raises:
            Missing: there is none.
        """
        if path not in self.entries:
            raise _no_file(self.name, path, self.commit)
        return self.entries[path]


def find(service: Service, who: Principal, name: str, revision: str = MAIN) -> Snapshot:
    """Return the state of ``owner/name`` at a revision, if ``who`` may see it.

    Raises:
        Missing: there is no such repository, or no such revision.
    """
    try:
        repository = service.repositories.get(who, name)
    except NotFound:
        with missing("RepoNotFound"):
            return _of_record(service, service.catalogue.current(who, name), revision)
    return _of_repository(service, who, repository, revision)


def find_file(service: Service, who: Principal, name: str, revision: str, path: str) -> tuple[str, Entry, bytes | None]:
    """Return the commit, one file, and its bytes if they are not a blob; does not read the rest of the tree.

    Raises:
        Missing: there is no such repository, revision, or file.
    """
    try:
        repository = service.repositories.get(who, name)
    except NotFound:
        snapshot = find(service, who, name, revision)
        return snapshot.commit, snapshot.entry(path), snapshot.kept.get(path)
    if repository.head is None and revision in (*HEADS, EMPTY):
        # A client that pushes reads the card first, and passes over this kind of absence only.
        raise _no_file(repository.name, path, EMPTY)
    with missing("RevisionNotFound"):
        commit = service.versions.resolve(repository, revision)
    with missing("EntryNotFound", commit.id):
        return commit.id, service.repositories.file(commit, path), None


def is_large(size: int) -> bool:
    """Return whether a file of this size is an LFS object."""
    return size > LARGE


def etag(entry: Entry) -> str:
    """Return the ETag of a file, by which clients cache it."""
    return entry.sha256 if is_large(entry.size) else entry.oid


def described(entry: Entry) -> dict[str, Any]:
    """Return a file's entry in a tree; for git, a large file is a pointer to its bytes."""
    found: dict[str, Any] = {"type": "file", "oid": entry.oid, "size": entry.size, "path": entry.path}
    if is_large(entry.size):
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{entry.sha256}\nsize {entry.size}\n".encode()
        found["oid"] = _git_name(pointer)
        found["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": len(pointer)}
    return found


def time_text(seconds: float) -> str:
    """Return a time in the format of these clients."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _of_repository(service: Service, who: Principal, repository: Repository, revision: str) -> Snapshot:
    record = None
    if repository.digest is not None:
        try:
            record = service.catalogue.record(who, repository.name)
        except NotFound:  # published or removed this very moment
            record = None
    if repository.head is None and revision in (*HEADS, EMPTY):
        commit, entries = EMPTY, {}
    else:
        with missing("RevisionNotFound"):
            found = service.versions.resolve(repository, revision)
        commit, entries = found.id, service.repositories.tree(found)
    return Snapshot(
        name=repository.name,
        private=repository.private,
        commit=commit,
        created=repository.created,
        changed=repository.changed,
        note=repository.note,
        entries=entries,
        kept={},
        record=record,
        repository=repository,
    )


def _of_record(service: Service, record: Record, revision: str) -> Snapshot:
    commit = record.digest[:40]
    if revision not in HEADS and not (len(revision) >= 7 and record.digest.startswith(revision)):
        raise Missing(
            f"no revision {revision[:80]!r}", "RevisionNotFound", remedy=f"there is {MAIN}", about=record.name
        )
    source = record.manifest.to_bytes()
    entries = {MANIFEST: Entry(MANIFEST, sha256_bytes(source), len(source), _git_name(source))}
    for file in record.manifest.files:
        # What is large is known by its SHA-256 alone: no need to read it for its name in git.
        oid = "" if is_large(file.size) else service.holdings.known(file.sha256).oid
        entries[file.path] = Entry(file.path, file.sha256, file.size, oid)
    return Snapshot(
        name=record.name,
        private=False,
        commit=commit,
        created=0.0,
        changed=0.0,
        note=None,
        entries=dict(sorted(entries.items())),
        kept={MANIFEST: source},
        record=record,
    )


def _no_file(name: str, path: str, commit: str) -> Missing:
    return Missing(
        f"no file {path[:200]} at {commit[:12]}", "EntryNotFound", commit, remedy="its tree lists what there is",
        about=name,
    )  # fmt: skip


def _git_name(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
