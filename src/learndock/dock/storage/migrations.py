"""The steps by which older SQLite databases are migrated.

Each step and the record that it was taken commit together (``PRAGMA user_version``), so that a process that
dies in between leaves the database as it was. Steps are only ever added.
"""

from __future__ import annotations

import sqlite3

from learndock.errors import Corrupt, DockError

STEPS: tuple[str, ...] = (
    """
    CREATE TABLE learnwares (
        name       TEXT PRIMARY KEY,
        digest     TEXT NOT NULL,
        state      TEXT NOT NULL CHECK (state IN ('publishing', 'published', 'removing')),
        sequence   INTEGER NOT NULL,
        manifest   BLOB NOT NULL,
        format     TEXT NOT NULL,
        task_type  TEXT NOT NULL,
        license    TEXT
    ) STRICT;
    CREATE INDEX learnwares_in_order ON learnwares (sequence, name);
    CREATE INDEX learnwares_pending ON learnwares (state) WHERE state != 'published';

    CREATE TABLE specs (
        name       TEXT NOT NULL REFERENCES learnwares (name) ON DELETE CASCADE,
        space_id   TEXT NOT NULL,
        space      TEXT NOT NULL,
        sha256     TEXT NOT NULL,
        domain     BLOB NOT NULL,
        behaviour  BLOB NOT NULL,
        reliability REAL NOT NULL,
        PRIMARY KEY (name, space_id)
    ) STRICT;
    CREATE INDEX specs_by_space ON specs (space_id);

    CREATE TABLE tombstones (
        name       TEXT PRIMARY KEY,
        digest     TEXT NOT NULL,
        sequence   INTEGER NOT NULL
    ) STRICT;
    """,
    # The gate compares the first 64 numbers of each behaviour in a space: an index has them without the rest.
    """
    CREATE INDEX specs_outlines ON specs (space_id, name, substr(behaviour, 1, 256));
    """,
)


def version(database: sqlite3.Connection) -> int:
    """Return how many steps the database has taken."""
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def outdated(database: sqlite3.Connection) -> bool:
    """Return whether steps are missing."""
    return version(database) < len(STEPS)


def migrate(database: sqlite3.Connection) -> None:
    """Take the steps that are missing."""
    for number, step in enumerate(STEPS[version(database) :], start=version(database) + 1):
        # executescript would commit first: the statements go one by one inside one transaction.
        database.execute("BEGIN IMMEDIATE")
        try:
            for statement in step.split(";"):
                if statement.strip():
                    database.execute(statement)
            database.execute(f"PRAGMA user_version = {number}")
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")


def check_version(database: sqlite3.Connection, *, where: str) -> None:
    """Refuse a database whose steps this learndock does not know.

    Raises:
        DockError: a newer learndock made this database.
        Corrupt: it has taken no step; a dock's database has, before it gets its name.
    """
    found = version(database)
    if found == 0:
        raise Corrupt("empty, so it was damaged", remedy="run `learndock rebuild`", about=where)
    if found > len(STEPS):
        raise DockError(
            f"made by a newer learndock (database version {found}, this one knows {len(STEPS)})",
            remedy="upgrade with `pip install --upgrade learndock`",
            about=where,
        )
