"""ONNX learnwares: what is recognised, what comes out, and with which words a bad one is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from learndock.data.schema import Schema
from learndock.errors import ModelError, PackageError, UnsafeModel
from learndock.package.formats import Format, Model
from learndock.package.formats._tokenizer_settings import compare_with_library
from learndock.package.formats._tokens import TextTokens
from learndock.package.formats.onnx import OnnxFormat
from learndock.package.formats.registry import Settles, detect, formats, get_format
from tests.support import models

FORMAT = OnnxFormat()


def load(
    folder: Path, schema: Schema = models.SENTIMENT, inputs: tuple[str, ...] = (), **change: Any
) -> tuple[Model, dict[str, Any]]:
    found = FORMAT.settle(folder, schema, FORMAT.check(folder, schema), inputs or tuple(models.texts(8)[0]))
    return FORMAT.load(folder, schema, {**found, **change}), found


# --- the registry ------------------------------------------------------------------------------------------


def test_formats_come_through_their_entry_points() -> None:
    found = formats()
    assert list(found)[:8] == ["causal-peft", "peft", "gguf", "causal", "timm", "transformers", "onnx", "sklearn"]
    assert all(isinstance(f, Format) and f.name == name for name, f in found.items())
    assert get_format("onnx") is found["onnx"]
    with pytest.raises(PackageError, match="installed: causal-peft, peft"):
        get_format("nothing")


def test_a_folder_that_no_format_knows(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(PackageError) as caught:
        detect(tmp_path)
    for wanted in ("adapter_config.json", "config.json", "model.onnx", "model.skops"):
        assert wanted in str(caught.value)


def test_each_folder_is_its_own_format(tmp_path: Path) -> None:
    assert detect(models.write_onnx(tmp_path / "o")).name == "onnx"
    assert detect(models.write_sklearn(tmp_path / "s")).name == "sklearn"


# --- predictions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", ["logits", "softmax", "divided"])
def test_logits_and_probabilities_say_the_same(tail: str, tmp_path: Path) -> None:
    inputs, targets = models.texts(70)
    model, settings = load(models.write_onnx(tmp_path / tail, tail=tail))
    assert settings["output"] == ("logits" if tail == "logits" else "probabilities")
    found = model.predict(inputs)
    reference, _ = load(models.write_onnx(tmp_path / "reference"))
    np.testing.assert_allclose(found, reference.predict(inputs), atol=1e-6)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert (found.argmax(axis=1) == targets).all()


def test_a_softmax_is_seen_without_running_the_graph(tmp_path: Path) -> None:
    folder = models.write_onnx(tmp_path / "m", tail="softmax")
    assert FORMAT.check(folder, models.SENTIMENT) == {"output": "probabilities", "output_name": "logits"}
    assert isinstance(FORMAT, Settles)


def test_columns_are_put_in_the_order_of_the_schema(tmp_path: Path) -> None:
    inputs, targets = models.texts(10)
    model, _ = load(models.write_onnx(tmp_path / "m", labels=("positive", "negative")))
    assert (model.predict(inputs).argmax(axis=1) == targets).all()
    other = Schema("classification", ("Positive", "NEGATIVE"), ("g", "b"), "accuracy")
    model, _ = load(tmp_path / "m", other)
    assert (model.predict(inputs).argmax(axis=1) == 1 - targets).all()


def test_rows_keep_their_order_and_padding_changes_nothing(tmp_path: Path) -> None:
    model, _ = load(models.write_onnx(tmp_path / "m"))
    inputs = [*models.texts(80)[0], "good " * 300, "bad"]
    whole = model.predict(inputs)
    single = np.concatenate([model.predict([text]) for text in inputs])
    np.testing.assert_allclose(whole, single, atol=1e-6)


def test_pairs_empty_texts_and_no_inputs(tmp_path: Path) -> None:
    model, _ = load(models.write_onnx(tmp_path / "m"))
    found = model.predict([("the film", "was good"), "", ("bad", "bad")])
    assert found.shape == (3, 2)
    assert found[0, 1] > 0.5 > found[2, 1]
    assert model.predict([]).shape == (0, 2)
    with pytest.raises(ModelError, match="input 2: this model reads texts"):
        model.predict(["good", 7])


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    model, _ = load(models.write_onnx(tmp_path / "m"))
    seen: list[tuple[int, int]] = []
    model.predict(models.texts(70)[0], progress=lambda done, total: seen.append((done, total)))
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)
    assert seen[-1] == (70, 70)


def test_regression(tmp_path: Path) -> None:
    inputs, targets = models.texts(20)
    model, settings = load(models.write_onnx(tmp_path / "m", tail="value"), models.SCALE)
    assert settings["output"] == "value"
    found = model.predict(inputs)
    assert found.shape == (20,)
    assert np.corrcoef(found, targets)[0, 1] > 0.8


def test_a_graph_that_reads_text(tmp_path: Path) -> None:
    """As converters of scikit-learn pipelines write it: one text column."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("LabelEncoder", ["text"], ["score"], domain="ai.onnx.ml",
                         keys_strings=["good", "bad"], values_floats=[5.0, -5.0], default_float=0.0),
        helper.make_node("Neg", ["score"], ["other"]),
        helper.make_node("Concat", ["other", "score"], ["raw"], axis=1),
        helper.make_node("Softmax", ["raw"], ["probabilities"], axis=1),
    ]  # fmt: skip
    text = helper.make_tensor_value_info("text", TensorProto.STRING, [None, 1])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph(nodes, "t", [text], [out])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    (tmp_path / "model.onnx").write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    )
    with pytest.raises(ModelError, match=r"do not name its columns.*in-order"):
        load(tmp_path)
    model, _ = load(tmp_path, columns=[0, 1])
    assert model.predict(["bad", "good"] * 30).argmax(axis=1).tolist() == [0, 1] * 30


# --- what is refused ---------------------------------------------------------------------------------------


def test_outputs_that_are_not_numbers(tmp_path: Path) -> None:
    folder = models.write_onnx(tmp_path / "m", tail="nan")
    model, _ = load(folder)
    with pytest.raises(ModelError, match="input 1: the model's output is not a finite number"):
        model.predict(["good"])


def test_settings_that_lie_are_found_out(tmp_path: Path) -> None:
    folder = models.write_onnx(tmp_path / "m")
    model = FORMAT.load(folder, models.SENTIMENT, {"output": "probabilities", "output_name": "logits"})
    with pytest.raises(ModelError, match="sum to"):
        model.predict(["good"])
    with pytest.raises(ModelError, match="no output nothing"):
        FORMAT.load(folder, models.SENTIMENT, {"output": "logits", "output_name": "nothing"})
    with pytest.raises(ModelError, match="pack it again"):
        FORMAT.load(folder, models.SENTIMENT, {"output": "magic"})


def test_a_schema_with_other_labels(tmp_path: Path) -> None:
    three = Schema("classification", ("a", "b", "c"), ("a", "b", "c"), "accuracy")
    folder = models.write_onnx(tmp_path / "m")
    with pytest.raises(ModelError, match="2 outputs but the schema has 3 labels"):
        FORMAT.check(folder, three)
    (folder / "config.json").unlink()
    model, _ = load(folder, three, columns=[0, 1, 2])
    with pytest.raises(ModelError, match="2 outputs but the schema has 3 labels"):
        model.predict(["good"])


def test_missing_tokenizer_and_damaged_files(tmp_path: Path) -> None:
    folder = models.write_onnx(tmp_path / "m")
    source = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(source[: len(source) // 2])
    with pytest.raises(ModelError, match=r"model\.onnx: not a sound ONNX file"):
        FORMAT.check(folder, models.SENTIMENT)
    (folder / "model.onnx").write_bytes(source)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json: not a tokenizer"):
        load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json: missing"):
        FORMAT.check(folder, models.SENTIMENT)


def test_an_operator_that_does_not_exist(tmp_path: Path) -> None:
    folder = models.write_onnx(tmp_path / "m", operator="NoSuchOperator")
    settings = FORMAT.check(folder, models.SENTIMENT)
    with pytest.raises(ModelError, match="onnxruntime cannot load it"):
        FORMAT.load(folder, models.SENTIMENT, settings)


def test_weights_outside_of_the_folder_are_never_read(tmp_path: Path) -> None:
    folder = models.write_onnx(tmp_path / "m", external="../secret.data")
    (folder / "secret.data").rename(tmp_path / "secret.data")
    with pytest.raises(UnsafeModel, match=r"\.\./secret\.data"):
        FORMAT.load(folder, models.SENTIMENT, {"output": "logits", "output_name": "logits"})


def test_tuning_is_refused_with_another_way(tmp_path: Path) -> None:
    folder = models.write_onnx(tmp_path / "m")
    with pytest.raises(ModelError, match=r"no gradients.*transformers, peft or sklearn"):
        FORMAT.finetune(folder, models.SENTIMENT, {}, models.sentiment(4), models.SENTIMENT, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_it_runs_without_torch_and_scikit_learn(tmp_path: Path) -> None:
    folder = models.write_onnx(tmp_path / "m")
    program = """
import json, sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "peft", "sklearn", "skops", "onnx", "pyarrow"}:
            raise ImportError("not in the core install: " + name)
sys.meta_path.insert(0, Wall())
from pathlib import Path
from learndock.data.schema import Schema
from learndock.package.formats.registry import detect
from learndock.package.safety import check_files
folder = Path(sys.argv[1])
schema = Schema("classification", ("negative", "positive"), ("bad", "good"), "accuracy")
check_files(folder)
found = detect(folder)
print(json.dumps(found.load(folder, schema, found.check(folder, schema)).predict(["good", "bad"]).tolist()))
"""
    answer = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True)
    assert np.array(json.loads(answer.stdout)).argmax(axis=1).tolist() == [1, 0]


def test_token_types_count_only_where_the_graph_takes_them(tmp_path: Path) -> None:
    """Without a model type transformers opens a BERT tokenizer as one that gives no token types."""
    folder = models.write_onnx(tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["model_input_names"]
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "BertTokenizerFast"}))
    (folder / "config.json").unlink()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    inputs = ["a good film", "an awful day", "great food", "bad news"]
    settings = OnnxFormat().check(folder, models.SENTIMENT)
    assert OnnxFormat().settle(folder, models.SENTIMENT, {**settings, "columns": [0, 1]}, inputs)["output"] == "logits"
    tokens = TextTokens(folder, positions=None)
    with pytest.raises(ModelError, match="gives the model no token types of a pair"):
        compare_with_library(folder, tokens, inputs)
    compare_with_library(folder, tokens, inputs, takes_types=False)
