"""Prompts and completions as token ids: the only place in this room that knows how they are written.

An example is one prompt and several completions of it. They are laid out side by side, the prompt once:

    token      p0 p1 p2 p3 | a0 a1 a2 | b0 b1
    segment     0  0  0  0 |  1  1  1 |  2  2     attention sees segment 0 and its own, backwards only
    position    0  1  2  3 |  4  5  6 |  4  5
    predecessor            |  3  4  5 |  3  7     the token whose output predicts this one

so that the helper reads a prompt once however many completions are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.prompts import Prompt, ScoredPrompt
from learndock.errors import DataError, SpaceError
from learndock.spaces.reading import Vocabulary, sample, text_remarks, unknown_token

#: Characters of one turn that are tokenized: see ``text.MAX_CHARACTERS``. The end of a prompt is kept.
MAX_CHARACTERS = 16_384
#: Formats by name: chatml marks turns with <|im_start|> and <|im_end|>; plain writes them under each other.
FORMATS = ("chatml", "plain")
_START, _END = "<|im_start|>", "<|im_end|>"

#: How the names of architectures end, in a model's ``config.json``, that write texts.
WRITING = ("ForCausalLM", "LMHeadModel", "ModelWithLMHead", "GenerationDecoder", "ForConditionalGeneration")

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PromptFormat:
    """How prompts are written for one vocabulary: special tokens by id, everything else as plain text.

    ``end`` closes a completion; ``start`` opens a turn (chatml only); ``begin`` opens the prompt, or is None.
    """

    name: str
    tokenizer: Any
    end: int
    start: int | None = None
    begin: int | None = None

    def prompt(self, prompt: Any) -> list[int]:
        """Ids of a prompt up to where the completion begins.

        Raises:
            DataError: it is neither a prompt nor a text nor a pair of texts.
        """
        turns = _turns(prompt)
        found = [] if self.begin is None else [self.begin]
        if self.name == "plain":
            return found + self._ids("\n".join(text for _, text in turns) + "\n")
        assert self.start is not None
        newline = self._ids("\n")
        for role, text in turns:
            found += [self.start, *self._ids(f"{role}\n{text}"), self.end, *newline]
        return [*found, self.start, *self._ids("assistant\n")]

    def completion(self, text: str) -> list[int]:
        """Ids of a completion with the token that ends it.

        Raises:
            DataError: it is empty.
        """
        ids = self._ids(text[:MAX_CHARACTERS])
        if not ids or not text.strip():
            raise DataError("a completion is empty", remedy="there is nothing to learn from it: leave the row out")
        return [*ids, self.end]

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def describe(self) -> dict[str, Any]:
        """For a space's description, or a learnware's settings."""
        return {"format": self.name, "begin": self.begin, "start": self.start, "end": self.end}


def _turns(value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, Prompt):
        return tuple((role, text[-MAX_CHARACTERS:]) for role, text in value.turns)
    parts = value if isinstance(value, tuple) else (value,)
    if not parts or not all(isinstance(p, str) for p in parts):
        raise DataError(
            f"this space reads prompts, not {type(value).__name__}", remedy="choose a space for such inputs"
        )
    return (("user", "\n".join(p[-MAX_CHARACTERS:] for p in parts)),)


def plain_tokenizer(tokenizer_json: bytes) -> Any:
    """A tokenizer that reads a user's text as text, even where it spells a special token."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_buffer(tokenizer_json)
    found.no_padding()
    found.no_truncation()
    found.encode_special_tokens = True
    return found


def prompt_format(
    tokenizer_json: bytes, *, end: int | None, begin: int | None = None, name: str | None = None
) -> PromptFormat:
    """The format for a vocabulary: chatml where it has the two marks, plain otherwise; ``name`` asks for one.

    Raises:
        SpaceError: no token ends a completion, or chatml is asked for without its marks.
    """
    tokenizer = plain_tokenizer(tokenizer_json)
    start, stop = tokenizer.token_to_id(_START), tokenizer.token_to_id(_END)
    if name is None:
        name = "chatml" if start is not None and stop is not None else "plain"
    if name not in FORMATS:
        raise SpaceError(f'prompt format "{name}" is unknown', remedy=f"use one of {', '.join(FORMATS)}")
    if name == "chatml":
        if start is None or stop is None:
            raise SpaceError(f"the vocabulary has no {_START} and {_END}", remedy="use the prompt format plain")
        return PromptFormat(name, tokenizer, stop, start, begin)
    if end is None:
        raise SpaceError("the model names no token that ends a text (eos_token_id); it cannot write completions")
    return PromptFormat(name, tokenizer, end, None, begin)


def read_format(tokenizer_json: bytes, described: Mapping[str, Any]) -> PromptFormat:
    """The format that ``describe`` described."""
    return PromptFormat(
        described["format"], plain_tokenizer(tokenizer_json), described["end"], described["start"], described["begin"]
    )


@dataclass(frozen=True, eq=False)
class PromptEncoder:
    """Lays out prompts and completions: at most ``prompt_tokens`` (the end is kept) and ``completion_tokens`` each."""

    format: PromptFormat
    prompt_tokens: int
    completion_tokens: int

    def __call__(self, inputs: Sequence[Any]) -> list[Integers]:
        """Every input laid out, ``(tokens, 4)``: id, segment, position, predecessor (-1 in the prompt).

        Inputs are ``ScoredPrompt``, or prompts alone.

        Raises:
            DataError: an input is neither, or a completion is empty.
        """
        return [self._lay_out(i) for i in inputs]

    def _lay_out(self, value: Any) -> Integers:
        asked = value if isinstance(value, ScoredPrompt) else ScoredPrompt(value, ())
        prompt = self.format.prompt(asked.prompt)[-self.prompt_tokens :]
        count = len(prompt)
        rows = [[token, 0, i, -1] for i, token in enumerate(prompt)]
        for segment, text in enumerate(asked.completions, start=1):
            before = count - 1
            for i, token in enumerate(self.format.completion(text)[: self.completion_tokens]):
                rows.append([token, segment, count + i, before])
                before = len(rows) - 1
        return np.array(rows, np.int64)

    def cut(self, inputs: Sequence[Any]) -> dict[str, int]:
        """How many of ``inputs`` have a prompt cut on the left, or a completion cut on the right."""
        asked = [i if isinstance(i, ScoredPrompt) else ScoredPrompt(i, ()) for i in inputs]
        prompts = sum(len(self.format.prompt(a.prompt)) > self.prompt_tokens for a in asked)
        longest = self.completion_tokens
        completions = sum(any(len(self.format.completion(c)) > longest for c in a.completions) for a in asked)
        return {"prompts": prompts, "completions": completions}

    def reading(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """What could not be read of ``inputs`` (see ``reading.text_remarks``); lengths are counted by ``cut``."""
        texts = [
            t.text if isinstance(t, Prompt) else " ".join(t) if isinstance(t, tuple) else t for t in sample(inputs)
        ]
        vocabulary = Vocabulary(self.format.tokenizer, unknown_token(self.format.tokenizer))
        return text_remarks(vocabulary, [t[-MAX_CHARACTERS:] for t in texts], [], "")

    def pad_batch(self, laid: Sequence[Integers]) -> dict[str, NDArray[Any]]:
        """The graph's inputs for examples as ``__call__`` laid them out.

        ``ids``, ``segments``, ``positions`` and ``places`` are ``(tokens,)``, ``mask`` and ``slots`` ``(n, length)``
        (see ``text.TextEncoder.pad_batch``). For each scored token ``(scored,)``: ``at`` is the token before it,
        ``answers`` its id, ``rows`` its example, ``choices`` its completion, ``share`` one over the tokens of that.
        """
        lengths = np.array([len(x) for x in laid])
        mask = np.arange(int(lengths.max())) < lengths[:, None]
        slots = np.zeros(mask.shape, np.int64)
        slots[mask] = np.arange(int(lengths.sum()))
        whole = np.concatenate(laid)
        rows = np.repeat(np.arange(len(laid)), lengths)
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        scored = np.flatnonzero(whole[:, 3] >= 0)
        owner = rows[scored] * (int(whole[:, 1].max()) + 1) + whole[scored, 1]
        return {
            "ids": np.ascontiguousarray(whole[:, 0]),
            "mask": mask.astype(np.int64),
            "slots": slots,
            "places": np.flatnonzero(mask),
            "segments": np.ascontiguousarray(whole[:, 1]),
            "positions": np.ascontiguousarray(whole[:, 2]),
            "at": (whole[:, 3] + starts)[scored],
            "answers": whole[scored, 0],
            "rows": rows[scored],
            "choices": whole[scored, 1] - 1,
            "share": (1 / np.bincount(owner)[owner]).astype(np.float32),
        }
