"""Records: the database that answers questions about the dock's learnwares.

It is SQLite in the dock's folder, or PostgreSQL (see ``postgres``), with the same queries.

The files are the truth (see ``publications``); this is their index. Readers see a row once its learnware is published.
The states ``publishing`` and ``removing`` say what a writer is doing, and are committed before the file of the name is
replaced: if the writer dies, the next one reads that file and finishes or drops the change.

``removing`` rows stay visible until the removal is done, so that a removal that fails hides nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learndock.dock.storage.sqlite import Connection
from learndock.errors import Corrupt
from learndock.package.manifest import Manifest
from learndock.spec.spec import Array

VISIBLE = "state IN ('published', 'removing')"
_ROW = "name, digest, state, sequence, manifest"


@dataclass(frozen=True)
class Row:
    """One learnware in the database; ``manifest`` is its bytes."""

    name: str
    digest: str
    state: str
    sequence: int
    manifest: bytes


@dataclass(frozen=True, eq=False)
class SpecRow:
    """One spec in the database: ``domain`` ``(D,)`` and ``behaviour`` ``(k,)``, float32, and reliability."""

    space_id: str
    space: str
    sha256: str
    domain: Array
    behaviour: Array
    reliability: float


@dataclass(frozen=True)
class Tombstone:
    """A name that was removed, and the digest of its content."""

    name: str
    digest: str
    sequence: int


class Records:
    """Queries and changes of an open database; not safe for threads."""

    def __init__(self, database: Connection) -> None:
        self._database = database

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Commit all changes of the block together and durably, or none."""
        return self._database.transaction()

    # -- queries ----------------------------------------------------------------------------------------

    def rows(self, *, where: str = VISIBLE) -> list[Row]:
        """Return learnwares in order of addition."""
        found = self._database.execute(f"SELECT {_ROW} FROM learnwares WHERE {where} ORDER BY sequence, name")
        return [Row(*row) for row in found]

    def row(self, name: str) -> Row | None:
        """Return the visible learnware called ``name``, if there is one."""
        found = self._database.execute(
            f"SELECT {_ROW} FROM learnwares WHERE name = ? AND {VISIBLE}",
            (name,),
        ).fetchone()
        return None if found is None else Row(*found)

    def names(self) -> list[str]:
        """Return the names of all visible learnwares."""
        return [name for (name,) in self._database.execute(f"SELECT name FROM learnwares WHERE {VISIBLE}")]

    def count(self) -> int:
        """Return the number of visible learnwares."""
        return int(self._database.execute(f"SELECT count(*) FROM learnwares WHERE {VISIBLE}").fetchone()[0])

    def pending(self) -> list[Row]:
        """Return the rows that a writer began to change and did not finish."""
        return self.rows(where="state != 'published'")

    def specs(self, name: str) -> list[SpecRow]:
        """Return the specs of one learnware, by space."""
        found = self._database.execute(
            "SELECT space_id, space, sha256, domain, behaviour, reliability FROM specs WHERE name = ? "
            "ORDER BY space_id",
            (name,),
        )
        return [SpecRow(i, s, h, _vector(d), _vector(b), r) for i, s, h, d, b, r in found]

    def table(
        self, space_id: str, names: Sequence[str] | None = None
    ) -> tuple[list[str], Array, Array, NDArray[np.float64]]:
        """Return ids, domains ``(N, D)``, behaviours ``(N, k)`` and reliabilities of a space's visible specs, as added.

        Raises:
            Corrupt: the vectors differ in length.
        """
        asked = (
            "SELECT l.name || '@' || l.digest, s.domain, s.behaviour, s.reliability "
            "FROM specs s JOIN learnwares l USING (name) "
            f"WHERE s.space_id = ? AND l.{VISIBLE}"
        )
        order = " ORDER BY l.sequence, l.name"
        if names is None:
            found = self._database.execute(asked + order, (space_id,)).fetchall()
        else:
            found = [
                row
                for start in range(0, len(names), 500)  # SQLite limits the number of values
                for row in self._database.execute(
                    f"{asked} AND l.name IN ({', '.join('?' * len(names[start : start + 500]))}){order}",
                    (space_id, *names[start : start + 500]),
                ).fetchall()
            ]
        domain, behaviour = _rows([r[1] for r in found]), _rows([r[2] for r in found])
        return [r[0] for r in found], domain, behaviour, np.array([r[3] for r in found], np.float64)

    def spaces(self) -> dict[str, tuple[str, int]]:
        """Return space id -> the space's name and its number of visible specs."""
        found = self._database.execute(
            "SELECT s.space_id, min(s.space), count(*) FROM specs s JOIN learnwares l USING (name) "
            f"WHERE l.{VISIBLE} GROUP BY s.space_id ORDER BY 2, 1"
        )
        return {space_id: (space, n) for space_id, space, n in found}

    def outlines(self, space_id: str, length: int) -> tuple[list[str], Array]:
        """Return the names of a space's visible learnwares, and the first ``length`` numbers of each behaviour."""
        found = self._database.execute(
            f"SELECT name, substr(behaviour, 1, {4 * length}) FROM specs WHERE space_id = ? "
            f"AND name NOT IN (SELECT name FROM learnwares WHERE NOT {VISIBLE}) ORDER BY name",
            (space_id,),
        ).fetchall()
        return [name for name, _ in found], _rows([raw for _, raw in found])

    def parts(self, space_id: str, names: Sequence[str]) -> tuple[Array, Array]:
        """Return the domains ``(n, D)`` and behaviours ``(n, k)`` of the learnwares ``names`` in a space."""
        found = [
            self._database.execute(
                "SELECT domain, behaviour FROM specs WHERE name = ? AND space_id = ?", (name, space_id)
            ).fetchone()
            for name in names
        ]
        return _rows([d for d, _ in found]), _rows([b for _, b in found])

    def tombstone(self, name: str) -> Tombstone | None:
        """Return the tombstone of ``name``, if there is one."""
        found = self._database.execute(
            "SELECT name, digest, sequence FROM tombstones WHERE name = ?", (name,)
        ).fetchone()
        return None if found is None else Tombstone(*found)

    def tombstones(self) -> list[Tombstone]:
        """Return all tombstones, by name."""
        found = self._database.execute("SELECT name, digest, sequence FROM tombstones ORDER BY name")
        return [Tombstone(*row) for row in found]

    def next_sequence(self) -> int:
        """Return a number greater than all sequence numbers so far."""
        (last,) = self._database.execute(
            "SELECT coalesce(max(sequence), 0) FROM "
            "(SELECT sequence FROM learnwares UNION ALL SELECT sequence FROM tombstones) AS given"
        ).fetchone()
        return int(last) + 1

    def outdated(self) -> bool:
        """Return whether an older learndock made this database; opening it to write migrates it."""
        return self._database.outdated()

    def problems(self) -> list[str]:
        """Return what the database itself reports as wrong with its files."""
        return self._database.problems()

    def change(self) -> tuple[int, ...]:
        """Return a value that differs after every addition and removal."""
        counts = [
            self._database.execute(f"SELECT count(*), coalesce(max(sequence), 0) FROM {table}").fetchone()
            for table in (f"learnwares WHERE {VISIBLE}", "tombstones")
        ]
        return tuple(int(n) for row in counts for n in row)

    # -- changes ----------------------------------------------------------------------------------------

    def insert(self, row: Row, manifest: Manifest, specs: Iterable[SpecRow]) -> None:
        """Insert a learnware in ``row.state`` with its specs; an unfinished one of this name is replaced."""
        self._database.execute("DELETE FROM learnwares WHERE name = ?", (row.name,))
        self._database.execute(
            "INSERT INTO learnwares (name, digest, state, sequence, manifest, format, task_type, license) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(row.name, row.digest, row.state, row.sequence, row.manifest),
                *(manifest.format, manifest.task_schema.type, manifest.license),
            ),
        )
        self._database.executemany(
            "INSERT INTO specs (name, space_id, space, sha256, domain, behaviour, reliability) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (row.name, s.space_id, s.space, s.sha256, _bytes(s.domain), _bytes(s.behaviour), s.reliability)
                for s in specs
            ],
        )

    def set_state(self, name: str, state: str) -> None:
        """Record what is being done with ``name``."""
        self._database.execute("UPDATE learnwares SET state = ? WHERE name = ?", (state, name))

    def publish(self, name: str) -> None:
        """Make ``name`` visible to readers and delete its tombstone."""
        self.set_state(name, "published")
        self._database.execute("DELETE FROM tombstones WHERE name = ?", (name,))

    def forget(self, name: str) -> None:
        """Delete the row and the specs of ``name``."""
        self._database.execute("DELETE FROM learnwares WHERE name = ?", (name,))

    def bury(self, tombstone: Tombstone) -> None:
        """Delete ``name`` and keep a tombstone for it."""
        self.forget(tombstone.name)
        self._database.execute("DELETE FROM tombstones WHERE name = ?", (tombstone.name,))
        self._database.execute(
            "INSERT INTO tombstones (name, digest, sequence) VALUES (?, ?, ?)",
            (tombstone.name, tombstone.digest, tombstone.sequence),
        )


def _bytes(vector: Array) -> bytes:
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def _rows(raw: list[bytes]) -> Array:
    """Return vectors of one space as a matrix.

    Raises:
        Corrupt: they differ in length.
    """
    width = len(raw[0]) if raw else 0
    if any(len(each) != width for each in raw):
        raise Corrupt("specs of one space differ in width", remedy="run `learndock rebuild`")
    return np.frombuffer(b"".join(raw), dtype="<f4").astype(np.float32).reshape(len(raw), width // 4)


def _vector(raw: bytes) -> Array:
    return np.frombuffer(raw, dtype="<f4").astype(np.float32)
