"""GGUF: the same numbers as the model that was written, and damage that is named."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, load_file

from learndock.errors import ModelError
from learndock.spaces import gguf, gguf_model, gguf_vocabulary
from tests.support.causal import gguf_bytes, write_causal, write_gguf


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal(tmp_path_factory.mktemp("gguf") / "model", layers=2, family=request.param)


@pytest.fixture
def file(model: Path, tmp_path: Path) -> Path:
    return write_gguf(model, tmp_path / "model.gguf")


def test_weights_come_back_bit_for_bit(model: Path, file: Path) -> None:
    found, written = load(gguf_model.weights_bytes(gguf.read_gguf(file))), load_file(model / "model.safetensors")
    assert set(found) == set(written)
    for name, values in written.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_the_folder_is_the_model(model: Path, file: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = gguf_model.unpack_gguf(file, tmp_path / "unpacked")
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        one, other = (AutoModelForCausalLM.from_pretrained(f).eval()(ids).logits for f in (model, folder))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_vocabulary_splits_alike(model: Path, file: Path) -> None:
    from tokenizers import Tokenizer

    one = Tokenizer.from_file(str(model / "tokenizer.json"))
    other = Tokenizer.from_buffer(gguf_vocabulary.tokenizer_bytes(gguf.read_gguf(file)))
    for text in ("the nurse wrote: naïve, 25%", "<|im_start|>user\n  rain", "\n\n\tx"):
        assert other.encode(text).ids == one.encode(text).ids
        assert other.decode(other.encode(text).ids) == one.decode(one.encode(text).ids)


def test_the_same_file_gives_the_same_bytes(file: Path) -> None:
    for make in gguf_model.MAKERS.values():
        assert make(gguf.read_gguf(file)) == make(gguf.read_gguf(file))


def half(value: float) -> bytes:
    return struct.pack("<e", value)


def reference(kind: int, data: bytes) -> list[float]:
    """One block as the format's description says it, number by number."""
    if kind == 8:
        return [struct.unpack_from("<e", data)[0] * v for v in struct.unpack_from("<32b", data, 2)]
    scale = struct.unpack_from("<e", data)[0]
    low = struct.unpack_from("<e", data, 2)[0] if kind in (3, 7) else 0.0
    skip = {2: 2, 3: 4, 6: 6, 7: 8}[kind]
    high = struct.unpack_from("<I", data, skip - 4)[0] if kind in (6, 7) else 0
    found = []
    for i in range(32):
        byte = data[skip + i % 16]
        whole = (byte & 15 if i < 16 else byte >> 4) | ((high >> i & 1) << 4)
        found.append(scale * (whole - {2: 8, 6: 16}.get(kind, 0)) + low)
    return found


@pytest.mark.parametrize(("kind", "size"), [(2, 18), (3, 20), (6, 22), (7, 24), (8, 34)])
def test_blocks_are_read_as_they_are_described(kind: int, size: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(kind)
    blocks = []
    for _ in range(6):
        head = half(generator.normal()) + (half(generator.normal()) if kind in (3, 7) else b"")
        blocks.append(head + generator.bytes(size - len(head)))
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_bytes({"a": "b"}, {"t": ((3, 64), kind, b"".join(blocks))}))
    expected = np.array([reference(kind, b) for b in blocks]).reshape(3, 64)
    np.testing.assert_allclose(gguf.numbers(gguf.read_gguf(path), "t"), expected, rtol=1e-6)


def test_plain_kinds(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    short = (values.view(np.uint32) >> 16).astype("<u2")
    path = tmp_path / "x.gguf"
    path.write_bytes(
        gguf_bytes({}, {"f": ((2, 8), 1, values.astype("<f2").tobytes()), "b": ((2, 8), 30, short.tobytes())})
    )
    file = gguf.read_gguf(path)
    np.testing.assert_array_equal(gguf.numbers(file, "f"), values.astype(np.float16))
    np.testing.assert_allclose(gguf.numbers(file, "b"), values, rtol=2**-7)


def six_bits(data: bytes, j: int) -> tuple[int, int]:
    """Scale and minimum of group ``j`` of eight, six bits each in twelve bytes."""
    if j < 4:
        return data[j] & 63, data[j + 4] & 63
    return (data[j + 4] & 15) | (data[j - 4] >> 6 << 4), (data[j + 4] >> 4) | (data[j] >> 6 << 4)


def reference_k(kind: int, data: bytes) -> list[float]:
    """A block of 256 as the format's description says it, number by number."""
    at = {10: 80, 11: 108, 12: 0, 13: 0, 14: 208}[kind]
    d = struct.unpack_from("<e", data, at)[0]
    dmin = struct.unpack_from("<e", data, at + 2)[0] if kind in (10, 12, 13) else 0.0
    found = []
    for i in range(256):
        half_of, fourth, place = i // 128, i % 128 // 32, i % 32
        group, pair = i // 16, 2 * (i % 128 // 32)
        if kind == 10:
            value = data[16 + 32 * half_of + place] >> pair & 3
            found.append(d * (data[group] & 15) * value - dmin * (data[group] >> 4))
        elif kind == 11:
            value = (data[32 + 32 * half_of + place] >> pair & 3) - (0 if data[place] >> (i // 32) & 1 else 4)
            low = data[96 + group % 8] >> (4 if group >= 8 else 0) & 15
            high = data[104 + group % 4] >> 2 * (group // 4) & 3
            found.append(d * ((low | high << 4) - 32) * value)
        elif kind in (12, 13):
            first = 16 if kind == 12 else 48
            value = data[first + 32 * (i // 64) + place] >> (4 if i % 64 >= 32 else 0) & 15
            value |= (data[16 + place] >> (i // 32) & 1) << 4 if kind == 13 else 0
            scale, minimum = six_bits(data[4:16], i // 32)
            found.append(d * scale * value - dmin * minimum)
        else:
            value = data[64 * half_of + place + 32 * (fourth % 2)] >> (4 if fourth >= 2 else 0) & 15
            value |= (data[128 + 32 * half_of + place] >> pair & 3) << 4
            found.append(d * struct.unpack_from("<b", data, 192 + group)[0] * (value - 32))
    return found


@pytest.mark.parametrize(("kind", "size"), [(10, 84), (11, 110), (12, 144), (13, 176), (14, 210)])
def test_blocks_of_256_are_read_as_they_are_described(kind: int, size: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(kind)
    halves = {10: (80, 82), 11: (108,), 12: (0, 2), 13: (0, 2), 14: (208,)}[kind]
    blocks = []
    for _ in range(6):
        block = bytearray(generator.bytes(size))
        for at in halves:
            block[at : at + 2] = half(generator.normal())
        blocks.append(bytes(block))
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_bytes({"a": "b"}, {"t": ((3, 512), kind, b"".join(blocks))}))
    expected = np.array([reference_k(kind, b) for b in blocks]).reshape(3, 512)
    np.testing.assert_allclose(gguf.numbers(gguf.read_gguf(path), "t"), expected, rtol=1e-4, atol=1e-4)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match="cut off"):
        gguf.read_gguf(path)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.9, 0.9999])
def test_a_file_that_is_cut_off(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"model\.gguf: cut off.*[Ff]etch it again"):
        gguf.read_gguf(file)


def test_versions_that_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    for head, message in (("<I", "GGUF version 1 is not read"), (">I", "big-endian GGUF is not read")):
        path.write_bytes(b"GGUF" + struct.pack(head, 1 if head == "<I" else 3) + bytes(16))
        with pytest.raises(ModelError, match=message):
            gguf.read_gguf(path)


def test_what_is_not_gguf(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"PK\x03\x04" + bytes(60))
    with pytest.raises(ModelError, match="not a GGUF file"):
        gguf.read_gguf(path)


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_bytes({}, {"t": ((1, 32), 8, half(math.inf) + bytes([1] * 32))}))
    with pytest.raises(ModelError, match="t has numbers that are not finite"):
        gguf.numbers(gguf.read_gguf(path), "t")


def test_an_unknown_kind_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_bytes({}, {"t": ((1, 256), 16, bytes(66))}))
    with pytest.raises(ModelError, match=r"stored as IQ2_XXS.*quantise it to one of F32"):
        gguf.read_gguf(path)


def test_a_family_or_vocabulary_that_is_not_known(model: Path, tmp_path: Path) -> None:
    kind = json.loads((model / "config.json").read_text())["model_type"]
    other = write_gguf(model, tmp_path / "a.gguf", edit=lambda s: s.update({"general.architecture": "rwkv7"}))
    with pytest.raises(ModelError, match="the architecture 'rwkv7' is not read from GGUF"):
        gguf_model.config(gguf.read_gguf(other))
    other = write_gguf(model, tmp_path / "b.gguf", edit=lambda s: s.update({"tokenizer.ggml.model": "llama"}))
    with pytest.raises(ModelError, match=r"put the model's tokenizer\.json beside it"):
        gguf_vocabulary.tokenizer_bytes(gguf.read_gguf(other))
    other = write_gguf(model, tmp_path / "c.gguf", edit=lambda s: s.update({f"{kind}.block_count": 3}))
    with pytest.raises(ModelError, match=r"has no weights for model\.layers\.2"):
        gguf_model.state(gguf.read_gguf(other))
