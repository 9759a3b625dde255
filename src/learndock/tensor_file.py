"""The header of a safetensors file, read more strictly than the library reads it.

Below all rooms: spec files, spaces and learnwares are checked by the same parser before anything is loaded.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import IO

from learndock.errors import LearndockError
from learndock.strict_json import strict_json

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
    """One line of a safetensors header; ``begin`` and ``end`` are byte offsets in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """A checked header: the tensors by name, and the file's metadata."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]


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
        header = strict_json(stream.read(length))
    except ValueError as problem:
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
            sound = isinstance(dtype, str) and all(type(v) is int and 0 <= v < 1 << 48 for v in (*shape, begin, end))
        except (TypeError, KeyError, ValueError):
            raise refuse(f"the entry of tensor {name} is damaged") from None
        if not sound or dtype not in _ITEM_BITS or len(shape) > 8:
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
