"""The service's database, SQLite in the dock's folder or PostgreSQL: connections, transactions, migrations."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, insert, inspect, make_url, select, text

from learndock.errors import Conflict, DockError, StorageFailed, StorageFull, Unavailable
from learndock.service.tables import changes, metadata
from learndock.service.tables import secrets as secrets_table

MIGRATIONS = Path(__file__).with_name("migrations")
#: The newest step of ``migrations``; a test compares it with the folder.
HEAD = "0005"
#: The row of ``changes`` that counts what there is and who may see it.
_VISIBILITY = "visibility"


class Database:
    """Connections to the tables of ``tables``; safe for threads."""

    def __init__(self, where: str | URL | Engine) -> None:
        """Use a SQLite file, by its URL, or the pool of connections of a server-backed dock."""
        self.url = where.url if isinstance(where, Engine) else make_url(where)
        self._readers = where if isinstance(where, Engine) else _engine(self.url, "BEGIN")
        self._writers = _engine(self.url, "BEGIN IMMEDIATE") if self.sqlite else self._readers

    @property
    def engine(self) -> Engine:
        """The pool of connections that write; of PostgreSQL, those that read too, and the dock's."""
        return self._writers

    @property
    def sqlite(self) -> bool:
        """Whether the database is a SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection for reading; all its queries see one state.

        Raises:
            Unavailable: the database cannot be reached.
        """
        with _errors(), self._readers.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection whose changes commit together and durably when the block ends, or not at all.

        Raises:
            Conflict: another request created the same thing first.
            StorageFull: no room.
            StorageFailed: the disk reported an error.
            Unavailable: the database cannot be reached.
        """
        with _errors(), self._writers.begin() as connection:
            yield connection

    def change(self) -> int:
        """Return a number that differs after every change, by any process, of what there is or who may see it."""
        with self.read() as connection:
            found = connection.execute(select(changes.c.number).where(changes.c.name == _VISIBILITY)).scalar()
        return 0 if found is None else int(found)

    def migrate(self) -> None:
        """Upgrade the tables to the current schema.

        Raises:
            DockError: a newer learndock made them.
        """
        with self.read() as connection:
            known = inspect(connection).has_table("alembic_version")
            version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar() if known else None
        if version == HEAD:
            return
        if not known:
            # A new database gets the tables at once; a test says that the steps come to the same. Alembic is read
            # only where there is work for it: it would take a third of the time that starting takes.
            with self.write() as connection:
                metadata.create_all(connection)
                connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)"))
                connection.execute(text(f"INSERT INTO alembic_version VALUES ('{HEAD}')"))
            return
        self.take_steps(version)

    def take_steps(self, version: str | None) -> None:
        """Apply the migrations after ``version``, all or none.

        Raises:
            DockError: there is no such version here.
        """
        from alembic import command
        from alembic.config import Config
        from alembic.util.exc import CommandError

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        # SQLite changes a table by copying it. Dropping the original would delete the rows that refer to it.
        engine = _engine(self.url, "BEGIN IMMEDIATE", foreign_keys=False) if self.sqlite else self._writers
        try:
            with _errors(), engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                if self.sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                    raise DockError(
                        f"the service's tables of version {version} refer to rows that are not there, and stay as "
                        "they are",
                        remedy="restore them from a backup",
                    )
        except CommandError:
            raise DockError(
                f"the service's tables have version {version}, this learndock knows {HEAD}",
                remedy="upgrade with `pip install --upgrade learndock`",
            ) from None
        finally:
            if self.sqlite:
                engine.dispose()

    def close(self) -> None:
        """Close all connections."""
        self._readers.dispose()
        self._writers.dispose()


def _engine(url: URL, begin: str, *, foreign_keys: bool = True) -> Engine:
    engine = create_engine(url, pool_size=8, max_overflow=32, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        # The driver would begin transactions at its own discretion; we say when, and how.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except exc.IntegrityError:
        raise Conflict(
            "already created by another request", remedy="look at what is there now, then try again"
        ) from None
    except (exc.DBAPIError, exc.TimeoutError, exc.PendingRollbackError) as error:
        if isinstance(error, exc.DBAPIError) and not _of_connection(error):
            raise
        # SQLite distinguishes only ENOSPC from other writes that fail; PostgreSQL says 53100.
        name = str(getattr(error.__cause__, "sqlite_errorname", ""))
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHM")) or "53100" in str(
            error.__cause__
        ):
            raise StorageFull("no room for the service's database", remedy="free some room and try again") from None
        if name.startswith("SQLITE_IOERR"):
            raise StorageFailed(
                f"the disk of the service's database reported an error ({error.__cause__})", remedy="check the disk"
            ) from None
        raise Unavailable("the service's database does not answer", remedy="try again in a moment") from None


def _of_connection(error: exc.DBAPIError) -> bool:
    """Whether an error is of the connection or of what the database can do now, not of the statement."""
    if error.connection_invalidated or isinstance(error, exc.OperationalError | exc.InterfaceError):
        return True
    fields = error.orig.args[0] if error.orig is not None and error.orig.args else None
    code = str(fields.get("C", "")) if isinstance(fields, dict) else ""
    return code.startswith(("08", "40", "53", "57"))


def mark_change(connection: Connection) -> None:
    """Let ``Database.change`` differ from now on, as part of the transaction; call it after the change itself.

    The clock is part of the number, so that it also differs after a restore of older tables.
    """
    connection.execute(
        text(
            "INSERT INTO changes (name, number) VALUES (:name, :now) ON CONFLICT (name) DO UPDATE SET number = "
            "CASE WHEN changes.number >= :now THEN changes.number + 1 ELSE :now END"
        ),
        {"name": _VISIBILITY, "now": time.time_ns() // 1000},
    )


def signing_key(database: Database) -> bytes:
    """Return the key that signs short-lived addresses; the first call makes it."""
    with database.write() as connection:
        found = connection.execute(
            select(secrets_table.c.value).where(secrets_table.c.name == "signing")
        ).scalar_one_or_none()
        if found is None:
            found = secrets.token_bytes(32)
            connection.execute(insert(secrets_table).values(name="signing", value=found))
        return bytes(found)


__all__ = ["HEAD", "Database", "mark_change", "metadata", "signing_key"]
