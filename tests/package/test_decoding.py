"""Whole causal models of many families answer as transformers itself does, whatever is asked beside a prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from learndock.data import Schema
from learndock.data.prompts import Prompt
from learndock.errors import ModelError
from learndock.package.formats.causal import CausalFormat
from learndock.package.formats.decoding import PADDED, check_options
from learndock.package.formats.registry import detect
from tests.support.causal import write_causal, write_family

FREE = Schema("generation", (), (), "token_f1")
CHOICE = Schema("classification", ("sun", "goal and goal"), ("sun", "goal"), "accuracy")
ASKED = [
    Prompt.of(t) for t in ("rain", "the doctor and the nurse " * 3, "goal goal", "bank loan bank", "cold", "sun " * 9)
]

_SMALL: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.3,
}  # fmt: skip
_SMALL_HEADS = {**_SMALL, "head_dim": 8}
_OLD: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "initializer_range": 0.3}
_STATES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "initializer_range": 0.3}
#: model type -> settings of a small one
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _SMALL, "mistral": _SMALL_HEADS | {"sliding_window": 16}, "qwen2": _SMALL, "qwen3": _SMALL_HEADS,
    "gemma": _SMALL_HEADS, "gemma2": _SMALL_HEADS | {"sliding_window": 16}, "phi": _SMALL, "phi3": _SMALL,
    "cohere": _SMALL, "granite": _SMALL, "olmo": _SMALL, "olmo2": _SMALL, "smollm3": _SMALL, "stablelm": _SMALL,
    "starcoder2": _SMALL | {"sliding_window": 16}, "gpt_neox": _SMALL, "opt": _SMALL | {"word_embed_proj_dim": 32},
    "mixtral": _SMALL_HEADS | {"num_local_experts": 4}, "falcon": _SMALL | {"alibi": True},
    "gpt2": _OLD, "openai-gpt": _OLD, "gptj": _OLD | {"rotary_dim": 8}, "gpt_bigcode": _OLD,
    "codegen": _OLD | {"rotary_dim": 4, "n_head": 4},
    "ctrl": _OLD | {"dff": 32},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.3},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 2, "initializer_range": 0.3},
    "bert": _SMALL | {"is_decoder": True}, "roberta": _SMALL | {"is_decoder": True},
    "mamba": _STATES, "mamba2": _STATES | {"num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8},
    "falcon_mamba": _STATES, "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
    "recurrent_gemma": _SMALL | {"lru_width": 32, "attention_window_size": 16, "num_hidden_layers": 3},
"xlstm": {"hidden_size": 64, "num_blocks": 2, "num_heads": 4, "qk_dim_factor": 1.0},
}  # fmt: skip


def answers(folder: Path, model: Any, asked: list[Prompt], count: int) -> list[str]:
    """What transformers writes after each prompt alone."""
    network = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    found = []
    for prompt in asked:
        ids = torch.tensor([model.format.prompt(prompt)])
        with torch.inference_mode():
            written = network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=count,
                do_sample=False,
                pad_token_id=0,
            )
        tokens = written[0, ids.shape[1] :].tolist()
        if tokens[-1] in np.ravel(network.generation_config.eos_token_id):
            tokens.pop()
        found.append(str(model.format.tokenizer.decode(tokens)).strip())
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_answers_as_transformers_does(family: str, tmp_path: Path) -> None:
    folder = write_family(tmp_path, family, **FAMILIES[family])
    assert detect(folder).name == "causal"
    model: Any = CausalFormat().load(folder, FREE, CausalFormat().check(folder, FREE))
    assert list(model.generate(ASKED, max_tokens=6)) == answers(folder, model, ASKED, 6)
    scores = model.score(ASKED[:3], CHOICE.labels)
    for prompt, row in zip(ASKED[:3], scores, strict=True):
        start = model.format.prompt(prompt)
        for label, score in zip(CHOICE.labels, row, strict=True):
            ids = model.format.completion(label)
            with torch.inference_mode():
                known = model.network(torch.tensor([start + ids])).logits[0].double().log_softmax(-1)
            expected = sum(float(known[len(start) - 1 + i, token]) for i, token in enumerate(ids))
            assert score == pytest.approx(expected, abs=1e-3)


def test_the_families_that_are_padded_are_those_tried() -> None:
    assert set(FAMILIES) >= PADDED


def test_a_family_that_mixes_up_a_batch_is_asked_one_by_one(tmp_path: Path) -> None:
    """RWKV in transformers adds the states of all rows of a batch to each; alone it is right."""
    folder = write_family(tmp_path, "rwkv", **FAMILIES["rwkv"])
    model: Any = CausalFormat().load(folder, FREE, CausalFormat().check(folder, FREE))
    asked = [Prompt.of("rain"), Prompt.of("cold")]
    assert list(model.generate(asked, max_tokens=8)) == [str(model.generate([a], max_tokens=8)[0]) for a in asked]


@pytest.mark.parametrize(
    "option",
    [
        {"repetition_penalty": 1.7},
        {"suppress_tokens": [66, 171, 254, 300]},
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 4, "eos_token_id": list(range(0, 480, 2))},
        {"forced_eos_token_id": 2},
        {"bad_words_ids": [[300], [66]]},
        {"eos_token_id": list(range(0, 480, 3))},
        {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 4},
    ],
)
def test_options_of_generation_act(option: dict[str, Any], tmp_path: Path) -> None:
    folder = write_causal(tmp_path / "model", seed=8)
    path = folder / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": 2, **option}))
    settings = CausalFormat().check(folder, FREE)
    model: Any = CausalFormat().load(folder, FREE, settings)
    assert list(model.generate(ASKED, max_tokens=7)) == answers(folder, model, ASKED, 7)
    pieces = "".join(model.stream(ASKED[1], max_tokens=7)).strip()
    assert pieces == model.generate(ASKED[1:2], max_tokens=7)[0]
    assert set(settings["ends"]) >= set(np.ravel(option.get("eos_token_id", 2)).tolist())


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ({"num_beams": 4}, "num_beams"),
        ({"penalty_alpha": 0.6}, "penalty_alpha"),
        ({"guidance_scale": 1.5}, "guidance_scale"),
        ({"stop_strings": ["x"]}, "stop_strings"),
        ({"max_time": 1}, "max_time"),
        ({"watermarking_config": {"bias": 2.0}}, "watermarking_config"),
        ({"an_option_of_tomorrow": True}, "an_option_of_tomorrow"),
    ],
)
def test_other_options_are_refused_by_name(option: dict[str, Any], name: str, tmp_path: Path) -> None:
    folder = write_causal(tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, **option}))
    with pytest.raises(ModelError, match=rf"generation_config\.json: {name} is .* not followed here"):
        CausalFormat().check(folder, FREE)
    assert check_options({"num_beams": 1, "guidance_scale": 1.0, "temperature": 0.1}, where="x") == {}


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("bert", _SMALL, "'bert' reads the tokens that come after"),
        (
            "xlnet",
            {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 32},
            "type 'xlnet' reads the tokens that come after",
        ),
    ],
)
def test_models_that_look_ahead_are_refused(
    family: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write_family(tmp_path, family, **settings)
    assert detect(folder).name == "causal"
    with pytest.raises(ModelError, match=message):
        CausalFormat().load(folder, CHOICE, CausalFormat().check(folder, CHOICE))


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    folder = write_causal(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = np.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="the model's output is not finite"):
        CausalFormat().load(folder, FREE, CausalFormat().check(folder, FREE))


def test_the_longest_prompt_does_not_set_the_frequencies_of_others(tmp_path: Path) -> None:
    """Dynamic scaling goes by the longest text of a batch, so each prompt is answered alone."""
    factors: dict[str, Any] = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 16, **factors}
    folder = write_family(tmp_path, "phi3", **_SMALL | {"rope_parameters": rope})
    model: Any = CausalFormat().load(folder, FREE, CausalFormat().check(folder, FREE))
    assert list(model.generate(ASKED, max_tokens=4)) == answers(folder, model, ASKED, 4)


@pytest.mark.parametrize("named", ["T5ForConditionalGeneration", "Gemma3ForConditionalGeneration"])
def test_encoders_and_readers_of_images_are_refused_by_name(named: str, tmp_path: Path) -> None:
    folder = write_causal(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [named]}))
    assert detect(folder).name == "causal"
    with pytest.raises(ModelError, match=named):
        CausalFormat().check(folder, FREE)


# --- what begins a text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "begin"),
    [
        ({"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True, "bos_token": "<|endoftext|>"}, None),
        ({"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "bos_token": "<|endoftext|>"}, None),
        ({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|endoftext|>"}, None),
        ({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "bos_token": "<|endoftext|>"}, None),
    ],
)
def test_a_prompt_begins_as_the_tokenizer_begins_a_text(
    config: dict[str, Any], begin: int | None, tmp_path: Path
) -> None:
    folder = write_causal(tmp_path / "model")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    settings = CausalFormat().check(folder, FREE)
    assert settings["prompt"]["begin"] == begin
    model: Any = CausalFormat().load(folder, FREE, settings)
    own = transformers.AutoTokenizer.from_pretrained(folder)("rain")["input_ids"]
    assert (own[0] == begin) == (begin is not None)
    assert (model.format.prompt(Prompt.of("rain"))[0] == begin) == (begin is not None)


def test_a_rule_in_the_tokenizer_itself(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, processors

    folder = write_causal(tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing("<|im_end|> $A", special_tokens=[("<|im_end|>", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    assert CausalFormat().check(folder, FREE)["prompt"]["begin"] == 2
    tokenizer.post_processor = processors.TemplateProcessing("$A <|im_end|>", special_tokens=[("<|im_end|>", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelError, match="a token that ends the prompt would end the answer"):
        CausalFormat().check(folder, FREE)


@pytest.mark.parametrize(
    "config",
    [
        {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True},
        {"tokenizer_class": "LlamaTokenizer"},
        {"tokenizer_class": "Qwen2Tokenizer"},
        {"tokenizer_class": "PreTrainedTokenizerFast"},
    ],
)
def test_texts_become_tokens_as_the_tokenizers_class_has_it(config: dict[str, Any], tmp_path: Path) -> None:
    folder = write_causal(tmp_path / "model")
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "<|im_end|>"}))
    model: Any = CausalFormat().load(folder, FREE, CausalFormat().check(folder, FREE))
    own = transformers.AutoTokenizer.from_pretrained(folder)
    for text in ("The rain 123", "  two  spaces ", "na\u00efve \u00c4rger e\u0301\n\n", "don't"):
        assert model.format.completion(text)[:-1] == own(text, add_special_tokens=False)["input_ids"]


# --- room ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "settings"),
    [("gpt2", _OLD | {"n_positions": 40}), ("mpt", FAMILIES["mpt"] | {"max_seq_len": 40})],
)
def test_a_short_context_is_not_given_up_for_the_answer(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    folder = write_family(tmp_path, family, **settings)
    model: Any = CausalFormat().load(folder, FREE, CausalFormat().check(folder, FREE))
    fits, long = Prompt.of("goal goal"), Prompt.of("bank loan " * 40)
    assert (model.left_out(fits), model.left_out(long) > 50) == (0, True)
    ids, limit, _ = model.start(fits, 128)
    assert ids == model.format.prompt(fits)
    assert len(ids) + limit == 40
    # With positions of their own for 40 tokens: more would be an error, fewer another answer
    assert list(model.generate([fits, long])) == [str(model.generate([p])[0]) for p in (fits, long)]
    assert len(model.start(long, 128)[0]) == 30
    model.generate([fits])
    assert model.remarks() == ()
    model.generate([fits, long])
    assert model.remarks()[0].startswith("1 of 2 prompts are longer than the model reads (40 tokens, answer included)")
    model.score([long, long, fits], ["goal"])
    assert model.remarks()[0].startswith("2 of 3 prompts")
    with pytest.raises(ModelError, match="the model reads 40 with the prompt"):
        model.score([fits], ["goal " * 50])
