"""GGUF files: a strict reader, and their tensors as plain numbers.

Language models are often published as GGUF: one file with settings, vocabulary and block-quantised tensors. Here such
a file becomes ``model.safetensors`` (float32), ``config.json`` and ``tokenizer.json`` under the names that transformers
uses, in NumPy alone. The result depends on the bytes of the file only, so that a hash can name it: a scale times a
small whole number is exact in float32, and the one sum after it is rounded once.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from learndock.errors import ModelError
from learndock.spaces.gguf_blocks import KINDS

Float = NDArray[np.float32]

MAGIC, VERSIONS = b"GGUF", (2, 3)
MAX_TENSORS, MAX_SETTINGS, MAX_ITEMS, MAX_TEXT = 20_000, 2_000, 2_000_000, 4 << 20
#: type number -> how a value is stored; 8 is a text, 9 a list
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
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


@dataclass(frozen=True)
class Quantised:
    """One tensor of the file: ``shape`` in NumPy's order, ``kind`` its type number, and where its bytes lie."""

    shape: tuple[int, ...]
    kind: int
    begin: int
    end: int


@dataclass(frozen=True)
class Gguf:
    """The head of a GGUF file: everything but the numbers."""

    path: Path
    settings: Mapping[str, Any]
    tensors: Mapping[str, Quantised]

    @property
    def family(self) -> str:
        """``general.architecture``, one that is known here.

        Raises:
            ModelError: it is another.
        """
        found = self.settings.get("general.architecture")
        if found not in FAMILIES:
            raise ModelError(
                f"{self.path.name}: the architecture {found!r} is not read from GGUF; known are "
                f"{', '.join(FAMILIES)}. Save the model as safetensors instead"
            )
        return str(found)

    def setting(self, key: str) -> Any:
        """A setting of the family, such as ``block_count``.

        Raises:
            ModelError: it is missing.
        """
        name = f"{self.family}.{key}"
        if name not in self.settings:
            raise ModelError(f"{self.path.name}: does not say {name}; write it again")
        return self.settings[name]


def read_gguf(path: Path) -> Gguf:
    """Read and check the head of a GGUF file; every tensor must lie inside the file.

    Raises:
        ModelError: not GGUF, cut off, or it contradicts itself.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            return _read(path, stream, size)
    except (struct.error, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise ModelError(
            f"{path.name}: cut off or damaged in its head ({error}); its {size:,} bytes are not a whole GGUF file. "
            "Fetch it again"
        ) from None


def _read(path: Path, stream: BinaryIO, size: int) -> Gguf:
    magic, version, tensors, settings = struct.unpack("<4sIQQ", stream.read(24))
    if magic != MAGIC:
        raise ModelError(f"{path.name}: not a GGUF file (it begins with {magic!r}); save the model again")
    if version not in VERSIONS:
        raise ModelError(f"{path.name}: GGUF version {version} is not read here; write version 3")
    if tensors > MAX_TENSORS or settings > MAX_SETTINGS:
        raise ModelError(f"{path.name}: claims {tensors} tensors and {settings} settings; it is damaged")
    known: dict[str, Any] = {}
    for _ in range(settings):
        key = _text(stream)
        known[key] = _value(stream, struct.unpack("<I", stream.read(4))[0])
    entries = [_entry(stream) for _ in range(tensors)]
    align = known.get("general.alignment", 32)
    if type(align) is not int or not 1 <= align <= 1 << 20:
        raise ModelError(f"{path.name}: aligned to {align!r} bytes; it is damaged")
    start = -(-stream.tell() // align) * align
    found: dict[str, Quantised] = {}
    for name, shape, kind, offset in entries:
        length = _length(path, name, shape, kind)
        if start + offset + length > size:
            raise ModelError(
                f"{path.name}: cut off: {name} ends at byte {start + offset + length:,}, the file has {size:,}; "
                "fetch it again"
            )
        if name in found:
            raise ModelError(f"{path.name}: holds {name} twice; it is damaged")
        found[name] = Quantised(shape, kind, start + offset, start + offset + length)
    return Gguf(path, known, found)


def _text(stream: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > MAX_TEXT:
        raise ValueError(f"a text of {length} bytes")
    data = stream.read(length)
    if len(data) < length:
        raise ValueError("a text ends early")
    return data.decode("utf-8")


def _value(stream: BinaryIO, kind: int, depth: int = 0) -> Any:
    if kind in _SCALARS:
        code = "<" + _SCALARS[kind]
        return struct.unpack(code, stream.read(struct.calcsize(code)))[0]
    if kind == _TEXT:
        return _text(stream)
    if kind != _LIST or depth > 2:
        raise ValueError(f"a setting of the unknown type {kind}")
    of, count = struct.unpack("<IQ", stream.read(12))
    if count > MAX_ITEMS:
        raise ValueError(f"a list of {count} items")
    return [_value(stream, of, depth + 1) for _ in range(count)]


def _entry(stream: BinaryIO) -> tuple[str, tuple[int, ...], int, int]:
    name = _text(stream)
    (axes,) = struct.unpack("<I", stream.read(4))
    if not 1 <= axes <= 4:
        raise ValueError(f"{name} has {axes} axes")
    shape = struct.unpack(f"<{axes}Q", stream.read(8 * axes))
    kind, offset = struct.unpack("<IQ", stream.read(12))
    return name, tuple(reversed(shape)), kind, offset


def _length(path: Path, name: str, shape: tuple[int, ...], kind: int) -> int:
    if kind not in KINDS:
        known = ", ".join(k.name for k in KINDS.values())
        raise ModelError(
            f"{path.name}: {name} is stored as type {kind}, which is not read here; read are {known}. "
            "Quantise it to one of these, or save the model as safetensors"
        )
    found = KINDS[kind]
    count = math.prod(shape)
    if count == 0 or shape[-1] % found.numbers:
        raise ModelError(f"{path.name}: {name} has the shape {list(shape)}, no whole blocks of {found.name}")
    return count // found.numbers * found.size


# --- numbers -------------------------------------------------------------------------------------------------


def numbers(file: Gguf, name: str) -> Float:
    """One tensor as float32, in its shape.

    Raises:
        ModelError: there is none of that name, or a number in it is not finite.
    """
    entry = file.tensors.get(name)
    if entry is None:
        raise ModelError(f"{file.path.name}: has no tensor {name}; write it again")
    kind = KINDS[entry.kind]
    with file.path.open("rb") as stream:
        stream.seek(entry.begin)
        data = np.frombuffer(stream.read(entry.end - entry.begin), np.uint8)
    found = kind.read(data.reshape(-1, kind.size)).reshape(entry.shape)
    if not np.isfinite(found).all():
        raise ModelError(f"{file.path.name}: {name} holds numbers that are not finite; the file is damaged")
    # Plain numbers are still the file's own bytes, which nobody may write to
    return np.require(found, np.float32, ["W"])


def state(file: Gguf) -> dict[str, Float]:
    """All weights under the names that transformers gives them; queries and keys as it lays them out.

    Raises:
        ModelError: a tensor that is unknown or missing, or not finite.
    """
    found = {}
    for name in sorted(file.tensors):
        found_name = _own_name(file, name)
        if found_name is None:
            continue
        values = numbers(file, name)
        if file.family == "llama" and ".attn_q." in name:
            values = _turned(values, int(file.setting("attention.head_count")))
        if file.family == "llama" and ".attn_k." in name:
            values = _turned(values, int(file.setting("attention.head_count_kv")))
        found[found_name] = values
    layers = int(file.setting("block_count"))
    needed = [f"model.layers.{i}.{part}.weight" for i in range(layers) for part in _BLOCK_NAMES.values()]
    missing = [n for n in ("model.embed_tokens.weight", "model.norm.weight", *needed) if n not in found]
    if missing:
        raise ModelError(f"{file.path.name}: has no weights for {', '.join(missing[:3])}; write it again")
    return found


def _own_name(file: Gguf, name: str) -> str | None:
    block = _BLOCK.fullmatch(name)
    if block and block[2] in _BLOCK_NAMES:
        return f"model.layers.{int(block[1])}.{_BLOCK_NAMES[block[2]]}.{block[3]}"
    part, _, kind = name.rpartition(".")
    if kind == "weight" and part in _TOP_NAMES:
        return f"{_TOP_NAMES[part]}.weight"
    if name == "rope_freqs.weight":  # follows from the settings
        return None
    raise ModelError(f"{file.path.name}: the tensor {name} is unknown here; save the model as safetensors")


def _turned(values: Float, heads: int) -> Float:
    """Undo the interleaving of rotary pairs that GGUF writes for llama: ``(heads * d, ...)``."""
    rows = values.shape[0]
    if heads < 1 or rows % (2 * heads):
        raise ModelError(f"{rows} rows are no {heads} heads; the file contradicts itself")
    split = values.reshape(heads, rows // heads // 2, 2, *values.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))


def weights_bytes(file: Gguf) -> bytes:
    """``model.safetensors`` of the file: float32, tensors by name. The same file gives the same bytes."""
    from safetensors.numpy import save

    return bytes(save(state(file), {"format": "pt"}))


def config(file: Gguf) -> dict[str, Any]:
    """``config.json`` for transformers."""
    heads = int(file.setting("attention.head_count"))
    width = int(file.setting("embedding_length"))
    words = file.tensors["token_embd.weight"].shape[0]
    pads = file.settings.get("tokenizer.ggml.padding_token_id")
    return {
        "architectures": [FAMILIES[file.family]],
        "model_type": file.family,
        "hidden_size": width,
        "intermediate_size": int(file.setting("feed_forward_length")),
        "num_hidden_layers": int(file.setting("block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(file.setting("attention.head_count_kv")),
        "head_dim": int(file.settings.get(f"{file.family}.attention.key_length", width // heads)),
        "max_position_embeddings": int(file.setting("context_length")),
        # Six digits: the file keeps float32, configurations write the decimal number
        "rms_norm_eps": float(f"{file.setting('attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": float(file.settings.get(f"{file.family}.rope.freq_base", 10000.0)),
        },
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "vocab_size": words,
        "bos_token_id": file.settings.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": file.settings.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": pads,
        "hidden_act": "silu",
        "attention_bias": False,
        "dtype": "float32",
    }


#: How texts are split before merges, by what the file calls it.
_SPLITS: dict[str, list[dict[str, Any]]] = {
    "smollm": [{"type": "Digits", "individual_digits": True}],
    "gpt-2": [],
    "qwen2": [
        {
            "type": "Split",
            "pattern": {
                "Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
                r"\s*[\r\n]+|\s+(?!\S)|\s+"
            },
            "behavior": "Isolated",
            "invert": False,
        }
    ],
}
_CONTROL, _USER_DEFINED = 3, 4


def tokenizer_bytes(file: Gguf) -> bytes:
    """``tokenizer.json`` of a byte-level vocabulary. The same file gives the same bytes.

    Raises:
        ModelError: another kind of vocabulary.
    """
    known = file.settings
    kind, split = known.get("tokenizer.ggml.model"), known.get("tokenizer.ggml.pre", "gpt-2")
    words, merges = known.get("tokenizer.ggml.tokens"), known.get("tokenizer.ggml.merges")
    if kind != "gpt2" or split not in _SPLITS or not words or not merges:
        raise ModelError(
            f"{file.path.name}: the vocabulary {kind}/{split} is not read from GGUF; put the model's "
            "tokenizer.json beside it"
        )
    kinds = known.get("tokenizer.ggml.token_type") or [1] * len(words)
    added = [
        {
            "id": i, "content": words[i], "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": kinds[i] == _CONTROL,
        }
        for i in range(len(words))
        if kinds[i] in (_CONTROL, _USER_DEFINED)
    ]  # fmt: skip
    bytewise = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": split != "qwen2"}
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if split == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*_SPLITS[split], bytewise]},
        "post_processor": None,
        "decoder": {**bytewise, "use_regex": True, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {word: i for i, word in enumerate(words)},
            "merges": [merge.split(" ", 1) for merge in merges],
        },
    }
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def config_bytes(file: Gguf) -> bytes:
    """``config.json`` as bytes."""
    return (json.dumps(config(file), indent=1, sort_keys=True) + "\n").encode()


#: What can be made of a GGUF file, by the name of the result.
MAKERS: dict[str, Callable[[Gguf], bytes]] = {
    "model.safetensors": weights_bytes,
    "tokenizer.json": tokenizer_bytes,
    "config.json": config_bytes,
}


def unpack_gguf(path: Path, out: Path) -> Path:
    """Write the folder ``out`` that transformers loads from a GGUF file; a ``tokenizer.json`` there is left alone.

    Raises:
        ModelError: see ``read_gguf`` and ``state``.
    """
    file = read_gguf(path)
    out.mkdir(parents=True, exist_ok=True)
    for name, make in MAKERS.items():
        if not (out / name).exists():
            (out / name).write_bytes(make(file))
    return out
