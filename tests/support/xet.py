"""Xorbs and shards as a client would make them, written down apart from what reads them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import lz4.frame
import numpy as np

from learndock.service.xet_format import HashTree, chunk_hash, file_hash, range_hash, text_of

Pack = Callable[[bytes], tuple[int, bytes]]


def plain(content: bytes) -> tuple[int, bytes]:
    """A chunk as it is."""
    return 0, content


def packed(content: bytes) -> tuple[int, bytes]:
    """A chunk as an LZ4 frame."""
    return 1, lz4.frame.compress(content)


def grouped(content: bytes) -> tuple[int, bytes]:
    """A chunk whose first bytes of four come first, then the second ones, as an LZ4 frame."""
    return 2, lz4.frame.compress(b"".join(content[place::4] for place in range(4)))


def header(scheme: int, packed: int, size: int, *, version: int = 0) -> bytes:
    return bytes([version]) + packed.to_bytes(3, "little") + bytes([scheme]) + size.to_bytes(3, "little")


def xorb_of(chunks: Sequence[bytes], pack: Pack = plain) -> tuple[str, bytes]:
    """The hash and the bytes of a xorb."""
    tree, found = HashTree(), b""
    for content in chunks:
        scheme, source = pack(content)
        found += header(scheme, len(source), len(content)) + source
        tree.add(chunk_hash(content), len(content))
    return text_of(tree.root()), found


def raw(text: str) -> bytes:
    """A hash from its text."""
    return struct.pack("<4Q", *(int(text[i : i + 16], 16) for i in range(0, 64, 16)))


TAG = b"HFRepoMetaData\0" + bytes([85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169])
END = b"\xff" * 32 + bytes(16)


def shard_of(files: Sequence[tuple[str, Sequence[tuple[Sequence[bytes], int, int]]]]) -> bytes:
    """A shard of files: the SHA-256 of each, and (chunks of a xorb, begin, end) of its ranges."""
    found = TAG + struct.pack("<2Q", 2, 0)
    for sha256, ranges in files:
        tree, terms, hashes = HashTree(), b"", b""
        for chunks, begin, end in ranges:
            of = chunks[begin:end]
            terms += raw(xorb_of(chunks)[0]) + struct.pack("<4I", 0, sum(map(len, of)), begin, end)
            hashes += range_hash(b"".join(map(chunk_hash, of))) + bytes(16)
            for content in of:
                tree.add(chunk_hash(content), len(content))
        found += file_hash(tree) + struct.pack("<4I", 3 << 30, len(ranges), 0, 0) + terms + hashes
        found += raw(sha256) + bytes(16)
    return found + END + END


def contents(seed: int, *sizes: int) -> list[bytes]:
    """Chunks that compress."""
    draw = np.random.default_rng(seed)
    return [draw.integers(97, 106, size, dtype=np.uint8).tobytes() for size in sizes]
