"""Opening the dock's SQLite database, and saying in our words what goes wrong with it.

A connection is opened for each operation and closed after it: that costs a fraction of a millisecond, is
at storage in any thread, and lets ``rebuild`` put a new file in place under running readers.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from learndock.dock.storage.migrations import check_version, migrate, outdated
from learndock.errors import Corrupt, DockError, StorageFull

BUSY_SECONDS = 30.0

#: How SQLite names a full disk, a quota, a size limit. It keeps only ENOSPC apart from other failed writes.
_FULL = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHM")
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_ERROR")
#: What a reader meets where the shared-memory file cannot be made.
_NO_SHARED_MEMORY = (*_FULL, "SQLITE_CANTOPEN", "SQLITE_READONLY")


class Connection(Protocol):
    """An open database, as ``Records`` asks it: SQL with question marks that both kinds understand."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """Run one statement; what it finds can be iterated and fetched."""
        ...

    def executemany(self, statement: str, values: Sequence[Sequence[Any]]) -> Any:
        """Run one statement for each row of ``values``."""
        ...

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """All changes inside commit together, durably, or not at all."""
        ...

    def outdated(self) -> bool:
        """Whether an older learndock made its tables."""
        ...

    def problems(self) -> list[str]:
        """What the database itself finds wrong with its files."""
        ...


class SqliteConnection:
    """A ``Connection`` to the file in the dock's folder."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.execute = connection.execute
        self.executemany = connection.executemany

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """See ``Connection.transaction``."""
        return transaction(self._connection)

    def outdated(self) -> bool:
        """See ``Connection.outdated``."""
        return outdated(self._connection)

    def problems(self) -> list[str]:
        """See ``Connection.problems``."""
        found = self._connection.execute("PRAGMA quick_check(20)")
        return [text for (text,) in found if text != "ok"]


@contextlib.contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours.

    Raises:
        StorageFull: no room for the database.
        Corrupt: it is damaged.
        DockError: locked for too long, not readable, a failing disk.
    """
    try:
        yield
    except sqlite3.Error as error:
        name = _error_name(error)
        if name.startswith(_FULL):
            raise StorageFull(
                f"cannot be written ({error}): the disk is full or a limit is reached",
                remedy="free some room and try again (nothing was changed)",
                about=path,
            ) from None
        if name.startswith(_DAMAGED):
            raise Corrupt(f"damaged ({error})", remedy="make it anew with `learndock rebuild`", about=path) from None
        raise DockError(
            f"{error}", remedy="see that the dock's folder can be written, then try again", about=path
        ) from None


@contextlib.contextmanager
def created(path: Path) -> Iterator[SqliteConnection]:
    """A new, empty database in its present form at ``path``."""
    with database_errors(path), contextlib.closing(_connect(path, "rwc")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        migrate(database)
        yield SqliteConnection(database)


@contextlib.contextmanager
def opened_to_write(path: Path) -> Iterator[SqliteConnection]:
    """The database for writing, brought to its present form; the caller holds the dock's lock."""
    with database_errors(path), contextlib.closing(_connect(path, "rw")) as database:
        check_version(database, where=str(path))
        migrate(database)
        yield SqliteConnection(database)


@contextlib.contextmanager
def opened_to_read(path: Path) -> Iterator[SqliteConnection]:
    """The database for reading, also where the disk is full or the folder may not be written."""
    with database_errors(path), contextlib.closing(_connect_reader(path)) as database:
        check_version(database, where=str(path))
        yield SqliteConnection(database)


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All changes inside commit together, durably, or not at all."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        # SQLite may have rolled back by itself, as it does when the disk is full.
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _error_name(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", ""))


def _connect(path: Path, mode: str, *, alone: bool = False) -> sqlite3.Connection:
    database = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None
    )
    try:
        if alone:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except BaseException:
        database.close()
        raise
    return database


def _connect_reader(path: Path) -> sqlite3.Connection:
    """Even a reader makes a shared-memory file beside a write-ahead log; read without, where it cannot.

    Where no log waits, the database file is all there is and is read by itself. Where one does, its index is
    kept in this process, and others wait meanwhile.
    """
    try:
        return _connect(path, "rw" if os.access(path, os.W_OK) else "ro")
    except sqlite3.Error as error:
        if not _error_name(error).startswith(_NO_SHARED_MEMORY):
            raise
    if _log_waits(path):
        return _connect(path, "rw", alone=True)
    return _connect(path, "ro&immutable=1")


def _log_waits(path: Path) -> bool:
    # SQLite follows a link before it names the log.
    target = path.resolve()
    log = target.with_name(f"{target.name}-wal")
    return log.exists() and log.stat().st_size > 0
