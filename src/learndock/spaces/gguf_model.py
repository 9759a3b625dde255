"""What a GGUF file's settings and tensors mean: the model as transformers has it.

A file becomes ``config.json`` and ``model.safetensors`` (float32) under the names of transformers; ``gguf_vocabulary``
makes ``tokenizer.json``. Every setting is either read here, known to have no effect on the numbers, or refused by its
name: a setting that is passed over changes answers without a word. The defaults are those of llama.cpp.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learndock.errors import ModelError
from learndock.spaces.gguf import Float, Gguf, numbers, read_parts
from learndock.spaces.gguf_vocabulary import check_vocabulary_settings, tokenizer_bytes

#: Families whose tensors are named and laid out as below; llama's own queries and keys are interleaved.
FAMILIES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
_BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_BLOCK = re.compile(r"blk\.([0-9]{1,4})\.([a-z_]+)\.(weight|bias)")
#: Layers with a bias, by family: all of a group, or none of it.
_BIASES = {
    "llama": (("attn_q", "attn_k", "attn_v", "attn_output"), ("ffn_gate", "ffn_up", "ffn_down")),
    "qwen2": (("attn_q", "attn_k", "attn_v"),),
}
ROPE_FREQS = "rope_freqs.weight"

#: Settings of the family that are read below.
_READ = frozenset(
    {
        "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon", "attention.key_length",
        "attention.value_length", "rope.freq_base", "rope.dimension_count", "rope.scale_linear", "rope.scaling.type",
        "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
    }
)  # fmt: skip
#: Settings that change nothing at these values, and are refused at any other.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "use_parallel_residual": (False,),
    "tensor_data_layout": ("reference",),
    "rope.scaling.finetuned": (True, False),  # says how the model was made
    "rope.scaling.attn_factor": (0.0, 1.0),
    "rope.scaling.yarn_ext_factor": (1.0,),
    "rope.scaling.yarn_attn_factor": (1.0,),
    "rope.scaling.yarn_log_multiplier": (0.0,),
}
#: What describes the file, by the beginning of its name: no reader computes with these.
_DESCRIPTIONS = ("general.", "quantize.", "split.", "mradermacher.")
#: Settings of general. that do say how to read or to answer.
_GENERAL: dict[str, tuple[Any, ...]] = {
    "general.type": ("model",),
    "general.quantization_version": (2,),
    "general.sampling.penalty_repeat": (1.0,),
    "general.sampling.penalty_freq": (0.0,),
    "general.sampling.penalty_present": (0.0,),
    "general.sampling.mirostat": (0,),
    "general.sampling.dry_multiplier": (0.0,),
}


# --- settings ------------------------------------------------------------------------------------------------


def family_of(file: Gguf) -> str:
    """``general.architecture``, one that is known here.

    Raises:
        ModelError: it is another.
    """
    found = file.settings.get("general.architecture")
    if found not in FAMILIES:
        raise ModelError(
            f"the architecture {found!r} is not read from GGUF",
            remedy=f"use a file of the family {' or '.join(FAMILIES)}, or save the model as safetensors",
            about=file.path.name,
        )
    return str(found)


def check_settings(file: Gguf) -> None:
    """Refuse every setting and tensor that is not read.

    Raises:
        ModelError: names the first such setting or tensor.
    """
    family = family_of(file)
    for key, value in file.settings.items():
        short = key.removeprefix(f"{family}.")
        neutral = _GENERAL.get(key) or (_NEUTRAL.get(short) if short != key else None)
        if neutral is not None:
            if not any(type(value) is type(n) and value == n for n in neutral):
                said = " or ".join(str(n) for n in neutral)
                raise _unread(file, key, f"is {value!r}, of which only {said} is read here")
        elif short == key and not key.startswith((*_DESCRIPTIONS, "tokenizer.")):
            raise _unread(file, key, "is not read here")
        elif short != key and short not in _READ:
            raise _unread(file, key, "is not read here, and may change what the model answers")
    check_vocabulary_settings(file)
    for name in file.tensors:
        if name != ROPE_FREQS:
            _own_name(file, name)
    _biases(file)


def _unread(file: Gguf, key: str, why: str) -> ModelError:
    return ModelError(
        f"the setting {key} {why}",
        remedy="if it does not matter for this model, remove it with "
        f"`gguf-new-metadata --remove-metadata {key}`, else save the model as safetensors",
        about=file.path.name,
    )


def _setting(file: Gguf, key: str) -> Any:
    name = f"{family_of(file)}.{key}"
    if name not in file.settings:
        raise ModelError(f"does not say {name}", remedy="write it again", about=file.path.name)
    return file.settings[name]


def _count(file: Gguf, key: str, default: int | None = None) -> int:
    """A whole number of at least one; a list of one for each layer where they are all equal."""
    name = f"{family_of(file)}.{key}"
    found = file.settings.get(name, default)
    if found is None:
        raise ModelError(f"does not say {name}", remedy="write it again", about=file.path.name)
    if isinstance(found, list):
        if len(found) != int(_setting(file, "block_count")) or len(set(found)) != 1:
            raise ModelError(
                f"{name} differs from layer to layer ({found[:8]}), which is not read here",
                remedy="save the model as safetensors",
                about=file.path.name,
            )
        found = found[0]
    if type(found) is not int or found < 1:
        raise ModelError(
            f"{name} is {found!r}, expected a whole number of at least 1", remedy="write it again", about=file.path.name
        )
    return found


def config(file: Gguf) -> dict[str, Any]:
    """``config.json`` for transformers.

    Raises:
        ModelError: a setting is missing, or is not read here.
    """
    check_settings(file)
    family = family_of(file)
    heads, width = _count(file, "attention.head_count"), _count(file, "embedding_length")
    if "token_embd.weight" not in file.tensors:
        raise ModelError("has no tensor token_embd.weight", remedy="write it again", about=file.path.name)
    words = file.tensors["token_embd.weight"].shape[0]
    size = _count(file, "attention.key_length", width // heads)
    for key, expected in (("attention.value_length", size), ("rope.dimension_count", size), ("vocab_size", words)):
        if _count(file, key, expected) != expected:
            raise _unread(file, f"{family}.{key}", f"is not {expected}, which alone is read here")
    found = {
        "architectures": [FAMILIES[family]],
        "model_type": family,
        "hidden_size": width,
        "intermediate_size": _count(file, "feed_forward_length"),
        "num_hidden_layers": _count(file, "block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _count(file, "attention.head_count_kv", heads),
        "head_dim": size,
        "max_position_embeddings": _count(file, "context_length"),
        # Six digits: the file keeps float32, configurations write the decimal number
        "rms_norm_eps": float(f"{_setting(file, 'attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_parameters": _rope(file, size),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "vocab_size": words,
        "bos_token_id": file.settings.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": file.settings.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": file.settings.get("tokenizer.ggml.padding_token_id"),
        "hidden_act": "silu",
        "attention_bias": False,
        "dtype": "float32",
    }
    if family == "llama":
        attention, feed_forward = _biases(file)
        found["attention_bias"] = attention
        if feed_forward:
            found["mlp_bias"] = True
    return found


def _rope(file: Gguf, size: int) -> dict[str, Any]:
    """How positions turn, for heads of ``size``: scaled by a setting, by a tensor of factors, or not at all."""
    family = family_of(file)
    said = {k.removeprefix(f"{family}.rope."): v for k, v in file.settings.items() if k.startswith(f"{family}.rope.")}
    base = {"rope_theta": float(said.get("freq_base", 10000.0))}
    factor = float(said.get("scaling.factor") or said.get("scale_linear") or 0.0)
    kind = said.get("scaling.type", "linear")  # llama.cpp's default, which does nothing without a factor
    factors = _rope_factors(file, size)
    if kind not in ("none", "linear", "yarn"):
        raise _unread(file, f"{family}.rope.scaling.type", f"is {kind!r}; none, linear and yarn are read here")
    scaled = kind != "none" and factor not in (0.0, 1.0)
    if scaled and factors is not None:
        raise _unread(
            file, f"{family}.rope.scaling.type", f"is set together with the tensor {ROPE_FREQS}, which also scales,"
        )
    if factors is not None:
        # transformers' longrope with one set of factors and no change of attention is just that
        return {
            **base, "rope_type": "longrope", "short_factor": factors, "long_factor": factors, "factor": 1.0,
            "attention_factor": 1.0, "original_max_position_embeddings": _count(file, "context_length"),
        }  # fmt: skip
    if not scaled:
        return {"rope_type": "default", **base}
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor, **base}
    before = _count(file, "rope.scaling.original_context_length", _count(file, "context_length"))
    return {
        **base, "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": before,
        "beta_fast": float(said.get("scaling.yarn_beta_fast", 32.0)),
        "beta_slow": float(said.get("scaling.yarn_beta_slow", 1.0)),
    }  # fmt: skip


def _rope_factors(file: Gguf, size: int) -> list[float] | None:
    """What each frequency is divided by: the tensor that every Llama 3.1 and 3.2 has. None where it changes nothing."""
    if ROPE_FREQS not in file.tensors:
        return None
    found = numbers(file, ROPE_FREQS).astype(np.float64)
    if found.shape != (size // 2,) or found.min() <= 0:
        raise ModelError(
            f"{ROPE_FREQS} must be {size // 2} positive numbers, half of a head's",
            remedy="write it again",
            about=file.path.name,
        )
    return None if (found == 1).all() else [float(f) for f in found]


# --- weights -------------------------------------------------------------------------------------------------


def state(file: Gguf) -> dict[str, Float]:
    """All weights under the names that transformers gives them; queries and keys as it lays them out.

    Raises:
        ModelError: a tensor that is unknown or missing, or not finite.
    """
    family = family_of(file)
    heads = _count(file, "attention.head_count")
    turned = {"attn_q": heads, "attn_k": _count(file, "attention.head_count_kv", heads)} if family == "llama" else {}
    found = {}
    for name in sorted(file.tensors):
        if name == ROPE_FREQS:
            continue  # see _rope
        own = _own_name(file, name)
        values = numbers(file, name)
        block = _BLOCK.fullmatch(name)
        found[own] = _turned(values, turned[block[2]]) if block and block[2] in turned else values
    layers = _count(file, "block_count")
    needed = [f"model.layers.{i}.{part}.weight" for i in range(layers) for part in _BLOCK_NAMES.values()]
    missing = [n for n in ("model.embed_tokens.weight", "model.norm.weight", *needed) if n not in found]
    if missing:
        raise ModelError(f"has no weights for {', '.join(missing[:3])}", remedy="write it again", about=file.path.name)
    return found


def _own_name(file: Gguf, name: str) -> str:
    block = _BLOCK.fullmatch(name)
    if block and block[2] in _BLOCK_NAMES and int(block[1]) < _count(file, "block_count"):
        biased = {part for group in _BIASES[family_of(file)] for part in group}
        if block[3] == "weight" or block[2] in biased:
            return f"model.layers.{int(block[1])}.{_BLOCK_NAMES[block[2]]}.{block[3]}"
    part, _, kind = name.rpartition(".")
    if kind == "weight" and part in _TOP_NAMES:
        return f"{_TOP_NAMES[part]}.weight"
    raise ModelError(f"the tensor {name} is unknown here", remedy="save the model as safetensors", about=file.path.name)


def _biases(file: Gguf) -> list[bool]:
    """Whether each group of layers that may have biases has them.

    Raises:
        ModelError: a part of a group has them.
    """
    found = []
    for group in _BIASES[family_of(file)]:
        names = [f"blk.{i}.{part}.bias" for i in range(_count(file, "block_count")) for part in group]
        there = [name in file.tensors for name in names]
        if any(there) and not all(there):
            raise ModelError(
                f"has {names[there.index(True)]} but no {names[there.index(False)]}",
                remedy="save the model as safetensors; biases of all these layers, or of none, are read",
                about=file.path.name,
            )
        found.append(any(there))
    return found


def _turned(values: Float, heads: int) -> Float:
    """Undo the interleaving of rotary pairs that GGUF writes for llama: ``(heads * d, ...)``."""
    rows = values.shape[0]
    if rows % (2 * heads):
        raise ModelError(f"{rows} rows are not {heads} heads; the file contradicts itself: write it again")
    split = values.reshape(heads, rows // heads // 2, 2, *values.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))


# --- files ---------------------------------------------------------------------------------------------------


def weights_bytes(file: Gguf) -> bytes:
    """``model.safetensors`` of the file: float32, tensors by name. The same file gives the same bytes."""
    from safetensors.numpy import save

    return bytes(save(state(file), {"format": "pt"}))


def config_bytes(file: Gguf) -> bytes:
    """``config.json`` as bytes."""
    return (json.dumps(config(file), indent=1, sort_keys=True) + "\n").encode()


#: What can be made of a GGUF file, by the name of the result.
MAKERS: dict[str, Callable[[Gguf], bytes]] = {
    "model.safetensors": weights_bytes,
    "tokenizer.json": tokenizer_bytes,
    "config.json": config_bytes,
}


def unpack_gguf(path: Path | Sequence[Path], out: Path) -> Path:
    """Write the folder ``out`` that transformers loads from a GGUF file, or from all parts of one.

    A file that is there already, such as ``tokenizer.json``, is left alone.

    Raises:
        ModelError: see ``read_parts`` and ``state``.
    """
    file = read_parts([path] if isinstance(path, Path) else path)
    out.mkdir(parents=True, exist_ok=True)
    for name, make in MAKERS.items():
        if not (out / name).exists():
            (out / name).write_bytes(make(file))
    return out
