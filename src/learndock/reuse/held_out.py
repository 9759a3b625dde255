"""What tuning brought: hold out some of the user's examples, and score the model before and after on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from learndock.data.examples import Examples
from learndock.errors import LearndockError
from learndock.package.learnware import Learnware, open_learnware
from learndock.reuse.evaluate import evaluate

#: Examples of each class that tuning keeps at least, and that a comparison needs at least in all.
KEPT, HELD = 4, 4


@dataclass(frozen=True)
class Scores:
    """Scores on the held-out examples; ``before`` is None where the model answers other labels, and ``why`` says so."""

    before: float | None
    after: float
    why: str = ""


def hold_out_rows(examples: Examples, share: float, *, seed: int) -> tuple[Examples, Examples | None]:
    """Split labelled examples into those to tune on and a ``share`` to measure with, the same share of each class.

    Where a class would keep fewer than 4 examples, none of it is held out; where fewer than 4 examples are held out
    in all, all are kept and the second is None. The same ``seed`` splits alike on every machine.
    """
    if not share or examples.targets is None or examples.schema is None:
        return examples, None
    generator = np.random.Generator(np.random.Philox(key=[seed, 81]))
    targets = np.asarray(examples.targets)
    classes = examples.schema.type == "classification"
    groups = [np.flatnonzero(targets == c) for c in np.unique(targets)] if classes else [np.arange(len(targets))]
    held = [
        generator.permutation(group)[: min(round(share * len(group)), max(0, len(group) - KEPT))] for group in groups
    ]
    chosen = np.sort(np.concatenate(held))
    if len(chosen) < HELD:
        return examples, None
    return examples.take(np.setdiff1d(np.arange(len(targets)), chosen)), examples.take(chosen)


def compare(before: Learnware, after: str | Path, held: Examples) -> Scores:
    """Score two learnwares on the same labelled examples; ``after`` is the folder of the tuned one.

    Raises:
        ModelError: the tuned model does not run.
    """
    tuned = evaluate(open_learnware(after, verify=False), held, schema=held.schema).score
    try:
        return Scores(evaluate(before, held, schema=held.schema).score, tuned)
    except LearndockError as error:
        return Scores(None, tuned, error.what)
