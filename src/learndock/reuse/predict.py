"""Use a learnware as it is: predictions for inputs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.package.formats import Progress, remarks_of
from learndock.package.learnware import Learnware


class ModelRemark(UserWarning):
    """What a model says about its predictions, such as how many texts it read only in part."""


def predict(learnware: Learnware, inputs: Sequence[Input], *, progress: Progress | None = None) -> NDArray[Any]:
    """Load a learnware's model and predict.

    Args:
        learnware: see ``open_learnware``.
        inputs: as in ``Examples.inputs``: texts, pairs of texts, images or prompts.
        progress: called with (inputs done, inputs in all).

    Returns:
        Class probabilities ``(n, classes)`` in the order of ``learnware.schema.labels``; values ``(n,)`` for
        regression; an object array of texts ``(n,)`` for generation.

    Warns:
        ModelRemark: the model did not read all of the inputs, and how many.

    Raises:
        UnsafeModel, ModelError, MissingExtra: the model does not load, or does not run on these inputs.

    Example:
        >>> learnware = learndock.open_learnware("learnware")
        >>> probabilities = learndock.predict(learnware, ["a fine film", "what a waste of time"])
        >>> [learnware.schema.labels[i] for i in probabilities.argmax(axis=1)]
        ['positive', 'negative']
    """
    predictions, remarks = predict_with_remarks(learnware, inputs, progress=progress)
    for remark in remarks:
        warnings.warn(remark, ModelRemark, stacklevel=2)
    return predictions


def predict_with_remarks(
    learnware: Learnware, inputs: Sequence[Input], *, progress: Progress | None = None
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Predict as ``predict`` does; also return what the model says about it, in place of warnings.

    Raises:
        UnsafeModel, ModelError, MissingExtra: the model does not load, or does not run on these inputs.
    """
    model = learnware.load()
    predictions = model.predict(inputs, progress=progress)
    return predictions, remarks_of(model)
