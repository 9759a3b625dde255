"""Heads: from labels to one direction in feature space for each example.

Whatever the head, a behaviour is sum_i d<f(x_i), t_i>/dB. A head gives *prototypes*, a point in feature space
for every label (or for the two ends of a scale), and the direction is t_i = sum_c w_ic g_c. So the graph knows
no head, and the recipe no descriptions.

    descriptions   g_c is the helper's feature of what the label means, in words
    means     g_c is the mean feature of the other examples with that label: for schemas without words, and helpers
              that read none. A space may ask for *whitened* means: directions in which the inputs spread anyway are
              shortened, as in linear discriminants. Without that, any labels that follow clusters of the helper's
              features look alike, a shuffled model's too (docs/research-log.md, section 20).
              The example itself is left out; with it, shuffled models look right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.schema import Schema
from learndock.spaces.helper import Float, Helper
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.space import Space

HeadName = Literal["descriptions", "means", "completions"]


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Points in feature space for ``columns`` labels, the same for all examples or one set for each.

    ``points`` is ``(columns, width)`` or ``(n, columns, width)``, centred over the columns.
    """

    points: Float

    @property
    def columns(self) -> int:
        """Number of labels, or 2 for the ends of a scale."""
        return int(self.points.shape[-2])

    def direct(self, weights: NDArray[np.floating]) -> Float:
        """Directions ``(n, width)`` for weights ``(n, columns)``: t_i = sum_c w_ic g_c."""
        if self.points.ndim == 2:
            return np.asarray(weights @ self.points, np.float32)
        return np.asarray(np.einsum("nc,ncd->nd", weights, self.points), np.float32)

    def of(self, column: int, rows: Sequence[int] | NDArray[np.intp]) -> Float:
        """Prototype ``column`` for each of ``rows``, ``(len(rows), width)``."""
        if self.points.ndim == 2:
            return np.repeat(self.points[column][None], len(rows), 0)
        chosen: Float = self.points[np.asarray(rows, np.intp), column]
        return chosen


def head_for(schema: Schema, space: Space) -> HeadName:
    """Return the head: descriptions if the helper reads text and the schema has words, class means otherwise.

    A generative helper needs neither: the completions themselves are learnt.

    Bare numbers ("0", "1", "class 3") are not words: their features say nothing about the task.
    """
    if space.input == "generation":
        return "completions"
    if not space.reads_descriptions:
        return "means"
    words = [
        p for p in schema.descriptions if any(c.isalpha() for c in p.lower().replace("class", "").replace("label", ""))
    ]
    return "descriptions" if schema.descriptions and len(words) == len(schema.descriptions) else "means"


def description_prototypes(helper: Helper, schema: Schema) -> Prototypes:
    """Return the prototypes of the label descriptions."""
    points = helper.description_prototypes(schema.descriptions)
    return Prototypes((points - points.mean(0)).astype(np.float32))


def mean_prototypes(features: Float, soft_labels: NDArray[np.float64], whitening: float | None = None) -> Prototypes:
    """Return prototypes from the examples themselves, each example left out of its own.

    With ``whitening`` w they are multiplied with (X'X + tr(X'X)/w)^-1, X the centred features, up to a factor: a
    direction with more than 1/w of the features' variance counts the less the more it has.

    ``features`` is ``(n, width)``; ``soft_labels`` ``(n, columns)`` says how much of example i belongs to column c
    (label indicators, probabilities, or a value's distance from the ends of its scale).
    """
    total = soft_labels.T @ features
    mass = soft_labels.sum(0)
    others = total[None] - soft_labels[:, :, None] * features[:, None, :]
    left = np.maximum(mass[None] - soft_labels, 1e-12)
    points = others / left[..., None]
    # A label of this example alone has no other examples to be represented by
    points[(mass[None] - soft_labels) < 1e-9] = 0
    points = points - points.mean(1, keepdims=True)
    return Prototypes((points if whitening is None else _whiten(points, features, whitening)).astype(np.float32))


def _whiten(points: NDArray[np.float64], features: Float, whitening: float) -> NDArray[np.float64]:
    """``points`` times e (X'X + e)^-1 with e = tr(X'X)/w, by Woodbury's identity: examples are fewer than width."""
    X = (features - features.mean(0)).astype(np.float64)
    products = X @ X.T
    e = np.trace(products) / whitening
    if not e > 0:
        return points
    along = np.linalg.solve(products + e * np.eye(len(X)), X)
    found: NDArray[np.float64] = points - (points @ X.T) @ along
    return found


def make_prototypes(
    space: Space,
    schema: Schema,
    inputs: Sequence[Input],
    soft_labels: NDArray[np.float64],
    head: HeadName,
    known: Float | None = None,
) -> Prototypes:
    """Return the prototypes of ``head``; ``means`` runs the helper unless the features are ``known``."""
    if head == "descriptions":
        return description_prototypes(load_helper(space), schema)
    features = load_helper(space).features(inputs) if known is None else known
    return mean_prototypes(features, soft_labels, space.whitening)
