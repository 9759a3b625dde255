"""Read from an ONNX graph, without running it, what goes in, what comes out, and what the columns are called.

A classifier's graph may put out logits, probabilities, a sigmoid per class, log-probabilities, one column for two
classes, or a table per row. The last nodes say which. Where they do not, a look at a few answers may; where that does
not either, the owner is asked (``pack --scores``).
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.errors import ModelError
from learndock.package.columns import are_placeholders, find_name, name_keys, names_in
from learndock.package.json_file import read_object
from learndock.package.onnx_file import Node, OnnxFile, Value

FILE = "model.onnx"
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
#: What an output may hold. ``value`` is that of a regression.
KINDS = ("logits", "probabilities", "sigmoids", "log-probabilities")
#: What only a look at answers can say: numbers of some operator, or of one that carries numbers on.
UNKNOWN, CARRIED = "unknown", "carried"

_FLOATS = frozenset({1, 10, 11, 16})
_FLOAT, _INT64, _TEXT = 1, 7, 8
#: Operators that pass values on unchanged, up to their type, shape or order of rows.
_PASSING = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze", "ZipMap"})
#: Last layers: what they put out was not normalised.
_LAYERS = frozenset(
    {"Add", "BatchNormalization", "Conv", "FusedMatMul", "Gemm", "LayerNormalization", "MatMul", "MatMulNBits", "Sum"}
)
#: Operators that scale, choose or join scores of any kind.
_CARRYING = frozenset(
    {
        "Concat", "DequantizeLinear", "Div", "Einsum", "Gather", "GlobalAveragePool", "Mul", "Neg", "ReduceMean",
        "ReduceSum", "Slice", "Sub", "Transpose",
    }
)  # fmt: skip
#: Operators after which scores are normalised; a sum or a multiple of theirs is neither that nor logits.
_NORMALISED = frozenset({"HardSigmoid", "LogSoftmax", "Sigmoid", "Softmax"})
#: Names by which the answer is known among several outputs.
_ANSWERS = ("logits", "probabilities", "output_probability")
_CLASSIFIERS = frozenset({"LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"})
_LABELS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
_CLOSE = 1e-4


def inputs_of(graph: OnnxFile) -> list[Value]:
    """The inputs that must be given."""
    return [v for v in graph.inputs if v.name not in graph.constants]


def reads_pixels(graph: OnnxFile) -> bool:
    """Whether the graph's one input is a stack of images."""
    inputs = inputs_of(graph)
    return len(inputs) == 1 and inputs[0].element == _FLOAT and inputs[0].rank == 4


def reads_features(graph: OnnxFile) -> bool:
    """Whether the graph's one input is a table of numbers, a row per input."""
    inputs = inputs_of(graph)
    return len(inputs) == 1 and inputs[0].element == _FLOAT and inputs[0].rank == 2


def reads_its_batch(graph: OnnxFile) -> bool:
    """Whether an answer depends on the other inputs that run with it: one scale is found for all numbers of a batch."""
    return any(operator.startswith("DynamicQuantize") for _, operator in graph.operators)


def reads_text(graph: OnnxFile) -> bool:
    """Whether the graph's one input is a text.

    Raises:
        ModelError: its inputs are neither texts nor token ids.
    """
    inputs = inputs_of(graph)
    if len(inputs) == 1 and inputs[0].element == _TEXT:
        return True
    strange = [v.name for v in inputs if v.name not in TOKEN_INPUTS]
    if strange or "input_ids" not in {v.name for v in inputs}:
        names = ", ".join(v.name for v in inputs) or "none"
        raise ModelError(
            f"its inputs are {names[:200]}",
            remedy=f"expected {', '.join(TOKEN_INPUTS)}; one text; images as one input of floats (n, 3, height, "
            "width); or features as one input of floats (n, width), with features.json saying what they are",
            about=FILE,
        )
    return False


def output_of(graph: OnnxFile) -> Value:
    """The output that holds the model's answer: by its name, else the one table of numbers or of rows.

    Raises:
        ModelError: there is none, or there are several and no name decides, or its columns are no classes.
    """
    numbers = [v for v in graph.outputs if v.element in _FLOATS and v.rank in (None, 1, 2) and not v.listed]
    numbers += [v for v in graph.outputs if v.listed and _made_by(graph, v.name, "ZipMap") is not None]
    by_name = {value.name: value for value in numbers}
    found = next((by_name[name] for name in _ANSWERS if name in by_name), None)
    if found is None and not numbers:
        raise ModelError(
            "no output is a table of numbers (n, classes)", remedy="export logits or probabilities", about=FILE
        )
    if found is None and len(numbers) > 1:
        raise ModelError(
            f"several outputs are tables of numbers ({', '.join(by_name)[:200]}), and no name says which is the answer",
            remedy="export that one alone, or call it logits or probabilities",
            about=FILE,
        )
    found = found or numbers[0]
    if operator_of(graph, found.name) == "TopK":
        raise ModelError(
            f"its output {found.name} is sorted by score (TopK), so that no column is one class",
            remedy="export the scores of all classes in their own order",
            about=FILE,
        )
    return found


def label_output(graph: OnnxFile) -> str | None:
    """The output with the label itself, as converters of scikit-learn add it; None where there is none."""
    found = [v.name for v in graph.outputs if v.element in (_INT64, _TEXT) and v.rank in (None, 1) and not v.listed]
    return found[0] if len(found) == 1 else None


def kind_of(graph: OnnxFile, name: str) -> str:
    """What the output ``name`` holds, by the nodes that make it: one of ``KINDS``, ``UNKNOWN`` or ``CARRIED``."""
    node = _source(graph, name)
    if node is None:
        return UNKNOWN
    if node.operator in _CLASSIFIERS:
        done = node.attributes.get("post_transform", "NONE")
        return {"SOFTMAX": "probabilities", "LOGISTIC": "sigmoids"}.get(str(done), UNKNOWN)
    if node.operator == "Normalizer":
        return "probabilities" if node.attributes.get("norm") == "L1" else UNKNOWN
    if node.operator in ("Add", "Div", "Mul", "Sub", "Sum"):
        before = (_source(graph, given) for given in node.inputs)
        if any(given is not None and given.operator in _NORMALISED for given in before):
            return UNKNOWN
    said = {"Softmax": "probabilities", "LogSoftmax": "log-probabilities", "Sigmoid": "sigmoids"}
    other = "logits" if node.operator in _LAYERS else CARRIED if node.operator in _CARRYING else UNKNOWN
    return said.get(node.operator, other)


def settle_kind(kind: str, rows: NDArray[Any], operator: str) -> str:
    """``kind`` corrected by some answers ``rows`` (n, columns) of the graph.

    Raises:
        ModelError: neither the graph nor its answers say what they are.
    """
    finite = bool(len(rows)) and bool(np.isfinite(rows).all())
    if not finite:  # reported with the input, when it answers
        return kind if kind in KINDS else "logits"
    if rows.shape[1] == 1 and operator == "Softmax":
        raise ModelError(
            "its one column comes from a Softmax, which of a single number is always 1",
            remedy="export the number before it, or end the model in a Sigmoid",
            about=FILE,
        )
    within = bool((rows >= 0).all() and (rows <= 1 + _CLOSE).all())
    if rows.shape[1] > 1 and within and bool((np.abs(rows.sum(axis=1) - 1) < _CLOSE).all()):
        return "probabilities"
    if kind in KINDS:
        return kind
    if kind == CARRIED and not within and bool((rows > 0).any()):
        return "logits"
    if rows.shape[1] > 1 and bool((rows <= 0).all()) and bool((np.abs(np.exp(rows).sum(axis=1) - 1) < _CLOSE).all()):
        return "log-probabilities"
    raise ModelError(
        f"its scores come from the operator {operator}, and their values ({rows.min():.3g} to {rows.max():.3g}) do not "
        "say what they are",
        remedy=f"say it with --scores: {', '.join(KINDS)}",
        about=FILE,
    )


def operator_of(graph: OnnxFile, name: str) -> str:
    """The operator that makes the output ``name``."""
    node = _source(graph, name)
    return "(none)" if node is None else node.operator


def _source(graph: OnnxFile, name: str) -> Node | None:
    """The node that makes an output, behind those that pass it on; None for an input."""
    for _ in range(len(graph.producers) + 1):
        node = graph.producers.get(name)
        if node is None or node.operator not in _PASSING or not node.inputs:
            return node
        name = node.inputs[0]
    return None


def _made_by(graph: OnnxFile, name: str, operator: str) -> Node | None:
    """The node of ``operator`` among those that make and pass on an output."""
    for _ in range(len(graph.producers) + 1):
        node = graph.producers.get(name)
        if node is None or node.operator == operator:
            return node
        if node.operator not in _PASSING or not node.inputs:
            return None
        name = node.inputs[0]
    return None


# --- names ---------------------------------------------------------------------------------------------------


def table_keys(graph: OnnxFile, name: str) -> list[Any] | None:
    """The keys of the tables that ``ZipMap`` makes, in order; None where the output is a tensor."""
    node = _made_by(graph, name, "ZipMap")
    found = None if node is None else next((node.attributes[k] for k in _LABELS if k in node.attributes), None)
    return list(found) if isinstance(found, list) else None


def names_of(folder: Path, graph: OnnxFile, output: str) -> list[str] | None:
    """What the columns of ``output`` are called: by ``config.json``, or by the graph; None where neither says.

    Raises:
        ModelError: both say, and differ.
    """
    said: list[str] | None = None
    config = read_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    if config.keys() & {"id2label", "label2id", "num_labels"}:
        said = names_in(config, where="config.json")
    own = _names_in_graph(graph, output)
    if own is None or (said is not None and are_placeholders(own)):
        return said
    if said is None or are_placeholders(said):
        return own
    numbered = own == [str(i) for i in range(len(own))]
    if not numbered and name_keys(said) != name_keys(own):
        raise ModelError(
            f"config.json names the columns {', '.join(said)[:200]}, the graph {', '.join(own)[:200]}",
            remedy="correct the one that is wrong",
            about=FILE,
        )
    return said


def _names_in_graph(graph: OnnxFile, output: str) -> list[str] | None:
    keys = table_keys(graph, output)
    if keys is not None:
        return [str(k) for k in keys]
    nodes = [_source(graph, output)]
    label = label_output(graph)
    if label is not None:
        nodes.append(_source(graph, label))
    for node in nodes:
        if node is None:
            continue
        found = next((node.attributes[k] for k in _LABELS if node.attributes.get(k)), None)
        if isinstance(found, list):
            return [str(name) for name in found]
        if node.operator in ("ArrayFeatureExtractor", "Gather") and node.inputs and node.inputs[0] in graph.names:
            return graph.names[node.inputs[0]]
    return _names_in_metadata(graph.metadata)


def _names_in_metadata(metadata: Mapping[str, str]) -> list[str] | None:
    """Names as exporters write them into a graph's metadata: a list, or a table of numbers and names."""
    for key in ("id2label", "names", "classes", "class_names", "labels", "label_names"):
        value = _literal(metadata.get(key, ""))
        if isinstance(value, dict):
            numbers = {str(k): v for k, v in value.items()}
            if sorted(numbers) == sorted(str(i) for i in range(len(numbers))):
                value = [numbers[str(i)] for i in range(len(numbers))]
        if isinstance(value, list) and value and all(isinstance(v, str | int) for v in value):
            return [str(v) for v in value]
    return None


def _literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):  # exporters write JSON, or Python's own form of a dictionary
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def check_labels(labels: NDArray[Any], rows: NDArray[Any], names: Sequence[str]) -> None:
    """Compare the labels that a graph puts out with the columns of its scores, on some answers.

    Raises:
        ModelError: a largest score is in a column of another name.
    """
    if rows.ndim != 2 or rows.shape[1] != len(names) or not np.isfinite(rows).all():
        return
    order = np.sort(rows, axis=1)
    clear = order[:, -1] - order[:, -2] > _CLOSE if rows.shape[1] > 1 else np.zeros(len(rows), bool)
    for label, row in zip(labels[clear], rows[clear], strict=True):
        place = find_name(label.decode() if isinstance(label, bytes) else str(label), names)
        if place is not None and place != int(row.argmax()):
            raise ModelError(
                f"its label output says {label} where the largest score is in column {int(row.argmax())}, which is "
                f"called {names[int(row.argmax())]}",
                remedy="correct the names, or say which column is which label with --map",
                about=FILE,
            )
