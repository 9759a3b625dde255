"""Blobs that somebody is reading: a note beside the dock while an export runs, which ``collect`` respects.

    leases/RANDOM.json   {"process": 4711, "name": "ada/model", "blobs": ["abcd...", ...]}

The reader holds a lock on its note, which the system lets go when the reader dies, and touches it as it goes on.
A note without a holder, or that was not touched for ``GRACE`` (a reader that hangs), protects nothing and is cleared
away by ``collect``. The note is there before the reader looks whether the learnware is still published; ``collect``
looks for notes after the removal is complete. So either the reader learns of the removal, or ``collect`` of the reader.
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

#: Seconds after its last sign of life for which a lease holds.
GRACE = 600.0
_TOUCH = 20.0


class Lease:
    """What a reader holds; it says now and then that it is alive."""

    def __init__(self, handle: int | None) -> None:
        self._handle = handle
        self._touched = time.monotonic()

    def touch(self) -> None:
        """Say that the reader goes on; cheap enough to be called for every piece."""
        if self._handle is not None and time.monotonic() - self._touched > _TOUCH:
            os.utime(self._handle)
            self._touched = time.monotonic()


@contextlib.contextmanager
def leased(storage: DockLayout, which: str) -> Iterator[tuple[Row, Lease]]:
    """The learnware ``which``, whose blobs stay until the block ends, whoever removes it meanwhile.

    Where the dock cannot be written (a full disk, a read-only one) there is no lease: reading goes on, and a removal
    in its midst is told as what it is.

    Raises:
        NotFound: there is no such learnware.
    """
    with storage.read() as records:
        row = lookup.find(records, which)
    path, handle = _take(storage.leases, row)
    try:
        with storage.read() as records:
            again = records.row(row.name)
        if again is None or again.digest != row.digest:
            raise NotFound("was removed from this dock", about=row.name)
        yield row, Lease(handle)
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def _take(folder: Path, row: Row) -> tuple[Path, int | None]:
    path = folder / f"{secrets.token_hex(8)}.json"
    try:
        blobs = sorted({f.sha256 for f in Manifest.from_bytes(row.manifest, where=row.name).files})
        folder.mkdir(exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except (OSError, LearndockError):  # a damaged manifest is told by who copies its files
        return path, None
    try:
        # Locked before it says anything: a note that can be read is held
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
    """SHA-256 of all blobs that are being read, and notes that protect nothing any more."""
    held: set[str] = set()
    dead: list[Path] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            blobs = _read(path)
        except FileNotFoundError:
            continue  # its reader is done
        if blobs is None:
            dead.append(path)
        else:
            held |= blobs
    return held, dead


def _read(path: Path) -> set[str] | None:
    """The blobs of a living lease; None for a dead one."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if time.time() - os.fstat(handle).st_mtime > GRACE:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _blobs(path.read_bytes())
        # Nobody holds it. In the instant between making and locking it holds no text yet: leave that to its reader
        return None if os.fstat(handle).st_size else set()
    finally:
        os.close(handle)


def _blobs(source: bytes) -> set[str]:
    try:
        found = json.loads(source)["blobs"]
        return {b for b in found if isinstance(b, str)}
    except (ValueError, KeyError, TypeError):
        return set()  # being written at this instant: its reader has yet to ask whether the learnware is there
