"""Format ``onnx``: a classifier as an ONNX graph, run by onnxruntime; needs neither torch nor transformers.

    model.onnx                  the graph; its weights inside, or in NAME.data beside it
    tokenizer.json              for graphs that read token ids (input_ids, attention_mask, token_type_ids)
    preprocessor_config.json    for graphs that read images (pixel_values, or one input (n, 3, height, width))
    config.json                 optional: id2label names the columns

A graph with one text input ``(n, 1)`` or ``(n,)``, as converters of scikit-learn pipelines write it, needs no
tokenizer. The manifest keeps which output is used, and whether it holds logits or probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Examples, Input
from learndock.data.schema import Schema
from learndock.errors import ModelError
from learndock.package.columns import columns_in, names_in, placeholders
from learndock.package.formats import Model, Progress
from learndock.package.formats._image_settings import read_pixels
from learndock.package.formats._outputs import Floats, check_count, checked, softmax
from learndock.package.formats._pixels import FILE as PIXELS
from learndock.package.formats._pixels import Pixels, reads_images
from learndock.package.formats._tokenizer_settings import positions_of
from learndock.package.formats._tokens import BATCH, TextTokens, check_texts
from learndock.package.json_file import read_object
from learndock.package.onnx_file import OnnxFile, Value, read_onnx

FILE = "model.onnx"
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_FLOAT_ELEMENTS = {1, 10, 11, 16}
_FLOAT, _TEXT_ELEMENT = 1, 8
#: Operators that pass values on unchanged, up to their type or shape.
_PASSING = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_NORMALISING = frozenset({"Normalizer", "Softmax"})
#: Looked at by ``settle``: so many inputs, and rows that sum to one within this.
_LOOK = 64
_CLOSE = 1e-4


class OnnxFormat:
    """ONNX classifiers on onnxruntime, which the core install brings."""

    name = "onnx"
    looks_for = f"{FILE}, and tokenizer.json where the graph reads token ids, {PIXELS} where it reads images"

    def recognises(self, folder: Path) -> bool:
        """See ``Format``."""
        return (folder / FILE).is_file()

    def check(self, folder: Path, schema: Schema) -> dict[str, Any]:
        """See ``Format``; reads the graph, does not run it."""
        if not (folder / FILE).is_file():
            raise ModelError(f"missing in {folder}", about=FILE)
        graph = read_onnx(folder / FILE)
        if _reads_pixels(graph):
            if not reads_images(folder):
                raise ModelError(
                    f"missing in {folder}, and {FILE} reads images", remedy=f"save it beside {FILE}", about=PIXELS
                )
            read_pixels(folder)
        elif not _reads_text(graph) and not (folder / "tokenizer.json").is_file():
            raise ModelError(
                f"tokenizer.json: missing in {folder}, and {FILE} reads token ids", remedy=f"save it beside {FILE}"
            )
        output = _output(graph)
        if (folder / "config.json").is_file():
            check_count(len(_names(folder)), schema, where="config.json")
        if schema.type == "regression":
            return {"output": "value", "output_name": output.name}
        kind = "probabilities" if _normalised(graph, output.name) else "logits"
        return {"output": kind, "output_name": output.name}

    def settle(self, folder: Path, schema: Schema, settings: dict[str, Any], inputs: Sequence[Input]) -> dict[str, Any]:
        """See ``Settles``: a graph may put out probabilities without a softmax that can be recognised."""
        if settings.get("output") != "logits":
            return settings
        raw = _open(folder, schema, {**settings, "columns": list(range(schema.classes))}).run(list(inputs[:_LOOK]))
        rows = np.asarray(raw, dtype=np.float64)
        summing = rows.ndim == 2 and bool((rows >= 0).all() and (np.abs(rows.sum(axis=1) - 1) < _CLOSE).all())
        return {**settings, "output": "probabilities"} if summing else settings

    def load(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> Model:
        """See ``Format``."""
        return _open(folder, schema, {**self.check(folder, schema), **settings})

    def label_names(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> list[str]:
        """See ``Named``."""
        return _label_names(folder, schema)

    def finetune(
        self,
        folder: Path,
        schema: Schema,
        settings: dict[str, Any],
        examples: Examples,
        target: Schema,
        out: Path,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """See ``Format``: always refused.

        Raises:
            ModelError: an ONNX graph cannot be tuned.
        """
        raise ModelError(
            "an ONNX graph has no gradients, so it cannot be tuned further",
            remedy="use it as it is with "
            "`learndock predict`, or tune a learnware of the format transformers, peft or sklearn",
            about=FILE,
        )


def _reads_pixels(graph: OnnxFile) -> bool:
    """Whether the graph's one input is a stack of images."""
    inputs = [v for v in graph.inputs if v.name not in graph.constants]
    return len(inputs) == 1 and inputs[0].element == _FLOAT and inputs[0].rank == 4


def _reads_text(graph: OnnxFile) -> bool:
    inputs = [v for v in graph.inputs if v.name not in graph.constants]
    if len(inputs) == 1 and inputs[0].element == _TEXT_ELEMENT:
        return True
    strange = [v.name for v in inputs if v.name not in TOKEN_INPUTS]
    if strange or "input_ids" not in {v.name for v in inputs}:
        names = ", ".join(v.name for v in inputs) or "none"
        raise ModelError(
            f"its inputs are {names[:200]}",
            remedy=f"expected {', '.join(TOKEN_INPUTS)}, one text input, or images as "
            "one input of floats (n, 3, height, width)",
            about=FILE,
        )
    return False


def _output(graph: OnnxFile) -> Value:
    """The output that holds the model's answer: by its name, or the first table of numbers."""
    numbers = [v for v in graph.outputs if v.element in _FLOAT_ELEMENTS and v.rank in (None, 1, 2)]
    for wanted in ("logits", "probabilities"):
        for value in numbers:
            if value.name == wanted:
                return value
    if not numbers:
        raise ModelError(
            "no output is a table of numbers (n, classes)",
            remedy="export logits or probabilities (for converters of scikit-learn: zipmap=False)",
            about=FILE,
        )
    return numbers[0]


def _normalised(graph: OnnxFile, name: str) -> bool:
    """Whether an output comes from a softmax."""
    for _ in range(len(graph.producers) + 1):
        operator, source = graph.producers.get(name, ("", ""))
        if operator not in _PASSING:
            return operator in _NORMALISING
        name = source
    return False


def _names(folder: Path) -> list[str]:
    return names_in(read_object(folder / "config.json"), where="config.json")


def _label_names(folder: Path, schema: Schema) -> list[str]:
    return _names(folder) if (folder / "config.json").is_file() else placeholders(schema.classes)


def _open(folder: Path, schema: Schema, settings: dict[str, Any]) -> OnnxModel:
    kind, name = settings.get("output"), settings.get("output_name")
    if kind not in ("logits", "probabilities", "value") or not isinstance(name, str):
        raise ModelError("the manifest's settings do not say what its output is", remedy="pack it again", about=FILE)
    graph = read_onnx(folder / FILE)
    session = _session(folder / FILE)
    if name not in {o.name for o in session.get_outputs()}:
        raise ModelError(f"has no output {name[:80]}", remedy="pack it again", about=FILE)
    columns = list(range(schema.classes))
    if schema.type == "classification":
        columns = columns_in(settings, _label_names(folder, schema), schema, where=FILE)
    tokens: TextTokens | Pixels | None = None
    if _reads_pixels(graph):
        tokens = read_pixels(folder)
    elif not _reads_text(graph):
        tokens = _tokens(folder)
    return OnnxModel(session, tokens, schema, kind, name, columns)


def _tokens(folder: Path) -> TextTokens:
    config = read_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    return TextTokens(folder, positions=positions_of(config))


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        # Without its fallback the library prints nothing and tries nothing else.
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # onnxruntime's errors have no common class but Exception
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"onnxruntime cannot load it ({text})", remedy="export it again", about=path.name) from None


@dataclass(frozen=True)
class OnnxModel:
    """A loaded graph (``Model``); ``columns`` are its outputs in the order of the schema."""

    session: Any
    tokens: TextTokens | Pixels | None
    schema: Schema
    kind: str
    output: str
    columns: Sequence[int]

    def predict(self, inputs: Sequence[Input], *, progress: Progress | None = None) -> Floats:
        """See ``Model``."""
        raw = self.run(inputs, progress=progress)
        if self.schema.type == "regression":
            if raw.size != len(inputs):
                raise ModelError(f"the output has the shape {raw.shape}, regression needs one value each", about=FILE)
            return checked(raw.reshape(len(inputs)), self.schema, len(inputs))
        if raw.ndim != 2 or raw.shape[1] != self.schema.classes:
            check_count(raw.shape[1] if raw.ndim == 2 else 1, self.schema, where=FILE)
        raw = raw[:, list(self.columns)]
        if self.kind == "logits":
            with np.errstate(invalid="ignore"):
                raw = softmax(raw)
        return checked(raw, self.schema, len(inputs))

    def run(self, inputs: Sequence[Input], *, progress: Progress | None = None) -> NDArray[Any]:
        """The raw output of all inputs, ``(n, columns)`` or ``(n,)``, in their order."""
        found: NDArray[Any] | None = None
        done = 0
        for rows, feed in self._feeds(inputs):
            part = self._run(feed, len(rows))
            if found is None:
                found = np.zeros((len(inputs), *part.shape[1:]))
            if part.shape[1:] != found.shape[1:]:
                raise ModelError(
                    "the output's shape changes between batches", remedy="export with a fixed head", about=FILE
                )
            found[rows] = part
            done += len(rows)
            if progress is not None:
                progress(done, len(inputs))
        return np.zeros((0, max(1, self.schema.classes))) if found is None else found

    def _feeds(self, inputs: Sequence[Input]) -> Any:
        wanted = {i.name: i for i in self.session.get_inputs()}
        if self.tokens is None:
            check_texts(inputs)
            name, info = next(iter(wanted.items()))
            texts = [v if isinstance(v, str) else "\n".join(v) for v in inputs]
            for start in range(0, len(texts), BATCH):
                part = np.array(texts[start : start + BATCH], dtype=object)
                rows = np.arange(start, start + len(part))
                yield rows, {name: part[:, None] if len(info.shape or ()) == 2 else part}
            return
        if isinstance(self.tokens, Pixels):
            for seen in self.tokens.batches(inputs, BATCH):
                yield seen.rows, {next(iter(wanted)): seen.pixels}
            return
        for batch in self.tokens.batches(inputs, BATCH):
            whole = dict(zip(TOKEN_INPUTS, (batch.ids, batch.mask, batch.types), strict=True))
            yield batch.rows, {n: whole[n].astype(_element(i.type)) for n, i in wanted.items()}

    def _run(self, feed: dict[str, NDArray[Any]], n: int) -> NDArray[Any]:
        try:
            part = np.asarray(self.session.run([self.output], feed)[0])
        except Exception as error:  # onnxruntime's errors have no common class but Exception
            text = " ".join(str(error).split())[:300]
            raise ModelError(
                f"the graph does not run ({text})", remedy="export it with a dynamic batch and length", about=FILE
            ) from None
        if part.ndim not in (1, 2) or part.shape[0] != n:
            raise ModelError(
                f"{n} inputs gave an output of the shape {part.shape}, expected ({n}, classes)", about=FILE
            )
        return part


def _element(kind: str) -> Any:
    if kind not in ("tensor(int64)", "tensor(int32)"):
        raise ModelError(f"an input is {kind}, expected integers", about=FILE)
    return np.int64 if kind == "tensor(int64)" else np.int32
