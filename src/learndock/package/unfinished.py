"""Make a folder beside the place where it will be renamed to; clear away what a killed process left.

The maker holds a lock on the folder for as long as it works, which the system lets go when it dies: so the next one
who makes the same output can tell what is stale from what another process is filling right now.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_MARK = ".learndock-"
_SUFFIX = ".part"


@contextlib.contextmanager
def unfinished(place: Path) -> Iterator[Path]:
    """An empty folder on the same disk as ``place``, to be renamed to it; gone afterwards where it was not.

    Raises:
        OSError: the folder cannot be made.
    """
    clear_stale(place)
    work, handle = _make(place)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(handle)


def clear_stale(place: Path) -> int:
    """Delete what killed processes left of ``place``; returns how many folders that were."""
    pattern = re.compile(re.escape(f".{place.name}{_MARK}") + r"[a-z0-9_]{8}" + re.escape(_SUFFIX))
    cleared = 0
    try:
        with os.scandir(place.parent) as entries:
            found = [Path(e.path) for e in entries if pattern.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    except OSError:
        return 0  # the next attempt to make a folder there reports the error
    for folder in found:
        handle = _locked(folder)
        if handle is None:
            continue
        try:
            if os.fstat(handle).st_uid == os.geteuid():
                shutil.rmtree(folder, ignore_errors=True)
                cleared += not folder.exists()
        finally:
            os.close(handle)
    return cleared


def _make(place: Path) -> tuple[Path, int]:
    while True:
        work = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}{_MARK}", suffix=_SUFFIX))
        handle = _locked(work)
        if handle is None:
            # Another took it for a stale one in the instant before it was locked
            if not work.exists():
                continue
            # No locks on this file system: stale folders cannot be told from new ones, and are kept
            handle = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
        if work.exists():
            return work, handle
        os.close(handle)


def _locked(folder: Path) -> int | None:
    """A handle that holds the folder's lock; None where another has it, or it is gone."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
