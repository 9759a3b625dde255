"""Bytes on disk: hashing, and writing a file completely or not at all.

Below all rooms, beside ``errors``: it knows files, not what is in them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO

from learndock.errors import LearndockError, StorageFailed, StorageFull

CHUNK = 1 << 20
#: What the system says of a full disk, a quota and a limit of a file's size; and of a disk that fails.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FAILED = (errno.EIO, errno.EROFS, errno.ENXIO, errno.ESTALE)
SYNCS_AT_ONCE = 16


def sha256_bytes(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in pieces."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_folder(folder: str | Path) -> None:
    """Make the names in ``folder`` durable (a rename is only safe once its folder is synced)."""
    handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(paths: Iterable[Path]) -> None:
    """Make the bytes of files, and the names in folders, durable, several at once.

    A file system writes its journal once for all that wait for it: 900 files take a fourth of the time that they take
    one after the other.
    """
    waiting = list(paths)
    if len(waiting) <= 1:
        _sync(waiting)
        return
    threads = min(SYNCS_AT_ONCE, len(waiting))
    # All are waited for, and then what one of them raised is raised.
    done = [_syncing().submit(_sync, waiting[i::threads]) for i in range(threads)]
    wait(done)
    for each in done:
        each.result()


@functools.cache
def _syncing() -> ThreadPoolExecutor:
    """Return the threads that sync; starting new ones for each publication would cost more than the syncs."""
    return ThreadPoolExecutor(SYNCS_AT_ONCE, thread_name_prefix="sync")


def _sync(paths: Iterable[Path]) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def storage_errors(what: str | Path) -> Iterator[None]:
    """Turn a full disk or quota into ``StorageFull``, and a failing disk into ``StorageFailed``.

    Raises:
        StorageFull: the system said ENOSPC, EDQUOT or EFBIG.
        StorageFailed: the system said EIO, or that the disk is read-only or gone.
    """
    try:
        yield
    except OSError as error:
        found = of_storage(error, what)
        if found is None:
            raise
        raise found from None


def of_storage(error: OSError, what: str | Path) -> LearndockError | None:
    """Return our error for what the system says of a full or failing disk; None for everything else."""
    if error.errno in FULL:
        return StorageFull(
            "no room left on the disk", remedy="free some and try again (nothing was changed)", about=what
        )
    if error.errno in FAILED:
        return StorageFailed(
            f"the disk reported an error ({error.strerror})",
            remedy="check the disk, then try again (nothing was acknowledged)",
            about=what,
        )
    return None


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a stream whose bytes appear at ``path`` completely and durably when the block ends, or not at all.

    Raises:
        StorageFull: the disk is full; ``path`` is what it was before.
    """
    path = Path(path)
    with storage_errors(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise
        sync_folder(path.parent)
