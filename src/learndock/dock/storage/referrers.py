"""Who else refers to blobs: a service keeps files that are no learnware's in the same store.

Collecting must know them. Where the dock is served, its folder says so (``service.json``), and the service's database
beside it is asked. Where that database is elsewhere, only the service itself can collect.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from pathlib import Path

from learndock.errors import Corrupt, DockError

MARK = "service.json"
DATABASE = "service.sqlite"
#: Blobs in trees of commits, and those that were sent a short while ago.
STATEMENT = "SELECT sha256 FROM tree UNION SELECT sha256 FROM blobs WHERE lease > {now:f}"


def referred_by_service(folder: Path) -> set[str]:
    """SHA-256 of every blob that the service of the dock in ``folder`` refers to; none where it is not served.

    Raises:
        DockError: the service keeps its database elsewhere.
        Corrupt: its database is missing or damaged.
    """
    mark, file = folder / MARK, folder / DATABASE
    if not mark.exists():
        return set()
    try:
        elsewhere = json.loads(mark.read_bytes())["database"] != "here"
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{mark}: damaged ({error}); start `learndock serve` once to mend it") from None
    if elsewhere:
        raise DockError(
            f"{folder}: belongs to a service whose database is elsewhere, and only that knows which files are "
            "needed; the service collects by itself"
        )
    if not file.exists():
        raise Corrupt(f"{file}: is missing, so nobody knows which files are needed; restore it from a backup")
    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=30)) as found:
            return {sha256 for (sha256,) in found.execute(STATEMENT.format(now=time.time()))}
    except sqlite3.Error as error:
        raise Corrupt(f"{file}: cannot be read ({error}); restore it from a backup") from None
