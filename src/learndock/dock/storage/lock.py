"""One writer at a time: a lock on a file of the dock that the system lets go when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def write_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock ``path``, between processes and between threads; yields whether it is held.

    Without ``wait`` it yields False where another holds it. Not re-entrant.
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
    """Hold a file that is there, and stands for something going on; yields False where another does, or it is gone."""
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
