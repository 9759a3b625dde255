"""Use a learnware as it is: predictions for inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.package.formats import Progress
from learndock.package.learnware import Learnware


def predict(learnware: Learnware, inputs: Sequence[Input], *, progress: Progress | None = None) -> NDArray[Any]:
    """Load a learnware's model and predict.

    Args:
        learnware: see ``open_learnware``.
        inputs: as in ``Examples.inputs``: texts, pairs of texts, images or prompts.
        progress: called with (inputs done, inputs in all).

    Returns:
        Class probabilities ``(n, classes)`` in the order of ``learnware.schema.labels``; values ``(n,)`` for
        regression; an object array of texts ``(n,)`` for generation.

    Raises:
        UnsafeModel, ModelError, MissingExtra: the model does not load, or does not run on these inputs.

    Example:
        >>> learnware = learndock.open_learnware("learnware")
        >>> probabilities = learndock.predict(learnware, ["a fine film", "what a waste of time"])
        >>> [learnware.schema.labels[i] for i in probabilities.argmax(axis=1)]
        ['positive', 'negative']
    """
    return learnware.load().predict(inputs, progress=progress)
