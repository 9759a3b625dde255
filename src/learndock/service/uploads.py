"""Bytes on their way in: streamed to a file of the dock's folder, hashed as they arrive, resumed where they broke off.

    begin -> write at the offset that ``find`` tells, as often as it takes -> stored
    begin with parts -> write each part, in any order -> complete -> stored

What is stored is a blob that nobody refers to yet; a lease keeps it from collection until a commit does.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, literal, or_, select, update

from learndock.dock.storage.layout import DockLayout
from learndock.errors import Conflict, NotFound, QuotaExceeded, TooLarge, TooManyRequests, UsageError
from learndock.files import CHUNK
from learndock.service import views
from learndock.service.database import Database
from learndock.service.principal import Principal
from learndock.service.receiver import Blob, Hashes, Receiver
from learndock.service.tables import blobs, commits, holdings, owners, parts, repositories, tree, uploads
from learndock.settings import Settings

#: Parts are at least this long, but for the last; at most this many.
MIN_PART, MAX_PARTS = 5 << 20, 10_000
#: Values of one query: databases allow a limited number.
AT_ONCE = 500
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Upload:
    """Bytes that are expected. ``offset`` are there already; ``part_size`` is None where they come in one stream."""

    id: str
    sha256: str
    size: int
    offset: int
    part_size: int | None
    stored: bool
    expires: float

    @property
    def part_count(self) -> int:
        """How many parts it has."""
        return 1 if self.part_size is None else max(1, -(-self.size // self.part_size))


class Uploads:
    """The uploads of a service, and the blobs that come of them."""

    def __init__(self, database: Database, storage: DockLayout, folder: Path, settings: Settings) -> None:
        self._database, self._storage, self._store, self._settings = database, storage, storage.blobs, settings
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._busy: dict[str, str] = {}
        self._lock = threading.Lock()
        self._hashes: dict[str, Hashes] = {}

    # -- beginning and finding ----------------------------------------------------------------------------

    def begin(self, who: Principal, sha256: str, size: int, *, part_size: int | None = None) -> Upload:
        """Expect ``size`` bytes with this SHA-256; ``stored`` at once where ``who`` has them here already.

        Raises:
            UsageError: no SHA-256, or parts of a size that does not do.
            TooLarge: more than the service takes.
            QuotaExceeded: more than ``who`` may keep.
        """
        who.need("write")
        self._check(sha256, size, part_size)
        now = time.time()
        expires = now + self._settings.upload_hours * 3600
        with self._storage.collection_lock(), self._database.write() as connection:
            stored = self._holds(connection, who, sha256, size)
            if stored:
                self._renew(connection, who, sha256, expires)
            else:
                self._check_quota(connection, who, size)
            upload = Upload(secrets.token_hex(16), sha256, size, size if stored else 0, part_size, stored, expires)
            connection.execute(
                insert(uploads).values(
                    id=upload.id,
                    owner=who.id,
                    sha256=sha256,
                    size=size,
                    part_size=part_size,
                    stored=stored,
                    expires=expires,
                )
            )
        if size == 0 and not stored:
            return self._keep(who, upload, Hashes(0))
        return upload

    def find(self, who: Principal, upload: str) -> Upload:
        """An upload of ``who``, with the offset at which it goes on.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as connection:
            row = connection.execute(
                select(uploads).where(
                    uploads.c.id == upload, uploads.c.owner == who.id, uploads.c.expires > time.time()
                )
            ).one_or_none()
        if row is None:
            raise NotFound("you have no such upload", remedy="it may have expired, begin another", about=upload[:32])
        begun = 0 if row.part_size is not None else self._length(upload)
        offset = row.size if row.stored else begun
        return Upload(row.id, row.sha256, row.size, offset, row.part_size, row.stored, row.expires)

    def cancel(self, who: Principal, upload: str) -> None:
        """Forget an upload and its bytes.

        Raises:
            NotFound: there is none.
            Conflict: bytes are coming in right now.
        """
        found = self.find(who, upload)
        with self._alone(who, found), self._database.write() as connection:
            connection.execute(delete(uploads).where(uploads.c.id == found.id))
            self._file(found.id).unlink(missing_ok=True)
            self._hashes.pop(found.id, None)

    def unfinished(self, who: Principal, sha256: str, size: int) -> list[Upload]:
        """Uploads of these bytes that ``who`` began and did not end, the one that got furthest first."""
        asked = select(uploads.c.id).where(
            uploads.c.owner == who.id,
            uploads.c.sha256 == sha256,
            uploads.c.size == size,
            uploads.c.stored.is_(False),
            uploads.c.expires > time.time(),
        )
        with self._database.read() as connection:
            found = list(connection.execute(asked).scalars())
        return sorted((self.find(who, upload) for upload in found), key=lambda u: -u.offset)

    def forget_stale(self, who: Principal, sha256: str, *, seconds: float) -> None:
        """Forget own uploads of these bytes to which nothing came for so long: they are about to be begun anew."""
        with self._database.read() as connection:
            begun = connection.execute(
                select(uploads.c.id).where(
                    uploads.c.owner == who.id, uploads.c.sha256 == sha256, uploads.c.stored.is_(False)
                )
            ).scalars()
            found = list(begun)
        for upload in found:
            with contextlib.suppress(FileNotFoundError, NotFound, Conflict):
                if self._file(upload).stat().st_mtime < time.time() - seconds:
                    self.cancel(who, upload)

    def restart(self, who: Principal, upload: Upload) -> None:
        """Throw away what came of an upload, so that it begins at 0 again.

        Raises:
            Conflict: bytes are coming in right now.
        """
        with self._alone(who, upload):
            self._file(upload.id).unlink(missing_ok=True)
            self._hashes.pop(upload.id, None)

    # -- taking bytes -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def receive(self, who: Principal, upload: Upload, *, offset: int) -> Iterator[Receiver]:
        """Take bytes from ``offset`` on; what came stays, also where the sender breaks off.

        Raises:
            Conflict: another request is sending, the upload goes on elsewhere, or it comes in parts.
            TooManyRequests: the owner sends as many at once as the service allows.
        """
        with self._alone(who, upload):
            there = self._length(upload.id)
            if upload.part_size is not None:
                raise Conflict("this upload comes in parts", remedy="send them to their own addresses")
            if upload.stored or offset != there:
                raise Conflict(f"the upload goes on at byte {upload.size if upload.stored else there}, not at {offset}")
            hashes = self._hashes.get(upload.id)
            if hashes is None or hashes.passed != there:
                hashes = self._hashed(upload)
            self._hashes[upload.id] = hashes
            with Receiver(self._file(upload.id), offset=offset, size=upload.size - offset, hashes=hashes) as receiver:
                yield receiver

    @contextlib.contextmanager
    def receive_part(self, who: Principal, upload: Upload, number: int) -> Iterator[Receiver]:
        """Take part ``number``, counted from 1, whole; parts may come side by side and again.

        Raises:
            UsageError: there is no such part.
        """
        if upload.part_size is None or not 1 <= number <= upload.part_count:
            raise UsageError(f"there is no part {number}; this upload has {upload.part_count}")
        begin = (number - 1) * upload.part_size
        size = min(upload.part_size, upload.size - begin)
        with self._alone(who, upload, part=number):
            with Receiver(self._file(upload.id), offset=begin, size=size, hashes=None) as receiver:
                yield receiver
            if receiver.received != size:
                raise UsageError(f"part {number} has {size} bytes, {receiver.received} came", remedy="send it again")
            with self._database.write() as connection:
                connection.execute(delete(parts).where(parts.c.upload == upload.id, parts.c.number == number))
                connection.execute(
                    insert(parts).values(upload=upload.id, number=number, etag=receiver.part.hexdigest())
                )

    def finish(self, who: Principal, upload: Upload) -> Upload:
        """Store an upload whose bytes are all there; one that is not yet complete is given back as it is.

        Raises:
            UsageError: the bytes are not those that were announced; they were thrown away.
        """
        there = upload.offset if upload.stored or upload.part_size is not None else self._length(upload.id)
        if upload.stored or there < upload.size or upload.part_size is not None:
            return replace(upload, offset=there)
        with self._alone(who, upload):
            if not self._file(upload.id).exists() and upload.size:  # another request stored it just now
                return self.find(who, upload.id)
            hashes = self._hashes.pop(upload.id, None)
            if hashes is None or hashes.passed != upload.size:
                hashes = self._hashed(upload)
            return self._keep(who, upload, hashes)

    def complete(self, who: Principal, upload: Upload) -> Upload:
        """Store an upload whose parts are all there.

        Raises:
            Conflict: parts are missing.
            UsageError: the bytes are not those that were announced; they were thrown away.
        """
        upload = self.find(who, upload.id)
        if upload.stored or upload.part_size is None:
            return self.finish(who, upload)
        with self._alone(who, upload):
            with self._database.read() as connection:
                there = set(connection.execute(select(parts.c.number).where(parts.c.upload == upload.id)).scalars())
            missing = [n for n in range(1, upload.part_count + 1) if n not in there]
            if missing:
                raise Conflict(
                    f"{len(missing)} parts are missing, part {missing[0]} first", remedy="send them, then complete"
                )
            return self._keep(who, upload, self._hashed(upload))

    def put(self, who: Principal, content: bytes) -> Blob:
        """Store a small file at once.

        Raises:
            QuotaExceeded, StorageFull
        """
        return self.put_pieces(who, len(content), lambda: iter((content,)))

    def put_pieces(self, who: Principal, size: int, pieces: Callable[[], Iterator[bytes]]) -> Blob:
        """Store a file of ``size`` bytes at once, in one transaction.

        Raises:
            TooLarge: more than the service takes.
            QuotaExceeded, StorageFull
        """
        who.need("write")
        hashes = Hashes(size)
        with views.folder_of(self._store, {}, self.folder) as place:
            file = place / "file"
            with Receiver(file, offset=0, size=size, hashes=hashes) as receiver:
                for piece in pieces():
                    receiver.write(piece)
            blob = hashes.blob()
            self._check(blob.sha256, size, None)
            with self._storage.collection_lock(), self._database.write() as connection:
                if not self._holds(connection, who, blob.sha256, size):
                    self._check_quota(connection, who, size)
                self.lease(connection, who, [blob])
            self._store.adopt(file, sha256=blob.sha256, size=size)
        return blob

    # -- what is there ------------------------------------------------------------------------------------

    def blob(self, who: Principal, sha256: str) -> Blob:
        """A blob that ``who`` may commit: uploaded by them, or part of what they may read.

        Raises:
            NotFound: there is none; the same is said of one that only others have.
        """
        return self.blobs(who, {sha256})[sha256]

    def blobs(self, who: Principal, sha256s: Set[str]) -> dict[str, Blob]:
        """Blobs that ``who`` may commit, by SHA-256 (see ``blob``).

        Raises:
            NotFound: one of them is not there.
        """
        with self._database.read() as connection:
            return self.find_blobs(connection, who, sha256s)

    def find_blobs(self, connection: Connection, who: Principal, sha256s: Set[str]) -> dict[str, Blob]:
        """See ``blobs``; one query for each ``AT_ONCE`` of them, inside of the caller's transaction."""
        found: dict[str, Blob] = {}
        wanted = sorted(sha256s)
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            asked = select(blobs).where(blobs.c.sha256.in_(some), or_(*_known_to(who, blobs.c.sha256)))
            found |= {row.sha256: Blob(row.sha256, row.size, row.oid) for row in connection.execute(asked)}
        for sha256 in wanted:
            if sha256 not in found or not self._store.has(sha256):
                raise NotFound("you have uploaded no such file", remedy="upload it first", about=sha256[:64])
        return found

    def known(self, sha256: str) -> Blob:
        """A blob that is stored, whoever has it: for the service itself.

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
        """Bytes that ``who`` may still send."""
        with self._database.read() as connection:
            allowed = connection.execute(select(owners.c.quota).where(owners.c.id == who.id)).scalar()
            taken = self.used(connection, who.id) + self._waiting(connection, who.id)
        return max(0, (self._settings.quota if allowed is None else allowed) - taken)

    def expire(self) -> int:
        """Throw away uploads whose time is over; returns how many."""
        now = time.time()
        # The files first: whose row is not there when they are on the list, has none; a new one is not on it.
        files = [path for path in self.folder.iterdir() if path.is_file() and not path.name.startswith(views.PREFIX)]
        with self._database.write() as connection:
            gone = connection.execute(delete(uploads).where(uploads.c.expires <= now).returning(uploads.c.id))
            expired = list(gone.scalars())
            connection.execute(delete(holdings).where(holdings.c.expires <= now))
            known = set(connection.execute(select(uploads.c.id).where(uploads.c.stored.is_(False))).scalars())
        for path in files:
            if path.name not in known and path.name not in self._busy:
                path.unlink(missing_ok=True)
        for name in expired:
            self._hashes.pop(name, None)
        return len(expired)

    # -- inside -------------------------------------------------------------------------------------------

    def _file(self, upload: str) -> Path:
        return self.folder / upload

    def _length(self, upload: str) -> int:
        try:
            return self._file(upload).stat().st_size
        except FileNotFoundError:
            return 0

    def _check(self, sha256: str, size: int, part_size: int | None) -> None:
        if not _SHA256.fullmatch(sha256):
            raise UsageError("sha256 is the SHA-256 of the file, in 64 lower-case hexadecimal digits")
        if size < 0:
            raise UsageError(f"size is {size}", remedy="a file has 0 bytes or more")
        if size > self._settings.max_file:
            raise TooLarge(f"{size} bytes", remedy=f"this service takes files of at most {self._settings.max_file}")
        if part_size is not None and (part_size < MIN_PART or -(-size // part_size) > MAX_PARTS):
            raise UsageError(f"parts have at least {MIN_PART} bytes, and there are at most {MAX_PARTS}")

    @contextlib.contextmanager
    def _alone(self, who: Principal, upload: Upload, *, part: int | None = None) -> Iterator[None]:
        """One request at a time for an upload, or for a part of it; and not too many of one owner."""
        key = upload.id if part is None else f"{upload.id}/{part}"
        with self._lock:
            if key in self._busy:
                raise Conflict("another request is sending these bytes", remedy="wait for it, then ask for the offset")
            if sum(name == who.name for name in self._busy.values()) >= self._settings.concurrent_uploads:
                raise TooManyRequests(
                    f"{self._settings.concurrent_uploads} uploads at once are what this service takes of one user",
                    remedy="wait for one to end",
                )
            self._busy[key] = who.name
        try:
            yield
        finally:
            with self._lock:
                del self._busy[key]

    def _hashed(self, upload: Upload) -> Hashes:
        """Hashes of what lies there: after a restart, and of parts."""
        hashes = Hashes(upload.size)
        with contextlib.suppress(FileNotFoundError), self._file(upload.id).open("rb") as stream:
            while piece := stream.read(CHUNK):
                hashes.update(piece)
        return hashes

    def _keep(self, who: Principal, upload: Upload, hashes: Hashes) -> Upload:
        blob, file = hashes.blob(), self._file(upload.id)
        if blob.sha256 != upload.sha256 or blob.size != upload.size:
            file.unlink(missing_ok=True)
            with self._database.write() as connection:
                connection.execute(delete(uploads).where(uploads.c.id == upload.id))
            raise UsageError(
                f"the bytes that came have the SHA-256 {blob.sha256[:12]}..., {upload.sha256[:12]}... was announced",
                remedy="nothing was kept, send them again",
            )
        # The lease is there before the blob, so that no collection finds it alone; and comes before or after a
        # collection, not in its midst, for one that nobody referred to may be on its list.
        with self._storage.collection_lock(), self._database.write() as connection:
            self.lease(connection, who, [blob], upload.expires)
        if not file.exists():
            file.touch()
        self._store.adopt(file, sha256=blob.sha256, size=blob.size)
        with self._database.write() as connection:
            connection.execute(update(uploads).where(uploads.c.id == upload.id).values(stored=True))
        return Upload(upload.id, upload.sha256, upload.size, upload.size, upload.part_size, True, upload.expires)

    def _renew(self, connection: Connection, who: Principal, sha256: str, expires: float) -> None:
        row = connection.execute(select(blobs).where(blobs.c.sha256 == sha256)).one()
        self.lease(connection, who, [Blob(row.sha256, row.size, row.oid)], expires)

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

    def _holds(self, connection: Connection, who: Principal, sha256: str, size: int) -> bool:
        """Whether ``who`` has these bytes here: nobody learns from this whether others do."""
        asked = select(literal(1)).where(or_(*_known_to(who, literal(sha256))))
        return connection.execute(asked).first() is not None and self._store.has(sha256)

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

    def _waiting(self, connection: Connection, owner: int) -> int:
        """Bytes that an owner has announced, or sent and not committed."""
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

    def _check_quota(self, connection: Connection, who: Principal, size: int) -> None:
        allowed = connection.execute(select(owners.c.quota).where(owners.c.id == who.id)).scalar()
        allowed = self._settings.quota if allowed is None else allowed
        used = self.used(connection, who.id) + self._waiting(connection, who.id)
        if used + size > allowed:
            raise QuotaExceeded(f"{size} bytes more than the {used} that are there would pass the {allowed} allowed")


def _known_to(who: Principal, sha256: ColumnElement[str]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Conditions for a blob that ``who`` may refer to: uploaded by them, or in a tree that they may read."""
    own = exists().where(holdings.c.owner == who.id, holdings.c.sha256 == sha256, holdings.c.expires > time.time())
    readable = (
        exists()
        .where(tree.c.sha256 == sha256, commits.c.id == tree.c.commit, repositories.c.id == commits.c.repository)
        .where(or_(repositories.c.private.is_(False), repositories.c.owner.in_(who.owner_ids)))
    )
    return own, readable
