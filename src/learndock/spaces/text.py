"""Texts and pairs of texts as token ids: the only place in this room that knows inputs are texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.errors import DataError
from learndock.spaces.reading import Vocabulary, sample, text_remarks, unknown_token

#: Characters of one text that are tokenized: more than any window of tokens holds (tokens of 30 characters
#: would be needed to run out), and a bound on the time that one input can take.
MAX_CHARACTERS = 16_384


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """Token ids for texts: ``(text)`` or ``(text, text_pair)``, cut to ``max_tokens``, longest first.

    ``template`` wraps a single text before tokenization (``"{text} It was <mask>."``) and is None for
    helpers that need none. A text that spells one of the ``special`` tokens does not contain it: the template's mask
    is the only one that is read.
    """

    tokenizer: Any
    max_tokens: int
    pad: int
    template: str | None = None
    special: tuple[str, ...] = ()

    def __call__(self, inputs: Sequence[Any]) -> list[NDArray[np.int64]]:
        """Ids of every input, unpadded.

        Raises:
            DataError: an input is not a text.
        """
        prepared = [self._prepare(i) for i in inputs]
        return [np.array(e.ids, np.int64) for e in self.tokenizer.encode_batch(prepared)]

    def reading(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """What could not be read of ``inputs`` (see ``reading.text_remarks``); empty where nothing is odd."""
        chosen = sample(inputs)
        encodings = self.tokenizer.encode_batch([self._prepare(i) for i in chosen])
        texts = [" ".join(i) if isinstance(i, tuple) else i for i in chosen]
        cut = [
            bool(e.overflowing) or any(len(p) > MAX_CHARACTERS for p in (i if isinstance(i, tuple) else (i,)))
            for i, e in zip(chosen, encodings, strict=True)
        ]
        if self.template is not None:  # texts were shortened before they were encoded
            frame = len(self.tokenizer.encode(self.template.replace("{text}", "")).ids)
            bare = self.tokenizer.encode_batch(texts, add_special_tokens=False)
            cut = [bool(e.overflowing) or len(e.ids) > self.max_tokens - frame - 1 for e in bare]
        vocabulary = Vocabulary(self.tokenizer, unknown_token(self.tokenizer))
        return text_remarks(vocabulary, [t[:MAX_CHARACTERS] for t in texts], cut, f"{self.max_tokens} tokens")

    def _prepare(self, value: Any) -> str | tuple[str, str]:
        parts = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(p, str) for p in parts) or len(parts) > 2:
            raise DataError(
                f"this space reads texts, not {type(value).__name__}", remedy="choose a space for such inputs"
            )
        cut = [p[:MAX_CHARACTERS] for p in parts]
        if self.template is not None:
            for token in self.special:
                cut = [p.replace(token, f"{token[0]} {token[1:]}") for p in cut]
            return self.template.replace("{text}", self._shorten(" ".join(cut)))
        return cut[0] if len(cut) == 1 else (cut[0], cut[1])

    def _shorten(self, text: str) -> str:
        """The beginning of ``text`` that leaves room for the template: what follows must not be cut off."""
        assert self.template is not None
        frame = self.tokenizer.encode(self.template.replace("{text}", "")).ids
        room = max(self.max_tokens - len(frame) - 1, 0)
        # A character may be several tokens, and what is left of a cut word may be more tokens than before
        while len(offsets := self.tokenizer.encode(text, add_special_tokens=False).offsets) > room:
            text = text[: min(offsets[room][0], len(text) - 1)]
        return text

    def pad_batch(self, ids: Sequence[NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
        """The graph's inputs: ``ids`` and ``places`` ``(tokens,)``, ``mask`` and ``slots`` ``(n, length)``.

        ``slots`` says for each place of each example which token is there (the first token where ``mask``
        is 0), ``places`` for each token its position in the flattened ``slots``.
        """
        lengths = np.array([len(i) for i in ids])
        mask = np.arange(int(lengths.max())) < lengths[:, None]
        slots = np.zeros(mask.shape, np.int64)
        slots[mask] = np.arange(int(lengths.sum()))
        return {
            "ids": np.concatenate(ids),
            "mask": mask.astype(np.int64),
            "slots": slots,
            "places": np.flatnonzero(mask),
        }


def read_text_encoder(tokenizer_json: bytes, *, max_tokens: int, pad: int, template: str | None) -> TextEncoder:
    """Make the encoder from the bytes of a ``tokenizer.json``; its own padding and cutting are replaced."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens, strategy="longest_first")
    # Texts are strangers': what they spell is text. A template spells its mask itself
    tokenizer.encode_special_tokens = template is None
    special = tuple(t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special)
    return TextEncoder(tokenizer, max_tokens, pad, template, special)
