"""Format ``onnx``: a classifier as an ONNX graph, run by onnxruntime; needs neither torch nor transformers.

    model.onnx                  the graph; its weights inside, or in NAME.data beside it
    tokenizer.json              for graphs that read token ids (input_ids, attention_mask, token_type_ids)
    preprocessor_config.json    for graphs that read images (pixel_values, or one input (n, 3, height, width))
    config.json                 optional: id2label names the columns

A graph with one text input ``(n, 1)`` or ``(n,)``, as converters of scikit-learn pipelines write it, needs no
tokenizer. The manifest keeps which output is used, and whether it holds logits or probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Examples, Input
from learndock.data.schema import Schema
from learndock.errors import ModelError
from learndock.package.columns import both_names, columns_in, names_beside, placeholders
from learndock.package.formats import Model, Progress
from learndock.package.formats._features import FILE as FEATURES
from learndock.package.formats._features import Features, load_features, read_features, settle_features
from learndock.package.formats._image_settings import compare_pixels, read_pixels
from learndock.package.formats._onnx_graph import (
    FILE,
    KINDS,
    TOKEN_INPUTS,
    check_labels,
    kind_of,
    label_output,
    names_of,
    operator_of,
    output_of,
    reads_features,
    reads_its_batch,
    reads_pixels,
    reads_text,
    settle_kind,
    table_keys,
)
from learndock.package.formats._outputs import Floats, check_count, checked, shares, sigmoid, softmax, two_columns
from learndock.package.formats._pixels import FILE as PIXELS
from learndock.package.formats._pixels import Pixels, reads_images
from learndock.package.formats._tokenizer_settings import compare_with_library, first_position, positions_of
from learndock.package.formats._tokens import BATCH, TextTokens, check_texts
from learndock.package.json_file import read_object
from learndock.package.onnx_file import OnnxFile, read_onnx

#: Looked at by ``settle``: so many inputs.
_LOOK = 64
#: So many of them are also run one by one. Rounding changes an answer by less than this share of the largest number.
_ALONE, _ROUNDED = 4, 0.05
_TIMES = 8


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
        if reads_pixels(graph):
            if not reads_images(folder):
                raise ModelError(
                    f"missing in {folder}, and {FILE} reads images", remedy=f"save it beside {FILE}", about=PIXELS
                )
            read_pixels(folder)
        elif reads_features(graph):
            if not (folder / FEATURES).is_file():
                raise ModelError(
                    f"{FILE} reads a table of numbers, and no {FEATURES} says what they are",
                    remedy=f'for a head on the features of a space, write {{"space": NAME}} into {FEATURES}; columns '
                    "of numbers are not read",
                )
        elif not reads_text(graph) and not (folder / "tokenizer.json").is_file():
            raise ModelError(
                f"tokenizer.json: missing in {folder}, and {FILE} reads token ids", remedy=f"save it beside {FILE}"
            )
        output = output_of(graph)
        names = names_of(folder, graph, output.name)
        if names is not None:
            check_count(len(names), schema, where=FILE, single=True)
        settings = {"output_name": output.name, **read_features(folder)}
        if schema.type == "regression":
            return {**settings, "output": "value"}
        return {**settings, "output": kind_of(graph, output.name)}

    def settle(self, folder: Path, schema: Schema, settings: dict[str, Any], inputs: Sequence[Input]) -> dict[str, Any]:
        """See ``Settles``: what the scores are is checked on a few answers, and the preparation with the library's."""
        said = settings.get("scores")
        settings = settle_features({k: v for k, v in settings.items() if k != "scores"})
        graph = read_onnx(folder / FILE)
        known = {"columns": list(range(schema.classes)), **settings, "output": said or "logits"}
        model = _open(folder, schema, known)
        if isinstance(model.tokens, TextTokens):
            taken = {entry.name for entry in model.session.get_inputs()}
            compare_with_library(folder, model.tokens, inputs, takes_types="token_type_ids" in taken)
        elif isinstance(model.tokens, Pixels):
            compare_pixels(folder, model.tokens, inputs)
        few = list(inputs[:_LOOK])
        rows = model.run(few)
        rows = rows[:, None] if rows.ndim == 1 else rows
        # Dropout drops nothing now and then, so a graph that has it is asked several times.
        for _ in range(_TIMES if any(operator == "Dropout" for _, operator in graph.operators) else 1):
            _check_alone(replace(model, size=1).run(few[:_ALONE]), rows[:_ALONE])
        if schema.type == "regression":
            return settings
        name = settings["output_name"]
        names, label = names_of(folder, graph, name), label_output(graph)
        if names is not None and label is not None:
            check_labels(model.labels(few, label), rows, names)
        kind = said or settle_kind(kind_of(graph, name), rows, operator_of(graph, name))
        return {**settings, "output": kind}

    def load(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> Model:
        """See ``Format``."""
        return _open(folder, schema, {**self.check(folder, schema), **settings})

    def label_names(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> list[str]:
        """See ``Named``."""
        return _label_names(folder, schema, read_onnx(folder / FILE), str(settings.get("output_name")))

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


def _check_alone(alone: NDArray[Any], together: NDArray[Any]) -> None:
    """Compare the answers (n, columns) to inputs that ran ``alone`` with those to the same inputs among others.

    Raises:
        ModelError: they differ.
    """
    away = float(np.abs(alone.reshape(together.shape) - together).max(initial=0))
    if away > _ROUNDED * max(1.0, float(np.abs(together).max(initial=0))):
        raise ModelError(
            f"its answer to an input changes with those that run beside it, or from run to run (up to {away:.3g})",
            remedy="export it in evaluation mode, as after model.eval()",
            about=FILE,
        )


def _label_names(folder: Path, schema: Schema, graph: OnnxFile, output: str) -> list[str]:
    names = names_of(folder, graph, output)
    return placeholders(schema.classes) if names is None else both_names(names, schema)


def _open(folder: Path, schema: Schema, settings: dict[str, Any]) -> OnnxModel:
    kind, name = settings.get("output"), settings.get("output_name")
    graph = read_onnx(folder / FILE)
    session = _session(folder / FILE)
    if kind not in (*KINDS, "value") or not isinstance(name, str):
        raise ModelError("the manifest's settings do not say what its output is", remedy="pack it again", about=FILE)
    if name not in {o.name for o in session.get_outputs()}:
        raise ModelError(f"has no output {name[:80]}", remedy="pack it again", about=FILE)
    columns = [0]
    if schema.type == "classification":
        names = both_names(names_beside(folder) or _label_names(folder, schema, graph, name), schema)
        columns = columns_in(settings, names, schema, where=FILE)
    tokens: TextTokens | Pixels | Features | None = None
    first = 0
    if reads_pixels(graph):
        tokens = read_pixels(folder)
    elif reads_features(graph):
        tokens = load_features({**read_features(folder), **settings})
    elif not reads_text(graph):
        config = read_object(folder / "config.json") if (folder / "config.json").is_file() else {}
        tokens, first = TextTokens(folder, positions=positions_of(config)), first_position(config)
    size = 1 if reads_its_batch(graph) else BATCH
    return OnnxModel(session, tokens, schema, kind, name, columns, table_keys(graph, name), first, size)


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
        remedy = _remedy(text) if "locale" in text else "export it again"
        raise ModelError(f"onnxruntime cannot load it ({text})", remedy=remedy, about=path.name) from None


#: From what several columns hold to probabilities (n, classes).
_ROWS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "logits": softmax,
    "probabilities": np.asarray,
    "sigmoids": shares,
    "log-probabilities": np.exp,
}


@dataclass(frozen=True)
class OnnxModel:
    """A loaded graph (``Model``).

    ``columns`` are its outputs in the order of the schema, ``keys`` those of its tables where it puts out a table per
    row, ``first`` the number of the first position where it takes positions, ``size`` how many inputs run together.
    """

    session: Any
    tokens: TextTokens | Pixels | Features | None
    schema: Schema
    kind: str
    output: str
    columns: Sequence[int]
    keys: Sequence[Any] | None = None
    first: int = 0
    size: int = BATCH

    def predict(self, inputs: Sequence[Input], *, progress: Progress | None = None) -> Floats:
        """See ``Model``."""
        raw = self.run(inputs, progress=progress)
        if self.schema.type == "regression":
            if raw.size != len(inputs):
                raise ModelError(f"the output has the shape {raw.shape}, regression needs one value each", about=FILE)
            return checked(raw.reshape(len(inputs)), self.schema, len(inputs))
        raw = raw[:, None] if raw.ndim == 1 else raw
        if len(raw):
            check_count(raw.shape[1], self.schema, where=FILE, single=True)
        if raw.shape[1] == 1:
            found = two_columns(sigmoid(raw[:, 0]) if self.kind == "logits" else raw[:, 0])
        else:
            found = _ROWS[self.kind](raw)
        return checked(found[:, list(self.columns)], self.schema, len(inputs))

    def remarks(self) -> tuple[str, ...]:
        """See ``remarks_of``."""
        return self.tokens.remarks() if isinstance(self.tokens, TextTokens) else ()

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

    def labels(self, inputs: Sequence[Input], name: str) -> NDArray[Any]:
        """What the graph's label output ``name`` says about ``inputs``, (n,)."""
        found = np.empty(len(inputs), dtype=object)
        for rows, feed in self._feeds(inputs):
            found[rows] = np.asarray(self.session.run([name], feed)[0]).reshape(len(rows))
        return found

    def _feeds(self, inputs: Sequence[Input]) -> Iterator[tuple[NDArray[Any], dict[str, NDArray[Any]]]]:
        wanted = {i.name: i for i in self.session.get_inputs()}
        name, info = next(iter(wanted.items()))
        if isinstance(self.tokens, Pixels):
            for seen in self.tokens.batches(inputs, self.size):
                yield seen.rows, {name: seen.pixels}
        elif isinstance(self.tokens, TextTokens):
            for batch in self.tokens.batches(inputs, self.size):
                places = np.broadcast_to(np.arange(batch.ids.shape[1]) + self.first, batch.ids.shape)
                given = dict(zip(TOKEN_INPUTS, (batch.ids, batch.mask, batch.types, places), strict=True))
                yield batch.rows, {n: given[n].astype(_element(i.type)) for n, i in wanted.items()}
        elif self.tokens is not None:
            for start in range(0, len(inputs), self.size):
                made = np.asarray(self.tokens(inputs[start : start + self.size]), np.float32)
                yield np.arange(start, start + len(made)), {name: made}
        else:
            check_texts(inputs)
            texts = [v if isinstance(v, str) else "\n".join(v) for v in inputs]
            for start in range(0, len(texts), self.size):
                part = np.array(texts[start : start + self.size], dtype=object)
                yield np.arange(start, start + len(part)), {name: part[:, None] if len(info.shape or ()) == 2 else part}

    def _run(self, feed: dict[str, NDArray[Any]], n: int) -> NDArray[Any]:
        try:
            made = self.session.run([self.output], feed)[0]
            part = np.array([[row[k] for k in self.keys] for row in made]) if self.keys else np.asarray(made)
        except Exception as error:  # onnxruntime's errors have no common class but Exception
            text = " ".join(str(error).split())[:300]
            raise ModelError(f"the graph does not run ({text})", remedy=_remedy(text), about=FILE) from None
        if part.ndim not in (1, 2) or part.shape[0] != n:
            raise ModelError(
                f"{n} inputs gave an output of the shape {part.shape}, expected ({n}, classes)", about=FILE
            )
        return part


def _remedy(text: str) -> str:
    if "locale" in text.lower():
        return (
            "the graph lowers letters (StringNormalizer) by a locale that this machine does not have; export it with "
            "the converter's option locale set to C.UTF-8, or the pipeline with lowercase=False"
        )
    return "export it with a dynamic batch and length"


def _element(kind: str) -> Any:
    if kind not in ("tensor(int64)", "tensor(int32)"):
        raise ModelError(f"an input is {kind}, expected integers", about=FILE)
    return np.int64 if kind == "tensor(int64)" else np.int32
