"""From inputs to token ids, with ``tokenizer.json`` and the settings beside it: no template, no code of a model's.

Shared by all formats that read tokens. Inputs are texts or pairs of texts. A batch holds texts of one length only, so
nothing is padded and the answer to a text does not depend on its neighbours: some models read their padding although
it is masked (Fourier mixing, convolutions, landmarks).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.errors import ModelError
from learndock.package.formats._tokenizer_settings import MAX_TOKENS, apply_settings, read_settings

BATCH = 32
#: Rows times squared tokens of one batch: what attention keeps of a head at once.
BUDGET = BATCH * 512 * 512
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
    """Inputs that run together: ``rows`` (b,) are their positions; the others are ``(b, length)``.

    ``typed`` is whether the model is given ``types``.
    """

    rows: Integers
    ids: Integers
    mask: Integers
    types: Integers
    typed: bool = True

    def row(self, i: int) -> Batch:
        """The input ``i`` of this batch by itself."""
        only = slice(i, i + 1)
        return Batch(self.rows[only], self.ids[only], self.mask[only], self.types[only], self.typed)


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
    """A tokenizer read from ``folder/tokenizer.json`` and ``tokenizer_config.json``.

    ``positions`` is how many tokens the model can read, None without a limit. Longer texts are cut at ``limit``, the
    smallest of that, the tokenizer's own and ``MAX_TOKENS``; ``cut`` counts those of the last ``encode``.

    Raises:
        ModelError: there is none, or it is not one.
    """

    def __init__(self, folder: Path, *, positions: int | None, pad_id: int | None = None) -> None:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                f"tokenizer.json: missing in {folder}", remedy="save it with AutoTokenizer(...).save_pretrained"
            )
        settings = read_settings(folder)
        self.positions = positions
        self.limit = min(v for v in (MAX_TOKENS, settings.limit, positions) if v is not None)
        self.types = settings.types
        self.cut = self.seen = 0
        with _library("not a tokenizer"):
            self._tokenizer = Tokenizer.from_file(str(path))
            self.words = int(self._tokenizer.get_vocab_size(with_added_tokens=True))
            """How many ids the file knows."""
            apply_settings(self._tokenizer, settings)
        padding, cutting = self._tokenizer.padding, self._tokenizer.truncation or {}
        self._tokenizer.no_padding()
        self.side = settings.side or cutting.get("direction") or "right"
        with _library(f"cannot cut texts to {self.limit} tokens"):
            self._tokenizer.enable_truncation(self.limit, direction=self.side)
        self.pad_id = self._pad_id(padding) if pad_id is None else pad_id

    def _pad_id(self, padding: dict[str, Any] | None) -> int:
        if padding is not None:
            return int(padding["pad_id"])
        for token in _PAD_TOKENS:
            found = self._tokenizer.token_to_id(token)
            if found is not None:
                return int(found)
        return 0

    def remarks(self) -> tuple[str, ...]:
        """What to say about the texts of the last ``encode`` that were cut."""
        if not self.cut:
            return ()
        more = ""
        if self.positions is None or self.limit < self.positions:
            can = "more" if self.positions is None else f"{self.positions:,}"
            more = f" (the model could read {can}; model_max_length in tokenizer_config.json says how many)"
        left = "beginning" if self.side == "left" else "end"
        longer = f"{self.cut:,} of {self.seen:,} texts are longer than the {self.limit:,} tokens that are read{more}"
        return (f"{longer}; their {left} was left out",)

    def encode(self, inputs: Sequence[Input]) -> list[Any]:
        """Encodings of all inputs, in order."""
        check_texts(inputs)
        found: list[Any] = []
        for start in range(0, len(inputs), _CHUNK):
            chunk = [tuple(v) if is_pair(v) else v for v in inputs[start : start + _CHUNK]]
            with _library("does not read texts"):
                found.extend(self._tokenizer.encode_batch(chunk))
        self.seen, self.cut = len(found), sum(bool(e.overflowing) for e in found)
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
            if self.types:
                types[line, :length] = encodings[row].type_ids
        return Batch(np.asarray(rows, dtype=np.int64), ids, mask, types, self.types)

    def batches(self, inputs: Sequence[Input], size: int = BATCH) -> Iterator[Batch]:
        """All inputs in batches of one length each, at most ``size`` of them and fewer where texts are long."""
        encodings = self.encode(inputs)
        lengths = [len(e.ids) for e in encodings]
        order = sorted(range(len(encodings)), key=lambda i: (lengths[i], i))
        for length, group in itertools.groupby(order, key=lambda i: lengths[i]):
            rows = list(group)
            most = max(1, min(size, BUDGET // max(1, length) ** 2))
            for start in range(0, len(rows), most):
                yield self.batch(encodings, rows[start : start + most])
