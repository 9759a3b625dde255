"""How well predictions fit targets: the metrics that a schema may name, in NumPy.

Used wherever a model meets labelled examples; scikit-learn and SciPy are the tests' oracles, not imports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learndock.data.schema import CLASSIFICATION_METRICS, GENERATION_METRICS, REGRESSION_METRICS, Schema
from learndock.errors import DataError, SchemaError

Values = NDArray[np.float64]
Classes = NDArray[np.int64]


def score(schema: Schema, predictions: ArrayLike, targets: ArrayLike) -> float:
    """The schema's metric.

    ``predictions`` are class probabilities ``(n, classes)`` (the largest counts, the first of equals), class
    indices ``(n,)``, or values ``(n,)``; ``targets`` are ``(n,)``. For generation both are texts ``(n,)``.

    Raises:
        DataError: lengths or shapes that do not fit, no examples, or numbers that are not finite.
    """
    if schema.type == "generation":
        return _score_texts(schema, predictions, targets)
    given, wanted = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if wanted.ndim != 1 or given.ndim not in (1, 2) or len(given) != len(wanted):
        raise DataError(f"predictions of shape {given.shape} do not fit targets of shape {wanted.shape}")
    if len(wanted) == 0:
        raise DataError("no examples to score", remedy="give at least one with its label")
    if not (np.isfinite(given).all() and np.isfinite(wanted).all()):
        raise DataError(
            "predictions or targets hold NaN or infinity", remedy="correct them; a score needs finite numbers"
        )
    if schema.type == "regression":
        if given.ndim == 2 and given.shape[1] != 1:
            raise DataError(f"a regression predicts one value an example, found the shape {given.shape}")
        return _REGRESSION[schema.metric](given.reshape(-1), wanted)
    return _CLASSIFICATION[schema.metric](_classes(schema, given), _indices(schema, wanted))


def higher_is_better(metric: str) -> bool:
    """Whether a larger score of ``metric`` is a better one.

    Raises:
        SchemaError: no such metric.
    """
    known_ones = CLASSIFICATION_METRICS + REGRESSION_METRICS + GENERATION_METRICS
    if metric not in known_ones:
        known = ", ".join(known_ones)
        raise SchemaError(f'metric "{metric}" is unknown', remedy=f"use one of {known}")
    return metric != "mean_squared_error"


def sign(metric: str) -> int:
    """What a score is multiplied with so that more is better: 1, or -1 for errors."""
    return 1 if higher_is_better(metric) else -1


def accuracy(predicted: Classes, wanted: Classes) -> float:
    """The share of examples that got their class."""
    return float(np.mean(predicted == wanted))


def f1(predicted: Classes, wanted: Classes, positive: int = 1) -> float:
    """Harmonic mean of precision and recall of one class; 0 where it is neither predicted nor wanted."""
    hits = int(np.sum((predicted == positive) & (wanted == positive)))
    claims = int(np.sum(predicted == positive)) + int(np.sum(wanted == positive))
    return 2 * hits / claims if claims else 0.0


def macro_f1(predicted: Classes, wanted: Classes) -> float:
    """Plain mean of the F1 of all classes that are predicted or wanted."""
    return float(np.mean([f1(predicted, wanted, int(c)) for c in np.union1d(predicted, wanted)]))


def matthews(predicted: Classes, wanted: Classes) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 where one side is constant."""
    count = len(wanted)
    classes = np.union1d(predicted, wanted)
    claimed = np.array([np.sum(predicted == c) for c in classes], dtype=np.float64)
    true = np.array([np.sum(wanted == c) for c in classes], dtype=np.float64)
    hits = float(np.sum(predicted == wanted))
    spread = (count**2 - claimed @ claimed) * (count**2 - true @ true)
    return float((hits * count - claimed @ true) / np.sqrt(spread)) if spread > 0 else 0.0


def pearson(predicted: Values, wanted: Values) -> float:
    """Linear correlation; 0 where one side is constant."""
    x, y = _centred(predicted), _centred(wanted)
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.clip(x @ y / size, -1, 1)) if size > 0 else 0.0


def spearman(predicted: Values, wanted: Values) -> float:
    """Correlation of ranks, equal values sharing their average rank; 0 where one side is constant."""
    return pearson(_ranks(predicted), _ranks(wanted))


def pearson_spearman(predicted: Values, wanted: Values) -> float:
    """Mean of the linear and the rank correlation."""
    return (pearson(predicted, wanted) + spearman(predicted, wanted)) / 2


def mean_squared_error(predicted: Values, wanted: Values) -> float:
    """Mean of the squared differences."""
    return float(np.mean((predicted - wanted) ** 2))


def exact_match(written: str, wanted: str) -> float:
    """Return 1 where two texts are equal without regard to case, outer blanks and the amount of white space."""
    return float(_words(written) == _words(wanted))


def token_f1(written: str, wanted: str) -> float:
    """Harmonic mean of precision and recall of words, counted as often as they occur (Rajpurkar et al. 2016)."""
    ours, theirs = Counter(_words(written)), Counter(_words(wanted))
    common = sum((ours & theirs).values())
    return 2 * common / (sum(ours.values()) + sum(theirs.values())) if common else 0.0


def _words(text: str) -> list[str]:
    return text.casefold().split()


def _score_texts(schema: Schema, predictions: ArrayLike, targets: ArrayLike) -> float:
    given, wanted = list(np.asarray(predictions, dtype=object)), list(np.asarray(targets, dtype=object))
    if len(given) != len(wanted) or not given or not all(isinstance(t, str) for t in (*given, *wanted)):
        raise DataError(f"{len(given)} texts written and {len(wanted)} wanted", remedy="give one for each prompt")
    return float(np.mean([_TEXTS[schema.metric](g, w) for g, w in zip(given, wanted, strict=True)]))


_TEXTS: dict[str, Callable[[str, str], float]] = {"exact_match": exact_match, "token_f1": token_f1}
_CLASSIFICATION: dict[str, Callable[[Classes, Classes], float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "f1": f1,
    "matthews": matthews,
}
_REGRESSION: dict[str, Callable[[Values, Values], float]] = {
    "pearson_spearman": pearson_spearman,
    "pearson": pearson,
    "spearman": spearman,
    "mean_squared_error": mean_squared_error,
}


def _classes(schema: Schema, given: Values) -> Classes:
    if given.ndim == 1:
        return _indices(schema, given)
    if given.shape[1] != schema.classes:
        raise DataError(f"predictions for {given.shape[1]} classes, the schema has {schema.classes}")
    best: Classes = np.argmax(given, axis=1).astype(np.int64)
    return best


def _indices(schema: Schema, values: Values) -> Classes:
    if np.any(values != np.floor(values)) or values.min() < 0 or values.max() >= schema.classes:
        raise DataError(f"class indices must be whole numbers from 0 to {schema.classes - 1}")
    return values.astype(np.int64)


def _centred(values: Values) -> Values:
    """Values less their mean, scaled to at most 1 so that no square overflows; zeros where all are equal."""
    if np.all(values == values[0]):
        return np.zeros_like(values)
    scaled = values / np.max(np.abs(values))
    centred: Values = scaled - scaled.mean()
    return centred


def _ranks(values: Values) -> Values:
    """1-based ranks ``(n,)``; equal values share the average of their places."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[Any] = (last - (counts - 1) / 2)[place]
    return ranks.astype(np.float64)
