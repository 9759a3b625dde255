"""What a helper and an encoder promise: features of inputs, and per-example gradients in B at B = 0.

The promise is small, so that recipes, statistics and search know nothing of texts, tokens, heads or classes. The
helper of a published space is an exported graph (``onnx_helper``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.progress import Progress as Progress

Float = NDArray[np.float32]


class Encoder(Protocol):
    """Turns inputs of one kind into the arrays that a graph takes."""

    def __call__(self, inputs: Sequence[Input]) -> list[NDArray[Any]]:
        """One array for each input; its length is its cost."""
        ...

    def pad_batch(self, ids: Sequence[NDArray[Any]], /) -> Mapping[str, NDArray[Any]]:
        """The graph's named inputs for a few encoded inputs."""
        ...


@dataclass(frozen=True, eq=False)
class GradientBatch:
    """What one run of the graph gives: ``rows`` and ``columns`` ``(b,)`` say which example and which of its
    directions; ``features`` ``(b, width)`` are f(x), ``gradients`` ``(b, |B|)`` are d<f(x), t>/dB at B = 0.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    features: Float
    gradients: Float


class Helper(Protocol):
    """The small frozen pre-trained model on which all specs of a space are made."""

    @property
    def width(self) -> int:
        """Width of the features."""
        ...

    @property
    def size(self) -> int:
        """Count of numbers in B."""
        ...

    def features(self, inputs: Sequence[Input], *, progress: Progress | None = None) -> Float:
        """Features f(x) of unit length, ``(n, width)`` float32."""
        ...

    def gradients(
        self, inputs: Sequence[Input], directions: Float, *, progress: Progress | None = None
    ) -> Iterator[GradientBatch]:
        """Gradients for ``directions`` ``(n, m, width)``, in batches of the helper's own order."""
        ...

    def description_prototypes(self, descriptions: Sequence[str]) -> Float:
        """What each description means in feature space, ``(len(descriptions), width)``."""
        ...
