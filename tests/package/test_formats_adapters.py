"""Adapters of language models answer as PEFT has them; those whose start changed the base are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from learndock.data import Schema
from learndock.data.prompts import Prompt
from learndock.errors import ModelError
from learndock.package.formats.causal_peft import CausalPeftFormat
from tests.support.causal import write_causal, write_causal_adapter, write_family

CHOICE = Schema("classification", ("sun", "goal"), ("sun", "goal"), "accuracy")
_OLD: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "initializer_range": 0.3}
ASKED = [Prompt.of(t) for t in ("rain", "the doctor and the nurse", "goal goal")]


@pytest.fixture
def bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEARNDOCK_BASES", str(tmp_path / "bases"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "bases"


def expected(base: Path, folder: Path, model: Any) -> Any:
    """Probabilities of the labels by PEFT itself."""
    network = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), folder).eval()
    rows = []
    for prompt in ASKED:
        start = model.format.prompt(prompt)
        scores = []
        for label in CHOICE.labels:
            ids = model.format.completion(label)
            with torch.inference_mode():
                known = network(torch.tensor([start + ids])).logits[0].double().log_softmax(-1)
            scores.append(sum(float(known[len(start) - 1 + i, t]) for i, t in enumerate(ids)))
        rows.append(np.exp(np.array(scores) - np.logaddexp.reduce(scores)))
    return np.array(rows)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
        ("gpt2", {"target_modules": ["c_attn", "c_proj"]}),
        ("openai-gpt", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
        ("llama", {"use_dora": True}),
        ("llama", {"use_rslora": True}),
        ("llama", {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 7}}),
        ("llama", {"init_lora_weights": "gaussian"}),
        ("llama", {"target_modules": "all-linear"}),
        ("llama", {"target_modules": ["q_proj", "embed_tokens"]}),
    ],
)
def test_an_adapter_answers_as_peft_has_it(family: str, settings: dict[str, Any], bases: Path, tmp_path: Path) -> None:
    base = bases / "lab" / "base"
    if family == "llama":
        write_causal(base, seed=5, layers=2)
    else:
        write_family(base, family, **_OLD)
    folder = write_causal_adapter(tmp_path / "adapter", base, seed=1, **settings)
    form = CausalPeftFormat()
    known = {**form.check(folder, CHOICE), "base": form.bind(folder, "lab/base").model_dump()}
    model: Any = form.load(folder, CHOICE, known)
    np.testing.assert_allclose(model.predict(ASKED), expected(base, folder, model), atol=1e-5)


def test_weights_that_were_saved_without_their_head(bases: Path, tmp_path: Path) -> None:
    """As the hub's gpt2 is: names begin with h.0, an adapter's with transformer.h.0."""
    base = write_family(bases / "lab" / "base", "gpt2", **_OLD)
    folder = write_causal_adapter(tmp_path / "adapter", base, target_modules=["c_attn"], fan_in_fan_out=True)
    tensors = load_file(base / "model.safetensors")
    bare = {name.removeprefix("transformer."): values for name, values in tensors.items()}
    save_file(bare, base / "model.safetensors", metadata={"format": "pt"})
    assert CausalPeftFormat().bind(folder, "lab/base").name == "lab/base"


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_a_start_that_changes_the_base_is_refused(start: str, bases: Path, tmp_path: Path) -> None:
    base = write_causal(bases / "lab" / "base")
    folder = write_causal_adapter(tmp_path / "adapter", base)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "init_lora_weights": start}))
    with pytest.raises(ModelError, match=f"init_lora_weights is '{start}'.*fits a base that was changed"):
        CausalPeftFormat().check(folder, CHOICE)


def test_another_embedding_beside_an_adapter_is_refused(bases: Path, tmp_path: Path) -> None:
    base = write_causal(bases / "lab" / "base")
    folder = write_causal_adapter(tmp_path / "adapter", base, target_modules=["embed_tokens"])
    tensors = load_file(folder / "adapter_model.safetensors")
    name = next(n for n in tensors if n.endswith("base_layer.weight"))
    tensors[name] = tensors[name] + 1
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    form = CausalPeftFormat()
    known = {**form.check(folder, CHOICE), "base": form.bind(folder, "lab/base").model_dump()}
    with pytest.raises(ModelError, match="is not the embedding of the base"):
        form.load(folder, CHOICE, known)
