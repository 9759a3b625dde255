"""Recipe ``one-pass`` for prompts and completions: what is answered, not only what is asked.

The gradient of log p(completion | prompt) is mostly about the completion itself, and the same for a model that answers
right and one whose answers were shuffled. What tells them apart is the *contrast*

    tau = 1/n sum_i sum_c  w_ic  d log p(c | x_i) / dB ,    sum_c w_ic = 0 ,   sum_i w_ic = 0 in every group

of a prompt's own completion and those of other prompts: zero in expectation when completions ignore prompts. It is
the covariance of ``onepass``, with the completions as columns. Where a few completions come again and again they are
the labels of a classification: every prompt is compared with all of them, by the weights of ``onepass``. Free text is
compared within blocks of four: w is 3/4 for one's own completion and -1/4 for each of the other three.

The plain gradient, which knows the topic, has no part here: a spec's domain represents what is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.prompts import ScoredPrompt
from learndock.data.schema import Schema
from learndock.errors import DataError, ModelError
from learndock.spaces.helper import Float
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.space import Space
from learndock.spec.onepass import GROUPS, balanced_weights, centre_within, indicators, stratified_groups

#: Prompts whose completions are compared with each other; with fewer examples pairs, so that there are groups enough.
BLOCK, PAIRS_BELOW = 4, 24
#: Steps of the recipe ``paper`` for language models (arXiv 2505.13425).
STEPS = 400


@dataclass(frozen=True, eq=False)
class Arranged:
    """Prompts with the completions they are compared with, weights ``(n, most completions)`` and groups ``(n,)``."""

    inputs: list[ScoredPrompt]
    directions: Float
    groups: NDArray[np.intp]


def check_written(written: NDArray[Any], n: int) -> NDArray[Any]:
    """What a model wrote for ``n`` prompts, as an object array of texts.

    Raises:
        ModelError: another number of texts, an empty one, or the same for every prompt.
        DataError: too few prompts.
    """
    found = np.array(list(written), object)
    if found.shape != (n,) or not all(isinstance(t, str) for t in found):
        raise ModelError(
            f"the model's completions have the shape {found.shape}; expected {n} texts, one for each prompt"
        )
    empty = [i + 1 for i, text in enumerate(found) if not text.strip()]
    if empty:
        raise ModelError(
            f"the model wrote nothing for prompt {empty[0]} ({len(empty)} of {n})",
            remedy="an empty completion says nothing. Is the prompt format the one that it was trained with?",
        )
    if n < 4:
        raise DataError(f"{n} prompts are too few for a spec", remedy="give at least 4, better a hundred")
    if len(set(found)) < 2:
        raise ModelError("the model writes the same for every prompt; it has no behaviour to specify")
    return found


def arrange(schema: Schema, inputs: Sequence[Input], targets: NDArray[Any], seed: int) -> Arranged:
    """Which completions every prompt is compared with, and their weights."""
    if schema.type == "classification":
        soft_labels = indicators(schema, targets)
        groups = stratified_groups(schema, soft_labels, seed)
        weights = centre_within(balanced_weights(schema, soft_labels), groups)
        asked = [ScoredPrompt(prompt, schema.labels) for prompt in inputs]
        return Arranged(asked, weights.astype(np.float32), groups)
    blocks = _blocks(len(inputs), seed)
    asked, rows = [], []
    for i, prompt in enumerate(inputs):
        weights_of: dict[str, float] = {}
        others = blocks == blocks[i]
        for j in np.flatnonzero(others):
            weight = float(i == j) - 1 / int(others.sum())
            weights_of[str(targets[j])] = weights_of.get(str(targets[j]), 0.0) + weight
        # Equal completions in a block cancel; what remains is what differs
        kept = {text: w for text, w in weights_of.items() if abs(w) > 1e-9}
        asked.append(ScoredPrompt(prompt, tuple(kept)))
        rows.append(list(kept.values()))
    directions = np.zeros((len(rows), max(1, *(len(r) for r in rows))), np.float32)
    for i, row in enumerate(rows):
        directions[i, : len(row)] = row
    if not directions.any():
        raise DataError("all completions that would be compared are the same", remedy="add examples with others")
    count = int(blocks.max()) + 1
    return Arranged(asked, directions, np.asarray(blocks % min(GROUPS, count), np.intp))


def _blocks(n: int, seed: int) -> NDArray[np.intp]:
    """Deal ``n`` prompts into blocks of four (or pairs), each prompt in one; the last may be larger: ``(n,)``."""
    size = BLOCK if n >= PAIRS_BELOW else 2
    count = max(n // size, 1)
    order = np.random.Generator(np.random.Philox(key=[seed, 24])).permutation(n)
    blocks = np.empty(n, np.intp)
    blocks[order] = np.minimum(np.arange(n) // size, count - 1)
    return blocks


def chosen(schema: Schema, inputs: Sequence[Input], targets: NDArray[Any]) -> list[ScoredPrompt]:
    """Every prompt with its own completion: the label of largest share, or the text."""
    if schema.type == "generation":
        return [ScoredPrompt(prompt, (str(text),)) for prompt, text in zip(inputs, targets, strict=True)]
    labels = targets.argmax(1) if targets.ndim == 2 else targets.astype(np.int64)
    return [ScoredPrompt(prompt, (schema.labels[int(c)],)) for prompt, c in zip(inputs, labels, strict=True)]


def cut(space: Space, inputs: Sequence[ScoredPrompt]) -> dict[str, int]:
    """How many prompts lost their beginning, and examples some completion's end, to the space's limits."""
    from learndock.spaces.prompts import PromptEncoder

    encoder = load_helper(space).encoder
    assert isinstance(encoder, PromptEncoder)
    return encoder.cut(inputs)
