"""Uploads: streamed to a file of the dock's folder, hashed as they arrive, resumed after an interruption.

    begin -> write at the offset of ``find``, in one or more requests -> stored
    begin with parts -> write each part, in any order -> complete -> stored

A stored upload is a blob that nothing refers to yet. A lease protects it from gc until a commit does.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import delete, insert, select, update

from learndock.dock.storage.layout import DockLayout
from learndock.errors import Conflict, NotFound, TooLarge, TooManyRequests, UsageError
from learndock.files import CHUNK
from learndock.service import views
from learndock.service.database import Database
from learndock.service.holdings import Holdings
from learndock.service.principal import Principal
from learndock.service.receiver import Blob, Hashes, Receiver
from learndock.service.tables import holdings as holdings_table
from learndock.service.tables import parts, uploads
from learndock.settings import Settings

#: Parts are at least this long, but for the last; at most this many.
MIN_PART, MAX_PARTS = 5 << 20, 10_000
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Upload:
    """An announced file; ``offset`` bytes have arrived. ``part_size`` is None for an upload in one stream."""

    id: str
    sha256: str
    size: int
    offset: int
    part_size: int | None
    stored: bool
    expires: float

    @property
    def part_count(self) -> int:
        """The number of parts."""
        return 1 if self.part_size is None else max(1, -(-self.size // self.part_size))


class Uploads:
    """The uploads of a service."""

    def __init__(
        self, database: Database, storage: DockLayout, holdings: Holdings, folder: Path, settings: Settings
    ) -> None:
        self._database, self._storage, self._holdings, self._settings = database, storage, holdings, settings
        self._store = storage.blobs
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._busy: dict[str, str] = {}
        self._lock = threading.Lock()
        self._hashes: dict[str, Hashes] = {}

    # -- beginning and finding ----------------------------------------------------------------------------

    def begin(self, who: Principal, sha256: str, size: int, *, part_size: int | None = None) -> Upload:
        """Announce ``size`` bytes with this SHA-256; ``stored`` at once where ``who`` has them here already.

        Raises:
            UsageError: not a SHA-256, or a part size that is not allowed.
            TooLarge: more than the service takes.
            QuotaExceeded: more than ``who`` may keep.
        """
        who.need("write")
        self._check(sha256, size, part_size)
        now = time.time()
        expires = now + self._settings.upload_hours * 3600
        with self._storage.collection_lock(), self._database.write() as connection:
            stored = self._holdings.holds(connection, who, sha256)
            if stored:
                self._holdings.renew(connection, who, sha256, expires)
            else:
                self._holdings.check_quota(connection, who, size)
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
        """Return an upload of ``who`` with the offset at which it continues.

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
        """Delete an upload and its bytes.

        Raises:
            NotFound: there is none.
            Conflict: another request is sending bytes.
        """
        found = self.find(who, upload)
        with self._alone(who, found), self._database.write() as connection:
            connection.execute(delete(uploads).where(uploads.c.id == found.id))
            self._file(found.id).unlink(missing_ok=True)
            self._hashes.pop(found.id, None)

    def unfinished(self, who: Principal, sha256: str, size: int) -> list[Upload]:
        """Return the unfinished uploads of these bytes by ``who``, the one with most bytes first."""
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
        """Delete uploads of these bytes by ``who`` that received nothing for ``seconds``: a new one will begin."""
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
        """Delete the bytes of an upload, so that it starts at 0 again.

        Raises:
            Conflict: another request is sending bytes.
        """
        with self._alone(who, upload):
            self._file(upload.id).unlink(missing_ok=True)
            self._hashes.pop(upload.id, None)

    # -- taking bytes -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def receive(self, who: Principal, upload: Upload, *, offset: int) -> Iterator[Receiver]:
        """Receive bytes from ``offset`` on; bytes that arrived are kept when the sender breaks off.

        Raises:
            Conflict: another request is sending, the offset is wrong, or the upload has parts.
            TooManyRequests: the owner is sending as many uploads as the service allows.
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
        """Receive part ``number``, counted from 1, completely; parts may arrive concurrently and repeatedly.

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
        """Store an upload if all its bytes have arrived; returns it, stored or not.

        Raises:
            UsageError: the bytes are not the announced ones; they were deleted.
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
        """Store an upload if all its parts have arrived.

        Raises:
            Conflict: parts are missing.
            UsageError: the bytes are not the announced ones; they were deleted.
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
                if not self._holdings.holds(connection, who, blob.sha256):
                    self._holdings.check_quota(connection, who, size)
                self._holdings.lease(connection, who, [blob])
            self._store.adopt(file, sha256=blob.sha256, size=size)
        return blob

    def store(self, content: bytes, blob: Blob) -> None:
        """Store ``content``, which is ``blob`` and has a lease already.

        Not by ``BlobStore.put``: it writes to the dock's staging folder, which a gc may empty.

        Raises:
            StorageFull: no room.
        """
        with views.folder_of(self._store, {}, self.folder) as place:
            with Receiver(place / "file", offset=0, size=blob.size, hashes=None) as receiver:
                receiver.write(content)
            self._store.adopt(place / "file", sha256=blob.sha256, size=blob.size)

    def expire(self) -> int:
        """Delete expired uploads; returns how many."""
        now = time.time()
        # List the files before the rows: a file on the list without a row is a leftover, and a new one is not on it.
        files = [path for path in self.folder.iterdir() if path.is_file() and not path.name.startswith(views.PREFIX)]
        with self._database.write() as connection:
            gone = connection.execute(delete(uploads).where(uploads.c.expires <= now).returning(uploads.c.id))
            expired = list(gone.scalars())
            connection.execute(delete(holdings_table).where(holdings_table.c.expires <= now))
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
            raise TooLarge(f"{size} bytes, and this service takes files of at most {self._settings.max_file}")
        if part_size is not None and (part_size < MIN_PART or -(-size // part_size) > MAX_PARTS):
            raise UsageError(f"parts have at least {MIN_PART} bytes, and there are at most {MAX_PARTS}")

    @contextlib.contextmanager
    def _alone(self, who: Principal, upload: Upload, *, part: int | None = None) -> Iterator[None]:
        """Allow one request at a time per upload or part, and a limited number per owner."""
        key = upload.id if part is None else f"{upload.id}/{part}"
        with self._lock:
            if key in self._busy:
                raise Conflict("another request is sending these bytes", remedy="wait for it, then ask for the offset")
            if sum(name == who.name for name in self._busy.values()) >= self._settings.concurrent_uploads:
                raise TooManyRequests(
                    f"at most {self._settings.concurrent_uploads} uploads of one user at once",
                    remedy="wait for one to end",
                )
            self._busy[key] = who.name
        try:
            yield
        finally:
            with self._lock:
                del self._busy[key]

    def _hashed(self, upload: Upload) -> Hashes:
        """Hash the file of an upload: after a restart, and for uploads in parts."""
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
                f"the received bytes have the SHA-256 {blob.sha256[:12]}..., {upload.sha256[:12]}... was announced",
                remedy="nothing was kept; send them again",
            )
        # The lease is committed before the blob is stored, so that gc never sees the blob without it. The collection
        # lock keeps this out of the middle of a gc, which may have listed an old, unreferenced blob of that name.
        with self._storage.collection_lock(), self._database.write() as connection:
            self._holdings.lease(connection, who, [blob], upload.expires)
        if not file.exists():
            file.touch()
        self._store.adopt(file, sha256=blob.sha256, size=blob.size)
        with self._database.write() as connection:
            connection.execute(update(uploads).where(uploads.c.id == upload.id).values(stored=True))
        return Upload(upload.id, upload.sha256, upload.size, upload.size, upload.part_size, True, upload.expires)
