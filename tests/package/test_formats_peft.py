"""PEFT learnwares: the base by name and hash, broken adapters, tuning."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import ModelError, UnsafeModel
from learndock.files import sha256_file
from learndock.package.formats import peft as module
from learndock.package.formats._quiet import quiet
from learndock.package.formats.peft import PeftFormat
from learndock.package.formats.registry import OnBase, detect
from learndock.package.safety import check_files
from tests.support import models

FORMAT = PeftFormat()
THREE = Schema("classification", ("low", "middle", "high"), ("l", "m", "h"), "accuracy")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("peft")
    models.write_bert(place / "bases" / "lab" / "bert", seed=3)
    models.write_adapter(place / "adapter", place / "bases" / "lab" / "bert")
    return place


@pytest.fixture
def bases(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(made / "bases", tmp_path / "bases"))
    monkeypatch.setenv("LEARNDOCK_BASES", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def folder(made: Path, bases: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "adapter", tmp_path / "adapter"))


def bound(folder: Path, name: str | None = "lab/bert") -> dict[str, Any]:
    assert isinstance(FORMAT, OnBase)
    return {**FORMAT.check(folder, models.SENTIMENT), "base": FORMAT.bind(folder, name).model_dump()}


def change(folder: Path, edit: Any) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def configure(folder: Path, **settings: Any) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    config.update(settings)
    (folder / "adapter_config.json").write_text(json.dumps(config))


def test_the_same_answers_as_the_library(folder: Path, bases: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = bases / "lab" / "bert"
    network = PeftModel.from_pretrained(
        AutoModelForSequenceClassification.from_pretrained(base, num_labels=2), folder
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    inputs = models.texts(20)[0]
    assert detect(folder).name == "peft"
    found = FORMAT.load(folder, models.SENTIMENT, bound(folder)).predict(inputs)
    with torch.inference_mode():
        for row, text in zip(found, inputs, strict=True):
            logits = network(**tokenizer(text, return_tensors="pt")).logits
            np.testing.assert_allclose(row, torch.softmax(logits.double(), -1)[0].numpy(), atol=1e-5)


def test_the_base_is_bound_by_name_and_hash(folder: Path, bases: Path) -> None:
    found = FORMAT.bind(folder, "lab/bert")
    assert found.name == "lab/bert"
    assert found.sha256 == sha256_file(bases / "lab" / "bert" / "model.safetensors")
    config = (folder / "adapter_config.json").read_text()
    assert json.loads(config)["base_model_name_or_path"] == "lab/bert"
    assert "/tmp" not in config


def test_a_path_of_this_machine_becomes_a_name(folder: Path, bases: Path) -> None:
    assert FORMAT.bind(folder, None).name == "bert"  # what the library wrote is where the base was
    assert "/" not in json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]


def test_the_wrong_base_is_never_loaded(folder: Path, bases: Path) -> None:
    settings = bound(folder)
    models.write_bert(bases / "lab" / "bert", seed=8)
    other = sha256_file(bases / "lab" / "bert" / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        FORMAT.load(folder, models.SENTIMENT, settings)
    for words in (settings["base"]["sha256"], other, "LEARNDOCK_BASES"):
        assert words in str(caught.value)


def test_a_base_that_is_nowhere(folder: Path, bases: Path) -> None:
    settings = bound(folder)
    shutil.rmtree(bases)
    with pytest.raises(ModelError, match=r"lab/bert is not on this machine.*LEARNDOCK_BASES=BASES"):
        FORMAT.load(folder, models.SENTIMENT, settings)
    with pytest.raises(ModelError, match="does not name the adapter's base"):
        FORMAT.load(folder, models.SENTIMENT, {})


def test_a_base_with_code(folder: Path, bases: Path) -> None:
    settings = bound(folder)
    path = bases / "lab" / "bert" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(UnsafeModel, match="auto_map"):
        FORMAT.load(folder, models.SENTIMENT, settings)


def test_it_is_checked_without_its_base(folder: Path, bases: Path) -> None:
    shutil.rmtree(bases)
    assert FORMAT.check(folder, models.SENTIMENT) == {}


# --- broken adapters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value: float, folder: Path) -> None:
    def edit(tensors: dict[str, Any]) -> None:
        next(v for k, v in tensors.items() if "lora_A" in k)[0, 0] = value

    change(folder, edit)
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors: .*lora_A.*not finite"):
        FORMAT.check(folder, models.SENTIMENT)


def test_an_adapter_that_changes_nothing(folder: Path) -> None:
    change(folder, lambda t: [v.fill(0) for k, v in t.items() if "lora_B" in k or "classifier" in k])
    with pytest.raises(ModelError, match="changes nothing"):
        FORMAT.check(folder, models.SENTIMENT)


def test_an_output_layer_alone_is_an_adapter(folder: Path) -> None:
    change(folder, lambda t: [v.fill(0) for k, v in t.items() if "lora_B" in k])
    FORMAT.check(folder, models.SENTIMENT)


def test_no_output_layer(folder: Path) -> None:
    change(folder, lambda t: [t.pop(k) for k in list(t) if "classifier" in k])
    with pytest.raises(ModelError, match=r"no trained output layer.*modules_to_save"):
        FORMAT.check(folder, models.SENTIMENT)


def test_another_rank(folder: Path) -> None:
    configure(folder, r=8)
    with pytest.raises(ModelError, match=r"has rank 4, adapter_config\.json says 8"):
        FORMAT.check(folder, models.SENTIMENT)


def test_half_of_a_layer(folder: Path) -> None:
    change(folder, lambda t: t.pop(next(k for k in t if "lora_B" in k)))
    with pytest.raises(ModelError, match="lacks lora_A or lora_B"):
        FORMAT.check(folder, models.SENTIMENT)


def test_another_number_of_labels(folder: Path) -> None:
    with pytest.raises(ModelError, match="2 outputs but the schema has 3 labels"):
        FORMAT.check(folder, THREE)


def test_layers_that_the_base_does_not_have(folder: Path) -> None:
    settings = bound(folder)
    configure(folder, target_modules=["key"])
    with pytest.raises(ModelError, match="does not fit its base bert"):
        FORMAT.load(folder, models.SENTIMENT, settings)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"peft_type": "IA3"}, ModelError, "only LORA"),
        ({"task_type": "TOKEN_CLS"}, ModelError, "SEQ_CLS and CAUSAL_LM are supported"),
        ({"auto_mapping": {"parent_library": "os"}}, UnsafeModel, "auto_mapping"),
        (
            {"auto_mapping": {"base_model_class": "A", "parent_library": "transformers.models.x.y.z"}},
            UnsafeModel,
            "auto",
        ),
        ({"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, UnsafeModel, "megatron_config"),
        ({"layer_replication": [[0, 1]]}, ModelError, "layer_replication"),
        ({"a_new_option": "x"}, ModelError, "a_new_option"),
        ({"r": "4"}, ModelError, "expected a rank"),
    ],
)
def test_settings_that_are_refused(settings: Any, error: Any, words: str, folder: Path) -> None:
    configure(folder, **settings)
    with pytest.raises(error, match=words) as caught:
        FORMAT.check(folder, models.SENTIMENT)
    assert "adapter_config.json" in str(caught.value)


def test_a_pickled_adapter(folder: Path, tmp_path: Path) -> None:
    settings = bound(folder)
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(models.payload(tmp_path / "canary"))
    with pytest.raises(ModelError, match="safe_serialization=True"):
        FORMAT.load(folder, models.SENTIMENT, settings)
    with pytest.raises(UnsafeModel, match=r"adapter_model\.bin: a pickle"):
        check_files(folder)
    (folder / "adapter_model.bin").rename(folder / "adapter_model.safetensors")
    with pytest.raises(UnsafeModel, match="not safetensors but a pickle"):
        FORMAT.load(folder, models.SENTIMENT, settings)
    assert not (tmp_path / "canary").exists()


# --- tuning ------------------------------------------------------------------------------------------------


@pytest.fixture
def large_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model of width 32 has more to learn than a pre-trained one."""
    monkeypatch.setattr(module, "PLAN", dataclasses.replace(module.PLAN, rate=1e-2, fresh=1e-2, head=1e-2))


@pytest.mark.usefixtures("large_steps")
def test_tuning_with_the_same_and_with_other_labels(folder: Path, tmp_path: Path) -> None:
    settings = bound(folder)
    inputs, targets = models.texts(64)
    FORMAT.finetune(folder, models.SENTIMENT, settings, models.sentiment(64), models.SENTIMENT, tmp_path / "a")
    check_files(tmp_path / "a")
    found = FORMAT.load(tmp_path / "a", models.SENTIMENT, settings).predict(inputs)
    assert (found.argmax(axis=1) == targets).mean() > 0.8
    three = Examples([f"the {w} day" for w in ("bad", "film", "good")] * 10, np.arange(30) % 3)
    FORMAT.finetune(folder, models.SENTIMENT, settings, three, THREE, tmp_path / "b")
    found = FORMAT.load(tmp_path / "b", THREE, settings).predict(three.inputs)
    assert (found.argmax(axis=1) == three.targets).mean() > 0.8
    FORMAT.finetune(folder, models.SENTIMENT, settings, Examples(inputs, targets * 4.0), models.SCALE, tmp_path / "c")
    assert FORMAT.load(tmp_path / "c", models.SCALE, settings).predict(inputs).shape == (64,)


def test_a_tuned_adapter_names_its_base_and_no_path(folder: Path, tmp_path: Path) -> None:
    settings = bound(folder)
    FORMAT.finetune(folder, models.SENTIMENT, settings, models.sentiment(8), models.SENTIMENT, tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "labels.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert str(tmp_path) not in (tmp_path / "a" / "adapter_config.json").read_text()
    assert FORMAT.bind(tmp_path / "a", None).model_dump() == settings["base"]


# --- adapters as trainers save them --------------------------------------------------------------------------


def answers_of_peft(base: Path, adapter: Path, inputs: Any) -> np.ndarray:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    network = PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base), adapter).eval()
    with torch.inference_mode():
        logits = torch.cat([network(**tokenizer(text, return_tensors="pt")).logits for text in inputs])
    return torch.softmax(logits.double(), -1).numpy()


def say(folder: Path, **said: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))


NUMBERS = "|".join(str(n) for n in range(100))
ADAPTERS: dict[str, dict[str, Any]] = {
    "query and value": {},
    "embeddings": {"target_modules": ["word_embeddings", "query"]},
    "embeddings alone": {"target_modules": ["word_embeddings"]},
    "all biases": {"bias": "all"},
    "biases of the adapted": {"bias": "lora_only"},
    "all linear": {"target_modules": "all-linear"},
    "a pattern": {"target_modules": r".*layer\.[01]\.attention\.self\.(query|key)"},
    "a long pattern": {"target_modules": rf"bert\.encoder\.layer\.(?:{NUMBERS})\.attention\.self\.(?:query|value)"},
    "some layers": {"target_modules": ["query"], "layers_to_transform": [1], "layers_pattern": "layer"},
    "without some": {"target_modules": ["query", "value"], "exclude_modules": ["value"]},
    "rank by layer": {"rank_pattern": {"query": 2}, "alpha_pattern": {"query": 3}},
    "rank-stabilised": {"use_rslora": True},
    "magnitudes": {"use_dora": True},
    "more layers saved": {"modules_to_save": ["pooler"]},
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_as_peft_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNDOCK_BASES", str(tmp_path / "bases"))
    base = models.write_bert(tmp_path / "bases" / "bert")
    adapter = models.write_adapter(tmp_path / "adapter", base, **ADAPTERS[name])
    tensors = load_file(adapter / "adapter_model.safetensors")
    random = np.random.default_rng(0)
    for key, value in tensors.items():
        if "lora_embedding_A" in key:  # which begins with zeros, as B elsewhere
            tensors[key] = random.normal(size=value.shape).astype(np.float32)
    save_file(tensors, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    inputs = models.texts(8)[0]
    expected = answers_of_peft(base, adapter, inputs)
    settings = {**FORMAT.check(adapter, models.SENTIMENT), "base": FORMAT.bind(adapter, str(base)).model_dump()}
    settings = FORMAT.settle(adapter, models.SENTIMENT, settings, inputs)
    np.testing.assert_allclose(FORMAT.load(adapter, models.SENTIMENT, settings).predict(inputs), expected, atol=1e-5)


def test_marks_of_a_trainer(folder: Path) -> None:
    library = "transformers.models.bert.modeling_bert"
    named = {"base_model_class": "BertForSequenceClassification", "parent_library": library}
    say(folder, auto_mapping={**named, "unsloth_fixed": True})
    FORMAT.check(folder, models.SENTIMENT)
    for wrong in ({"parent_library": "os"}, {"more": "os.path"}, {"more": ["x"]}, {"base_model_class": "a.b"}):
        say(folder, auto_mapping={**named, **wrong})
        with pytest.raises(UnsafeModel, match="auto_mapping"):
            FORMAT.check(folder, models.SENTIMENT)


@pytest.mark.parametrize("way", ["pissa", "pissa_niter_4", "olora", "loftq", "corda"])
def test_an_adapter_of_a_base_that_was_changed(way: str, folder: Path) -> None:
    say(folder, init_lora_weights=way)
    with pytest.raises(ModelError, match=r"a base that was changed.*path_initial_model_for_weight_conversion"):
        FORMAT.check(folder, models.SENTIMENT)


def test_an_adapter_on_layers_stored_the_other_way_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2's ``Conv1D`` keeps its weights as (in, out)."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    monkeypatch.setenv("LEARNDOCK_BASES", str(tmp_path / "bases"))
    base = tmp_path / "bases" / "gpt2"
    words = models.write_tokenizer(base)
    config = GPT2Config(
        vocab_size=words, n_embd=16, n_layer=1, n_head=2, pad_token_id=0, id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1}, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    with quiet():
        GPT2ForSequenceClassification(config).save_pretrained(base)
    adapter = models.write_adapter(tmp_path / "a", base, target_modules=["c_attn"])
    inputs = models.texts(6)[0]
    expected = answers_of_peft(base, adapter, inputs)
    settings = {"base": FORMAT.bind(adapter, str(base)).model_dump()}
    found = FORMAT.load(adapter, models.SENTIMENT, settings).predict(inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5)
