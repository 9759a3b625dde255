"""Tiny random causal models, prompts for them, and GGUF files: what the tests of language models are made of."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from learndock.data.prompts import Prompt
from tests.support.tiny import WORDS

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def write_vocabulary(folder: Path) -> int:
    """A byte-level BPE with chatml's marks; returns its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(["", *WORDS, "user", "assistant"])] * 20, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return int(tokenizer.get_vocab_size())


def write_causal(folder: Path, *, seed: int = 0, layers: int = 1, family: str = "llama", **settings: Any) -> Path:
    """A random causal model with shared heads of keys and values, as transformers saves it."""
    import torch
    import transformers

    folder.mkdir(parents=True)
    kind = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}[family]
    usual: dict[str, Any] = {
        "vocab_size": write_vocabulary(folder), "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": layers,
        "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
        "initializer_range": 0.2, "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    config = kind(**{**usual, **settings})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = transformers.AutoModelForCausalLM.from_config(config)
        for name, values in network.named_parameters():
            if name.endswith("bias"):  # zero at the start
                torch.nn.init.normal_(values, std=0.2)
        network.save_pretrained(folder)
    return folder


def write_family(folder: Path, family: str, **settings: Any) -> Path:
    """A small random model of a family as transformers saves it."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    config = transformers.AutoConfig.for_model(
        family, **{"vocab_size": write_vocabulary(folder), "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0}
        | settings,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def prompts(n: int, seed: int = 0) -> tuple[list[Prompt], list[bool]]:
    """Prompts of a few words each, and whether one of them is about weather."""
    generator = np.random.default_rng(seed)
    found, about = [], []
    for i in range(n):
        words = list(generator.choice([w for w in WORDS if w not in ("rain", "team")], 2))
        words.insert(int(generator.integers(3)), ("rain", "team")[i % 2])
        found.append(Prompt.of(" ".join(words)))
        about.append(i % 2 == 0)
    return found, about


def write_causal_adapter(
    folder: Path, base: Path, *, seed: int = 0, rank: int = 2, size: float = 0.3, **settings: Any
) -> Path:
    """A LoRA adapter of query and value on ``base``, as PEFT saves it; random, so that it changes what is written."""
    import peft
    import torch
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = transformers.AutoModelForCausalLM.from_pretrained(base)
        usual = {"r": rank, "lora_alpha": rank, "target_modules": ["q_proj", "v_proj"]}
        adapted = peft.get_peft_model(network, peft.LoraConfig(task_type="CAUSAL_LM", **{**usual, **settings}))
        for name, values in adapted.named_parameters():
            if "lora_B" in name or "lora_embedding_A" in name:  # zero at the start
                torch.nn.init.normal_(values, std=size)
        adapted.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)
    return folder


# --- GGUF ----------------------------------------------------------------------------------------------------


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value[0], int):  # signed, as llama.cpp wants the types of tokens
        return struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)
    body = b"".join(_value(v)[4:] for v in value)
    return struct.pack("<I", 9) + _value(value[0])[:4] + struct.pack("<Q", len(value)) + body


def gguf_bytes(settings: dict[str, Any], tensors: dict[str, tuple[tuple[int, ...], int, bytes]]) -> bytes:
    """A GGUF file, version 3; a tensor is its shape (NumPy's order), its type number and its bytes."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(settings))
    head += b"".join(_text(k) + _value(v) for k, v in settings.items())
    body = b""
    for name, (shape, kind, data) in tensors.items():
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, len(body))
        body += data + bytes(-len(data) % 32)
    return head + bytes(-len(head) % 32) + body


_NAMES = {
    "lm_head": "output", "model.embed_tokens": "token_embd", "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def write_gguf(
    model: Path,
    out: Path,
    *,
    edit: Callable[[dict[str, Any]], None] | None = None,
    more: dict[str, Any] | None = None,
    without: tuple[str, ...] = (),
    parts: int = 1,
) -> Path:
    """The model in a folder as GGUF in float32, laid out as the format's own converter does for llama.

    ``edit`` changes the settings; ``more`` are further tensors, ``without`` those left out. In several ``parts`` the
    file ``out`` is the first, NAME-00001-of-0000N.gguf, and the others are written beside it.
    """
    from safetensors.numpy import load_file

    config = json.loads((model / "config.json").read_text())
    words = json.loads((model / "tokenizer.json").read_text())["model"]
    order = sorted(words["vocab"], key=words["vocab"].get)
    kind = config["model_type"]
    settings = {
        "general.architecture": kind,
        f"{kind}.block_count": config["num_hidden_layers"],
        f"{kind}.context_length": config["max_position_embeddings"],
        f"{kind}.embedding_length": config["hidden_size"],
        f"{kind}.feed_forward_length": config["intermediate_size"],
        f"{kind}.attention.head_count": config["num_attention_heads"],
        f"{kind}.attention.head_count_kv": config["num_key_value_heads"],
        f"{kind}.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        f"{kind}.rope.freq_base": float(config["rope_parameters"]["rope_theta"]),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": order,
        "tokenizer.ggml.token_type": [3 if w in SPECIAL else 1 for w in order],
        "tokenizer.ggml.merges": [" ".join(m) for m in words["merges"]],
        "tokenizer.ggml.eos_token_id": 2,
    }
    tensors = {}
    for name, values in load_file(model / "model.safetensors").items():
        place, _, last = name.rpartition(".")
        part = place.split(".", 3)
        own = _NAMES[place] if place in _NAMES else f"blk.{part[2]}.{_NAMES[part[3]]}"
        if kind == "llama" and own.endswith(("attn_q", "attn_k")):
            heads = config["num_attention_heads" if own.endswith("q") else "num_key_value_heads"]
            rows = values.shape[0]
            values = values.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(values.shape)
        tensors[f"{own}.{last}"] = (values.shape, 0, values.astype("<f4").tobytes())
    for name, values in (more or {}).items():
        tensors[name] = (values.shape, 0, values.astype("<f4").tobytes())
    tensors = {name: tensor for name, tensor in tensors.items() if name not in without}
    if edit:
        edit(settings)
    if parts == 1:
        out.write_bytes(gguf_bytes(settings, tensors))
        return out
    listed = list(tensors)
    for number in range(parts):
        said = {"split.no": number, "split.count": parts, "split.tensors.count": len(listed)}
        some = {name: tensors[name] for name in listed[number::parts]}
        path = out.with_name(f"{out.name.split('-00001-of-')[0]}-{number + 1:05d}-of-{parts:05d}.gguf")
        path.write_bytes(gguf_bytes({**(settings if number == 0 else {}), **said}, some))
    return out
