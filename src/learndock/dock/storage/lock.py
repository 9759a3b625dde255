"""One writer at a time: an advisory file lock (flock), released when its holder exits."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def write_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file ``path`` against other processes and threads; yields whether it is held.

    Without ``wait`` it yields False if another holds it. Not re-entrant.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Lock an existing file that marks something in progress; yields False if another holds it, or it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.fstat(handle).st_nlink > 0  # its holder may have ended, and removed it, just now
        except BlockingIOError:
            mine = False
        yield mine
    finally:
        os.close(handle)
