"""Open the dock's SQLite database, and translate its errors into ours.

A connection is opened for each operation and closed after it. That takes a fraction of a millisecond, works in any
thread, and lets ``rebuild`` replace the file while readers run.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from learndock.dock.storage.migrations import check_version, migrate, outdated
from learndock.errors import Corrupt, DockError, StorageFailed, StorageFull

BUSY_SECONDS = 30.0

#: SQLite's errors for a full disk, a quota and a size limit; it distinguishes only ENOSPC from other failed writes.
_FULL = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHM")
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_ERROR")
#: Errors of a reader where the shared-memory file cannot be made.
_NO_SHARED_MEMORY = (*_FULL, "SQLITE_CANTOPEN", "SQLITE_READONLY")


class Connection(Protocol):
    """An open database: SQL with question marks for values, which SQLite and PostgreSQL both understand."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """Run one statement; its rows can be iterated and fetched."""
        ...

    def executemany(self, statement: str, values: Sequence[Sequence[Any]]) -> Any:
        """Run one statement for each row of ``values``."""
        ...

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Commit all changes of the block together and durably, or none."""
        ...

    def outdated(self) -> bool:
        """Return whether an older learndock made its tables."""
        ...

    def problems(self) -> list[str]:
        """Return what the database itself reports as wrong with its files."""
        ...


class SqliteConnection:
    """A ``Connection`` to the SQLite file in the dock's folder."""

    def __init__(self, connection: sqlite3.Connection, *, outdated: bool = False) -> None:
        self._connection = connection
        self._outdated = outdated
        self.execute = connection.execute
        self.executemany = connection.executemany

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """See ``Connection.transaction``."""
        return transaction(self._connection)

    def outdated(self) -> bool:
        """See ``Connection.outdated``."""
        return self._outdated

    def problems(self) -> list[str]:
        """See ``Connection.problems``."""
        found = self._connection.execute("PRAGMA quick_check(20)")
        return [text for (text,) in found if text != "ok"]


@contextlib.contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Translate SQLite's errors into ours.

    Raises:
        StorageFull: no room for the database.
        Corrupt: it is damaged.
        StorageFailed: the disk reported an error.
        DockError: locked for too long, not readable.
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
            raise Corrupt(f"damaged ({error})", remedy="run `learndock rebuild`", about=path) from None
        if name.startswith("SQLITE_IOERR"):
            raise StorageFailed(
                f"the disk reported an error ({error})",
                remedy="check the disk, then try again (nothing was acknowledged)",
                about=path,
            ) from None
        raise DockError(
            f"{error}", remedy="see that the dock's folder can be written, then try again", about=path
        ) from None


@contextlib.contextmanager
def created(path: Path) -> Iterator[SqliteConnection]:
    """Make a new, empty database with the current tables at ``path``."""
    with database_errors(path), contextlib.closing(_connect(path, "rwc")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        migrate(database)
        yield SqliteConnection(database)


@contextlib.contextmanager
def opened_to_write(path: Path) -> Iterator[SqliteConnection]:
    """Open the database for writing, and migrate it; the caller holds the dock's lock."""
    with database_errors(path), contextlib.closing(_connect(path, "rw")) as database:
        check_version(database, where=str(path))
        migrate(database)
        yield SqliteConnection(database)


@contextlib.contextmanager
def opened_to_read(path: Path) -> Iterator[SqliteConnection]:
    """Open the database for reading, even if the disk is full or the folder cannot be written.

    One that an older learndock made is copied into memory and migrated there, until a writer migrates the file.
    """
    with database_errors(path), contextlib.ExitStack() as stack:
        database = stack.enter_context(contextlib.closing(_connect_reader(path)))
        check_version(database, where=str(path))
        if not outdated(database):
            yield SqliteConnection(database)
            return
        copy = stack.enter_context(contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)))
        database.backup(copy)
        migrate(copy)
        yield SqliteConnection(copy, outdated=True)


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commit all changes of the block together and durably, or none."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        # SQLite may have rolled back by itself, as it does when the disk is full.
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


class Idle:
    """A connection that is only kept open, safe for threads.

    When the last connection closes, SQLite copies its log into the database, syncs both and deletes the log. A process
    that writes often keeps one open, and so saves about half of the syncs of a publication (docs/research-log.md).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._target: Path | None = None
        self._connection: sqlite3.Connection | None = None

    def keep(self, path: Path) -> None:
        """Keep the database at ``path`` open, also where a rebuild has replaced its file."""
        target = path.resolve()
        if target == self._target:
            return
        with self._lock, database_errors(path):
            self._close()
            self._connection = _connect(path, "rw", any_thread=True)
            self._target = target

    def close(self) -> None:
        """Close it."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._target = None


def _error_name(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", ""))


def _connect(path: Path, mode: str, *, alone: bool = False, any_thread: bool = False) -> sqlite3.Connection:
    database = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=not any_thread,
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
    """Open for reading; without the shared-memory file of the write-ahead log, where that cannot be made.

    Where the log is empty, the database file alone is read. Where it is not, its index is kept in this process, and
    other processes wait.
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
