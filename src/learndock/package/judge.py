"""Compare a model's predictions with its owner's own labels, before the model is shared.

A score at chance, or one that another order of the columns would lift, nearly always means that a column was taken
for the wrong label. Both are reported; neither is corrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.labels import label_name
from learndock.data.metrics import score
from learndock.data.schema import Schema
from learndock.errors import DataError, ModelError
from learndock.package.columns import Columns, find_name

#: Classes beyond which no other order of columns is looked for: the search takes the cube of their number.
_MOST = 200
#: How much accuracy another order must add, on examples that it was not chosen by.
_BETTER = 0.2
#: How far a number may be from the one that the owner's program gave.
_CLOSE = 1e-3
#: Fewer examples per half say nothing.
_FEWEST = 8
_CHECK = "check that these are its labels and its kind of inputs"


@dataclass(frozen=True)
class Judged:
    """A model's score on its owner's labels (None without labels), and what the owner should know of it."""

    score: float | None
    remarks: tuple[str, ...] = ()


def judge(schema: Schema, predictions: NDArray[Any], targets: NDArray[Any] | None, columns: Columns | None) -> Judged:
    """Score ``predictions`` (n, classes) or (n,) against the owner's ``targets`` (n,)."""
    if targets is None:
        return Judged(None)
    value = score(schema, predictions, targets)
    if schema.type == "classification":
        remarks = _of_classes(schema, predictions.argmax(axis=1), np.asarray(targets, np.int64), columns)
    elif schema.type == "regression":
        remarks = _of_values(predictions, np.asarray(targets, np.float64))
    else:
        remarks = ()
    return Judged(value, remarks)


def check_expected(schema: Schema, predictions: NDArray[Any], expected: Sequence[Any]) -> None:
    """Compare ``predictions`` with what the owner's own program answered for the same inputs.

    ``expected`` holds, per input, a label, a value, or the probabilities of all labels (a list in the order of the
    schema, or a table by label).

    Raises:
        DataError: it is not of that form, or not of that length.
        ModelError: the model answers otherwise here; names the first input, counted from 1.
    """
    if len(expected) != len(predictions):
        raise DataError(f"{len(expected)} expected answers for {len(predictions)} inputs", remedy="give one per input")
    wrong = [i for i, pair in enumerate(zip(predictions, expected, strict=True)) if not _agrees(schema, *pair)]
    if wrong:
        first = wrong[0]
        found = predictions[first]
        shown = schema.labels[int(np.argmax(found))] if schema.type == "classification" else f"{found}"
        raise ModelError(
            f"{len(wrong)} of {len(expected)} inputs are answered otherwise here than by your own program, first of "
            f"all input {first + 1}: {shown[:60]}, expected {str(expected[first])[:80]}",
            remedy="the export differs, or how inputs are prepared; a scikit-learn pipeline of texts is best saved "
            "itself, with skops",
        )


def _agrees(schema: Schema, found: Any, expected: Any) -> bool:
    if schema.type == "generation":
        return str(found) == str(expected)
    if schema.type == "regression":
        if isinstance(expected, bool) or not isinstance(expected, int | float):
            raise DataError(f"an expected value is {str(expected)[:60]!r}, not a number")
        return abs(float(found) - float(expected)) <= _CLOSE * max(1.0, abs(float(expected)))
    if isinstance(expected, dict):
        expected = [expected.get(label) for label in schema.labels]
    if isinstance(expected, list | tuple | np.ndarray):
        if len(expected) != schema.classes or not all(isinstance(v, int | float) for v in expected):
            raise DataError(
                f"expected probabilities are {str(expected)[:60]!r}", remedy=f"give {schema.classes} numbers per input"
            )
        return bool(np.abs(np.asarray(found) - np.asarray(expected, np.float64)).max() <= _CLOSE)
    wanted = find_name(label_name(expected), schema.labels)
    if wanted is None:
        raise DataError(f"the expected answer {str(expected)[:60]!r} is not a label of the task")
    return int(np.argmax(found)) == wanted


def _of_classes(
    schema: Schema, answers: NDArray[Any], targets: NDArray[Any], columns: Columns | None
) -> tuple[str, ...]:
    other = better_order(answers, targets, schema.classes)
    if other is not None:
        before, after, order = other
        said = ", ".join(f"{schema.labels[i]} as {schema.labels[order[i]]}" for i in range(len(order)) if order[i] != i)
        fix = "give the right one with --map" if columns is not None else "check the labels of the schema"
        remark = (
            f"with another order of the model's columns {after:.0%} of your examples would be right instead of "
            f"{before:.0%} (reading {_shortened(said)}); {fix}"
        )
        return (remark,)
    kinds = np.unique(targets)
    recalls = [float((answers[targets == k] == k).mean()) for k in kinds]
    counts = [int((targets == k).sum()) for k in kinds]
    chance = 1 / schema.classes
    # The mean of the recalls of a model that guesses has the mean `chance` and this deviation
    deviation = float(np.sqrt(sum(chance * (1 - chance) / n for n in counts)) / len(counts))
    if len(kinds) > 1 and float(np.mean(recalls)) <= chance + 1.64 * deviation:
        share = f"mean recall {np.mean(recalls):.2f}, chance {chance:.2f}"
        return (f"on your {len(targets)} examples the model is no better than chance ({share}); {_CHECK}",)
    return ()


def _of_values(values: NDArray[Any], targets: NDArray[Any]) -> tuple[str, ...]:
    found = []
    if len(targets) >= 2 * _FEWEST and values.std() > 0 and targets.std() > 0:
        correlation = float(np.corrcoef(values, targets)[0, 1])
        if correlation < 1.64 / np.sqrt(len(targets)):
            found.append(
                f"on your {len(targets)} examples the model's values do not rise with the labels (correlation "
                f"{correlation:+.2f}); {_CHECK}"
            )
    low, high = float(targets.min()), float(targets.max())
    if 0 <= low < high <= 1 and (values.min() < -0.5 or values.max() > 1.5):
        found.append(
            f"your labels are between 0 and 1, and the model answers from {values.min():.3g} to {values.max():.3g}: if "
            'it was trained with a sigmoid, say so in config.json ("sentence_transformers": {"activation_fn": '
            '"torch.nn.modules.activation.Sigmoid"})'
        )
    return tuple(found)


def better_order(answers: NDArray[Any], targets: NDArray[Any], classes: int) -> tuple[float, float, list[int]] | None:
    """An order of classes under which ``answers`` would be far more often right; None if there is none.

    The order is chosen on one half of the examples and counted on the other, both ways, so that the best of many
    orders does not look good by luck. Returns the accuracy as it is, the accuracy under that order, and for each class
    the one that it would be read as.
    """
    if classes > _MOST or len(targets) < 2 * _FEWEST:
        return None
    halves = np.arange(len(targets)) % 2
    # Rows sorted by label put one class into one half only where each has a single example
    halves = halves[np.argsort(np.argsort(targets, kind="stable"), kind="stable")]
    right = 0
    for half in (0, 1):
        order = np.array(_assignment(_confusion(answers[halves == half], targets[halves == half], classes)))
        right += int((order[answers[halves != half]] == targets[halves != half]).sum())
    before, after = float((answers == targets).mean()), right / len(targets)
    # Three deviations of a difference of two shares
    noise = 3 * np.sqrt((before * (1 - before) + after * (1 - after)) / len(targets))
    if after - before < max(_BETTER, noise):
        return None
    order = np.array(_assignment(_confusion(answers, targets, classes)))
    return before, float((order[answers] == targets).mean()), [int(i) for i in order]


def _confusion(answers: NDArray[Any], targets: NDArray[Any], classes: int) -> NDArray[np.float64]:
    table = np.zeros((classes, classes))
    np.add.at(table, (answers, targets), 1)
    return table + 1e-6 * np.eye(classes)  # of two orders that are equally right, the one that is there


def _assignment(gain: NDArray[np.float64]) -> list[int]:
    """The column of each row that makes the sum of ``gain`` (n, n) largest, each column taken once.

    Shortest augmenting paths with potentials (Jonker and Volgenant, Computing 38, 1987).
    """
    n = len(gain)
    cost = gain.max() - gain
    u, v = np.zeros(n), np.zeros(n + 1)
    row_of = np.full(n + 1, -1)
    for row in range(n):
        row_of[n], column = row, n
        least, before, seen = np.full(n, np.inf), np.full(n, n), np.zeros(n + 1, bool)
        while row_of[column] >= 0:
            seen[column] = True
            there = row_of[column]
            reduced = cost[there] - u[there] - v[:n]
            closer = ~seen[:n] & (reduced < least)
            least[closer], before[closer] = reduced[closer], column
            free = np.where(seen[:n], np.inf, least)
            following = int(free.argmin())
            step = free[following]
            u[row_of[seen]] += step
            v[seen] -= step
            least[~seen[:n]] -= step
            column = following
        while column != n:
            row_of[column] = row_of[before[column]]
            column = int(before[column])
    found = [0] * n
    for column in range(n):
        found[row_of[column]] = column
    return found


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."
