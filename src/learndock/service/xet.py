"""Uploads in Xet's chunks: xorbs come first, then a shard that lists files; each file becomes an ordinary stored one.

    receive xorbs (checked chunk by chunk) -> a shard -> each file: its chunks, in order -> Uploads -> a blob

What is stored is the plain file under its SHA-256, as if it had come in one piece. The xorbs are temporary.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from learndock.dock.storage.blobs import BlobStore
from learndock.errors import Conflict, LearndockError, NotFound, TooLarge, UsageError
from learndock.files import CHUNK
from learndock.service.holdings import Holdings
from learndock.service.principal import Principal
from learndock.service.uploads import Uploads
from learndock.service.xet_format import MAX_SHARD, HashTree, ShardFile, file_hash, range_hash, read_shard, text_of
from learndock.service.xorbs import Run, Xorb, XorbReceiver, Xorbs, covering
from learndock.settings import Settings

#: Open xorbs and stored files of one shard: a file may go to and fro between several.
OPEN = 16
#: Places of chunks that are noted per file. Bytes of xorbs that are not noted stay until they expire.
NOTED = 100_000
#: Seconds after which a file that receives nothing was left by a killed process.
STALE_SECONDS = 60.0

Progress = Callable[[int, int], None]


class XetUploads:
    """The uploads of a service that come in Xet's chunks."""

    def __init__(self, uploads: Uploads, holdings: Holdings, store: BlobStore, settings: Settings) -> None:
        self._uploads, self._holdings, self._store = uploads, holdings, store
        self._most = settings.max_files
        self.xorbs = Xorbs(uploads.folder / "xet", hours=settings.upload_hours)

    def room(self, who: Principal) -> int:
        """Return how many bytes of chunks ``who`` may send."""
        return max(0, self._holdings.room(who) - self.xorbs.staged(who))

    def receive(self, who: Principal, xorb: str) -> XorbReceiver:
        """Return what takes the bytes of a xorb; see ``XorbReceiver``.

        Raises:
            Unauthorized, Forbidden: ``who`` may not write.
        """
        who.need("write")
        return self.xorbs.receive(who, xorb, room=self.room(who))

    def shard_file(self, who: Principal) -> Path:
        """Return a path for the bytes of a shard; the caller deletes them, and a gc what a killed process left."""
        return self.xorbs.place(who) / f"{secrets.token_hex(16)}.part"

    def register(self, who: Principal, shard: Path, progress: Progress = lambda done, of: None) -> int:
        """Store every file of a shard; returns how many. ``progress`` gets the bytes done, and those of all files.

        Raises:
            UsageError: it is not a shard, refers to chunks that are not here, or a file is not what it announces.
            TooLarge, QuotaExceeded, StorageFull
        """
        who.need("write")
        if shard.stat().st_size > MAX_SHARD:
            raise TooLarge(f"a shard has at most {MAX_SHARD} bytes", remedy="split it")
        with shard.open("rb") as stream:
            # Read once completely, so that nothing is stored of a shard with an error of form.
            sizes = [file.size() for file in itertools.islice(read_shard(stream), self._most + 1)]
            if len(sizes) > self._most:
                raise TooLarge(f"a shard has at most {self._most} files", remedy="split it")
            total = sum(sizes)
            done = count = 0
            names: set[str] = set()
            with contextlib.closing(_Reading(who, self.xorbs, self._holdings, self._store)) as reading:
                for file in read_shard(stream):
                    before = done
                    done += self._store_file(who, file, reading, lambda n, b=before: progress(b + n, total))  # type: ignore[misc]
                    names |= {found.xorb for found in itertools.islice(file.ranges(), NOTED)}
                    count += 1
            self.xorbs.stored_elsewhere(who, sorted(names))
        return count

    def expire(self) -> int:
        """Delete xorbs that were not used for long; returns how many."""
        return self.xorbs.expire()

    def _store_file(self, who: Principal, file: ShardFile, reading: _Reading, progress: Callable[[int], None]) -> int:
        if not file.sha256:
            raise UsageError("the shard has a file without its SHA-256", remedy="send it with the file's metadata")
        size = file.size()
        # Always one of its own: two that wrote one file would spoil it. What an earlier one left is deleted.
        self._uploads.forget_stale(who, file.sha256, seconds=STALE_SECONDS)
        upload = self._uploads.begin(who, file.sha256, size)
        if upload.stored:
            # It is here already. Read anyway: where its chunks are is noted only of bytes that were compared.
            sha256, passed = hashlib.sha256(), 0
            for piece in _larger(reading.pieces(file)):
                sha256.update(piece)
                passed += len(piece)
                progress(passed)
            self._check(who, file, sha256.hexdigest())
        else:
            try:
                with self._uploads.receive(who, upload, offset=0) as receiver:
                    for piece in _larger(reading.pieces(file)):
                        receiver.write(piece)
                        progress(receiver.received)
                self._check(who, file, receiver.part.hexdigest())
            except LearndockError:
                with contextlib.suppress(NotFound):
                    self._uploads.cancel(who, upload.id)
                raise
            self._uploads.finish(who, upload)
        self._note(who, file)
        return size

    def _check(self, who: Principal, file: ShardFile, sha256: str) -> None:
        if sha256 == file.sha256:
            return
        # Who is wrong cannot be seen here. After this the client sends all chunks again.
        self.xorbs.forget(who, {found.xorb for found in file.ranges()})
        raise UsageError(
            f"the file's chunks have the SHA-256 {sha256[:12]}..., {file.sha256[:12]}... was announced",
            remedy="nothing was kept; upload it again",
        )

    def _note(self, who: Principal, file: ShardFile) -> None:
        places: dict[str, list[Run]] = {}
        offset = 0
        for number, found in enumerate(file.ranges()):
            if number == NOTED:
                break
            places.setdefault(found.xorb, []).append(Run(found.begin, found.end, file.sha256, offset))
            offset += found.size
        for xorb, runs in places.items():
            self.xorbs.stored(who, xorb, runs)


class _Reading:
    """Reads the chunks of files, from xorbs or from the stored files that they are in; keeps a few of both open."""

    def __init__(self, who: Principal, xorbs: Xorbs, holdings: Holdings, store: BlobStore) -> None:
        self._who, self._xorbs, self._holdings, self._store = who, xorbs, holdings, store
        self._xorb: OrderedDict[str, Xorb] = OrderedDict()
        self._streams: OrderedDict[str, IO[bytes]] = OrderedDict()
        self._allowed: set[str] = set()

    def pieces(self, file: ShardFile) -> Iterator[bytes]:
        """Yield the bytes of a file, at most ``CHUNK`` at once.

        Raises:
            UsageError: chunks are not here, or not those that the shard says.
        """
        tree = HashTree()
        for wanted in file.ranges():
            xorb = self._find(wanted.xorb)
            digests = xorb.digests[32 * wanted.begin : 32 * wanted.end]
            if (
                wanted.end > len(xorb.ends)
                or int(xorb.ends[wanted.end - 1]) - xorb.at(wanted.begin) != wanted.size
                or (wanted.digest is not None and range_hash(digests) != wanted.digest)
            ):
                raise UsageError(
                    f"the shard says other chunks of the xorb {wanted.xorb[:12]}... than it has",
                    remedy="upload the file again",
                )
            for number in range(wanted.begin, wanted.end):
                tree.add(xorb.digests[32 * number : 32 * number + 32], int(xorb.ends[number]) - xorb.at(number))
            yield from self._range(xorb, wanted.begin, wanted.end)
        if file_hash(tree) != file.digest:
            raise UsageError(
                f"the shard's file {text_of(file.digest)[:12]}... has other chunks", remedy="upload the file again"
            )

    def close(self) -> None:
        """Close all streams."""
        for stream in self._streams.values():
            stream.close()

    def _range(self, xorb: Xorb, begin: int, end: int) -> Iterator[bytes]:
        if xorb.content is not None:
            try:
                stream = self._stream(xorb.name, partial(_opened, xorb.content))
            except FileNotFoundError:  # all of its chunks are in stored files now
                del self._xorb[xorb.name]
                xorb = self._find(xorb.name)
            else:
                yield from _part(stream, xorb.at(begin), xorb.at(end) - xorb.at(begin))
                return
        for place in self._places(xorb, begin, end):
            try:
                if place.sha256 not in self._allowed:
                    self._holdings.blob(self._who, place.sha256)
                    self._allowed.add(place.sha256)
                stream = self._stream(place.sha256, partial(self._store.open, place.sha256))
            except NotFound:
                raise self._missing(xorb.name) from None
            yield from _part(stream, place.offset, xorb.at(place.end) - xorb.at(place.begin))

    def _places(self, xorb: Xorb, begin: int, end: int) -> list[Run]:
        places = covering(xorb, begin, end)
        if places is None:
            raise self._missing(xorb.name)
        return places

    def _find(self, name: str) -> Xorb:
        found = self._xorb.get(name)
        if found is None:
            found = self._xorbs.find(self._who, name) if self._xorbs.has(self._who, name) else None
            if found is None:
                raise self._missing(name)
            self._xorb[name] = found
            if len(self._xorb) > OPEN:
                self._xorb.popitem(last=False)
        return found

    def _stream(self, name: str, opened: Callable[[], IO[bytes]]) -> IO[bytes]:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = opened()
            if len(self._streams) > OPEN:
                self._streams.popitem(last=False)[1].close()
        return stream

    def _missing(self, name: str) -> UsageError:
        self._xorbs.forget(self._who, {name})
        return UsageError(
            f"the xorb {name[:12]}... is not here, or no longer",
            remedy="upload again: the client then sends all chunks",
        )


def _larger(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join pieces to some of at least ``CHUNK`` bytes, apart from the last: ranges may be short."""
    found = bytearray()
    for piece in pieces:
        found += piece
        if len(found) >= CHUNK:
            yield bytes(found)
            found.clear()
    if found:
        yield bytes(found)


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _part(stream: IO[bytes], offset: int, length: int) -> Iterator[bytes]:
    stream.seek(offset)
    while length:
        piece = stream.read(min(CHUNK, length))
        if not piece:
            raise Conflict("the chunks of this file are being deleted", remedy="upload it again")
        length -= len(piece)
        yield piece
