"""SentencePiece vocabularies in GGUF join pieces by their scores; four-bit kinds with a table are read as described."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.errors import ModelError
from learndock.spaces import gguf, gguf_vocabulary
from learndock.spaces.prompts import plain_tokenizer
from tests.support.causal import gguf_bytes

SPACE = "\u2581"
BYTES = [f"<0x{i:02X}>" for i in range(256)]
TEXTS = (
    "the rain", "  two  spaces ", "", " ", "na\u00efve \u00c4rger \u4f60\u597d \U0001f642", "\n\na\tb", "rain" * 9,
    "<s> </s> <0x0A>", "123 45",
)  # fmt: skip


def vocabulary(seed: int) -> tuple[list[str], list[float], list[int]]:
    """Pieces, scores and types: random pieces joined of two others each, as training by pairs makes them."""
    generator = np.random.default_rng(seed)
    plain = [SPACE, *"abcdeinrst"]
    joined: list[str] = []
    while len(joined) < 120:
        piece = "".join(str(p) for p in generator.choice([*plain, *joined], 2))
        if piece not in plain and piece not in joined and len(piece) < 8:
            joined.append(piece)
    words = ["<unk>", "<s>", "</s>", *BYTES, *joined, *plain]
    scores = [0.0] * 259 + [-float(i) for i in range(len(joined) + len(plain))]
    kinds = [2, 3, 3, *[6] * 256, *[1] * (len(joined) + len(plain))]
    return words, scores, kinds


def write(path: Path, words: list[str], scores: list[float], kinds: list[int], **settings: Any) -> gguf.Gguf:
    known = {
        "general.architecture": "llama", "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.scores": scores, "tokenizer.ggml.token_type": kinds,
        **{f"tokenizer.ggml.{k}": v for k, v in settings.items()},
    }  # fmt: skip
    path.write_bytes(gguf_bytes(known, {}))
    return gguf.read_gguf(path)


def sentencepiece(text: str, words: list[str], scores: list[float], *, prefix: bool = True) -> list[int]:
    """SentencePiece's BPE in its plainest form: join the neighbours of the best score until none are left."""
    if not text:
        return []
    best = dict(zip(words[259:], scores[259:], strict=True))
    parts = list((SPACE if prefix else "") + text.replace(" ", SPACE))
    while True:
        pairs = [(best[a + b], -i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in best]
        if not pairs:
            break
        at = -max(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    ids: list[int] = []
    for part in parts:
        ids += [words.index(part)] if part in best else [3 + byte for byte in part.encode()]
    return ids


@pytest.mark.parametrize("seed", range(4))
def test_pieces_are_joined_by_their_scores(seed: int, tmp_path: Path) -> None:
    words, scores, kinds = vocabulary(seed)
    tokenizer = plain_tokenizer(gguf_vocabulary.tokenizer_bytes(write(tmp_path / "m.gguf", words, scores, kinds)))
    generator = np.random.default_rng(seed + 10)
    texts = [*TEXTS, *("".join(generator.choice(list("abcdeinrst  x\u00e9"), 30)) for _ in range(60))]
    for text in texts:
        found = tokenizer.encode(text, add_special_tokens=False).ids
        assert found == sentencepiece(text, words, scores), text
        assert tokenizer.decode(found) == text


def test_without_a_space_before_the_text(tmp_path: Path) -> None:
    words, scores, kinds = vocabulary(1)
    file = write(tmp_path / "m.gguf", words, scores, kinds, add_space_prefix=False)
    tokenizer = plain_tokenizer(gguf_vocabulary.tokenizer_bytes(file))
    for text in TEXTS:
        found = tokenizer.encode(text, add_special_tokens=False).ids
        assert found == sentencepiece(text, words, scores, prefix=False), text


def test_begin_and_end_have_the_defaults_of_their_kind(tmp_path: Path) -> None:
    words, scores, kinds = vocabulary(0)
    file = write(tmp_path / "m.gguf", words, scores, kinds)
    assert (gguf_vocabulary.begin_token(file), gguf_vocabulary.end_tokens(file)) == (1, [2])
    file = write(tmp_path / "m.gguf", words, scores, kinds, add_bos_token=False, eos_token_id=1)
    assert (gguf_vocabulary.begin_token(file), gguf_vocabulary.end_tokens(file)) == (None, [1, 2])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda w, s, k: s.pop(), r"scores for \d+ pieces"),
        (lambda w, s, k: k.__setitem__(20, 1), "not all 256 byte pieces"),
        (lambda w, s, k: s.__setitem__(slice(259, 300), [-1.0] * 41), "have the same score"),
        (lambda w, s, k: w.__setitem__(5, w[6]), "has a token twice"),
        (lambda w, s, k: (w.__setitem__(270, SPACE * 2), k.__setitem__(270, 4)), "user-defined pieces with spaces"),
    ],
)
def test_vocabularies_that_do_not_say_enough(edit: Any, message: str, tmp_path: Path) -> None:
    words, scores, kinds = vocabulary(2)
    edit(words, scores, kinds)
    with pytest.raises(ModelError, match=message):
        gguf_vocabulary.tokenizer_bytes(write(tmp_path / "m.gguf", words, scores, kinds))


def test_llama_3_splits_numbers_by_three_and_keeps_whole_words(tmp_path: Path) -> None:
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, "12", "123", "34", "whole"]
    known = {
        "general.architecture": "llama", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": words, "tokenizer.ggml.merges": ["1 2", "12 3", "3 4"],
    }  # fmt: skip
    (tmp_path / "m.gguf").write_bytes(gguf_bytes(known, {}))
    tokenizer = plain_tokenizer(gguf_vocabulary.tokenizer_bytes(gguf.read_gguf(tmp_path / "m.gguf")))
    assert tokenizer.encode("12345").tokens == ["123", "4", "5"]
    assert tokenizer.encode("whole").tokens == ["whole"]  # no merge leads there
    assert tokenizer.encode("1234 34").tokens == ["123", "4", "\u0120", "34"]


# --- blocks with a table of values ---------------------------------------------------------------------------

TABLE = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def reference(kind: int, data: bytes) -> list[float]:
    """One block as llama.cpp describes it, number by number."""
    scale = struct.unpack_from("<e", data)[0]
    if kind == 20:
        return [scale * TABLE[data[2 + i % 16] & 15 if i < 16 else data[2 + i % 16] >> 4] for i in range(32)]
    high = struct.unpack_from("<H", data, 2)[0]
    found = []
    for i in range(256):
        group, place = i // 32, i % 32
        low = data[4 + group // 2] >> (4 * (group % 2)) & 15
        byte = data[8 + 16 * group + place % 16]
        found.append(
            scale * ((low | (high >> 2 * group & 3) << 4) - 32) * TABLE[byte & 15 if place < 16 else byte >> 4]
        )
    return found


@pytest.mark.parametrize(("kind", "size", "numbers"), [(20, 18, 32), (23, 136, 256)])
def test_tables_are_read_as_they_are_described(kind: int, size: int, numbers: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(kind)
    blocks = [struct.pack("<e", generator.normal()) + generator.bytes(size - 2) for _ in range(6)]
    (tmp_path / "x.gguf").write_bytes(gguf_bytes({"a": "b"}, {"t": ((3, 2 * numbers), kind, b"".join(blocks))}))
    expected = np.array([reference(kind, b) for b in blocks]).reshape(3, 2 * numbers)
    np.testing.assert_allclose(gguf.numbers(gguf.read_gguf(tmp_path / "x.gguf"), "t"), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "name"), [(16, "IQ2_XXS"), (19, "IQ1_S"), (21, "IQ3_S"), (34, "TQ1_0"), (39, "MXFP4")]
)
def test_other_kinds_are_refused_by_name(kind: int, name: str, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(gguf_bytes({}, {"t": ((1, 256), kind, bytes(300))}))
    with pytest.raises(ModelError, match=f"t is stored as {name}, which is not read here"):
        gguf.read_gguf(tmp_path / "x.gguf")
