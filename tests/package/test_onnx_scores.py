"""What an ONNX graph's numbers are and what its columns are called: by the graph, by its answers, or asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import ModelError, UsageError
from learndock.package import pack
from learndock.package.formats._outputs import shares, sigmoid, softmax
from learndock.package.formats.onnx import OnnxFormat
from learndock.spaces.onnx_helper import load_helper
from tests.support import models

FORMAT = OnnxFormat()
SCORES = {"good": 2.0, "fine": 0.75, "bad": -1.5, "awful": -3.0, "film": 0.25}
TEXTS = [*SCORES, "unknown"]
S = np.array([*SCORES.values(), 0.0])[:, None]
WEIGHTS = {
    1: (np.array([[1.5]]), np.array([0.25])),
    2: (np.array([[-1.0, 1.5]]), np.array([0.5, 0.25])),
    3: (np.array([[-1.0, 1.5, 0.5]]), np.array([0.5, 0.25, 0.75])),
}
LABELS = {1: ("no", "yes"), 2: ("no", "yes"), 3: ("no", "yes", "maybe")}
node = helper.make_node


def schema_of(*labels: str) -> Schema:
    return Schema("classification", labels, labels, "accuracy")


def graph(
    folder: Path,
    tail: Sequence[Any],
    columns: int = 2,
    *,
    outputs: Sequence[Any] | None = None,
    constants: Sequence[Any] = (),
    metadata: dict[str, str] | None = None,
) -> Path:
    """A score per word, through a linear layer ``z`` of ``columns``, then the nodes ``tail``, which make ``out``."""
    weight, bias = (v.astype(np.float32) for v in WEIGHTS[columns])
    nodes = [
        node("LabelEncoder", ["text"], ["s"], domain="ai.onnx.ml", keys_strings=list(SCORES),
             values_floats=list(SCORES.values()), default_float=0.0),
        node("Gemm", ["s", "weight", "bias"], ["z"]),
        *tail,
    ]  # fmt: skip
    text = helper.make_tensor_value_info("text", TensorProto.STRING, [None, 1])
    wanted = outputs or [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, columns])]
    parts = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias"), *constants]
    made = helper.make_graph(nodes, "g", [text], wanted, parts)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=8)
    if metadata:
        helper.set_model_props(model, metadata)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


def settled(folder: Path, schema: Schema, **said: Any) -> dict[str, Any]:
    return FORMAT.settle(folder, schema, {**FORMAT.check(folder, schema), **said}, TEXTS)


def answers(folder: Path, schema: Schema, **said: Any) -> np.ndarray:
    """What learndock makes of the graph's columns, in their order."""
    known = {**settled(folder, schema, **said), "columns": list(range(schema.classes))}
    return np.asarray(FORMAT.load(folder, schema, known).predict(TEXTS))


def raw(columns: int) -> np.ndarray:
    weight, bias = WEIGHTS[columns]
    return np.asarray(S @ weight + bias)


def two(second: np.ndarray) -> np.ndarray:
    return np.stack([1 - second, second], axis=1)


HALF = numpy_helper.from_array(np.array([0.5], np.float32), "half")
TAILS: dict[str, tuple[list[Any], int, Any, list[Any]]] = {
    "logits": ([node("Identity", ["z"], ["out"])], 2, softmax, []),
    "three logits": ([node("Identity", ["z"], ["out"])], 3, softmax, []),
    "probabilities": ([node("Softmax", ["z"], ["out"], axis=-1)], 3, softmax, []),
    "probabilities, passed on": ([node("Softmax", ["z"], ["p"], axis=-1), node("Identity", ["p"], ["out"])], 2, softmax,
                                 []),
    "logarithms": ([node("LogSoftmax", ["z"], ["out"], axis=-1)], 3, softmax, []),
    "logarithms of probabilities": ([node("Softmax", ["z"], ["p"], axis=-1), node("Log", ["p"], ["out"])], 2, softmax,
                                    []),
    "sigmoids": ([node("Sigmoid", ["z"], ["out"])], 3, lambda z: shares(sigmoid(z)), []),
    "a temperature": ([node("Mul", ["z", "half"], ["out"])], 2, lambda z: softmax(z / 2), [HALF]),
    "one logit": ([node("Identity", ["z"], ["out"])], 1, lambda z: two(sigmoid(z[:, 0])), []),
    "one probability": ([node("Sigmoid", ["z"], ["out"])], 1, lambda z: two(sigmoid(z[:, 0])), []),
    "both of one": ([node("Sigmoid", ["z"], ["p"]), node("Neg", ["p"], ["m"]),
                     node("Add", ["m", "one"], ["q"]), node("Concat", ["q", "p"], ["out"], axis=1)], 1,
                    lambda z: two(sigmoid(z[:, 0])), [numpy_helper.from_array(np.array([1], np.float32), "one")]),
    "normalised sigmoids": ([node("Sigmoid", ["z"], ["p"]),
                             node("Normalizer", ["p"], ["out"], domain="ai.onnx.ml", norm="L1")], 3,
                            lambda z: shares(sigmoid(z)), []),
}  # fmt: skip


@pytest.mark.parametrize("name", TAILS)
def test_scores_are_taken_for_what_they_are(name: str, tmp_path: Path) -> None:
    tail, columns, expected, constants = TAILS[name]
    folder = graph(tmp_path / "m", tail, columns, constants=constants)
    np.testing.assert_allclose(answers(folder, schema_of(*LABELS[columns])), expected(raw(columns)), atol=1e-6)


ASKED: dict[str, tuple[list[Any], list[Any]]] = {
    "bounded": ([node("Tanh", ["z"], ["out"])], []),
    "cut at zero": ([node("Relu", ["z"], ["out"])], []),
    "joined sigmoids": ([node("Sigmoid", ["z"], ["p"]), node("Mul", ["p", "half"], ["out"])], [HALF]),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_neither_graph_nor_answers_say_is_asked_for(name: str, tmp_path: Path) -> None:
    tail, constants = ASKED[name]
    folder = graph(tmp_path / "m", tail, constants=constants)
    with pytest.raises(ModelError, match="do not say what they are; say it with --scores: logits, probabilities"):
        settled(folder, schema_of("no", "yes"))
    assert settled(folder, schema_of("no", "yes"), scores="logits")["output"] == "logits"


def test_the_owners_word_for_scores(tmp_path: Path) -> None:
    folder = graph(tmp_path / "m", [node("Tanh", ["z"], ["out"])])
    (folder / "labels.json").write_text(json.dumps(["no", "yes"]))
    given: dict[str, Any] = {
        "name": "a/b", "schema": schema_of("no", "yes"), "examples": Examples(TEXTS * 3), "space": models.space(),
    }  # fmt: skip
    found = pack(folder, tmp_path / "out", scores="logits", **given)
    assert found.manifest.settings["output"] == "logits"
    assert "scores" not in found.manifest.settings
    with pytest.raises(UsageError, match="one of logits, probabilities, sigmoids, log-probabilities"):
        pack(folder, tmp_path / "other", scores="odds", **given)
    with pytest.raises(UsageError, match="by a model of the format sklearn"):
        pack(models.write_sklearn(tmp_path / "sk"), tmp_path / "other", scores="logits", **given)


# --- as converters write them --------------------------------------------------------------------------------


def table(keys: str) -> Any:
    kind = TensorProto.STRING if keys == "strings" else TensorProto.INT64
    inner = helper.make_map_type_proto(kind, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    return helper.make_value_info("out", helper.make_sequence_type_proto(inner))


@pytest.mark.parametrize("keys", ["strings", "int64s"])
def test_a_table_per_row(keys: str, tmp_path: Path) -> None:
    """``ZipMap``: the converters' default, a list of dictionaries that carry the names."""
    names: list[Any] = ["yes", "no"] if keys == "strings" else [1, 0]
    tail = [
        node("Softmax", ["z"], ["p"], axis=-1),
        node("ZipMap", ["p"], ["out"], domain="ai.onnx.ml", **{f"classlabels_{keys}": names}),
    ]
    folder = graph(tmp_path / "m", tail, outputs=[table(keys)])
    schema = schema_of(*(str(n) for n in reversed(names)))
    known = settled(folder, schema)
    assert FORMAT.label_names(folder, schema, known) == [str(n) for n in names]
    found = FORMAT.load(folder, schema, known).predict(TEXTS)
    np.testing.assert_allclose(found, softmax(raw(2))[:, ::-1], atol=1e-6)


@pytest.mark.parametrize("done", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_a_linear_classifier_of_scikit_learn(done: str, tmp_path: Path) -> None:
    weight, bias = WEIGHTS[3]
    tail = [
        node("LinearClassifier", ["s"], ["label", "out"], domain="ai.onnx.ml", post_transform=done, multi_class=1,
             coefficients=weight.ravel().tolist(), intercepts=bias.tolist(), classlabels_strings=list(LABELS[3])),
    ]  # fmt: skip
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
        helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, 3]),
    ]
    folder = graph(tmp_path / "m", tail, 3, outputs=outputs)
    schema = schema_of("maybe", "no", "yes")
    if done == "NONE":  # raw scores of a linear model, votes of a forest: the graph does not say
        with pytest.raises(ModelError, match=r"LinearClassifier.*--scores"):
            settled(folder, schema)
    known = settled(folder, schema, **({"scores": "logits"} if done == "NONE" else {}))
    assert FORMAT.label_names(folder, schema, known) == ["no", "yes", "maybe"]
    found = FORMAT.load(folder, schema, known).predict(TEXTS)
    expected = shares(sigmoid(raw(3))) if done == "LOGISTIC" else softmax(raw(3))
    np.testing.assert_allclose(found, expected[:, [2, 0, 1]], atol=1e-6)


def looked_up(names: Sequence[str]) -> tuple[list[Any], list[Any], list[Any]]:
    """A label output as converters of pipelines write it: the largest score's place in a constant of names."""
    tail = [
        node("Softmax", ["z"], ["out"], axis=-1),
        node("ArgMax", ["out"], ["place"], axis=1, keepdims=0),
        node("ArrayFeatureExtractor", ["names", "place"], ["row"], domain="ai.onnx.ml"),
        node("Reshape", ["row", "flat"], ["label"]),
    ]
    constants = [
        helper.make_tensor("names", TensorProto.STRING, [len(names)], [n.encode() for n in names]),
        numpy_helper.from_array(np.array([-1], np.int64), "flat"),
    ]
    outputs = [
        helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, len(names)]),
        helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
    ]
    return tail, constants, outputs


def test_names_that_the_label_output_looks_up(tmp_path: Path) -> None:
    tail, constants, outputs = looked_up(["yes", "no"])
    folder = graph(tmp_path / "m", tail, constants=constants, outputs=outputs)
    schema = schema_of("no", "yes")
    found = FORMAT.load(folder, schema, settled(folder, schema)).predict(TEXTS)
    np.testing.assert_allclose(found, softmax(raw(2))[:, ::-1], atol=1e-6)


def test_names_that_contradict_the_graph(tmp_path: Path) -> None:
    tail, constants, outputs = looked_up(["yes", "no"])
    folder = graph(tmp_path / "m", tail, constants=constants, outputs=outputs)
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "no", "1": "yes"}}))
    with pytest.raises(ModelError, match=r"config\.json names the columns no, yes, the graph yes, no"):
        FORMAT.check(folder, schema_of("no", "yes"))


def test_a_label_output_that_contradicts_the_scores(tmp_path: Path) -> None:
    tail, constants, outputs = looked_up(["no", "yes"])
    tail[1] = node("ArgMin", ["out"], ["place"], axis=1, keepdims=0)
    folder = graph(tmp_path / "m", tail, constants=constants, outputs=outputs)
    with pytest.raises(ModelError, match="label output says no where the largest score is in column 1"):
        settled(folder, schema_of("no", "yes"))


@pytest.mark.parametrize(
    "metadata",
    [
        {"names": "{0: 'yes', 1: 'no'}"},
        {"id2label": '{"0": "yes", "1": "no"}'},
        {"classes": '["yes", "no"]'},
    ],
)
def test_names_in_metadata(metadata: dict[str, str], tmp_path: Path) -> None:
    folder = graph(tmp_path / "m", [node("Identity", ["z"], ["out"])], metadata=metadata)
    schema = schema_of("no", "yes")
    assert FORMAT.label_names(folder, schema, settled(folder, schema)) == ["yes", "no"]


def test_metadata_that_is_something_else(tmp_path: Path) -> None:
    folder = graph(tmp_path / "m", [node("Identity", ["z"], ["out"])], metadata={"names": "a, b", "classes": "2"})
    schema = schema_of("no", "yes")
    assert FORMAT.label_names(folder, schema, settled(folder, schema)) == ["LABEL_0", "LABEL_1"]


# --- what goes in --------------------------------------------------------------------------------------------


def test_positions_are_given_where_the_graph_takes_them(tmp_path: Path) -> None:
    """A graph whose answer is the sum of its positions: 0 to n - 1, or from behind the padding in RoBERTa's family."""
    models.write_tokenizer(tmp_path)
    info = helper.make_tensor_value_info
    nodes = [
        node("Cast", ["position_ids"], ["p"], to=TensorProto.FLOAT),
        node("Cast", ["input_ids"], ["i"], to=TensorProto.FLOAT),
        node("Mul", ["i", "zero"], ["none"]),
        node("Add", ["p", "none"], ["q"]),
        node("ReduceSum", ["q", "one"], ["out"], keepdims=1),
    ]
    constants = [
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    inputs = [info(n, TensorProto.INT64, ["n", "t"]) for n in ("input_ids", "position_ids")]
    made = helper.make_graph(nodes, "g", inputs, [info("out", TensorProto.FLOAT, ["n", 1])], constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    scale = Schema("regression", (), (), "pearson")
    found = FORMAT.load(tmp_path, scale, FORMAT.check(tmp_path, scale)).predict(["good film", "good"])
    assert found.tolist() == [0 + 1 + 2 + 3, 0 + 1 + 2]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta", "pad_token_id": 1}))
    found = FORMAT.load(tmp_path, scale, FORMAT.check(tmp_path, scale)).predict(["good"])
    assert found.tolist() == [2 + 3 + 4]


def test_a_table_of_numbers_needs_to_say_what_they_are(tmp_path: Path) -> None:
    """As converters of gradient boosting write their graphs; on the features of a space it is a head."""
    width = load_helper(models.space()).features(["good"]).shape[1]
    weight = np.random.default_rng(0).normal(size=(width, 2)).astype(np.float32)
    info = helper.make_tensor_value_info
    made = helper.make_graph(
        [node("MatMul", ["features", "weight"], ["out"])], "g", [info("features", TensorProto.FLOAT, [None, width])],
        [info("out", TensorProto.FLOAT, [None, 2])], [numpy_helper.from_array(weight, "weight")],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    schema = schema_of("no", "yes")
    with pytest.raises(ModelError, match=r"reads a table of numbers, and no features\.json says what they are"):
        FORMAT.check(tmp_path, schema)
    (tmp_path / "features.json").write_text(json.dumps({"space": "minilm-l6"}))
    found = answers(tmp_path, schema)
    np.testing.assert_allclose(found, softmax(load_helper(models.space()).features(TEXTS) @ weight), atol=1e-5)


def test_several_outputs_without_a_known_name_are_refused(tmp_path: Path) -> None:
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("aux", "out")]
    tail = [node("Neg", ["z"], ["aux"]), node("Identity", ["z"], ["out"])]
    with pytest.raises(ModelError, match=r"several outputs are tables of numbers \(aux, out\)"):
        FORMAT.check(graph(tmp_path / "m", tail, outputs=outputs), schema_of("no", "yes"))


def test_scores_in_the_order_of_their_size_are_refused(tmp_path: Path) -> None:
    two_best = numpy_helper.from_array(np.array([2], np.int64), "k")
    tail = [node("Softmax", ["z"], ["p"], axis=-1), node("TopK", ["p", "k"], ["out", "places"])]
    with pytest.raises(ModelError, match=r"sorted by score \(TopK\)"):
        FORMAT.check(graph(tmp_path / "m", tail, constants=[two_best]), schema_of("no", "yes"))


def test_the_softmax_of_one_number_is_refused(tmp_path: Path) -> None:
    folder = graph(tmp_path / "m", [node("Softmax", ["z"], ["out"], axis=-1)], 1)
    with pytest.raises(ModelError, match="a single number is always 1"):
        settled(folder, schema_of("no", "yes"))


@pytest.mark.parametrize("operator", ["Add", "Mul"])
def test_multiples_of_sigmoids_are_no_logits(operator: str, tmp_path: Path) -> None:
    two_of = numpy_helper.from_array(np.array([2], np.float32), "two")
    tail = [node("Sigmoid", ["z"], ["p"]), node(operator, ["p", "two"], ["out"])]
    with pytest.raises(ModelError, match=f"the operator {operator}.*--scores"):
        settled(graph(tmp_path / "m", tail, constants=[two_of]), schema_of("no", "yes"))


def test_an_answer_of_a_dynamically_quantised_graph_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    """Its numbers are rounded by the largest of the batch, as of what onnxruntime's ``quantize_dynamic`` makes."""
    tail = [
        node("DynamicQuantizeLinear", ["z"], ["q", "scale", "zero"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["out"]),
    ]
    folder = graph(tmp_path / "m", tail)
    known = {**FORMAT.check(folder, schema_of("no", "yes")), "output": "logits", "columns": [0, 1]}
    model = FORMAT.load(folder, schema_of("no", "yes"), known)
    alone = np.concatenate([model.predict([text]) for text in TEXTS])
    np.testing.assert_array_equal(model.predict(TEXTS), alone)


def test_one_name_beside_a_graph_of_one_output_is_that_of_the_second_class(tmp_path: Path) -> None:
    folder = graph(tmp_path / "m", [node("Sigmoid", ["z"], ["out"])], 1)
    (folder / "labels.json").write_text(json.dumps(["yes"]))
    examples = Examples(TEXTS, np.array([1, 1, 0, 0, 1, 1]), schema_of("no", "yes"), "words")
    with pytest.raises(ModelError, match='--map "LABEL_0=no"'):
        pack(folder, tmp_path / "refused", name="a/b", examples=examples)
    packed = pack(folder, tmp_path / "out", name="a/b", examples=examples, mapping={"LABEL_0": "no"})
    assert packed.columns is not None
    assert packed.columns.order == (0, 1)


def test_graphs_that_were_exported_as_they_are_trained_are_refused(tmp_path: Path) -> None:
    """Batch normalisation by the batch itself, and dropout: the answer to an input would depend on its neighbours."""
    values = {"gain": [1, 1], "shift": [0, 0], "mean": [0, 0], "spread": [1, 1], "rate": 0.5}
    constants = [numpy_helper.from_array(np.array(v, np.float32), name) for name, v in values.items()]
    constants.append(numpy_helper.from_array(np.array(True), "training"))
    normalised = node(
        "BatchNormalization", ["z", "gain", "shift", "mean", "spread"], ["out", "m", "v"], training_mode=1
    )
    for i, tail in enumerate((normalised, node("Dropout", ["z", "rate", "training"], ["out"]))):
        folder = graph(tmp_path / str(i), [tail], constants=constants)
        with pytest.raises(ModelError, match="export it in evaluation mode"):
            settled(folder, schema_of("no", "yes"), scores="logits")
