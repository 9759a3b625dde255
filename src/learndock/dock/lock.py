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
