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
    # A name has versions; what was there before is version 1.
    """
    CREATE TABLE names (
        name       TEXT PRIMARY KEY,
        latest     INTEGER,
        about      TEXT NOT NULL,
        pending    TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX names_published ON names (name, latest) WHERE latest IS NOT NULL;
    CREATE INDEX names_pending ON names (name) WHERE pending != '';

    CREATE TABLE versions (
        name       TEXT NOT NULL,
        number     INTEGER NOT NULL,
        digest     TEXT NOT NULL,
        state      TEXT NOT NULL CHECK (state IN ('publishing', 'published', 'removed')),
        sequence   INTEGER NOT NULL,
        published_at TEXT NOT NULL DEFAULT '',
        supersedes TEXT,
        manifest   BLOB,
        PRIMARY KEY (name, number)
    ) STRICT;
    CREATE INDEX versions_in_order ON versions (sequence, name);
    CREATE TABLE dock_changes (number INTEGER NOT NULL) STRICT;
    INSERT INTO dock_changes VALUES (abs(random() % 1000000000000));

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

    CREATE TABLE specs_of_versions (
        name       TEXT NOT NULL,
        number     INTEGER NOT NULL,
        space_id   TEXT NOT NULL,
        space      TEXT NOT NULL,
        sha256     TEXT NOT NULL,
        domain     BLOB NOT NULL,
        behaviour  BLOB NOT NULL,
        reliability REAL NOT NULL,
        PRIMARY KEY (name, number, space_id),
        FOREIGN KEY (name, number) REFERENCES versions (name, number) ON DELETE CASCADE
    ) STRICT;
    INSERT INTO specs_of_versions
        SELECT name, 1, space_id, space, sha256, domain, behaviour, reliability FROM specs;
    DROP TABLE specs;
    DROP TABLE learnwares;
    DROP TABLE tombstones;
    ALTER TABLE specs_of_versions RENAME TO specs;
    CREATE INDEX specs_by_space ON specs (space_id, name, number);
    CREATE INDEX specs_outlines ON specs (space_id, name, number, substr(behaviour, 1, 256));
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
