"""Merged adapters add the weighted sum of what each adds, as PEFT computes it; what has no such sum is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learndock.data import Schema
from learndock.errors import ModelError, UsageError
from learndock.package.formats._bases import base_hash
from learndock.package.formats.causal_peft import CausalPeftFormat
from learndock.package.learnware import Learnware
from learndock.package.manifest import Base, Manifest
from learndock.reuse import merge_adapters
from tests.support.causal import write_causal, write_causal_adapter, write_vocabulary

FREE = Schema("generation", (), (), "token_f1")
PLAIN: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
#: name -> settings of two adapters
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ranks": (PLAIN, {**PLAIN, "r": 8, "lora_alpha": 4}),
    "rslora": ({**PLAIN, "use_rslora": True}, {**PLAIN, "r": 8, "use_rslora": True}),
    "one rslora": ({**PLAIN, "use_rslora": True}, PLAIN),
    "patterns": (
        {**PLAIN, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.v_proj": 3}},
        {**PLAIN, "alpha_pattern": {"v_proj": 5}},
    ),
    "other layers": ({**PLAIN, "layers_to_transform": [0]}, {**PLAIN, "target_modules": ["o_proj", "down_proj"]}),
    "the other way round": ({"r": 2, "target_modules": ["c_attn"], "fan_in_fan_out": True},) * 2,
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import transformers

    place = tmp_path_factory.mktemp("bases")
    llama = write_causal(place / "llama", layers=2, seed=3)
    gpt2 = place / "gpt2"
    gpt2.mkdir()
    config = transformers.GPT2Config(vocab_size=write_vocabulary(gpt2), n_embd=48, n_layer=2, n_head=2, n_positions=64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.GPT2LMHeadModel(config).save_pretrained(gpt2)
    return {"llama": llama, "gpt2": gpt2}


def adapt(base: Path, folder: Path, seed: int, **settings: Any) -> Learnware:
    """A random adapter as PEFT saves it, as a learnware."""
    write_causal_adapter(folder, base, seed=seed, size=0.2, **settings)
    manifest = Manifest(
        name=f"a/{folder.name}", format="causal-peft", task=FREE.to_dict(), files=(),
        base=Base(name="lab/base", sha256=base_hash(base)),
    )  # fmt: skip
    return Learnware(folder, manifest)


def additions(base: Path, folder: Path) -> dict[str, Any]:
    """What an adapter adds to each layer, by PEFT itself."""
    import peft
    import transformers

    network = transformers.AutoModelForCausalLM.from_pretrained(base)
    adapted = peft.PeftModel.from_pretrained(network, folder)
    return {
        name: module.get_delta_weight("default").detach().numpy()
        for name, module in adapted.named_modules()
        if hasattr(module, "get_delta_weight")
    }


@pytest.mark.parametrize("kind", PAIRS)
def test_a_merge_adds_the_weighted_sum(kind: str, bases: dict[str, Path], tmp_path: Path) -> None:
    base = bases["gpt2" if kind == "the other way round" else "llama"]
    some = {
        n: adapt(base, tmp_path / n, i, **s) for i, (n, s) in enumerate(zip(("one", "two"), PAIRS[kind], strict=True))
    }
    out = merge_adapters(some, tmp_path / "merged", weights=[0.7, -0.3])
    CausalPeftFormat().check(out, FREE)
    one, two, found = (additions(base, f) for f in (tmp_path / "one", tmp_path / "two", out))
    assert set(found) == {*one, *two}
    for name, values in found.items():
        np.testing.assert_allclose(values, 0.7 * one.get(name, 0) - 0.3 * two.get(name, 0), atol=1e-6, err_msg=name)


@pytest.mark.parametrize("settings", [s for pair in PAIRS.values() for s in pair[:1]])
def test_a_merge_with_itself_is_the_adapter(settings: dict[str, Any], bases: dict[str, Path], tmp_path: Path) -> None:
    base = bases["gpt2" if "fan_in_fan_out" in settings else "llama"]
    alone = adapt(base, tmp_path / "one", 0, **settings)
    out = merge_adapters({"a": alone, "b": alone}, tmp_path / "merged")
    one, found = additions(base, alone.folder), additions(base, out)
    assert set(one) == set(found)
    for name, values in found.items():
        np.testing.assert_allclose(values, one[name], atol=1e-6, err_msg=name)


def configure(folder: Path, **settings: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize(
    ("settings", "edit", "message"),
    [
        ({"use_dora": True}, None, "use_dora is True: this adapter does more than add two matrices"),
        ({}, lambda f: configure(f, bias="all"), "bias is all: this adapter does more"),
        ({}, lambda f: configure(f, modules_to_save=["lm_head"]), r"modules_to_save is \['lm_head'\]"),
        ({}, lambda f: configure(f, rank_pattern={"q_proj": 9}), "rank 4, adapter_config.json says 9"),
        ({}, lambda f: configure(f, alpha_pattern={"(a+)+b": 9}), "is not the end of a layer's name"),
        ({}, lambda f: (f / "prompt.json").write_text('{"format": "plain"}'), r"its prompt\.json is not that of one"),
    ],
)
def test_what_has_no_weighted_sum(
    settings: dict[str, Any], edit: Callable[[Path], Any] | None, message: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    one = adapt(bases["llama"], tmp_path / "one", 0, **PLAIN)
    two = adapt(bases["llama"], tmp_path / "two", 1, **PLAIN, **settings)
    if edit:
        edit(two.folder)
    with pytest.raises(ModelError, match=message):
        merge_adapters({"one": one, "two": two}, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_adapters_of_two_bases(bases: dict[str, Path], tmp_path: Path) -> None:
    one = adapt(bases["llama"], tmp_path / "one", 0, **PLAIN)
    other = Path(shutil.copytree(one.folder, tmp_path / "two"))
    two = Learnware(other, one.manifest.model_copy(update={"base": Base(name="lab/base", sha256="0" * 64)}))
    with pytest.raises(ModelError, match="two: its base is not that of one"):
        merge_adapters({"one": one, "two": two}, tmp_path / "merged")
    with pytest.raises(UsageError, match="two: not an adapter"):
        merge_adapters(
            {"one": one, "two": Learnware(other, one.manifest.model_copy(update={"format": "gguf"}))}, tmp_path / "m"
        )
