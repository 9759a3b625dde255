"""From what a model puts out to what the ``Model`` protocol promises."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.schema import Schema
from learndock.errors import ModelError

Floats = NDArray[np.float64]


def softmax(logits: NDArray[Any]) -> Floats:
    """Row-wise softmax of ``(n, classes)`` in float64."""
    shifted = np.asarray(logits, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # rows that are not finite are for ``checked`` to report
        shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True, initial=-np.inf))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def sigmoid(logits: NDArray[Any]) -> Floats:
    """Logistic function of each number, in float64."""
    values = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1.0, small) / (1.0 + small))


def shares(scores: NDArray[Any]) -> Floats:
    """Scores per class (n, classes), each from 0 to 1, divided by their sum, as scikit-learn's one-versus-rest does."""
    values = np.asarray(scores, dtype=np.float64)
    sums = values.sum(axis=1, keepdims=True)
    return np.where(sums > 0, values / np.where(sums > 0, sums, 1.0), 1.0 / max(1, values.shape[1]))


def two_columns(second: NDArray[Any]) -> Floats:
    """Probabilities (n, 2) from those (n,) of the second of two classes."""
    values = np.asarray(second, dtype=np.float64)
    return np.stack([1.0 - values, values], axis=1)


def check_count(found: int, schema: Schema, *, where: str, single: bool = False) -> None:
    """Compare a model's number of outputs with the schema's; ``single`` allows one output for two classes.

    Raises:
        ModelError: they differ.
    """
    if schema.type == "regression" and found != 1:
        raise ModelError(
            f"the model has {found} outputs, regression needs 1", remedy="is the schema's type right?", about=where
        )
    fits = found == schema.classes or (single and (found, schema.classes) == (1, 2))
    if schema.type == "classification" and not fits:
        raise ModelError(
            f"the model has {found} outputs but the schema has {schema.classes} labels "
            f"({', '.join(schema.labels[:8])})",
            remedy="give the schema of the task that the model was trained for",
            about=where,
        )


def checked(predictions: NDArray[Any], schema: Schema, n: int) -> Floats:
    """Predictions as the protocol promises them: the right shape, finite, rows that sum to one.

    Raises:
        ModelError: they are not; names the first row at fault, counted from 1.
    """
    values = np.asarray(predictions, dtype=np.float64)
    expected = (n, schema.classes) if schema.type == "classification" else (n,)
    if values.shape != expected:
        raise ModelError(f"the model's output has the shape {values.shape}, expected {expected}")
    bad = ~np.isfinite(values.reshape(n, -1) if n else values.reshape(0, 1)).all(axis=1)
    if bad.any():
        raise ModelError(
            f"input {int(np.argmax(bad)) + 1}: the model's output is not a finite number "
            f"({int(bad.sum())} of {n} inputs)",
            remedy="its weights are damaged or it diverged in training",
        )
    if schema.type == "regression" or not n:
        return values
    sums = values.sum(axis=1)
    wrong = (values.min(axis=1) < -1e-6) | (np.abs(sums - 1) > 1e-3)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ModelError(
            f"input {row + 1}: the model's probabilities sum to {sums[row]:.4g}, expected 1",
            remedy="let the model put out either logits or the softmax of them",
        )
    clipped = np.clip(values, 0.0, None)
    return np.asarray(clipped / clipped.sum(axis=1, keepdims=True))
