"""The blobs that came in: who may refer to them, how long they stay uncommitted, and the bytes that an owner keeps."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence, Set

from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, literal, or_, select, update

from learndock.dock.storage.blobs import BlobStore
from learndock.errors import NotFound, QuotaExceeded
from learndock.files import CHUNK
from learndock.service.database import Database
from learndock.service.principal import Principal
from learndock.service.receiver import Blob, Hashes
from learndock.service.tables import blobs, commits, holdings, owners, repositories, tree, uploads
from learndock.settings import Settings

#: Values of one query: databases allow a limited number.
AT_ONCE = 500


class Holdings:
    """The blobs of a service, and who holds them. A method that takes a connection is part of its transaction."""

    def __init__(self, database: Database, store: BlobStore, settings: Settings) -> None:
        self._database, self._store, self._settings = database, store, settings

    def blob(self, who: Principal, sha256: str) -> Blob:
        """Return a blob that ``who`` may commit: uploaded by them, or in a tree that they may read.

        Raises:
            NotFound: there is none; the error is the same for a blob that only others have.
        """
        return self.find(who, {sha256})[sha256]

    def find(self, who: Principal, sha256s: Set[str]) -> dict[str, Blob]:
        """Return blobs that ``who`` may commit, by SHA-256 (see ``blob``).

        Raises:
            NotFound: one of them is not there.
        """
        with self._database.read() as connection:
            return self.find_in(connection, who, sha256s)

    def find_in(self, connection: Connection, who: Principal, sha256s: Set[str]) -> dict[str, Blob]:
        """See ``find``; one query per ``AT_ONCE`` blobs, in the caller's transaction."""
        found: dict[str, Blob] = {}
        wanted = sorted(sha256s)
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            asked = select(blobs).where(blobs.c.sha256.in_(some), or_(*_known_to(who, blobs.c.sha256)))
            found |= {row.sha256: Blob(row.sha256, row.size, row.oid) for row in connection.execute(asked)}
        gone = self._store.missing(found)
        for sha256 in wanted:
            if sha256 not in found or sha256 in gone:
                raise NotFound("you have uploaded no such file", remedy="upload it first", about=sha256[:64])
        return found

    def known(self, sha256: str) -> Blob:
        """Return a stored blob without asking who may see it: for the service itself.

        Raises:
            NotFound: there is none.
        """
        with self._database.write() as connection:
            row = connection.execute(select(blobs).where(blobs.c.sha256 == sha256)).one_or_none()
            if row is not None:
                return Blob(row.sha256, row.size, row.oid)
            with self._store.open(sha256) as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(0)
                hashes = Hashes(size)
                while piece := stream.read(CHUNK):
                    hashes.update(piece)
            found = hashes.blob()
            connection.execute(insert(blobs).values(sha256=sha256, size=size, oid=found.oid, lease=0.0))
        return Blob(sha256, size, found.oid)

    def room(self, who: Principal) -> int:
        """Return how many more bytes ``who`` may send."""
        with self._database.read() as connection:
            allowed = connection.execute(select(owners.c.quota).where(owners.c.id == who.id)).scalar()
            taken = self.used(connection, who.id) + self.waiting(connection, who.id)
        return max(0, (self._settings.quota if allowed is None else allowed) - taken)

    def renew(self, connection: Connection, who: Principal, sha256: str, expires: float) -> None:
        """Keep a blob that is there for ``who`` until ``expires``; the caller holds the collection lock."""
        row = connection.execute(select(blobs).where(blobs.c.sha256 == sha256)).one()
        self.lease(connection, who, [Blob(row.sha256, row.size, row.oid)], expires)

    def release(self, connection: Connection, who: Principal, sha256s: Set[str]) -> None:
        """End the time for which blobs stay uncommitted for ``who``; those that others uploaded stay for them.

        The caller holds the collection lock.
        """
        wanted = sorted(sha256s)
        others = exists().where(holdings.c.sha256 == blobs.c.sha256, holdings.c.expires > time.time())
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            connection.execute(delete(holdings).where(holdings.c.owner == who.id, holdings.c.sha256.in_(some)))
            connection.execute(update(blobs).where(blobs.c.sha256.in_(some), ~others).values(lease=0.0))

    def lease(self, connection: Connection, who: Principal, kept: Sequence[Blob], expires: float | None = None) -> None:
        """Keep blobs for ``who`` until ``expires`` (by default, as long as an upload), committed or not.

        The caller holds the collection lock.
        """
        if expires is None:
            expires = time.time() + self._settings.upload_hours * 3600
        by_sha256 = {blob.sha256: blob for blob in kept}
        longer = func.max if self._database.sqlite else func.greatest
        for start in range(0, len(by_sha256), AT_ONCE):
            some = sorted(by_sha256)[start : start + AT_ONCE]
            known = set(
                connection.execute(
                    update(blobs)
                    .where(blobs.c.sha256.in_(some))
                    .values(lease=longer(blobs.c.lease, expires))
                    .returning(blobs.c.sha256)
                ).scalars()
            )
            new = [by_sha256[sha256] for sha256 in some if sha256 not in known]
            if new:
                rows = [{"sha256": b.sha256, "size": b.size, "oid": b.oid, "lease": expires} for b in new]
                connection.execute(insert(blobs), rows)
            connection.execute(delete(holdings).where(holdings.c.owner == who.id, holdings.c.sha256.in_(some)))
            connection.execute(insert(holdings), [{"owner": who.id, "sha256": s, "expires": expires} for s in some])

    def holds(self, connection: Connection, who: Principal, sha256: str) -> bool:
        """Return whether ``who`` has this blob here; it tells nothing about other owners."""
        asked = select(literal(1)).where(or_(*_known_to(who, literal(sha256))))
        return connection.execute(asked).first() is not None and self._store.has(sha256)

    def held(self, connection: Connection, who: Principal, sha256s: Set[str]) -> set[str]:
        """Return those of the blobs that ``who`` has here (see ``holds``), in one query per ``AT_ONCE``."""
        found: set[str] = set()
        wanted = sorted(sha256s)
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            asked = select(blobs.c.sha256).where(blobs.c.sha256.in_(some), or_(*_known_to(who, blobs.c.sha256)))
            found |= set(connection.execute(asked).scalars())
        return found

    def used(self, connection: Connection, owner: int) -> int:
        """Return the bytes that an owner keeps in repositories, each blob counted once."""
        each = (
            select(tree.c.sha256, func.max(tree.c.size).label("size"))
            .join(commits, commits.c.id == tree.c.commit)
            .join(repositories, repositories.c.id == commits.c.repository)
            .where(repositories.c.owner == owner)
            .group_by(tree.c.sha256)
            .subquery()
        )
        return int(connection.execute(select(func.coalesce(func.sum(each.c.size), 0))).scalar_one())

    def waiting(self, connection: Connection, owner: int) -> int:
        """Return the bytes that an owner has announced, or sent and not committed."""
        unfinished = connection.execute(
            select(func.coalesce(func.sum(uploads.c.size), 0)).where(
                uploads.c.owner == owner, uploads.c.stored.is_(False), uploads.c.expires > time.time()
            )
        ).scalar_one()
        uncommitted = connection.execute(
            select(func.coalesce(func.sum(blobs.c.size), 0))
            .select_from(blobs)
            .join(holdings, holdings.c.sha256 == blobs.c.sha256)
            .where(
                holdings.c.owner == owner,
                holdings.c.expires > time.time(),
                ~exists().where(tree.c.sha256 == blobs.c.sha256),
            )
        ).scalar_one()
        return int(unfinished) + int(uncommitted)

    def check_quota(self, connection: Connection, who: Principal, size: int) -> None:
        """Check that ``who`` may keep ``size`` bytes more.

        Raises:
            QuotaExceeded: they may not.
        """
        allowed = connection.execute(select(owners.c.quota).where(owners.c.id == who.id)).scalar()
        allowed = self._settings.quota if allowed is None else allowed
        used = self.used(connection, who.id) + self.waiting(connection, who.id)
        if used + size > allowed:
            raise QuotaExceeded(
                f"{size} bytes more than the {used} that are stored would exceed the quota of {allowed}",
                remedy="delete something, or ask the operator for a larger quota",
            )


def _known_to(who: Principal, sha256: ColumnElement[str]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Conditions for a blob that ``who`` may refer to: uploaded by them, or in a tree that they may read."""
    own = exists().where(holdings.c.owner == who.id, holdings.c.sha256 == sha256, holdings.c.expires > time.time())
    readable = (
        exists()
        .where(tree.c.sha256 == sha256, commits.c.id == tree.c.commit, repositories.c.id == commits.c.repository)
        .where(or_(repositories.c.private.is_(False), repositories.c.owner.in_(who.owner_ids)))
    )
    return own, readable
