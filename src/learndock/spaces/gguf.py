"""GGUF files: a strict reader, and their tensors as plain numbers.

Language models are often published as GGUF: settings, vocabulary and block-quantised tensors in one file, or in
several parts that llama.cpp's ``gguf-split`` wrote. This module reads heads and numbers, in NumPy alone;
``gguf_model`` and ``gguf_vocabulary`` say what they mean. The numbers depend on the bytes of the file only, so that a
hash can name them: a scale times a small whole number is exact in float32, and the one sum after it is rounded once.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from learndock.errors import ModelError
from learndock.spaces.gguf_blocks import KINDS, UNREAD

Float = NDArray[np.float32]

MAGIC, VERSIONS = b"GGUF", (2, 3)
MAX_TENSORS, MAX_SETTINGS, MAX_ITEMS, MAX_TEXT = 20_000, 2_000, 2_000_000, 4 << 20
#: type number -> how a value is stored; 8 is a text, 9 a list
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9


@dataclass(frozen=True)
class Quantised:
    """One tensor: ``shape`` in NumPy's order, ``kind`` its type number; bytes ``begin`` to ``end`` of ``path``."""

    shape: tuple[int, ...]
    kind: int
    path: Path
    begin: int
    end: int


@dataclass(frozen=True)
class Gguf:
    """The head of a GGUF file: everything but the numbers."""

    path: Path
    settings: Mapping[str, Any]
    tensors: Mapping[str, Quantised]


def read_gguf(path: Path) -> Gguf:
    """Read and check the head of a GGUF file; every tensor must be inside the file.

    Raises:
        ModelError: not GGUF, cut off, or it contradicts itself.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            return _read(path, stream, size)
    except (struct.error, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise ModelError(
            f"cut off or damaged in its head ({error}): its {size:,} bytes are not a complete GGUF file",
            remedy="fetch it again",
            about=path.name,
        ) from None


def _read(path: Path, stream: BinaryIO, size: int) -> Gguf:
    magic, version, tensors, settings = struct.unpack("<4sIQQ", stream.read(24))
    if magic != MAGIC:
        raise ModelError(f"not a GGUF file (it begins with {magic!r})", remedy="save the model again", about=path.name)
    if version not in VERSIONS:
        big = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
        what = "big-endian GGUF" if big else f"GGUF version {version}"
        raise ModelError(f"{what} is not read here", remedy="write little-endian version 3", about=path.name)
    if tensors > MAX_TENSORS or settings > MAX_SETTINGS:
        raise ModelError(f"claims {tensors} tensors and {settings} settings; it is damaged", about=path.name)
    known: dict[str, Any] = {}
    for _ in range(settings):
        key = _text(stream)
        known[key] = _value(stream, struct.unpack("<I", stream.read(4))[0])
    entries = [_entry(stream) for _ in range(tensors)]
    align = known.get("general.alignment", 32)
    if type(align) is not int or not 1 <= align <= 1 << 20:
        raise ModelError(f"aligned to {align!r} bytes; it is damaged", about=path.name)
    start = -(-stream.tell() // align) * align
    found: dict[str, Quantised] = {}
    for name, shape, kind, offset in entries:
        length = _length(path, name, shape, kind)
        if start + offset + length > size:
            raise ModelError(
                f"cut off: {name} ends at byte {start + offset + length:,}, the file has {size:,}",
                remedy="fetch it again",
                about=path.name,
            )
        if name in found:
            raise ModelError(f"it has the tensor {name} twice; the file is damaged", about=path.name)
        found[name] = Quantised(shape, kind, path, start + offset, start + offset + length)
    return Gguf(path, known, found)


def _text(stream: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > MAX_TEXT:
        raise ValueError(f"a text of {length} bytes")
    data = stream.read(length)
    if len(data) < length:
        raise ValueError("a text ends early")
    return data.decode("utf-8")


def _value(stream: BinaryIO, kind: int, depth: int = 0) -> Any:
    if kind in _SCALARS:
        code = "<" + _SCALARS[kind]
        return struct.unpack(code, stream.read(struct.calcsize(code)))[0]
    if kind == _TEXT:
        return _text(stream)
    if kind != _LIST or depth > 2:
        raise ValueError(f"a setting of the unknown type {kind}")
    of, count = struct.unpack("<IQ", stream.read(12))
    if count > MAX_ITEMS:
        raise ValueError(f"a list of {count} items")
    return [_value(stream, of, depth + 1) for _ in range(count)]


def _entry(stream: BinaryIO) -> tuple[str, tuple[int, ...], int, int]:
    name = _text(stream)
    (axes,) = struct.unpack("<I", stream.read(4))
    if not 1 <= axes <= 4:
        raise ValueError(f"{name} has {axes} axes")
    shape = struct.unpack(f"<{axes}Q", stream.read(8 * axes))
    kind, offset = struct.unpack("<IQ", stream.read(12))
    return name, tuple(reversed(shape)), kind, offset


def _length(path: Path, name: str, shape: tuple[int, ...], kind: int) -> int:
    if kind not in KINDS:
        known = ", ".join(k.name for k in KINDS.values())
        raise ModelError(
            f"{name} is stored as {UNREAD.get(kind, f'type {kind}')}, which is not read here",
            remedy=f"quantise it to one of {known}, or save the model as safetensors",
            about=path.name,
        )
    found = KINDS[kind]
    count = math.prod(shape)
    if count == 0 or shape[-1] % found.numbers:
        raise ModelError(
            f"{name} has the shape {list(shape)}, which is not a multiple of a block of {found.name}", about=path.name
        )
    return count // found.numbers * found.size


# --- parts ---------------------------------------------------------------------------------------------------

_PART = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf")
NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"


def read_parts(paths: Sequence[Path]) -> Gguf:
    """Read one model from one GGUF file, or from all the parts of a split one.

    Parts are named ``NAME-00001-of-00003.gguf``; the first has the settings of the model.

    Raises:
        ModelError: no file, several models, a part that is missing or of another model.
    """
    paths = sorted(paths)
    if not paths:
        raise ModelError("there is no .gguf file", remedy="give the folder that holds it")
    read = [read_gguf(path) for path in paths]
    counts = {int(part.settings.get(COUNT) or 1) for part in read}
    if len(read) == 1 and counts == {1}:
        return read[0]
    named = [_PART.fullmatch(path.name) for path in paths]
    families = {(found[1], found[3]) if found else None for found in named}
    if len(families) != 1 or None in families or len(counts) != 1 or 1 in counts:
        names = ", ".join(path.name for path in paths)
        raise ModelError(
            f"expected one .gguf file, or the parts NAME-00001-of-0000N.gguf of one, found {names}",
            remedy="a learnware is one model: keep the files of one",
        )
    total = counts.pop()
    for number in range(total):
        if not any(int(found[2]) == number + 1 and part.settings.get(NUMBER) == number
                   for found, part in zip(named, read, strict=True) if found):  # fmt: skip
            raise ModelError(
                f"part {number + 1} of {total} ({COUNT}) is missing",
                remedy="put all parts into the folder, or join them with `llama-gguf-split --merge`",
                about=paths[0].name,
            )
    tensors: dict[str, Quantised] = {}
    for part in read:
        if twice := sorted(set(tensors) & set(part.tensors)):
            raise ModelError(
                f"it has the tensor {twice[0]}, which another part has too",
                remedy="fetch the parts again",
                about=part.path.name,
            )
        tensors.update(part.tensors)
    wanted = read[0].settings.get(TENSORS, len(tensors))
    if len(read) != total or wanted != len(tensors):
        raise ModelError(
            f"its parts hold {len(tensors)} tensors, {TENSORS} says {wanted}",
            remedy="fetch them again",
            about=paths[0].name,
        )
    return Gguf(read[0].path, read[0].settings, tensors)


# --- numbers -------------------------------------------------------------------------------------------------


def numbers(file: Gguf, name: str) -> Float:
    """One tensor as float32, in its shape.

    Raises:
        ModelError: there is none of that name, or a number in it is not finite.
    """
    entry = file.tensors.get(name)
    if entry is None:
        raise ModelError(f"has no tensor {name}", remedy="write it again", about=file.path.name)
    kind = KINDS[entry.kind]
    with entry.path.open("rb") as stream:
        stream.seek(entry.begin)
        data = np.frombuffer(stream.read(entry.end - entry.begin), np.uint8)
    found = kind.read(data.reshape(-1, kind.size)).reshape(entry.shape)
    if not np.isfinite(found).all():
        raise ModelError(f"{name} has numbers that are not finite; the file is damaged", about=file.path.name)
    # Plain numbers are still the file's own bytes, which are read-only
    return np.require(found, np.float32, ["W"])
