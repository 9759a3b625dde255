"""What the service needs of the dock's blobs: ``DockLayout.referrers``, for a service and for ``learndock gc``.

A blob that belongs to no learnware may be a file of a commit, or one that was uploaded a short while ago.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from learndock.dock.storage.layout import SERVED
from learndock.errors import Corrupt, DockError
from learndock.service.database import Database
from learndock.service.tables import blobs, tree

#: The service's tables, in the dock's folder.
DATABASE = "service.sqlite"


def referred(database: Database) -> set[str]:
    """Return the SHA-256 of every blob that a commit or a lease keeps."""
    asked = select(tree.c.sha256).union(select(blobs.c.sha256).where(blobs.c.lease > time.time()))
    with database.read() as connection:
        return set(connection.execute(asked).scalars())


def open_referrers(folder: Path) -> Callable[[], set[str]]:
    """Return what asks the service's tables in the folder of a served dock, while the service may run or not.

    Raises:
        DockError: the service keeps its tables elsewhere.
        Corrupt: its tables are missing, or its mark is damaged.
    """
    mark, file = folder / SERVED, folder / DATABASE
    try:
        elsewhere = json.loads(mark.read_bytes())["database"] != "here"
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(
            f"damaged ({error})", remedy="start `learndock serve` once to write it again", about=mark
        ) from None
    if elsewhere:
        raise DockError(
            "belongs to a service whose database is elsewhere, and only that knows which files are needed",
            remedy="the service deletes unreferenced files by itself",
            about=folder,
        )
    if not file.exists():
        raise Corrupt(
            "is missing, and only it knows which files are needed", remedy="restore it from a backup", about=file
        )

    def ask() -> set[str]:
        database = Database(f"sqlite:///{file.absolute()}")
        try:
            return referred(database)
        finally:
            database.close()

    return ask
