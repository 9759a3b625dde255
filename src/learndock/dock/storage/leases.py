"""Leases: files beside the dock that keep ``gc`` from deleting blobs while they are read.

    leases/RANDOM.json   {"process": 4711, "name": "ada/model", "blobs": ["abcd...", ...]}

A reader locks its lease, which the system unlocks when the reader dies, and touches it as it reads. A lease without a
lock, or untouched for ``GRACE`` seconds (a reader that hangs), protects nothing, and ``gc`` deletes it. The reader
writes the lease before it checks that the learnware is still published; ``gc`` looks for leases after the removal is
complete. So either the reader sees the removal, or ``gc`` sees the lease.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from learndock.dock.storage import lookup
from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.records import Row
from learndock.errors import LearndockError, NotFound
from learndock.package.manifest import Manifest

#: Seconds after its last touch for which a lease is valid.
GRACE = 600.0
_TOUCH = 20.0


class Lease:
    """A reader's lease; the reader touches it while it reads."""

    def __init__(self, handle: int | None) -> None:
        self._handle = handle
        self._touched = time.monotonic()

    def touch(self) -> None:
        """Keep the lease valid; cheap enough to be called for every piece."""
        if self._handle is not None and time.monotonic() - self._touched > _TOUCH:
            os.utime(self._handle)
            self._touched = time.monotonic()


@contextlib.contextmanager
def leased(storage: DockLayout, which: str) -> Iterator[tuple[Row, Lease]]:
    """Yield the learnware ``which``; its blobs stay until the block ends, even if it is removed.

    Where the dock cannot be written (a full or read-only disk) there is no lease: reading goes on, and a removal in
    its midst is reported as one.

    Raises:
        NotFound: there is no such learnware.
    """
    with storage.read() as records:
        row = lookup.find(records, which)
    path, handle = _take(storage.leases, row)
    try:
        with storage.read() as records:
            again = records.row(row.name, row.number)
        if again is None:
            raise NotFound("was removed from this dock", remedy=lookup.SEE_LIST, about=row.name)
        yield row, Lease(handle)
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def _take(folder: Path, row: Row) -> tuple[Path, int | None]:
    path = folder / f"{secrets.token_hex(8)}.json"
    try:
        files = Manifest.from_bytes(row.manifest, where=row.name).files
        blobs = sorted({f.sha256 for f in files} | row.cards())
        folder.mkdir(exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except (OSError, LearndockError):  # copying its files reports a damaged manifest
        return path, None
    try:
        # Locked before it has content: a lease that can be read is locked
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        source = json.dumps({"process": os.getpid(), "name": row.name, "blobs": blobs}).encode()
        if os.write(handle, source) == len(source):
            return path, handle
    except OSError:
        pass
    os.close(handle)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    return path, None


def leases(folder: Path) -> tuple[set[str], list[Path]]:
    """Return the SHA-256 of all blobs that are being read, and the lease files that are no longer valid."""
    held: set[str] = set()
    dead: list[Path] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            blobs = _read(path)
        except FileNotFoundError:
            continue  # its reader has finished
        if blobs is None:
            dead.append(path)
        else:
            held |= blobs
    return held, dead


def _read(path: Path) -> set[str] | None:
    """The blobs of a valid lease; None for one that is no longer valid."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if time.time() - os.fstat(handle).st_mtime > GRACE:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _blobs(path.read_bytes())
        # It is not locked. Between making and locking a lease is empty: leave such a one to its reader
        return None if os.fstat(handle).st_size else set()
    finally:
        os.close(handle)


def _blobs(source: bytes) -> set[str]:
    try:
        found = json.loads(source)["blobs"]
        return {b for b in found if isinstance(b, str)}
    except (ValueError, KeyError, TypeError):
        return set()  # it is being written: its reader has yet to check that the learnware is there
