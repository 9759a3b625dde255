"""Recipe ``one-pass``: a behaviour from one forward and one backward pass, no optimiser.

In the neural-tangent regime the parameter vector that imitates a behaviour is a sum of per-example gradients at
B = 0. Taken plainly that sum is dominated by what does not depend on the inputs (class balance, the helper's
own bias). With *centred, balanced* weights that part is gone:

    tau = 1/n sum_i d<f(x_i), t_i>/dB ,   t_i = sum_c w_ic g_c ,   w_ic = y_ic/p_c - mean_c'( y_ic'/p_c' )

where y_ic is the label indicator or the model's probability, and p_c its mean over the examples. It is a
kernel covariance of inputs and outputs (Gretton et al. 2005), zero in expectation when outputs ignore inputs.
For regression y_i - mean stands in for the weights, on the axis between the ends of the scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.schema import Schema
from learndock.spaces.heads import Anchors, HeadName, mean_anchors, phrase_anchors
from learndock.spaces.helper import Float, Progress
from learndock.spaces.space import Space
from learndock.spec.sketch import space_sketch

#: ``(n, columns)``: how much of each example belongs to each label, or weights on them.
Shares = NDArray[np.float64]

#: Up to this many classes every example gets a gradient for every label; above, for its own and a few others.
ALL_LABELS = 4
OTHER_LABELS = 3


def indicators(schema: Schema, targets: NDArray[np.generic]) -> Shares:
    """Targets as ``(n, columns)`` shares that sum to one: label indicators, or places on a scale.

    ``targets`` are class indices ``(n,)``, probabilities ``(n, classes)``, or values ``(n,)``. A value's shares
    are linear in it: only differences between examples count, so the ends may be any.
    """
    values = np.asarray(targets, np.float64)
    if schema.type == "classification":
        found: Shares = values if values.ndim == 2 else np.eye(schema.classes)[values.astype(np.int64)]
        return found
    spread = values.std()
    place = 0.5 + (values - values.mean()) / (4 * spread if spread > 0 else 1.0)
    return np.stack([1 - place, place], 1)


def balanced_weights(schema: Schema, shares: Shares) -> Shares:
    """Weights w ``(n, columns)`` of the formula above; rows sum to zero, and so do columns."""
    if schema.type == "regression":
        return np.asarray(shares - shares.mean(0), np.float64)
    mass = shares.mean(0)
    scaled = np.divide(shares, mass, out=np.zeros_like(shares), where=mass > 0)
    centred: Shares = scaled - scaled.mean(1, keepdims=True)
    return centred


@dataclass(frozen=True, eq=False)
class Contributions:
    """What every example adds, as sketches.

    ``features`` ``(n, width)``. ``own`` ``(n, k)``: the example's gradient along its own weighted direction, so
    that the behaviour is the mean of rows. ``by_label`` ``(n, columns, k)`` or None: gradients along each
    label's anchor, NaN where it was not computed; what relabelled examples would add.
    """

    features: Float
    shares: Shares
    own: Float
    by_label: Float | None
    vector: Float


def contribute(
    space: Space,
    schema: Schema,
    inputs: list[Input],
    shares: Shares,
    *,
    head: HeadName,
    relabel: bool,
    seed: int = 0,
    progress: Progress | None = None,
) -> Contributions:
    """Run the graph once over the examples.

    ``relabel`` asks for the gradients that permuted labels need (task specs); the full parameter vector
    ``(|B|,)`` is summed on the way.
    """
    helper = space.helper
    anchors = phrase_anchors(helper, schema) if head == "phrases" else mean_anchors(helper.features(inputs), shares)
    weights = balanced_weights(schema, shares)
    if not relabel:
        return _own_only(space, inputs, shares, anchors.direct(weights)[:, None, :], progress)
    if anchors.columns <= ALL_LABELS:
        return _every_label(space, inputs, shares, weights, anchors, progress)
    return _some_labels(space, inputs, shares, weights, anchors, seed, progress)


def _own_only(
    space: Space, inputs: list[Input], shares: Shares, directions: Float, progress: Progress | None
) -> Contributions:
    run = _run(space, inputs, directions, np.ones((len(inputs), 1)), progress)
    return Contributions(run.features, shares, run.sketches[:, 0], None, run.vector)


def _every_label(
    space: Space,
    inputs: list[Input],
    shares: Shares,
    weights: Shares,
    anchors: Anchors,
    progress: Progress | None,
) -> Contributions:
    """Gradients along all anchors but the first, which is minus their sum (anchors are centred)."""
    rows = np.arange(len(inputs))
    directions = np.stack([anchors.of(c, rows) for c in range(1, anchors.columns)], 1)
    run = _run(space, inputs, directions, weights[:, 1:] - weights[:, :1], progress)
    by_label = np.concatenate([-run.sketches.sum(1, keepdims=True), run.sketches], 1)
    own = np.einsum("nc,nck->nk", weights.astype(np.float32), by_label)
    return Contributions(run.features, shares, own, by_label, run.vector)


def _some_labels(
    space: Space,
    inputs: list[Input],
    shares: Shares,
    weights: Shares,
    anchors: Anchors,
    seed: int,
    progress: Progress | None,
) -> Contributions:
    """The example's own direction, and single anchors: its own label's and a few others'."""
    n = len(inputs)
    wanted = _wanted_labels(shares, seed)
    directions = np.zeros((n, 1 + wanted.shape[1], space.width), np.float32)
    directions[:, 0] = anchors.direct(weights)
    for place in range(wanted.shape[1]):
        for column in range(anchors.columns):
            rows = np.flatnonzero(wanted[:, place] == column)
            directions[rows, 1 + place] = anchors.of(column, rows)
    scale = np.zeros(directions.shape[:2])
    scale[:, 0] = 1
    run = _run(space, inputs, directions, scale, progress)
    by_label = np.full((n, anchors.columns, run.sketches.shape[2]), np.nan, np.float32)
    by_label[np.arange(n)[:, None], wanted] = run.sketches[:, 1:]
    return Contributions(run.features, shares, run.sketches[:, 0], by_label, run.vector)


@dataclass(frozen=True, eq=False)
class _Run:
    features: Float
    sketches: Float
    vector: Float


def _run(space: Space, inputs: list[Input], directions: Float, scale: Shares, progress: Progress | None) -> _Run:
    """All gradients as sketches ``(n, m, k)``, and the mean over examples of ``scale`` times the gradients."""
    helper, sketch = space.helper, space_sketch(space)
    n = len(inputs)
    features = np.zeros((n, space.width), np.float32)
    sketches = np.zeros((*directions.shape[:2], sketch.size), np.float32)
    vector = np.zeros(space.size, np.float64)
    for batch in helper.gradients(inputs, directions, progress=progress):
        features[batch.rows] = batch.features
        sketches[batch.rows, batch.columns] = sketch(batch.gradients)
        vector += scale[batch.rows, batch.columns].astype(np.float32) @ batch.gradients
    return _Run(features, sketches, (vector / n).astype(np.float32))


def _wanted_labels(shares: Shares, seed: int) -> NDArray[np.intp]:
    """Which labels' gradients each example needs for relabelling, ``(n, m)``; its own label comes first."""
    n, columns = shares.shape
    own = shares.argmax(1)
    generator = np.random.Generator(np.random.Philox(key=[seed, 11]))
    others = np.array([generator.choice(columns - 1, OTHER_LABELS, replace=False) for _ in range(n)])
    return np.concatenate([own[:, None], others + (others >= own[:, None])], 1)
