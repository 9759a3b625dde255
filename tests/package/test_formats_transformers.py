"""transformers learnwares: the same answers as the library, tuning, and refusals."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import MissingExtra, ModelError, UnsafeModel
from learndock.package.formats import _tuning as tuning
from learndock.package.formats import transformers as module
from learndock.package.formats.registry import detect
from learndock.package.formats.transformers import TransformersFormat
from learndock.package.safety import check_files
from tests.support import models

FORMAT = TransformersFormat()
THREE = Schema("classification", ("low", "middle", "high"), ("l", "m", "h"), "accuracy")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_bert(tmp_path_factory.mktemp("bert") / "bert")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bert"))


def load(folder: Path, schema: Schema = models.SENTIMENT) -> Any:
    assert detect(folder).name == "transformers"
    return FORMAT.load(folder, schema, FORMAT.check(folder, schema))


def settings(folder: Path, **change: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(change)
    (folder / "config.json").write_text(json.dumps(config))


def test_the_same_answers_as_the_library(folder: Path) -> None:
    """Tokenizer and model through AutoTokenizer and AutoModel, one text at a time, are the oracle."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    inputs = [*models.texts(40)[0], ("the film", "was good"), "good " * 100, ""]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    expected = []
    for value in inputs:
        pair = value if isinstance(value, tuple) else (value,)
        tokens = tokenizer(*pair, truncation=True, max_length=32, return_tensors="pt")
        with torch.inference_mode():
            expected.append(torch.softmax(network(**tokens).logits.double(), -1)[0].numpy())
    found = load(folder).predict(inputs)
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


def test_columns_by_name_or_as_the_manifest_says(folder: Path) -> None:
    inputs = models.texts(6)[0]
    found = load(folder).predict(inputs)
    turned = Schema("classification", ("Positive", "Negative"), ("g", "b"), "accuracy")
    np.testing.assert_allclose(load(folder, turned).predict(inputs), found[:, ::-1], atol=1e-12)
    other = Schema("classification", ("yes", "no"), ("y", "n"), "accuracy")
    with pytest.raises(
        ModelError, match=r"no column name of the model is a label.*columns: negative, positive.*yes, no"
    ):
        load(folder, other)
    ordered = FORMAT.load(folder, other, {"columns": [1, 0]})
    np.testing.assert_allclose(ordered.predict(inputs), found[:, ::-1], atol=1e-12)
    with pytest.raises(ModelError, match="not the model's 2"):
        FORMAT.load(folder, other, {"columns": [0, 0]})


def test_a_count_that_does_not_match(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json: the model has 2 outputs but the schema has 3 labels"):
        FORMAT.check(folder, THREE)
    with pytest.raises(ModelError, match="regression needs 1"):
        FORMAT.check(folder, models.SCALE)


def test_a_regressor(tmp_path: Path) -> None:
    found = load(models.write_bert(tmp_path, ["value"]), models.SCALE).predict(models.texts(5)[0])
    assert found.shape == (5,)


# --- refusals ----------------------------------------------------------------------------------------------


def test_code_in_the_configuration(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    settings(folder, auto_map={"AutoModelForSequenceClassification": "modeling_mine.Model"}, model_type="mine")
    (folder / "modeling_mine.py").write_text(f"import os; os.mkdir({str(canary)!r})")
    with pytest.raises(UnsafeModel, match=r"config\.json: auto_map"):
        FORMAT.load(folder, models.SENTIMENT, {})
    with pytest.raises(UnsafeModel):
        check_files(folder)
    assert not canary.exists()


def test_a_pickle_in_place_of_weights(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(models.payload(canary))
    assert detect(folder).name == "transformers"
    with pytest.raises(ModelError, match=r"save_pretrained\(\.\.\., safe_serialization=True\)"):
        FORMAT.load(folder, models.SENTIMENT, {})
    (folder / "model.safetensors").write_bytes(models.payload(canary))
    with pytest.raises(UnsafeModel, match=r"model\.safetensors: not safetensors but a pickle"):
        FORMAT.load(folder, models.SENTIMENT, {})
    assert not canary.exists()


def test_truncated_flipped_and_foreign_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    source = path.read_bytes()
    flipped = bytearray(source)
    flipped[3] ^= 0x10
    for broken in (source[:-1], source[:1_000], bytes(flipped), b"GGUF" + source):
        path.write_bytes(broken)
        with pytest.raises(ModelError, match=r"model\.safetensors: not a sound safetensors file.*again"):
            FORMAT.check(folder, models.SENTIMENT)


def test_weights_of_another_model(folder: Path) -> None:
    save_file({"w": np.ones(3, dtype=np.float32)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"weights are missing .* save the tuned classifier"):
        load(folder)


def test_weights_of_another_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.weight"] = np.ones((5, 32), dtype=np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError):
        load(folder)


def test_weights_that_are_not_numbers(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"] = np.array([np.nan, 0], dtype=np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="input 1: the model's output is not a finite number"):
        load(folder).predict(["good"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "never-heard-of"}, "not a sequence classifier of transformers"),
        ({"model_type": None}, "model_type"),
        ({"problem_type": "multi_label_classification"}, "multi_label"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"transformers_weights": "other.bin"}, "transformers_weights"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label"),
        ({"hidden_size": 48}, "cannot load it|weights are missing"),
        ({"num_attention_heads": "many"}, "cannot load it"),
    ],
)
def test_configurations_that_do_not_fit(change: dict[str, Any], words: str, folder: Path) -> None:
    settings(folder, **change)
    with pytest.raises(ModelError, match=words):
        FORMAT.load(folder, models.SENTIMENT, {})


def test_a_tokenizer_of_another_model(folder: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"word{i}" for i in range(500)])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelError, match="do not belong together"):
        load(folder)


def test_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert FORMAT.check(folder, models.SENTIMENT) == {}
    with pytest.raises(MissingExtra, match=r"learndock\[torch\]"):
        FORMAT.load(folder, models.SENTIMENT, {})


# --- tuning ------------------------------------------------------------------------------------------------


@pytest.fixture
def large_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model of width 32 has more to learn than a pre-trained one."""
    monkeypatch.setattr(module, "PLAN", dataclasses.replace(module.PLAN, rate=2e-3, fresh=2e-3))


def _tuned(folder: Path, examples: Examples, target: Schema, out: Path, seed: int = 0) -> Any:
    FORMAT.finetune(folder, models.SENTIMENT, {}, examples, target, out, seed=seed)
    check_files(out)
    return load(out, target)


@pytest.mark.usefixtures("large_steps")
def test_tuning_learns_and_is_the_same_for_a_seed(folder: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    few = models.sentiment(64)
    model = _tuned(folder, few, models.SENTIMENT, tmp_path / "a")
    inputs, targets = models.texts(60, seed=9)
    assert (model.predict(inputs).argmax(axis=1) == targets).mean() > 0.8
    again = _tuned(folder, few, models.SENTIMENT, tmp_path / "b")
    np.testing.assert_array_equal(model.predict(inputs), again.predict(inputs))
    other = _tuned(folder, few, models.SENTIMENT, tmp_path / "c", seed=1)
    assert np.abs(other.predict(inputs) - model.predict(inputs)).max() > 1e-4
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.usefixtures("large_steps")
def test_tuning_to_new_labels(folder: Path, tmp_path: Path) -> None:
    inputs = [f"the {w} day" for w in ("bad", "film", "good")] * 10
    model = _tuned(folder, Examples(inputs, np.arange(30) % 3), THREE, tmp_path / "out")
    assert (model.predict(inputs).argmax(axis=1) == np.arange(30) % 3).mean() > 0.9
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "low", "1": "middle", "2": "high"}
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()


def test_the_same_labels_in_another_order_keep_their_columns(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAN", tuning.Plan(rate=0.0, fresh=0.0, head=0.0, epochs=1))
    turned = Schema("classification", ("positive", "negative"), ("g", "b"), "accuracy")
    inputs = models.texts(6)[0]
    model = _tuned(folder, Examples(inputs, np.arange(6) % 2), turned, tmp_path / "out")
    np.testing.assert_allclose(model.predict(inputs), load(folder).predict(inputs)[:, ::-1], atol=1e-6)


def test_other_labels_of_the_same_number_start_anew(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAN", tuning.Plan(rate=0.0, fresh=0.0, head=0.0, epochs=1))
    other = Schema("classification", ("yes", "no"), ("y", "n"), "accuracy")
    _tuned(folder, Examples(["a", "b"], np.array([0, 1])), other, tmp_path / "out")
    old, new = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "out"))
    changed = {name for name in old if not np.array_equal(old[name], new[name])}
    assert "classifier.weight" in changed
    assert changed <= {"classifier.weight", "classifier.bias"}


@pytest.mark.usefixtures("large_steps")
def test_tuning_to_numbers_of_any_size(folder: Path, tmp_path: Path) -> None:
    inputs, targets = models.texts(64)
    model = _tuned(folder, Examples(inputs, 1_000.0 + 50.0 * targets), models.SCALE, tmp_path / "out")
    found = model.predict(inputs)
    assert 990 < found.mean() < 1_060
    assert np.corrcoef(found, targets)[0, 1] > 0.7


def test_a_regressor_keeps_its_layer_on_the_same_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLAN", tuning.Plan(rate=0.0, fresh=0.0, head=0.0, epochs=1))
    models.write_bert(tmp_path / "m", ["value"])
    inputs = models.texts(6)[0]
    examples = Examples(inputs, np.linspace(-3, 9, 6))
    FORMAT.finetune(tmp_path / "m", models.SCALE, {}, examples, models.SCALE, tmp_path / "same")
    before = load(tmp_path / "m", models.SCALE).predict(inputs)
    np.testing.assert_allclose(load(tmp_path / "same", models.SCALE).predict(inputs), before, atol=1e-4)
    unknown = Schema("regression", (), (), "pearson")
    FORMAT.finetune(tmp_path / "m", models.SCALE, {}, examples, unknown, tmp_path / "other")
    bias = load_file(tmp_path / "other" / "model.safetensors")["classifier.bias"]
    np.testing.assert_allclose(bias, 3.0, atol=1e-5)  # a new layer starts at the mean


def test_progress_of_tuning_reaches_the_total(folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    FORMAT.finetune(
        folder, models.SENTIMENT, {}, models.sentiment(8), models.SENTIMENT, tmp_path / "out",
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen[-1][0] == seen[-1][1] > 0


def test_targets_that_are_not_numbers(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a finite number"):
        _tuned(folder, Examples(["a", "b"], np.array([1.0, np.nan])), models.SCALE, tmp_path / "out")
    assert not (tmp_path / "out").exists()
