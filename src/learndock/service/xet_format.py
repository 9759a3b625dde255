"""Xet's two formats, as a client uploads them: xorbs, which contain chunks of files, and shards, which list files.

    xorb   one chunk after another, each with a header of 8 bytes; perhaps an index at the end, which repeats them
    shard  a header, the files as ranges of chunks of xorbs, the xorbs with their chunks; records of 48 bytes

All of it comes from strangers: sizes are checked before anything is allocated or decompressed, and no more than a
chunk (128 KiB) or a record is in memory. Source: the Xet protocol specification of the hub's documentation.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import lz4.frame
import numpy as np
from blake3 import blake3

from learndock.errors import TooLarge, UsageError

#: The last chunk of a file may be shorter.
MIN_CHUNK, MAX_CHUNK = 8 << 10, 128 << 10
#: Ranges of a file that are not counted against its bytes.
FEW_RANGES = 1000
MAX_CHUNKS = 8 << 10
#: Bytes of a xorb as it is sent: 64 MiB of chunks, their headers, and the index of older clients.
MAX_XORB = (64 << 20) + (1 << 20)
#: Bytes of all chunks of a xorb. The specification recommends 64 MiB; other clients may exceed that when they compress.
MAX_UNPACKED = 128 << 20
MAX_SHARD = 64 << 20

_CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_FILE_KEY = bytes(32)
_RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
_INDEX = b"XETBLOB"
_SHARD_TAG = b"HFRepoMetaData\0" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
_SHARD_VERSION = 2
_END = b"\xff" * 32
_RECORD = struct.Struct("<32s4I")
_HAS_HASHES, _HAS_SHA256 = 1 << 31, 1 << 30
_PLAIN, _LZ4, _GROUPED = 0, 1, 2
#: Children of a node of the hash tree: from 3 to 9, four on average.
_MEAN = 4
_AT_ONCE = 1024


def text_of(digest: bytes) -> str:
    """Return a hash as the protocol writes it: four little-endian numbers of 64 bits, each in hexadecimal."""
    return "{:016x}{:016x}{:016x}{:016x}".format(*struct.unpack("<4Q", digest))


def chunk_hash(content: bytes | memoryview) -> bytes:
    """Return the hash of a chunk."""
    return blake3(content, key=_CHUNK_KEY).digest()


def range_hash(chunks: bytes) -> bytes:
    """Return the hash of a range of chunks, from their joined hashes."""
    return blake3(chunks, key=_RANGE_KEY).digest()


class HashTree:
    """The hash over a sequence of chunks: the tree is built as they come, so a file of any size needs little memory.

    A node ends after the child whose hash is a multiple of four, from the third child on, or after the ninth.
    """

    def __init__(self) -> None:
        self._levels: list[list[tuple[bytes, int]]] = [[]]
        self._counts = [0]

    def add(self, digest: bytes, size: int, level: int = 0) -> None:
        """Add the next chunk of ``size`` bytes."""
        if level == len(self._levels):
            self._levels.append([])
            self._counts.append(0)
        group = self._levels[level]
        group.append((digest, size))
        self._counts[level] += 1
        # The hash modulo four is that of its last number of 64 bits.
        if len(group) > 2 and (digest[24] % _MEAN == 0 or len(group) > 2 * _MEAN):
            self._close(level)

    def root(self) -> bytes:
        """Return the hash of all chunks; nothing can be added after it."""
        level = 0
        while True:
            group = self._levels[level]
            if self._counts[level] == 1 and level == len(self._levels) - 1:
                return group[0][0]
            if self._counts[level] == 0:
                return bytes(32)
            if group:
                self._close(level)
            level += 1

    def _close(self, level: int) -> None:
        group, self._levels[level] = self._levels[level], []
        lines = "".join(f"{text_of(digest)} : {size}\n" for digest, size in group)
        self.add(blake3(lines.encode(), key=_NODE_KEY).digest(), sum(size for _, size in group), level + 1)


def file_hash(tree: HashTree) -> bytes:
    """Return the hash of a file, from the tree of its chunks; an empty file has the hash of no bytes."""
    root = tree.root()
    return root if root == bytes(32) else blake3(root, key=_FILE_KEY).digest()


@dataclass(frozen=True)
class Chunk:
    """A chunk of a xorb: its bytes as they are in the file, and their hash."""

    content: bytes
    digest: bytes


class XorbReader:
    """Reads a xorb as it arrives: ``feed`` pieces of any length, then ``end``."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._at_index = False
        self._tree = HashTree()
        self.chunks = 0
        self.received = self.unpacked = 0

    def feed(self, piece: bytes | bytearray | memoryview) -> Iterator[Chunk]:
        """Yield the chunks that are complete with this piece.

        Raises:
            UsageError: it is not a xorb.
            TooLarge: it has more bytes or chunks than one may have.
        """
        self.received += len(piece)
        if self.received > MAX_XORB:
            raise TooLarge(f"a xorb has at most {MAX_XORB} bytes", remedy="split it")
        if self._at_index:
            return
        self._waiting += piece
        at = 0
        while len(self._waiting) - at >= 8:
            if self._waiting[at : at + 7] == _INDEX:
                # Everything that the index says follows from the chunks.
                self._at_index, at = True, len(self._waiting)
                break
            version, low, scheme, high = struct.unpack_from("<B3sB3s", self._waiting, at)
            packed, size = int.from_bytes(low, "little"), int.from_bytes(high, "little")
            self._check(version, scheme, packed, size)
            if len(self._waiting) - at - 8 < packed:
                break
            content = _unpacked(scheme, bytes(self._waiting[at + 8 : at + 8 + packed]), size)
            at += 8 + packed
            found = Chunk(content, chunk_hash(content))
            self._tree.add(found.digest, size)
            self.chunks, self.unpacked = self.chunks + 1, self.unpacked + size
            yield found
        del self._waiting[:at]

    def end(self) -> bytes:
        """Return the xorb's hash.

        Raises:
            UsageError: it breaks off, or has no chunk.
        """
        if self._waiting or not self.chunks:
            raise UsageError(
                f"the xorb ends within chunk {self.chunks}" if self._waiting else "the xorb has no chunk",
                remedy="send all of it",
            )
        return self._tree.root()

    def _check(self, version: int, scheme: int, packed: int, size: int) -> None:
        where = f"chunk {self.chunks} of the xorb"
        if version != 0 or scheme not in (_PLAIN, _LZ4, _GROUPED):
            raise UsageError(
                f"{where} has version {version} and compression {scheme}",
                remedy="this service knows version 0 with compression 0, 1 and 2",
            )
        # Packed bytes that are not fewer are sent plain; the frame's own bytes are the only exception.
        if not 0 < size <= MAX_CHUNK or not 0 < packed <= 2 * MAX_CHUNK or (scheme == _PLAIN and packed != size):
            raise UsageError(f"{where} has {packed} bytes for {size}", remedy=f"a chunk has 1 to {MAX_CHUNK} bytes")
        if self.chunks == MAX_CHUNKS or self.unpacked + size > MAX_UNPACKED:
            raise TooLarge(f"a xorb has at most {MAX_CHUNKS} chunks and {MAX_UNPACKED} bytes", remedy="split it")


def _unpacked(scheme: int, packed: bytes, size: int) -> bytes:
    if scheme == _PLAIN:
        return packed
    decoder = lz4.frame.LZ4FrameDecompressor()
    try:
        found = decoder.decompress(packed, max_length=size + 1)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise UsageError(f"a chunk is not an LZ4 frame ({str(error)[:80]})", remedy="send the xorb again") from None
    if len(found) != size or not decoder.eof or decoder.unused_data:
        raise UsageError(f"a chunk's frame is not {size} bytes", remedy="send the xorb again")
    return found if scheme == _LZ4 else _ungrouped(found)


def _ungrouped(grouped: bytes) -> bytes:
    """Undo the grouping of bytes by their place in words of four: all first bytes, all second ones, and so on."""
    source = np.frombuffer(grouped, dtype=np.uint8)
    found = np.empty_like(source)
    start = 0
    for place in range(4):
        part = found[place::4]
        part[:] = source[start : start + len(part)]
        start += len(part)
    return found.tobytes()


@dataclass(frozen=True)
class Range:
    """Chunks ``begin`` to ``end`` (exclusive) of a xorb, ``size`` bytes of a file; ``digest`` is None if not given."""

    xorb: str
    begin: int
    end: int
    size: int
    digest: bytes | None


class ShardFile:
    """A file of a shard; its ranges are read from the stream when they are asked for."""

    def __init__(self, stream: IO[bytes], at: int, digest: bytes, flags: int, count: int) -> None:
        self._stream, self._at, self._count = stream, at, count
        self.digest = digest
        self._hashes = at + 48 * count if flags & _HAS_HASHES else None
        self.end = at + 48 * count * (2 if flags & _HAS_HASHES else 1)
        self.sha256 = ""
        if flags & _HAS_SHA256:
            self.sha256 = text_of(_record(stream, self.end)[0])
            self.end += 48

    def ranges(self) -> Iterator[Range]:
        """Yield the ranges that make up the file, in order.

        Raises:
            UsageError: a range is empty.
        """
        for number, (xorb, _, size, begin, end) in enumerate(_records(self._stream, self._at, self._count)):
            if not number % _AT_ONCE:
                hashes = self._hashes_from(number)
            if not 0 <= begin < end <= MAX_CHUNKS or not 0 < size <= MAX_UNPACKED:
                raise UsageError(
                    f"a file of the shard has chunks {begin} to {end} of a xorb, {size} bytes",
                    remedy="send what a client makes",
                )
            yield Range(text_of(xorb), begin, end, size, next(hashes))

    def size(self) -> int:
        """Return the bytes of the file, as its ranges give them.

        Raises:
            UsageError: a range is empty, or they are too many for so few bytes: work for nothing.
        """
        found = sum(part.size for part in self.ranges())
        if self._count > FEW_RANGES + found // MIN_CHUNK:
            raise UsageError(
                f"a file of the shard has {self._count} ranges for {found} bytes",
                remedy=f"only the last chunk of a file has fewer than {MIN_CHUNK} bytes",
            )
        return found

    def _hashes_from(self, number: int) -> Iterator[bytes | None]:
        if self._hashes is None:
            return itertools.repeat(None)
        count = min(_AT_ONCE, self._count - number)
        return iter([digest for digest, *_ in _records(self._stream, self._hashes + 48 * number, count)])


def read_shard(stream: IO[bytes]) -> Iterator[ShardFile]:
    """Yield the files of a shard, a seekable stream; the list of its xorbs is checked for its form only.

    Raises:
        UsageError: it is not a shard.
    """
    length = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(48)
    if len(head) < 48 or head[:32] != _SHARD_TAG:
        raise UsageError("the body is not a shard", remedy="send what a client makes")
    version, footer = struct.unpack_from("<2Q", head, 32)
    if version != _SHARD_VERSION:
        raise UsageError(f"the shard has version {version}", remedy=f"this service knows version {_SHARD_VERSION}")
    at = 48
    while True:
        digest, flags, count, *_ = _record(stream, at)
        at += 48
        if digest == _END:
            break
        if flags & ~(_HAS_HASHES | _HAS_SHA256) or not 0 <= count <= (length - at) // 48:
            raise UsageError(f"a file of the shard has {count} ranges, flags {flags:#x}", remedy="send all of it")
        found = ShardFile(stream, at, digest, flags, count)
        at = found.end
        yield found
    while True:
        digest, _, count, *_ = _record(stream, at)
        at += 48
        if digest == _END:
            break
        if not 0 < count <= min(MAX_CHUNKS, (length - at) // 48):
            raise UsageError(f"a xorb of the shard has {count} chunks", remedy="send all of it")
        at += 48 * count
    # A footer and its tables, which older clients send, repeat what is above.
    if at != length and not footer:
        raise UsageError(f"{length - at} bytes after the end of the shard", remedy="send what a client makes")


def _record(stream: IO[bytes], at: int) -> tuple[bytes, int, int, int, int]:
    return next(_records(stream, at, 1))


def _records(stream: IO[bytes], at: int, count: int) -> Iterator[tuple[bytes, int, int, int, int]]:
    """Yield records, read ``_AT_ONCE`` at a time."""
    while count:
        some = min(count, _AT_ONCE)
        stream.seek(at)
        source = stream.read(48 * some)
        if len(source) < 48 * some:
            raise UsageError("the shard ends too early", remedy="send all of it")
        yield from _RECORD.iter_unpack(source)
        at, count = at + 48 * some, count - some
