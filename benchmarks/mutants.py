"""Mutants of sound files for ``fuzz_parsers.py``: flipped bytes, and changes of structure in a frame put right again.

A parser that stops at the first wrong byte hides what is behind it, so half of all mutants keep the frame: lengths,
hashes and zip directories are made anew over changed content.
"""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 255, 2**31, 2**32, 2**53, 2**63, 2**64, -(2**63), 10**40, 0.5, -0.0, 1e308, 5e-324,
    "", "a", "..", "../../x", "/", "\x00", "\ud800", "\u202e", "a" * 5_000, "F16", "F32", "U8", "model", "auto_map",
    "os.system", "1_0", "٣", "NaN", [], {}, [[]], [0, 0], [2**40, 2**40], [-1], {"a": {}}, [None], ["a", "b"],
    {"__loader__": "FunctionNode"},
)  # fmt: skip


def flipped(source: bytes, chance: Random) -> bytes:
    """A few bytes changed, taken out, put in, or said twice."""
    broken = bytearray(source)
    for _ in range(chance.randint(1, 6)):
        if not broken:
            break
        at = chance.randrange(len(broken))
        match chance.randrange(7):
            case 0:
                broken[at] ^= 1 << chance.randrange(8)
            case 1:
                del broken[at : at + chance.randrange(1, 64)]
            case 2:
                broken[at:at] = broken[at : at + chance.randrange(1, 64)]
            case 3:
                broken[at : at + 8] = chance.randbytes(8)
            case 4:
                broken[at] = chance.choice(b'\x00\xff\x7f\x80"{}[],:\\0-')
            case 5:
                broken[at : at + 8] = struct.pack("<Q", chance.choice((0, 1, 2**31 - 1, 2**32, 2**63, 2**64 - 1)))
            case _:
                del broken[at:]
    return bytes(broken)


def changed_tree(tree: Any, chance: Random) -> Any:
    """A JSON value with one to three of its parts replaced, taken out, doubled or renamed."""
    tree = json.loads(json.dumps(tree))
    for _ in range(chance.randint(1, 3)):
        places = list(_places(tree, chance))
        if not places:
            return chance.choice(ODD)
        where, key = chance.choice(places)
        match chance.randrange(6):
            case 0 | 1 | 2:
                where[key] = chance.choice(ODD)
            case 3:
                del where[key]
            case 4:
                other, second = chance.choice(places)
                value = json.loads(json.dumps(other[second])) if _there(other, second) else chance.choice(ODD)
                where[key] = value
            case _:
                value = where[key]
                for _ in range(chance.choice((1, 2, 40, 2_000))):
                    value = [value] if chance.random() < 0.9 else {"a": value}
                where[key] = value
    return tree


def _there(where: Any, key: Any) -> bool:
    return key in where if isinstance(where, dict) else isinstance(key, int) and key < len(where)


def _places(tree: Any, chance: Random) -> Any:
    """Some of the places in a tree: all near the root, a few of long lists."""
    stack, count = [tree], 0
    while stack and count < 400:
        top = stack.pop(chance.randrange(len(stack)))
        if isinstance(top, dict):
            keys: list[Any] = list(top)
        elif isinstance(top, list):
            keys = list(range(len(top)))
        else:
            continue
        for key in chance.sample(keys, min(len(keys), 12)):
            count += 1
            yield top, key
            stack.append(top[key])


def as_json(tree: Any, chance: Random) -> bytes:
    """Text of a tree; now and then with a key twice, or what only Python takes for JSON."""
    try:
        text = json.dumps(tree)
    except (RecursionError, ValueError):
        text = "[" * 3_000
    match chance.randrange(20):
        case 0 if text.startswith("{") and len(text) > 2:
            text = text[:-1] + ", " + text[1:]
        case 1:
            text = text.replace("0", "NaN", 1)
        case 2:
            text = text.replace(":", ': Infinity, "x":', 1)
        case _:
            pass
    return text.encode("utf-8", "surrogatepass")


def json_mutant(source: bytes, chance: Random) -> bytes:
    """Of a JSON file."""
    if chance.random() < 0.4:
        return flipped(source, chance)
    return as_json(changed_tree(json.loads(source), chance), chance)


# --- safetensors -------------------------------------------------------------------------------------------


def split_safetensors(source: bytes) -> tuple[Any, bytes]:
    """Header and data."""
    (length,) = struct.unpack("<Q", source[:8])
    return json.loads(source[8 : 8 + length]), source[8 + length :]


def join_safetensors(header: bytes, data: bytes) -> bytes:
    """The file."""
    return struct.pack("<Q", len(header)) + header + data


def safetensors_mutant(source: bytes, chance: Random) -> bytes:
    """Of any safetensors file."""
    kind = chance.random()
    if kind < 0.4:
        return flipped(source, chance)
    header, data = split_safetensors(source)
    if kind < 0.5:
        header = {f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(chance.randrange(200))}
    return join_safetensors(as_json(changed_tree(header, chance), chance), data)


def spec_mutant(source: bytes, chance: Random) -> bytes:
    """Of a spec, with the digest right where the frame is kept."""
    from learndock.errors import SpecError
    from learndock.spec.file import KEY, _digest, _parts
    from learndock.tensor_file import safetensors_header

    if chance.random() < 0.3:
        return safetensors_mutant(source, chance)
    header, data = split_safetensors(source)
    about = json.loads(header["__metadata__"][KEY])
    about = changed_tree(about, chance)
    numbers = bytearray(data)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(0, len(numbers) - 4)
        numbers[at : at + 2] = chance.choice(
            (b"\x00\x7c", b"\x00\xfc", b"\x01\x7e", b"\x00\x00", b"\x01\x00", b"\xff\x7b")
        )
    if isinstance(about, dict) and chance.random() < 0.9:
        whole = join_safetensors(json.dumps(header).encode(), bytes(numbers))
        try:
            found = safetensors_header(io.BytesIO(whole), len(whole), where="x", error=SpecError)
            about.pop("sha256", None)
            about["sha256"] = _digest(about, _parts(whole, found, "x"))
        except (SpecError, ValueError, RecursionError, TypeError):
            pass
    try:
        header["__metadata__"][KEY] = json.dumps(about)
    except (RecursionError, ValueError):
        header["__metadata__"][KEY] = "{"
    return join_safetensors(json.dumps(header).encode(), bytes(numbers))


# --- ONNX ----------------------------------------------------------------------------------------------------

#: message -> its fields that are messages themselves (see ``onnx_file``).
_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _VALUE, _FUNCTION, _LEAF = range(8)
_INNER: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 8: _LEAF, 14: _LEAF, 20: _GRAPH, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 11: _VALUE, 12: _VALUE, 15: _GRAPH},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH},
    _TENSOR: {13: _LEAF},
    _VALUE: {2: _LEAF},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _LEAF: {},
}
Field = tuple[int, int, Any]


def varint(value: int) -> bytes:
    """Base-128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _read(data: bytes, kind: int) -> list[Field]:
    found: list[Field] = []
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        field, wire = key >> 3, key & 7
        if wire == 0:
            found.append((field, 0, number()))
            continue
        length = number() if wire == 2 else (8 if wire == 1 else 4)
        part = data[at : at + length]
        at += length
        inner = _INNER[kind].get(field) if wire == 2 else None
        found.append((field, wire, part if inner is None else (inner, _read(part, inner))))
    return found


def _write(fields: list[Field]) -> bytes:
    out = b""
    for field, wire, value in fields:
        out += varint(field << 3 | wire)
        if wire == 0:
            out += varint(value)
        else:
            part = _write(value[1]) if isinstance(value, tuple) else value
            out += (varint(len(part)) if wire == 2 else b"") + part
    return out


def onnx_mutant(source: bytes, chance: Random) -> bytes:
    """Of a graph, with all lengths right where the frame is kept."""
    if chance.random() < 0.4:
        return flipped(source, chance)
    tree = _read(source, _MODEL)
    for _ in range(chance.randint(1, 3)):
        fields = tree
        while True:
            inner = [v[1] for _, _, v in fields if isinstance(v, tuple) and v[1]]
            if not inner or chance.random() < 0.3:
                break
            fields = chance.choice(inner)
        if not fields:
            continue
        at = chance.randrange(len(fields))
        number, wire, value = fields[at]
        match chance.randrange(6):
            case 0:
                del fields[at]
            case 1:
                fields.insert(at, fields[at])
            case 2:
                fields[at] = (chance.choice((1, 5, 7, 11, 13, 14, 20, 25, number + (1 << 29), 0)), wire, value)
            case 3 if wire == 0:
                fields[at] = (number, 0, chance.choice((0, 1, 2**31, 2**63, 2**64 - 1)))
            case 4 if isinstance(value, bytes):
                fields[at] = (
                    number,
                    wire,
                    chance.choice((b"", b"\xff", b"..", b"evil", flipped(value[:99] or b"x", chance))),
                )
            case 5:
                part = value
                for _ in range(chance.choice((1, 30, 400))):
                    part = (_ATTRIBUTE, [(6, 2, (_GRAPH, [(1, 2, (_NODE, [(5, 2, part)]))]))]) if wire == 2 else part
                    if wire != 2:
                        break
                fields[at] = (number, wire, part)
            case _:
                fields.append((14, 0, 1))
    try:
        return _write(tree)
    except RecursionError:
        return flipped(source, chance)


# --- skops ---------------------------------------------------------------------------------------------------


def skops_mutant(source: bytes, chance: Random) -> bytes:
    """Of a zip with a tree and arrays; the directory is right where the frame is kept."""
    if chance.random() < 0.4:
        return flipped(source, chance)
    with zipfile.ZipFile(io.BytesIO(source)) as archive:
        parts = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(chance.randint(1, 2)):
        at = chance.randrange(len(parts))
        name, content = parts[at]
        match chance.randrange(8):
            case 0:
                parts[at] = (chance.choice(("../x.npy", "schema.json", "1.npz", "a.pkl", "/x.npy", "x" * 300)), content)
            case 1:
                parts.append(parts[at])
            case 2:
                del parts[at]
                if not parts:
                    parts = [("schema.json", b"{}")]
            case 3 | 4 if name == "schema.json":
                parts[at] = (name, as_json(changed_tree(json.loads(content), chance), chance))
            case 5 if name != "schema.json":
                parts[at] = (name, content.replace(b"<f8", chance.choice((b"|O", b"<U9", b"<f4", b"<c8", b"<M8")), 1))
            case _:
                parts[at] = (name, flipped(content, chance))
    stream = io.BytesIO()
    how = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(stream, "w", how, compresslevel=1) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in parts:
            archive.writestr(name, content)
    return stream.getvalue()


Mutate = Callable[[bytes, Random], bytes]


def words_mutant(source: bytes, chance: Random) -> bytes:
    """Of a file of little-endian numbers: some of them as large or small as numbers get."""
    if chance.random() < 0.4:
        return flipped(source, chance)
    changed = bytearray(source)
    for _ in range(chance.randint(1, 3)):
        width = chance.choice((1, 3, 4))
        at = chance.randrange(max(1, len(changed) - width))
        value = chance.choice((0, 1, 2, 8192, 131_072, 131_073, 1 << 31, 1 << 62, chance.getrandbits(32)))
        changed[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(changed)
