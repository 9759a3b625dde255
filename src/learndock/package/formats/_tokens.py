"""From inputs to token ids, with ``tokenizer.json`` alone: no tokenizer class, no template, no code.

Shared by all formats that read tokens. Inputs are texts or pairs of texts; whoever adds a format for other
inputs leaves this file alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.errors import ModelError
from learndock.package.json_file import read_object

MAX_TOKENS = 512
BATCH = 32
_CHUNK = 4_096
_PAD_TOKENS = (
    "[PAD]",
    "<pad>",
    "<|pad|>",
    "<|padding|>",
    "<|endoftext|>",
    "</s>",
    "<|end_of_text|>",
    "<eos>",
)

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Inputs of similar length: ``rows`` (b,) are their positions; the others are ``(b, length)``."""

    rows: Integers
    ids: Integers
    mask: Integers
    types: Integers


def is_pair(value: Input) -> TypeGuard[tuple[str, str]]:
    """Whether an input is a pair of texts."""
    return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(v, str) for v in value)


def check_texts(inputs: Sequence[Input]) -> None:
    """Refuse what is neither a text nor a pair of texts.

    Raises:
        ModelError: names the first such input, counted from 1.
    """
    for number, value in enumerate(inputs, start=1):
        if not isinstance(value, str) and not is_pair(value):
            raise ModelError(f"input {number}: this model reads texts or pairs of texts, found {type(value).__name__}")


def model_max_length(folder: Path, *, positions: Any = None) -> int:
    """How many tokens a model takes: what ``tokenizer_config.json`` says, its positions, at most 512."""
    limits = [MAX_TOKENS]
    if (folder / "tokenizer_config.json").is_file():
        limits.append(read_object(folder / "tokenizer_config.json").get("model_max_length") or MAX_TOKENS)
    if positions is not None:
        limits.append(positions)
    # Some tokenizers say 1e30 where they have no limit.
    return max(1, min(int(v) for v in limits if isinstance(v, int | float) and 0 < v < 1e40))


@contextlib.contextmanager
def _library(what: str) -> Iterator[None]:
    """Turn what the library says of a tokenizer into ours: bare Exceptions, and panics that are not even those."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"tokenizer.json: {what} ({text})", remedy="save it again") from None


class TextTokens:
    """A tokenizer read from ``folder/tokenizer.json``.

    Raises:
        ModelError: there is none, or it is not one.
    """

    def __init__(self, folder: Path, *, max_tokens: int, pad_id: int | None = None) -> None:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                f"tokenizer.json: missing in {folder}", remedy="save it with AutoTokenizer(...).save_pretrained"
            )
        with _library("not a tokenizer"):
            self._tokenizer = Tokenizer.from_file(str(path))
        padding = self._tokenizer.padding
        self._tokenizer.no_padding()
        with _library(f"cannot cut texts to {max_tokens} tokens"):
            self._tokenizer.enable_truncation(max_tokens)
        self.pad_id = self._pad_id(padding) if pad_id is None else pad_id

    def _pad_id(self, padding: dict[str, Any] | None) -> int:
        if padding is not None:
            return int(padding["pad_id"])
        for token in _PAD_TOKENS:
            found = self._tokenizer.token_to_id(token)
            if found is not None:
                return int(found)
        return 0

    @property
    def words(self) -> int:
        """How many ids there are."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, inputs: Sequence[Input]) -> list[Any]:
        """Encodings of all inputs, in order."""
        check_texts(inputs)
        found: list[Any] = []
        for start in range(0, len(inputs), _CHUNK):
            chunk = [tuple(v) if is_pair(v) else v for v in inputs[start : start + _CHUNK]]
            with _library("does not read texts"):
                found.extend(self._tokenizer.encode_batch(chunk))
        return found

    def batch(self, encodings: Sequence[Any], rows: Sequence[int]) -> Batch:
        """The encodings at ``rows``, padded on the right to the longest of them."""
        longest = max(1, *(len(encodings[r].ids) for r in rows))
        ids = np.full((len(rows), longest), self.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        types = np.zeros_like(ids)
        for line, row in enumerate(rows):
            length = len(encodings[row].ids)
            ids[line, :length] = encodings[row].ids
            mask[line, :length] = 1
            types[line, :length] = encodings[row].type_ids
        return Batch(np.asarray(rows, dtype=np.int64), ids, mask, types)

    def batches(self, inputs: Sequence[Input], size: int = BATCH) -> Iterator[Batch]:
        """All inputs in batches of similar length, so that little of a batch is padding."""
        encodings = self.encode(inputs)
        order = sorted(range(len(encodings)), key=lambda i: (len(encodings[i].ids), i))
        for start in range(0, len(order), size):
            yield self.batch(encodings, order[start : start + size])
