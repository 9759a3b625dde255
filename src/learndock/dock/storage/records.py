"""Records: the database that answers questions about the dock's learnwares.

It is SQLite in the dock's folder, or PostgreSQL (see ``postgres``), with the same queries.

    names         one row for each name: the number of the version tagged ``latest``, what is said about the name, and
                  what a writer is doing with it (``pending``)
    versions      one row for each version that was ever published; a removed one has no manifest
    specs         the specs of the published versions
    dock_changes  a number that grows with every change that readers can see

The files are the truth (see ``publications``); this is their index. Before a writer replaces the file of a name it
commits that the name is ``pending``, and a new version in the state ``publishing``, which no reader sees. Afterwards it
makes the rows those of the file (``settle``). If the writer dies, the next one does that. Until then readers see the
name as it was.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learndock.dock.storage.publications import Publication, Version
from learndock.dock.storage.sqlite import Connection
from learndock.errors import Corrupt
from learndock.spec.spec import Array

#: What ``pending`` says of a name whose rows the next writer makes those of its file.
CHANGING = "changing"
_ROW = "v.name, v.number, v.digest, v.sequence, v.manifest, v.published_at, v.supersedes, n.latest, n.about"
_LATEST = "FROM names n JOIN versions v ON v.name = n.name AND v.number = n.latest"
_PUBLISHED = "FROM versions v JOIN names n ON n.name = v.name WHERE v.state = 'published'"
_NO_LATER = (
    "NOT EXISTS (SELECT 1 FROM specs o WHERE o.space_id = s.space_id AND o.name = s.name AND o.number > s.number "
    "AND o.number <= n.latest)"
)


@dataclass(frozen=True)
class Row:
    """One published version in the database; ``manifest`` is its bytes, ``about`` JSON that belongs to the name."""

    name: str
    number: int
    digest: str
    sequence: int
    manifest: bytes
    published_at: str
    supersedes: str | None
    latest: int
    about: str

    def cards(self) -> set[str]:
        """Return the SHA-256 of the name's present card, if it is beside the content."""
        card = json.loads(self.about).get("card")
        return set() if card is None else {str(card["sha256"])}

    @classmethod
    def of(cls, publication: Publication, version: Version) -> Row:
        """Return the row of a published version."""
        assert version.manifest is not None
        assert publication.latest is not None
        return cls(
            publication.name,
            version.number,
            version.digest,
            version.sequence,
            version.manifest,
            version.published_at,
            version.supersedes,
            publication.latest,
            publication.about(),
        )


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
class Known:
    """What the database has of one name: ``latest``, ``about``, and each version with its state."""

    latest: int | None
    about: str
    versions: tuple[tuple[int, str, int, str, str, str | None], ...]

    @classmethod
    def of(cls, publication: Publication) -> Known:
        """Return what the database should have of a name."""
        versions = tuple(
            (v.number, v.digest, v.sequence, "published" if v.published else "removed", v.published_at, v.supersedes)
            for v in publication.versions
        )
        return cls(publication.latest, publication.about(), versions)


class Records:
    """Queries and changes of an open database; not safe for threads."""

    def __init__(self, database: Connection) -> None:
        self._database = database

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Commit all changes of the block together and durably, or none."""
        return self._database.transaction()

    # -- queries ----------------------------------------------------------------------------------------

    def rows(self, *, every: bool = False) -> list[Row]:
        """Return the version tagged ``latest`` of each name, or every published version, in order of addition."""
        found = self._database.execute(
            f"SELECT {_ROW} {_PUBLISHED if every else _LATEST} ORDER BY v.sequence, v.name, v.number"
        )
        return [Row(*row) for row in found]

    def row(self, name: str, number: int | None = None) -> Row | None:
        """Return a published version of ``name``, or the one tagged ``latest``; None where there is none."""
        if number is None:
            found = self._database.execute(f"SELECT {_ROW} {_LATEST} WHERE n.name = ?", (name,)).fetchone()
        else:
            found = self._database.execute(
                f"SELECT {_ROW} {_PUBLISHED} AND v.name = ? AND v.number = ?", (name, number)
            ).fetchone()
        return None if found is None else Row(*found)

    def versions(self, name: str) -> list[Row]:
        """Return the published versions of ``name``, by number."""
        found = self._database.execute(f"SELECT {_ROW} {_PUBLISHED} AND v.name = ? ORDER BY v.number", (name,))
        return [Row(*row) for row in found]

    def digests(self, name: str) -> dict[int, str]:
        """Return number -> digest of the published versions of ``name``."""
        found = self._database.execute(
            "SELECT number, digest FROM versions WHERE name = ? AND state = 'published' ORDER BY number", (name,)
        )
        return dict(found.fetchall())

    def names(self) -> list[str]:
        """Return the names that have a published version."""
        return [name for (name,) in self._database.execute("SELECT name FROM names WHERE latest IS NOT NULL")]

    def every_name(self) -> list[str]:
        """Return every name that was ever published."""
        return [name for (name,) in self._database.execute("SELECT name FROM names ORDER BY name")]

    def count(self) -> int:
        """Return the number of names that have a published version."""
        return int(self._database.execute("SELECT count(*) FROM names WHERE latest IS NOT NULL").fetchone()[0])

    def known(self, name: str) -> Known | None:
        """Return what the database has of ``name``; None where it has nothing."""
        found = self._database.execute("SELECT latest, about FROM names WHERE name = ?", (name,)).fetchone()
        versions = tuple(
            tuple(row)
            for row in self._database.execute(
                "SELECT number, digest, sequence, state, published_at, supersedes FROM versions WHERE name = ? "
                "ORDER BY number",
                (name,),
            )
        )
        if found is None:
            return Known(None, "", versions) if versions else None
        return Known(found[0], found[1], versions)

    def pending(self) -> dict[str, str]:
        """Return the names that a writer began to change and did not finish, and what it was doing."""
        found = self._database.execute("SELECT name, pending FROM names WHERE pending != '' ORDER BY name")
        return dict(found.fetchall())

    def specs(self, name: str, number: int) -> list[SpecRow]:
        """Return the specs of one version, by space."""
        found = self._database.execute(
            "SELECT space_id, space, sha256, domain, behaviour, reliability FROM specs WHERE name = ? AND number = ? "
            "ORDER BY space_id",
            (name, number),
        )
        return [SpecRow(i, s, h, _vector(d), _vector(b), r) for i, s, h, d, b, r in found]

    def table(
        self, space_id: str, names: Sequence[str] | None = None, *, every: bool = False
    ) -> tuple[list[str], Array, Array, NDArray[np.float64]]:
        """Return ids, domains ``(N, D)``, behaviours ``(N, k)`` and reliabilities of a space's specs, as added.

        For each name they are those of its candidate: the version tagged ``latest``, or the newest earlier one that has
        a spec in this space. With ``every`` they are those of all versions up to ``latest``.

        Raises:
            Corrupt: the vectors differ in length.
        """
        asked = (
            "SELECT v.name || '@' || v.digest, s.domain, s.behaviour, s.reliability "
            "FROM specs s JOIN names n ON n.name = s.name "
            "JOIN versions v ON v.name = s.name AND v.number = s.number "
            "WHERE s.space_id = ? AND s.number <= n.latest"
        )
        if not every:
            asked += f" AND {_NO_LATER}"
        order = " ORDER BY v.sequence, v.name"
        if names is None:
            found = self._database.execute(asked + order, (space_id,)).fetchall()
        else:
            found = [
                row
                for start in range(0, len(names), 500)  # SQLite limits the number of values
                for row in self._database.execute(
                    f"{asked} AND s.name IN ({', '.join('?' * len(names[start : start + 500]))}){order}",
                    (space_id, *names[start : start + 500]),
                ).fetchall()
            ]
        domain, behaviour = _rows([r[1] for r in found]), _rows([r[2] for r in found])
        return [r[0] for r in found], domain, behaviour, np.array([r[3] for r in found], np.float64)

    def spaces(self) -> dict[str, tuple[str, int]]:
        """Return space id -> the space's name and the number of learnwares that have a spec in it."""
        found = self._database.execute(
            "SELECT s.space_id, min(s.space), count(DISTINCT s.name) FROM specs s JOIN names n ON n.name = s.name "
            "WHERE s.number <= n.latest GROUP BY s.space_id ORDER BY 2, 1"
        )
        return {space_id: (space, n) for space_id, space, n in found}

    def outlines(self, space_id: str, length: int) -> tuple[list[str], Array]:
        """Return all versions with a spec in a space, and the first ``length`` numbers of each behaviour.

        A name stands for its candidate (see ``table``), ``name@vN`` for another version.
        """
        found = self._database.execute(
            f"SELECT s.name, s.number, n.latest, substr(s.behaviour, 1, {4 * length}) "
            "FROM specs s JOIN names n ON n.name = s.name "
            "WHERE s.space_id = ? ORDER BY s.name, s.number",
            (space_id,),
        ).fetchall()
        candidates = {name: number for name, number, latest, _ in found if latest is not None and number <= latest}
        keys = [name if candidates.get(name) == number else f"{name}@v{number}" for name, number, _, _ in found]
        return keys, _rows([raw for *_, raw in found])

    def parts(self, space_id: str, names: Sequence[str]) -> tuple[Array, Array]:
        """Return the domains ``(n, D)`` and behaviours ``(n, k)`` of what ``outlines`` names."""
        found = [self._part(space_id, *name.split("@v")) for name in names]
        return _rows([d for d, _ in found]), _rows([b for _, b in found])

    def _part(self, space_id: str, name: str, number: str | None = None) -> tuple[bytes, bytes]:
        asked = "SELECT s.domain, s.behaviour FROM specs s WHERE s.name = ? AND s.space_id = ? AND s.number "
        if number is None:
            values: tuple[object, ...] = (name, space_id, name)
            asked += "<= (SELECT latest FROM names WHERE name = ?) ORDER BY s.number DESC LIMIT 1"
        else:
            values = (name, space_id, int(number))
            asked += "= ?"
        domain, behaviour = self._database.execute(asked, values).fetchone()
        return domain, behaviour

    def next_sequence(self) -> int:
        """Return a number greater than all sequence numbers so far."""
        (last,) = self._database.execute("SELECT coalesce(max(sequence), 0) FROM versions").fetchone()
        return int(last) + 1

    def outdated(self) -> bool:
        """Return whether an older learndock made this database; opening it to write migrates it."""
        return self._database.outdated()

    def problems(self) -> list[str]:
        """Return what the database itself reports as wrong with its files."""
        return self._database.problems()

    def change(self) -> tuple[int, ...]:
        """Return a value that differs after every change that readers can see."""
        (number,) = self._database.execute("SELECT number FROM dock_changes").fetchone()
        return (int(number),)

    # -- changes ----------------------------------------------------------------------------------------

    def begin(self, name: str, doing: str = CHANGING) -> None:
        """Record that a writer changes ``name``."""
        self._database.execute(
            "INSERT INTO names (name, latest, about, pending) VALUES (?, NULL, '{}', ?) "
            "ON CONFLICT (name) DO UPDATE SET pending = excluded.pending",
            (name, doing),
        )

    def insert(self, name: str, version: Version, specs: Iterable[SpecRow]) -> None:
        """Insert a version that no reader sees yet, with its specs; an unfinished one of this number is replaced."""
        self._delete(name, version.number)
        self._put(name, version, "publishing")
        self._database.executemany(
            "INSERT INTO specs (name, number, space_id, space, sha256, domain, behaviour, reliability) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(name, version.number, s.space_id, s.space, s.sha256),
                    *(_bytes(s.domain), _bytes(s.behaviour), s.reliability),
                )
                for s in specs
            ],
        )

    def copy(self, source: str, publication: Publication) -> None:
        """Insert the published versions of ``source`` under another name, with their specs; no reader sees them yet."""
        for version in publication.published_versions():
            self.insert(publication.name, version, self.specs(source, version.number))

    def settle(self, publication: Publication) -> None:
        """Make the rows of a name those of its file; readers see it so from now on.

        Raises:
            Corrupt: a published version has no row, so that its specs are unknown.
        """
        name, wanted = publication.name, {v.number: v for v in publication.versions}
        known = self.known(name)
        there = {} if known is None else {row[0]: row for row in known.versions}
        for number in there.keys() - wanted.keys():
            self._delete(name, number)
        for number, version in wanted.items():
            row = there.get(number)
            if not version.published:
                if row is None or row[3] != "removed":
                    self._delete(name, number)
                    self._put(name, version, "removed")
            elif row is None or row[1] != version.digest or row[3] == "removed":
                raise disagreement(name)
            elif row[3] == "publishing":
                self._database.execute(
                    "UPDATE versions SET state = 'published', sequence = ?, published_at = ?, supersedes = ? "
                    "WHERE name = ? AND number = ?",
                    (version.sequence, version.published_at, version.supersedes, name, number),
                )
        self._database.execute(
            "INSERT INTO names (name, latest, about, pending) VALUES (?, ?, ?, '') ON CONFLICT (name) "
            "DO UPDATE SET latest = excluded.latest, about = excluded.about, pending = ''",
            (name, publication.latest, publication.about()),
        )
        self._database.execute("UPDATE dock_changes SET number = number + 1")

    def forget(self, name: str) -> None:
        """Delete all that is known of ``name``, which was never published."""
        self._database.execute("DELETE FROM versions WHERE name = ?", (name,))
        self._database.execute("DELETE FROM names WHERE name = ?", (name,))

    def _delete(self, name: str, number: int) -> None:
        self._database.execute("DELETE FROM versions WHERE name = ? AND number = ?", (name, number))

    def _put(self, name: str, version: Version, state: str) -> None:
        self._database.execute(
            "INSERT INTO versions (name, number, digest, state, sequence, published_at, supersedes, manifest) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(name, version.number, version.digest, state, version.sequence),
                *(version.published_at, version.supersedes, version.manifest),
            ),
        )


def disagreement(name: str) -> Corrupt:
    """Return the error of a name whose rows are not those of its file."""
    return Corrupt("the database and the files on disk disagree", remedy="run `learndock rebuild`", about=name)


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
