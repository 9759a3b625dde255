"""Where a server-backed dock keeps its things: records in PostgreSQL, bytes in an S3-compatible store.

``Records``, publishing, removing, verifying, rebuilding and gc are the same as in a folder. What differs is behind
``Connection``, ``BlobStore`` and ``Publications``, and the writer's lock: an advisory lock of the database, released
when its holder's connection ends. A local folder holds what is being written.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learndock.dock.storage.layout import MARK, DockLayout, check_mark, mark_bytes
from learndock.dock.storage.records import Records
from learndock.dock.storage.s3 import ObjectBlobs, ObjectPublications, object_errors
from learndock.errors import Corrupt, DockError, NotFound, StorageFull, Unavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore
    from sqlalchemy import Connection as SqlConnection
    from sqlalchemy import Engine

#: Keys of the advisory locks of the writer and of gc; nothing else in the database may use them.
LOCK, COLLECTING = 0x1EA27D0C, 0x1EA27D0D
TABLES = """
    CREATE TABLE learnwares (
        name       TEXT COLLATE "C" PRIMARY KEY,
        digest     TEXT NOT NULL,
        state      TEXT NOT NULL CHECK (state IN ('publishing', 'published', 'removing')),
        sequence   BIGINT NOT NULL,
        manifest   BYTEA NOT NULL,
        format     TEXT NOT NULL,
        task_type  TEXT NOT NULL,
        license    TEXT
    );
    CREATE INDEX learnwares_in_order ON learnwares (sequence, name);
    CREATE INDEX learnwares_pending ON learnwares (state) WHERE state != 'published';
    CREATE TABLE specs (
        name       TEXT COLLATE "C" NOT NULL REFERENCES learnwares (name) ON DELETE CASCADE,
        space_id   TEXT COLLATE "C" NOT NULL,
        space      TEXT COLLATE "C" NOT NULL,
        sha256     TEXT NOT NULL,
        domain     BYTEA NOT NULL,
        behaviour  BYTEA NOT NULL,
        reliability DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (name, space_id)
    );
    CREATE INDEX specs_by_space ON specs (space_id);
    CREATE TABLE tombstones (
        name       TEXT COLLATE "C" PRIMARY KEY,
        digest     TEXT NOT NULL,
        sequence   BIGINT NOT NULL
    );
    CREATE TABLE dock_version (steps INTEGER NOT NULL)
"""
#: The steps of ``migrations.STEPS`` for PostgreSQL, one for one; the first is ``TABLES``.
STEPS: tuple[str, ...] = (
    TABLES,
    # The gate reads the beginning of each behaviour: uncompressed, it can be read without the rest.
    "ALTER TABLE specs ALTER COLUMN behaviour SET STORAGE EXTERNAL",
    # A name has versions; what was there before is version 1.
    """
    CREATE TABLE names (
        name       TEXT COLLATE "C" PRIMARY KEY,
        latest     BIGINT,
        about      TEXT NOT NULL,
        pending    TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX names_published ON names (name, latest) WHERE latest IS NOT NULL;
    CREATE INDEX names_pending ON names (name) WHERE pending != '';
    CREATE TABLE versions (
        name       TEXT COLLATE "C" NOT NULL,
        number     BIGINT NOT NULL,
        digest     TEXT NOT NULL,
        state      TEXT NOT NULL CHECK (state IN ('publishing', 'published', 'removed')),
        sequence   BIGINT NOT NULL,
        published_at TEXT NOT NULL DEFAULT '',
        supersedes TEXT,
        manifest   BYTEA,
        PRIMARY KEY (name, number)
    );
    CREATE INDEX versions_in_order ON versions (sequence, name);
    CREATE TABLE dock_changes (number BIGINT NOT NULL);
    INSERT INTO dock_changes VALUES (floor(random() * 1000000000000)::bigint);
    INSERT INTO names (name, latest, about, pending)
        SELECT name, CASE WHEN state = 'publishing' THEN NULL ELSE 1 END, '{}',
               CASE WHEN state = 'published' THEN '' ELSE 'changing' END
        FROM learnwares;
    INSERT INTO names (name, latest, about)
        SELECT name, NULL, '{}' FROM tombstones WHERE name NOT IN (SELECT name FROM learnwares);
    INSERT INTO versions (name, number, digest, state, sequence, manifest)
        SELECT name, 1, digest, CASE WHEN state = 'publishing' THEN state ELSE 'published' END, sequence, manifest
        FROM learnwares;
    INSERT INTO versions (name, number, digest, state, sequence)
        SELECT name, 1, digest, 'removed', sequence FROM tombstones
        WHERE name NOT IN (SELECT name FROM learnwares);
    ALTER TABLE specs DROP CONSTRAINT specs_name_fkey;
    ALTER TABLE specs DROP CONSTRAINT specs_pkey;
    ALTER TABLE specs ADD COLUMN number BIGINT NOT NULL DEFAULT 1;
    ALTER TABLE specs ALTER COLUMN number DROP DEFAULT;
    ALTER TABLE specs ADD PRIMARY KEY (name, number, space_id);
    ALTER TABLE specs ADD FOREIGN KEY (name, number) REFERENCES versions (name, number) ON DELETE CASCADE;
    DROP INDEX specs_by_space;
    CREATE INDEX specs_by_space ON specs (space_id, name, number);
    DROP TABLE learnwares;
    DROP TABLE tombstones
    """,
)


class PostgresConnection:
    """A ``Connection`` to PostgreSQL, in autocommit except inside ``transaction``."""

    def __init__(self, connection: SqlConnection, *, first: Sequence[str] = ()) -> None:
        self._connection = connection
        self._first = tuple(first)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """See ``Connection.execute``."""
        return self._connection.exec_driver_sql(statement.replace("?", "%s"), tuple(values))

    def executemany(self, statement: str, values: Sequence[Sequence[Any]]) -> Any:
        """See ``Connection.executemany``."""
        if not values:
            return None
        return self._connection.exec_driver_sql(statement.replace("?", "%s"), [tuple(v) for v in values])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """See ``Connection.transaction``."""
        self._connection.exec_driver_sql("BEGIN")
        try:
            for statement in self._first:
                self._connection.exec_driver_sql(statement)
            yield
            self._connection.exec_driver_sql("COMMIT")
        except BaseException:
            with contextlib.suppress(Exception):  # a connection that ended has no transaction
                self._connection.exec_driver_sql("ROLLBACK")
            raise

    def outdated(self) -> bool:
        """See ``Connection.outdated``."""
        return self.version() < len(STEPS)

    def version(self) -> int:
        """Return how many steps the tables have taken; 0 where there are none."""
        there = self._connection.exec_driver_sql("SELECT to_regclass('dock_version') IS NOT NULL").scalar()
        if not there:
            return 0
        return int(self._connection.exec_driver_sql("SELECT steps FROM dock_version").scalar() or 0)

    def migrate(self) -> None:
        """Take the steps that are missing, all or none."""
        version = self.version()
        with self.transaction():
            for step in STEPS[version:]:
                for statement in step.split(";"):
                    self._connection.exec_driver_sql(statement)
            self._connection.exec_driver_sql("DELETE FROM dock_version")
            self._connection.exec_driver_sql(f"INSERT INTO dock_version VALUES ({len(STEPS)})")

    def problems(self) -> list[str]:
        """See ``Connection.problems``: PostgreSQL checks its pages by itself."""
        return []


class ServerLayout(DockLayout):
    """The layout of a server-backed dock; get one from ``open_server_layout``."""

    def __init__(self, folder: Path, engine: Engine, store: ObjectStore) -> None:
        staging = folder / "staging"
        super().__init__(folder, ObjectBlobs(store, staging))
        self.engine, self.store = engine, store
        self.publications = ObjectPublications(store)
        self._one_writer, self._one_collector = threading.Lock(), threading.Lock()
        self._writer = threading.local()

    def _write_mark(self) -> None:
        import obstore

        with self.errors(), object_errors(MARK):
            obstore.put(self.store, MARK, mark_bytes())

    @contextlib.contextmanager
    def read(self) -> Iterator[Records]:
        """See ``DockLayout.read``."""
        with self.errors(), self._opened() as opened:
            self._look_for_tables(opened)
            yield Records(opened)

    @contextlib.contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[bool]:
        """See ``DockLayout.locked``."""
        with self._held(LOCK, self._one_writer, wait=wait) as (held, connection):
            self._writer.connection = connection if held else None
            try:
                yield held
            finally:
                self._writer.connection = None

    @contextlib.contextmanager
    def collection_lock(self) -> Iterator[None]:
        """See ``DockLayout.collection_lock``."""
        with self._held(COLLECTING, self._one_collector, wait=True):
            yield

    @contextlib.contextmanager
    def _held(self, lock: int, here: threading.Lock, *, wait: bool) -> Iterator[tuple[bool, SqlConnection | None]]:
        """Hold an advisory lock; yields whether it is held, and the connection that holds it.

        Threads wait for each other on ``here``; one of them waits for other processes.
        """
        if not here.acquire(blocking=wait):
            yield False, None
            return
        try:
            with self.errors(), self._connection() as connection:
                ask = "SELECT pg_advisory_lock(%s)" if wait else "SELECT pg_try_advisory_lock(%s)"
                held = connection.exec_driver_sql(ask, (lock,)).scalar() is not False
                try:
                    yield held, connection
                finally:
                    if held:
                        with contextlib.suppress(Exception):  # a connection that ended holds no lock
                            connection.exec_driver_sql("SELECT pg_advisory_unlock(%s)", (lock,))
        finally:
            here.release()

    @contextlib.contextmanager
    def write(self) -> Iterator[Records]:
        """See ``DockLayout.write``.

        It writes on the connection that holds the lock, where one does: if that ends, another process may get the
        lock, and nothing more is written by this one.
        """
        held = getattr(self._writer, "connection", None)
        opening = self._opened() if held is None else contextlib.nullcontext(PostgresConnection(held))
        with self.errors(), opening as opened:
            self._look_for_tables(opened)
            if opened.outdated():
                opened.migrate()
            yield Records(opened)

    @contextlib.contextmanager
    def replace_database(self) -> Iterator[Records]:
        """See ``DockLayout.replace_database``: the block's transaction replaces all rows."""
        with self.errors(), self._connection() as connection:
            opened = PostgresConnection(connection)
            if opened.version() == 0 or opened.outdated():
                opened.migrate()
            yield Records(PostgresConnection(connection, first=[f"DELETE FROM {t}" for t in ("versions", "names")]))

    def old_databases(self) -> list[Path]:
        """See ``DockLayout.old_databases``."""
        return []

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """See ``DockLayout.errors``; translates PostgreSQL's errors too.

        Raises:
            Unavailable: the database does not answer.
        """
        from pg8000.exceptions import Error
        from sqlalchemy import exc

        try:
            with super().errors():
                yield
        # The last two are what a connection says that ended earlier in the same block; the driver's own comes from
        # giving such a connection back.
        except (exc.DBAPIError, exc.TimeoutError, exc.PendingRollbackError, Error) as error:
            raise _translated(error) from None

    @contextlib.contextmanager
    def _connection(self) -> Iterator[SqlConnection]:
        with self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[PostgresConnection]:
        with self._connection() as connection:
            yield PostgresConnection(connection)

    def _look_for_tables(self, opened: PostgresConnection) -> None:
        version = opened.version()
        if version == 0:
            raise Corrupt("the database has no tables of a dock", remedy="run `learndock rebuild`")
        if version > len(STEPS):
            raise DockError(
                f"the database was made by a newer learndock (version {version}, this one knows {len(STEPS)})",
                remedy="upgrade with `pip install --upgrade learndock`",
            )


def _translated(error: Exception) -> DockError | Unavailable:
    about = getattr(error, "orig", None)
    fields = about.args[0] if about is not None and about.args else None
    code = str(fields.get("C", "")) if isinstance(fields, dict) else ""
    message = str(fields.get("M", "")) if isinstance(fields, dict) else str(about or error)
    if code.startswith("53"):  # insufficient resources: disk full, out of memory, too many connections
        if code == "53100":
            return StorageFull(f"the database has no room ({message})", remedy="free some and try again")
        return Unavailable("the database cannot answer now ({about})", remedy="try again in a moment", about=message)
    if code.startswith(("22", "23", "42", "XX")):
        return Corrupt(f"the database's tables are damaged ({message})", remedy="run `learndock rebuild`")
    return Unavailable("the database does not answer ({about})", remedy="try again in a moment", about=message[:200])


def connect(url: str) -> Engine:
    """Return a pool of connections to the PostgreSQL database ``url``; one per process serves dock and service."""
    from sqlalchemy import create_engine, make_url

    return create_engine(
        make_url(url).set(drivername="postgresql+pg8000"),
        pool_size=8,
        max_overflow=32,
        pool_timeout=30,
        pool_pre_ping=True,
    )


def open_server_layout(folder: Path, engine: Engine, store: ObjectStore, *, create: bool = True) -> ServerLayout:
    """Return the layout whose records are in the database of ``engine`` and whose bytes are in ``store``.

    Raises:
        NotFound: there is no dock, and ``create`` is False.
        DockError: the store holds a dock of a newer learndock.
        Corrupt: its mark is damaged.
        Unavailable: the database does not answer.
    """
    import obstore

    storage = ServerLayout(folder, engine, store)
    (folder / "staging").mkdir(parents=True, exist_ok=True)
    with storage.errors():
        try:
            with object_errors(MARK):
                mark = bytes(obstore.get(store, MARK).bytes())
        except FileNotFoundError:
            if not create:
                raise NotFound("no dock in this object store", remedy="start `learndock serve` to make one") from None
            storage._write_mark()
            mark = mark_bytes()
    storage.format = check_mark(mark, MARK)
    with storage.locked(), storage._opened() as opened:
        # If learnwares were published, empty tables would hide them; that is a case for ``rebuild``.
        if opened.version() == 0 and storage.publications.empty():
            opened.migrate()
    return storage
