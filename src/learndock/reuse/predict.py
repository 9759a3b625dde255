"""Use a learnware as it is: predictions for inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.package.formats import Progress
from learndock.package.learnware import Learnware


def predict(learnware: Learnware, inputs: Sequence[Input], progress: Progress | None = None) -> NDArray[Any]:
    """Class probabilities ``(n, classes)`` in the order of the learnware's schema, values ``(n,)``, or texts ``(n,)``.

    Raises:
        UnsafeModel, ModelError, MissingExtra: the model does not load, or does not run on these inputs.
    """
    return learnware.load().predict(inputs, progress=progress)
