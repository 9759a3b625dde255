"""The metadata of repositories, kept in tables: read once per commit, at the first list after it, filtered by indexes.

Publishing does not wait for it. What a list needs is brought up to date before it is answered.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select

from learndock.dock.protocol import Record
from learndock.dock.storage.blobs import BlobStore
from learndock.errors import Conflict, LearndockError
from learndock.package.manifest import MANIFEST, Manifest
from learndock.service.changes import Repository
from learndock.service.database import Database
from learndock.service.metadata import MAX_FRONT, Metadata, metadata_of
from learndock.service.tables import card_tags, cards, left_out, repositories, tree

#: Repositories of one transaction; seconds between two looks for commits of other processes; records in memory.
AT_ONCE, SECONDS, KEPT = 200, 0.5, 100_000
#: Paths that a repository remembers to have left out.
LEFT_OUT = 100


class Cards:
    """What the repositories and learnwares of a service say of themselves. Safe for threads."""

    def __init__(self, database: Database, store: BlobStore, changes: Callable[[], int]) -> None:
        """``changes`` counts the changes of this process."""
        self._database, self._store, self._changes = database, store, changes
        self._lock = threading.Lock()
        self._seen, self._looked = -1, 0.0
        #: Of learnwares without a repository, by id; the oldest goes first.
        self._records: dict[str, Metadata] = {}

    def of(self, found: Iterable[Repository]) -> dict[int, Metadata]:
        """Return the metadata of repositories by their ids; an empty one has none."""
        self.catch_up()
        ids = [r.id for r in found]
        known: dict[int, Metadata] = {}
        with self._database.read() as connection:
            for start in range(0, len(ids), AT_ONCE):
                asked = select(cards).where(cards.c.repository.in_(ids[start : start + AT_ONCE]))
                known |= {row.repository: _from_row(row) for row in connection.execute(asked)}
        return {id_: known.get(id_, Metadata()) for id_ in ids}

    def of_record(self, record: Record) -> Metadata:
        """Return the metadata of a learnware that has no repository; kept, since its content never changes."""
        found = self._records.get(record.id)
        if found is None:
            files = {f.path: f.sha256 for f in record.manifest.files}
            found = metadata_of(files, self._reader(files), record.manifest)
            while len(self._records) >= KEPT:
                self._records.pop(next(iter(self._records)), None)
            self._records[record.id] = found
        return found

    def catch_up(self) -> None:
        """Read the cards of commits that are not read yet; cheap where there is none."""
        changes, now = self._changes(), time.monotonic()
        if changes == self._seen and now - self._looked < SECONDS:
            return
        with self._lock:
            while rows := self._stale():
                self._write([(row, self._read(row)) for row in rows])
            self._seen, self._looked = changes, now

    def conditions(self, tags: Sequence[str], pipeline: str | None) -> list[ColumnElement[bool]]:
        """Return SQL conditions for repositories whose cards have all ``tags``, and are for the task ``pipeline``."""
        self.catch_up()
        found: list[ColumnElement[bool]] = [
            repositories.c.id.in_(select(card_tags.c.repository).where(card_tags.c.key == _key(tag))) for tag in tags
        ]
        if pipeline is not None:
            found.append(repositories.c.id.in_(select(cards.c.repository).where(cards.c.pipeline == pipeline)))
        return found

    def leave_out(self, repository: Repository, paths: Sequence[str]) -> None:
        """Remember that a push left out these files."""
        with self._database.write() as connection:
            asked = select(left_out.c.path).where(left_out.c.repository == repository.id)
            known = set(connection.execute(asked).scalars())
            new = [p for p in dict.fromkeys(paths) if p not in known and len(p) <= 512][: LEFT_OUT - len(known)]
            if new:
                connection.execute(insert(left_out), [{"repository": repository.id, "path": p} for p in new])

    def left_out(self, repository: Repository) -> list[str]:
        """Return the files that pushes to a repository left out."""
        asked = select(left_out.c.path).where(left_out.c.repository == repository.id).order_by(left_out.c.path)
        with self._database.read() as connection:
            return list(connection.execute(asked).scalars())

    # -- inside -------------------------------------------------------------------------------------------

    def _stale(self) -> Sequence[Any]:
        """Return repositories whose card was read for another commit, or for another learnware."""
        other = or_(
            cards.c.repository.is_(None),
            cards.c.commit != repositories.c.head,
            func.coalesce(cards.c.digest, "") != func.coalesce(repositories.c.digest, ""),
        )
        asked = (
            select(repositories.c.id, repositories.c.head, repositories.c.digest)
            .outerjoin(cards, cards.c.repository == repositories.c.id)
            .where(and_(repositories.c.head.is_not(None), other))
            .limit(AT_ONCE)
        )
        with self._database.read() as connection:
            return connection.execute(asked).all()

    def _read(self, row: Any) -> Metadata:
        with self._database.read() as connection:
            asked = select(tree.c.path, tree.c.sha256).where(tree.c.commit == row.head)
            files: dict[str, str] = {row.path: row.sha256 for row in connection.execute(asked)}
        read = self._reader(files)
        manifest = None
        try:
            if row.digest is not None and MANIFEST in files:
                manifest = Manifest.from_bytes(read(MANIFEST))
            return metadata_of(files, read, manifest)
        except (LearndockError, OSError):  # damaged or gone bytes: `verify` and the scrub report them
            return Metadata()

    def _reader(self, files: Mapping[str, str]) -> Callable[[str], bytes]:
        def read(path: str) -> bytes:
            with self._store.open(files[path]) as stream:
                return stream.read(4 * MAX_FRONT)

        return read

    def _write(self, found: Sequence[tuple[Any, Metadata]]) -> None:
        ids = [row.id for row, _ in found]
        try:
            with self._database.write() as connection:
                present = set(
                    connection.execute(select(repositories.c.id).where(repositories.c.id.in_(ids))).scalars()
                )  # fmt: skip
                connection.execute(delete(card_tags).where(card_tags.c.repository.in_(ids)))
                connection.execute(delete(cards).where(cards.c.repository.in_(ids)))
                kept = [(row, card) for row, card in found if row.id in present]
                if kept:
                    connection.execute(insert(cards), [_to_row(row, card) for row, card in kept])
                rows = [
                    {"repository": row.id, "key": key}
                    for row, card in kept
                    for key in dict.fromkeys(map(_key, card.tags))
                ]
                if rows:
                    connection.execute(insert(card_tags), rows)
        except Conflict:  # another process has just written the same
            pass


def has_all(card: Metadata, tags: Sequence[str], pipeline: str | None) -> bool:
    """Return whether a card has all ``tags``, and is for the task ``pipeline``: ``Cards.conditions`` for one."""
    keys = set(map(_key, card.tags))
    return all(_key(tag) in keys for tag in tags) and pipeline in (None, card.pipeline)


def _key(tag: str) -> str:
    return tag.casefold()[:200]


def _to_row(row: Any, card: Metadata) -> dict[str, Any]:
    return {
        "repository": row.id,
        "commit": row.head,
        "digest": row.digest,
        "library": card.library and card.library[:200],
        "pipeline": card.pipeline and card.pipeline[:200],
        # JSON's own escapes: PostgreSQL keeps no NUL in a text
        "found": json.dumps(dataclasses.asdict(card)),
    }


def _from_row(row: Any) -> Metadata:
    found = json.loads(row.found)
    return Metadata(**{**found, "tags": tuple(found["tags"])})
