"""What an ONNX file refers to, read from its bytes alone.

A model file is a protobuf message. This walk follows the few fields that matter for safety (which operators
run, which other files hold weights) and for reuse (what goes in and comes out), and skips all numbers. It
runs neither the graph nor a protobuf library, so a dock can check what it never loads.

Field numbers are those of onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto,
SparseTensorProto, FunctionProto, TrainingInfoProto, ValueInfoProto).
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from learndock.errors import ModelError, UnsafeModel

#: Operator sets whose code is onnxruntime's own.
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
#: Operators of those sets that reach outside the graph: compiled blobs, or functions of the host program.
REFUSED_OPERATORS = frozenset({"EPContext", "PyOp", "PythonOp", "PythonOpGrad"})
#: Names that an external weights file may have.
EXTERNAL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,126}(?:\.data|\.onnx_data)")
EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum"})

MAX_FIELDS = 2_000_000
MAX_DEPTH = 24
MAX_BYTES = 2 << 30


#: Attributes that say what an output means: class names, and what is done to scores at the end.
KEPT_ATTRIBUTES = frozenset(
    {"axis", "classlabels_int64s", "classlabels_ints", "classlabels_strings", "norm", "post_transform"}
)
#: Constants of at most so many texts or integers are kept: a graph looks its class names up in one.
MAX_NAMES = 100_000


@dataclass(frozen=True)
class Value:
    """An input or output of the graph; ``rank`` is None where the file does not say.

    ``listed`` is whether it is a sequence of tables (as ``ZipMap`` makes it) and not a tensor.
    """

    name: str
    element: int
    rank: int | None
    listed: bool = False


@dataclass(frozen=True)
class Node:
    """A node of the main graph: its operator, the names of its inputs, and those attributes that are kept."""

    operator: str
    inputs: tuple[str, ...]
    attributes: dict[str, int | str | list[int] | list[str]]


@dataclass
class OnnxFile:
    """What the walk found."""

    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    constants: set[str] = field(default_factory=set)
    operators: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    external: set[str] = field(default_factory=set)
    producers: dict[str, Node] = field(default_factory=dict)
    """Output name -> the node of the main graph that makes it."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """Constants of texts or integers in one row, as texts."""
    metadata: dict[str, str] = field(default_factory=dict)


Span = tuple[int, int]


class _Walk:
    def __init__(self, data: mmap.mmap | bytes, where: str, folder: Path, *, complete: bool = True) -> None:
        self.complete = complete
        self.data = data
        self.where = where
        self.folder = folder
        self.found = OnnxFile()
        self.count = 0

    # --- the wire format ---------------------------------------------------------------------------------

    def damaged(self, why: str) -> ModelError:
        return ModelError(f"not a sound ONNX file ({why})", remedy="export the model again", about=self.where)

    def varint(self, position: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while position < end and shift < 70:
            byte = self.data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
            shift += 7
        raise self.damaged("a number is cut off")

    def fields(self, span: Span) -> Iterator[tuple[int, int | Span]]:
        """``(field number, value)``: a number for varints, a span of bytes for what has a length."""
        position, end = span
        while position < end:
            self.count += 1
            if self.count > MAX_FIELDS:
                raise self.damaged(f"more than {MAX_FIELDS:,} fields")
            key, position = self.varint(position, end)
            number, wire = key >> 3, key & 7
            # Libraries drop the bits above 32: another field would be read than the one seen here
            if number == 0 or key >= 1 << 32:
                raise self.damaged(f"field number {number}")
            if wire == 0:
                value, position = self.varint(position, end)
                yield number, value
            elif wire == 2:
                length, position = self.varint(position, end)
                if position + length > end:
                    raise self.damaged("it is cut off")
                yield number, (position, position + length)
                position += length
            elif wire in (1, 5):
                position += 8 if wire == 1 else 4
                if position > end:
                    raise self.damaged("it is cut off")
            else:
                raise self.damaged(f"wire type {wire}")

    def messages(self, span: Span, numbers: frozenset[int]) -> Iterator[tuple[int, Span]]:
        """The fields ``numbers``, which must all be messages or texts."""
        for number, value in self.fields(span):
            if number in numbers:
                if isinstance(value, int):
                    raise self.damaged(f"field {number} has the wrong type")
                yield number, value

    def text(self, span: Span) -> str:
        if span[1] - span[0] > 4096:
            raise self.damaged("a name is too long")
        try:
            return bytes(self.data[span[0] : span[1]]).decode("utf-8")
        except UnicodeDecodeError:
            raise self.damaged("a name is not text") from None

    # --- the messages ------------------------------------------------------------------------------------

    def model(self, span: Span) -> None:
        graphs = 0
        for number, inner in self.messages(span, frozenset({7, 14, 20, 25})):
            if number == 14:
                self.property(inner)
            elif number == 20:
                raise UnsafeModel(
                    "holds a training graph", remedy="export the model for inference only", about=self.where
                )
            elif number == 7:
                graphs += 1
                self.graph(inner, 0, main=True)
            else:
                self.function(inner)
        if graphs != 1:
            raise self.damaged(f"{graphs} graphs where one is expected")
        self.domains()

    def domains(self) -> None:
        for domain, operator in sorted(self.found.operators - self.found.functions):
            if domain not in DOMAINS:
                raise UnsafeModel(
                    f"operator {operator} of domain {domain!r} needs a custom library",
                    remedy=f"export with the standard operators only ({', '.join(sorted(DOMAINS - {''}))})",
                    about=self.where,
                )
            if operator in REFUSED_OPERATORS:
                raise UnsafeModel(
                    f"operator {operator} runs code outside of the graph", remedy="export without it", about=self.where
                )

    def graph(self, span: Span, depth: int, *, main: bool = False) -> None:
        if depth > MAX_DEPTH:
            raise self.damaged("graphs nested too deeply")
        for number, inner in self.messages(span, frozenset({1, 5, 11, 12, 15})):
            if number == 1:
                self.node(inner, depth, main=main)
            elif number == 5:
                name = self.tensor(inner)
                if main:
                    self.found.constants.add(name)
            elif number == 15:
                self.sparse(inner)
            elif main:
                (self.found.inputs if number == 11 else self.found.outputs).append(self.value(inner))

    def property(self, span: Span) -> None:
        """A line of the model's metadata; long ones are of no use here."""
        found = {n: inner for n, inner in self.messages(span, frozenset({1, 2})) if inner[1] - inner[0] <= 4096}
        if set(found) == {1, 2}:
            self.found.metadata[self.text(found[1])] = self.text(found[2])

    def node(self, span: Span, depth: int, *, main: bool) -> None:
        operator = domain = ""
        inputs: list[str] = []
        outputs: list[str] = []
        attributes: dict[str, int | str | list[int] | list[str]] = {}
        for number, inner in self.messages(span, frozenset({1, 2, 4, 5, 7})):
            if number == 5:
                self.attribute(inner, depth)
                if main:
                    attributes.update(self.kept(inner))
            elif number == 4:
                operator = self.text(inner)
            elif number == 7:
                domain = self.text(inner)
            else:
                (inputs if number == 1 else outputs).append(self.text(inner))
        self.found.operators.add((domain, operator))
        if main:
            self.found.producers.update(dict.fromkeys(outputs, Node(operator, tuple(inputs), attributes)))

    def attribute(self, span: Span, depth: int) -> None:
        for number, inner in self.messages(span, frozenset({5, 6, 10, 11, 22, 23})):
            if number in (5, 10):
                self.tensor(inner)
            elif number in (6, 11):
                self.graph(inner, depth + 1)
            else:
                self.sparse(inner)

    def kept(self, span: Span) -> dict[str, int | str | list[int] | list[str]]:
        """The value of an attribute that says what an output means."""
        name = ""
        integer: int | None = None
        text: str | None = None
        numbers: list[int] = []
        texts: list[str] = []
        for number, value in self.fields(span):
            if number == 1 and not isinstance(value, int):
                name = self.text(value)
                if name not in KEPT_ATTRIBUTES:
                    return {}
            elif number == 3 and isinstance(value, int):
                integer = _signed(value)
            elif number == 4 and not isinstance(value, int):
                text = self.text(value)
            elif number == 8:
                numbers += [_signed(value)] if isinstance(value, int) else self.packed(value)
            elif number == 9 and not isinstance(value, int):
                texts.append(self.text(value))
        if name not in KEPT_ATTRIBUTES:
            return {}
        found = texts or numbers or text or integer
        return {} if found is None else {name: found}

    def packed(self, span: Span) -> list[int]:
        """Read packed integers."""
        position, end = span
        found = []
        while position < end:
            value, position = self.varint(position, end)
            found.append(_signed(value))
        return found

    def function(self, span: Span) -> None:
        name = domain = ""
        for number, inner in self.messages(span, frozenset({1, 7, 10, 11})):
            if number == 7:
                self.node(inner, 1, main=False)
            elif number == 11:
                self.attribute(inner, 1)
            elif number == 1:
                name = self.text(inner)
            else:
                domain = self.text(inner)
        if domain in DOMAINS:
            raise UnsafeModel(f"function {name} replaces a standard operator", remedy="inline it", about=self.where)
        self.found.functions.add((domain, name))

    def sparse(self, span: Span) -> None:
        for _, inner in self.messages(span, frozenset({1, 2})):
            self.tensor(inner)

    def tensor(self, span: Span) -> str:
        name = ""
        element = 0
        shape: list[int] = []
        texts: list[str] = []
        numbers: list[int] = []
        raw: Span = (0, 0)
        entries: list[dict[str, str]] = []
        outside = False
        for number, value in self.fields(span):
            if number == 8 and not isinstance(value, int):
                name = self.text(value)
            elif number == 1:
                shape += [value] if isinstance(value, int) else self.packed(value)
            elif number == 2 and isinstance(value, int):
                element = value
            elif number == 6 and not isinstance(value, int) and value[1] - value[0] <= 4096 and len(texts) <= MAX_NAMES:
                texts.append(bytes(self.data[value[0] : value[1]]).decode("utf-8", "replace"))
            elif number in (5, 7) and not isinstance(value, int) and value[1] - value[0] <= MAX_NAMES:
                numbers += self.packed(value)
            elif number == 9 and not isinstance(value, int):
                raw = value
            elif number == 13:
                if isinstance(value, int):
                    raise self.damaged("field 13 has the wrong type")
                entries.append(self.entry(value))
            elif number == 14:
                outside = outside or value != 0
        if outside or entries:
            self.outside(entries, name)
        elif len(shape) == 1 and 0 < shape[0] <= MAX_NAMES:
            self.keep(name, element, shape[0], texts, numbers, raw)
        return name

    def keep(self, name: str, element: int, count: int, texts: list[str], numbers: list[int], raw: Span) -> None:
        """Keep a constant that may hold the names of classes."""
        width = {6: 4, 7: 8}.get(element)
        if element == 8:
            found = texts
        elif width and raw[1] - raw[0] == count * width:
            source = bytes(self.data[raw[0] : raw[1]])
            found = [
                str(int.from_bytes(source[i : i + width], "little", signed=True)) for i in range(0, len(source), width)
            ]
        else:
            found = [str(n) for n in numbers] if width else []
        if len(found) == count:
            self.found.names[name] = found

    def entry(self, span: Span) -> dict[str, str]:
        parts = {number: self.text(inner) for number, inner in self.messages(span, frozenset({1, 2}))}
        return {"key": parts.get(1, ""), "value": parts.get(2, "")}

    def outside(self, entries: list[dict[str, str]], name: str) -> None:
        """Weights in another file: plain names of files in the same folder, and only the bytes in there."""
        values = {entry["key"]: entry["value"] for entry in entries}
        location = values.get("location", "")
        if len(values) != len(entries) or not EXTERNAL_KEYS.issuperset(values):
            raise self.damaged(f"tensor {name} describes its file in an unknown way")
        if not EXTERNAL_NAME.fullmatch(location) or ".." in location:
            raise UnsafeModel(
                f"tensor {name} reads the file {location!r}",
                remedy="weights outside of the model file must lie beside it, in a file called NAME.data",
                about=self.where,
            )
        path = self.folder / location
        if not self.complete and not os.path.lexists(path):
            return
        if path.is_symlink() or not path.is_file():
            raise ModelError("missing", remedy=f"{self.where} keeps tensor {name} in it", about=location)
        # Digits alone: Python reads "1_000" and other scripts' digits as numbers, onnxruntime does not
        if not all(re.fullmatch(r"[0-9]{0,18}", values.get(key, ""), re.ASCII) for key in ("offset", "length")):
            raise self.damaged(f"tensor {name} has no sound offset")
        offset, length = int(values.get("offset") or 0), int(values.get("length") or 0)
        if offset + length > path.stat().st_size:
            raise ModelError(f"too short for tensor {name} of {self.where}", remedy="copy it again", about=location)
        self.found.external.add(location)

    def value(self, span: Span) -> Value:
        name, element, rank, listed = "", 0, None, False
        for number, inner in self.messages(span, frozenset({1, 2})):
            if number == 1:
                name = self.text(inner)
                continue
            for kind, tensor_type in self.messages(inner, frozenset({1, 4})):
                if kind == 4:
                    listed = True
                    continue
                for part, found in self.fields(tensor_type):
                    if part == 1 and isinstance(found, int):
                        element = found
                    elif part == 2 and not isinstance(found, int):
                        rank = sum(1 for n, _ in self.fields(found) if n == 1)
        return Value(name, element, rank, listed)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def read_onnx(path: Path, *, complete: bool = True) -> OnnxFile:
    """Walk an ONNX file; other files that it names must lie in the same folder, unless not all are there yet.

    Raises:
        UnsafeModel: it needs operators from elsewhere, or names a file outside of its folder.
        ModelError: it is damaged, or a file that it names is missing.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size < 16 or size > MAX_BYTES:
            raise ModelError(
                f"{size} bytes are not the size of an ONNX model", remedy="export it again", about=path.name
            )
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[4:8] == b"ORTM":
                raise UnsafeModel("onnxruntime's own format", remedy="export it as plain ONNX", about=path.name)
            walk = _Walk(data, path.name, path.parent, complete=complete)
            walk.model((0, size))
    return walk.found
