"""Bytes on disk: hashing, writing whole or not at all, and a strict reading of safetensors headers.

Stands below all rooms, beside ``errors``: it knows files, not models.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from learndock.errors import LearndockError, StorageFull

CHUNK = 1 << 20


def sha256_bytes(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in pieces."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_folder(folder: str | Path) -> None:
    """Make the names in ``folder`` durable (a rename is only safe once its folder is synced)."""
    handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def storage_errors(what: str | Path) -> Iterator[None]:
    """Turn a full disk or quota into ``StorageFull``, with the name of what was being written.

    Raises:
        StorageFull: the system said ENOSPC, EDQUOT or EFBIG.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull(
                f"{what}: no room left on the disk; free some and try again (nothing was changed)"
            ) from None
        raise


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """A stream whose bytes appear at ``path`` whole and durable when the block ends, or not at all.

    Raises:
        StorageFull: the disk is full; ``path`` is what it was before.
    """
    path = Path(path)
    with storage_errors(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise
        sync_folder(path.parent)


MAX_HEADER_BYTES = 1 << 20
MAX_TENSORS = 10_000
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/:]{0,255}")
_ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class TensorEntry:
    """One line of a safetensors header; ``begin`` and ``end`` are offsets into the whole file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """A checked header: the tensors by name, and the file's metadata."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def safetensors_header(stream: IO[bytes], size: int, *, where: str, error: type[LearndockError]) -> SafetensorsHeader:
    """Read and check the header of a safetensors file, more strictly than the library does.

    The library (0.8) accepts duplicate keys, NaN, 20 MB of metadata, path-like names and 200,000 empty
    tensors. Here: at most 1 MiB of header and 10,000 tensors, unique plain names, known types, and data that
    fills the file without holes or overlaps.

    Raises:
        error: anything else; the message names ``where``.
    """

    def refuse(why: str) -> LearndockError:
        return error(f"{where}: not a sound safetensors file: {why}")

    if size < 10:
        raise refuse(f"only {size} bytes long")
    stream.seek(0)
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > MAX_HEADER_BYTES:
        raise refuse(f"its header claims {length} bytes, at most {MAX_HEADER_BYTES} are allowed")
    if 8 + length > size:
        raise refuse(f"it is cut off inside its header ({size} bytes)")
    try:
        header = json.loads(
            stream.read(length).decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant
        )
    except (UnicodeDecodeError, ValueError, RecursionError) as problem:
        raise refuse(f"its header is damaged ({problem})") from None
    if not isinstance(header, dict):
        raise refuse("its header is not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise refuse("its metadata is not a table of texts")
    if len(header) > MAX_TENSORS:
        raise refuse(f"{len(header)} tensors, at most {MAX_TENSORS} are allowed")
    tensors: dict[str, TensorEntry] = {}
    for name, entry in header.items():
        if not _TENSOR_NAME.fullmatch(name) or ".." in name:
            raise refuse(f"tensor name {name[:80]!r} is not plain")
        try:
            dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            whole = isinstance(dtype, str) and all(type(v) is int and 0 <= v < 1 << 48 for v in (*shape, begin, end))
        except (TypeError, KeyError, ValueError):
            raise refuse(f"the entry of tensor {name} is damaged") from None
        if not whole or dtype not in _ITEM_BITS or len(shape) > 8:
            raise refuse(f"the entry of tensor {name} is damaged")
        count = 1
        for extent in shape:
            count *= extent
        needed = count * _ITEM_BITS[dtype] // 8
        if end - begin != needed:
            raise refuse(f"tensor {name} has {end - begin} bytes, its shape asks for {needed}")
        tensors[name] = TensorEntry(dtype, shape, 8 + length + begin, 8 + length + end)
    position = 8 + length
    for name, found in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if found.begin != position:
            raise refuse(f"the data before tensor {name} has a hole or an overlap")
        position = found.end
    if position != size:
        raise refuse(f"its tensors end at byte {position}, the file has {size}")
    return SafetensorsHeader(tensors, metadata)
