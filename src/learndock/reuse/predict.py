"""Use a learnware as it is: predictions for inputs, and a file to keep them in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.schema import Schema
from learndock.errors import UsageError
from learndock.files import atomic_write
from learndock.package.formats import Progress
from learndock.package.learnware import Learnware

_DIGITS = 6


def predict(learnware: Learnware, inputs: Sequence[Input], progress: Progress | None = None) -> NDArray[Any]:
    """Class probabilities ``(n, classes)`` in the order of the learnware's schema, values ``(n,)``, or texts ``(n,)``.

    Raises:
        UnsafeModel, ModelError, MissingExtra: the model does not load, or does not run on these inputs.
    """
    return learnware.load().predict(inputs, progress=progress)


def write_predictions(
    path: str | Path,
    learnware: Learnware,
    inputs: Sequence[Input],
    predictions: NDArray[Any],
    *,
    rows: Sequence[int] = (),
) -> None:
    """Write one JSON object a line: ``{"row", "label", "probabilities"}``, or ``{"row", "value"}``, or
    ``{"row", "completion"}``.

    ``rows`` are the inputs' row numbers in their file; without them they are counted from 1. The file
    appears whole, or not at all.

    Raises:
        UsageError: inputs and predictions do not have the same length, or the folder does not exist.
        StorageFull: the disk is full.
    """
    path = Path(path)
    if len(inputs) != len(predictions) or (rows and len(rows) != len(inputs)):
        raise UsageError(f"{len(inputs)} inputs but {len(predictions)} predictions")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: its folder {path.parent} does not exist; make it first")
    numbers = rows or range(1, len(inputs) + 1)
    schema = learnware.schema
    with atomic_write(path) as stream:
        for row, found in zip(numbers, predictions, strict=True):
            line = json.dumps({"row": int(row), **_answer(schema, found)}, ensure_ascii=False)
            stream.write((line + "\n").encode())


def _answer(schema: Schema, found: Any) -> dict[str, Any]:
    if schema.type == "regression":
        return {"value": float(found)}
    if schema.type == "generation":
        return {"completion": str(found)}
    probabilities = {label: round(float(p), _DIGITS) for label, p in zip(schema.labels, found, strict=True)}
    return {"label": schema.labels[int(np.argmax(found))], "probabilities": probabilities}
