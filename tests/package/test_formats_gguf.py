"""GGUF's own settings change the numbers as they do in transformers and llama.cpp, or are refused by name.

The right values are transformers' for the same weights and the setting in its own words. The defaults for what a file
leaves out are those of llama.cpp, whose log-probabilities these files were compared with by hand.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from learndock.data import Schema
from learndock.errors import ModelError
from learndock.package.formats.gguf import GgufFormat
from learndock.package.formats.registry import detect
from learndock.package.safety import check_files
from tests.support.causal import write_causal, write_gguf

FREE = Schema("generation", (), (), "token_f1")
IDS = torch.tensor([[int(i) for i in np.random.default_rng(1).integers(3, 400, 120)]])
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("gguf")
    found = {family: write_causal(place / family, layers=2, family=family) for family in ("llama", "qwen2")}
    found["alike"] = write_causal(place / "alike", layers=2, num_key_value_heads=6)
    found["biased"] = write_causal(place / "biased", layers=2, attention_bias=True, mlp_bias=True)
    found["untied"] = write_causal(place / "untied", layers=2, tie_word_embeddings=False)
    return found


def factors(model: Any) -> Any:
    """What each frequency is divided by, as llama.cpp's converter writes it."""
    own = model.model.rotary_emb.inv_freq.numpy()
    return (1 / 10000 ** (np.arange(0, 2 * len(own), 2) / (2 * len(own))) / own).astype(np.float32)


def log_probabilities(network: Any) -> Any:
    with torch.inference_mode():
        return network(IDS).logits[0].log_softmax(-1).numpy()


def transformers_model(folder: Path, rope: dict[str, Any] | None) -> Any:
    config = transformers.AutoConfig.from_pretrained(folder)
    if rope:
        config.rope_parameters = {"rope_theta": 10000.0, **rope}
    return transformers.AutoModelForCausalLM.from_pretrained(folder, config=config).eval()


def say(**settings: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that sets the family's settings (dots as two underscores), or takes out those that are None."""

    def edit(known: dict[str, Any]) -> None:
        for key, value in settings.items():
            name = f"{known['general.architecture']}.{key.replace('__', '.')}"
            known[name] = value
            if value is None:
                del known[name]

    return edit


SCALED = {
    "llama": [
        (say(rope__scaling__type="linear", rope__scaling__factor=4.0), {"rope_type": "linear", "factor": 4.0}),
        (say(rope__scaling__factor=4.0), {"rope_type": "linear", "factor": 4.0}),
        (say(rope__scale_linear=2.0), {"rope_type": "linear", "factor": 2.0}),
        (say(rope__scaling__type="none", rope__scaling__factor=4.0), None),
        (say(rope__scaling__type="linear", rope__scaling__factor=1.0, rope__scaling__finetuned=True), None),
        (say(rope__freq_base=500.0), {"rope_type": "default", "rope_theta": 500.0}),
        (say(rope__freq_base=None), None),
        (say(attention__head_count_kv=[2, 2], feed_forward_length=[64, 64], attention__head_count=[6, 6]), None),
        (say(attention__key_length=8, attention__value_length=8, rope__dimension_count=8, vocab_size=446), None),
        (say(expert_count=0, attention__causal=True), None),
    ]
}  # fmt: skip
YARN = (
    say(rope__scaling__type="yarn", rope__scaling__factor=4.0, rope__scaling__original_context_length=32),
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
)


@pytest.mark.parametrize("number", range(len(SCALED["llama"]) + 2))
def test_settings_act_as_in_transformers(number: int, models: dict[str, Path], tmp_path: Path) -> None:
    family = "qwen2" if number == len(SCALED["llama"]) else "llama"
    edit, rope = (SCALED["llama"] + [YARN, YARN])[number]
    write_gguf(models[family], tmp_path / "m.gguf", edit=edit)
    check_files(tmp_path)
    model: Any = GgufFormat().load(tmp_path, FREE, GgufFormat().check(tmp_path, FREE))
    right = log_probabilities(transformers_model(models[family], rope))
    np.testing.assert_allclose(log_probabilities(model.network), right, atol=1e-5)
    plain = log_probabilities(transformers_model(models[family], None))
    assert (np.abs(right - plain).max() > 0.1) == (rope is not None)


def test_the_tensor_of_rope_factors(models: dict[str, Path], tmp_path: Path) -> None:
    """Every Llama 3.1 and 3.2: no setting says that positions are scaled."""
    network = transformers_model(models["llama"], LLAMA3)
    write_gguf(models["llama"], tmp_path / "m.gguf", more={"rope_freqs.weight": factors(network)})
    model: Any = GgufFormat().load(tmp_path, FREE, GgufFormat().check(tmp_path, FREE))
    np.testing.assert_allclose(log_probabilities(model.network), log_probabilities(network), atol=1e-4)
    write_gguf(models["llama"], tmp_path / "m.gguf", more={"rope_freqs.weight": np.ones(4)})
    assert GgufFormat().check(tmp_path, FREE)  # divides by one
    write_gguf(models["llama"], tmp_path / "m.gguf", more={"rope_freqs.weight": np.ones(5)})
    with pytest.raises(ModelError, match=r"rope_freqs\.weight must be 4 positive numbers"):
        GgufFormat().check(tmp_path, FREE)
    write_gguf(
        models["llama"], tmp_path / "m.gguf", more={"rope_freqs.weight": np.full(4, 2.0)},
        edit=say(rope__scaling__factor=4.0),
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"llama\.rope\.scaling\.type"):
        GgufFormat().check(tmp_path, FREE)


@pytest.mark.parametrize(
    ("model", "edit"),
    [("alike", say(attention__head_count_kv=None)), ("biased", say()), ("untied", say())],
)
def test_other_shapes_of_the_family(model: str, edit: Any, models: dict[str, Path], tmp_path: Path) -> None:
    write_gguf(models[model], tmp_path / "m.gguf", edit=edit)
    found: Any = GgufFormat().load(tmp_path, FREE, GgufFormat().check(tmp_path, FREE))
    right = log_probabilities(transformers_model(models[model], None))
    np.testing.assert_allclose(log_probabilities(found.network), right, atol=1e-5)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"llama.rope.scaling.type": "longrope"}, r"llama\.rope\.scaling\.type is 'longrope'"),
    ({"llama.rope.scaling.attn_factor": 2.0}, r"llama\.rope\.scaling\.attn_factor is 2\.0"),
    ({"llama.rope.scaling.yarn_log_multiplier": 0.1}, r"yarn_log_multiplier is"),
    ({"llama.rope.dimension_count": 4}, r"llama\.rope\.dimension_count is not 8"),
    ({"llama.attention.head_count_kv": [2, 1]}, r"llama\.attention\.head_count_kv differs from layer to layer"),
    ({"llama.attention.head_count_kv": 0}, r"head_count_kv is 0, expected a whole number"),
    ({"llama.attention.value_length": 4}, r"attention\.value_length is not 8"),
    ({"llama.attention.causal": False}, r"attention\.causal is False"),
    ({"llama.attention.sliding_window": 16}, r"attention\.sliding_window is not read here"),
    ({"llama.attention.scale": 0.5}, r"attention\.scale is not read here"),
    ({"llama.logit_scale": 0.5}, r"logit_scale is not read here"),
    ({"llama.embedding_scale": 2.0}, r"embedding_scale is not read here"),
    ({"llama.residual_scale": 2.0}, r"residual_scale is not read here"),
    ({"llama.expert_count": 8}, r"expert_count is 8"),
    ({"llama.expert_gating_func": 2}, r"expert_gating_func is not read here"),
    ({"llama.pooling_type": 1}, r"pooling_type is not read here"),
    ({"llama.vocab_size": 9}, r"vocab_size is not 446"),
    ({"llama.block_count": 1}, r"the tensor blk\.1\..* is unknown here"),
    ({"general.type": "adapter"}, r"general\.type is 'adapter'"),
    ({"general.quantization_version": 1}, r"general\.quantization_version is 1"),
    ({"general.sampling.penalty_repeat": 1.3}, r"general\.sampling\.penalty_repeat is"),
    ({"adapter.lora.alpha": 16.0}, r"adapter\.lora\.alpha is not read here"),
    ({"tokenizer.ggml.add_eos_token": True}, r"tokenizer\.ggml\.add_eos_token is 'True'"),
    ({"tokenizer.ggml.add_space_prefix": True}, r"tokenizer\.ggml\.add_space_prefix is 'True'"),
    ({"tokenizer.ggml.remove_extra_whitespaces": True}, r"remove_extra_whitespaces is 'True'"),
    ({"tokenizer.ggml.suppress_tokens": [3]}, r"tokenizer\.ggml\.suppress_tokens is"),
    ({"tokenizer.ggml.precompiled_charsmap": [1]}, r"precompiled_charsmap is there"),
    ({"tokenizer.huggingface.json": "{}"}, r"tokenizer\.huggingface\.json is there"),
    ({"tokenizer.ggml.eot_token_id": 999}, r"eot_token_id is 999, which is not one"),
    ({"tokenizer.ggml.add_bos_token": True}, r"bos_token_id does not say which"),
    ({"tokenizer.ggml.pre": "default"}, r"vocabulary gpt2/default is not read"),
    ({"tokenizer.ggml.model": "t5"}, r"vocabulary t5/gpt-2 is not read"),
    ({"tokenizer.ggml.model": "bert"}, r"vocabulary bert/gpt-2 is not read"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_what_is_not_read_is_refused_by_name(
    settings: dict[str, Any], message: str, models: dict[str, Path], tmp_path: Path
) -> None:
    write_gguf(models["llama"], tmp_path / "m.gguf", edit=lambda s: s.update(settings))
    with pytest.raises(ModelError, match=message):
        GgufFormat().check(tmp_path, FREE)


@pytest.mark.parametrize(
    "name",
    [
        "rope_factors_long.weight", "blk.0.attn_q_norm.weight", "blk.0.ffn_gate_exps.weight", "blk.0.attn_norm.bias",
        "blk.2.attn_norm.weight", "output.bias", "blk.0.attn_q.scale", "token_types.weight", "blk.0.attn_q.bias",
    ],
)  # fmt: skip
def test_tensors_that_are_not_read_are_refused_by_name(name: str, models: dict[str, Path], tmp_path: Path) -> None:
    write_gguf(models["llama"], tmp_path / "m.gguf", more={name: np.ones(48)})
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        GgufFormat().check(tmp_path, FREE)


# --- what begins and ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "begin", "ends"),
    [
        ({}, None, [0, 2]),  # <|endoftext|> ends an answer wherever it is
        ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 4}, 4, [0, 2]),
        ({"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.bos_token_id": 4}, None, [0, 2]),
        ({"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.bos_token_id": 4}, 4, [0, 2]),
        ({"tokenizer.ggml.eot_token_id": 7, "tokenizer.ggml.eom_token_id": 9}, None, [0, 2, 7, 9]),
        ({"tokenizer.ggml.eos_token_id": 5}, None, [0, 2, 5]),
    ],
)
def test_begin_and_end_tokens_are_llama_cpps(
    settings: dict[str, Any], begin: int | None, ends: list[int], models: dict[str, Path], tmp_path: Path
) -> None:
    write_gguf(models["llama"], tmp_path / "m.gguf", edit=lambda s: s.update(settings))
    found = GgufFormat().check(tmp_path, FREE)
    assert (found["prompt"]["begin"], found["ends"]) == (begin, ends)
    model: Any = GgufFormat().load(tmp_path, FREE, found)
    assert sorted(model.ends) == ends
    assert (model.format.prompt("rain")[0] == 4) == (begin == 4)


@pytest.mark.parametrize(
    ("template", "asked", "message"),
    [
        ("{% for m in messages %}<|im_start|>{{ m.role }}{% endfor %}", None, None),
        (
            "{{ bos_token }}[INST] {{ messages[0].content }} [/INST]",
            None,
            "chat template in the file is of another format",
        ),
        ("{{ bos_token }}[INST] {{ messages[0].content }} [/INST]", "plain", None),
        ("", None, None),
    ],
)
def test_a_chat_template_of_another_format_is_not_passed_over(
    template: str, asked: str | None, message: str | None, models: dict[str, Path], tmp_path: Path
) -> None:
    write_gguf(models["llama"], tmp_path / "m.gguf", edit=lambda s: s.update({"tokenizer.chat_template": template}))
    if asked:
        (tmp_path / "prompt.json").write_text(json.dumps({"format": asked}))
    if message is None:
        assert GgufFormat().check(tmp_path, FREE)["prompt"]["format"] == (asked or "chatml")
    else:
        with pytest.raises(ModelError, match=message):
            GgufFormat().check(tmp_path, FREE)


# --- files in parts ------------------------------------------------------------------------------------------


def test_a_split_file_is_the_same_model(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    write_gguf(models["qwen2"], tmp_path / "one" / "m.gguf")
    write_gguf(models["qwen2"], tmp_path / "three" / "m-00001-of-00003.gguf", parts=3)
    assert detect(tmp_path / "three").name == "gguf"
    check_files(tmp_path / "three")
    form = GgufFormat()
    one, three = (form.load(f, FREE, form.check(f, FREE)) for f in (tmp_path / "one", tmp_path / "three"))
    np.testing.assert_array_equal(
        log_probabilities(one.network), log_probabilities(three.network)  # type: ignore[attr-defined]
    )  # fmt: skip


def test_parts_that_are_not_one_model(models: dict[str, Path], tmp_path: Path) -> None:
    write_gguf(models["llama"], tmp_path / "m-00001-of-00003.gguf", parts=3)
    second = tmp_path / "m-00002-of-00003.gguf"
    kept = second.read_bytes()
    second.unlink()
    with pytest.raises(ModelError, match=r"part 2 of 3 \(split\.count\) is missing"):
        GgufFormat().check(tmp_path, FREE)
    shutil.copyfile(tmp_path / "m-00003-of-00003.gguf", second)
    with pytest.raises(ModelError, match=r"part 2 of 3 \(split\.count\) is missing"):
        GgufFormat().check(tmp_path, FREE)
    second.write_bytes(kept)
    write_gguf(models["llama"], tmp_path / "other.gguf")
    with pytest.raises(ModelError, match=r"expected one \.gguf file, or the parts"):
        GgufFormat().check(tmp_path, FREE)
