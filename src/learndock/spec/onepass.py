"""Recipe ``one-pass``: a behaviour from one forward and one backward pass, no optimiser.

In the neural-tangent regime the parameter vector that imitates a behaviour is a sum of per-example gradients at
B = 0. Taken plainly that sum is dominated by what does not depend on the inputs (class balance, the helper's own
bias). With *centred, balanced* weights that part is gone:

    tau = 1/n sum_i d<f(x_i), t_i>/dB ,   t_i = sum_c w_ic g_c ,   w_ic = y_ic/p_c - mean_c'( y_ic'/p_c' )

where y_ic is the label indicator or the model's probability, and p_c its mean over the examples. It is a kernel
covariance of inputs and outputs (Gretton et al. 2005), zero in expectation when outputs ignore inputs. For
regression y_i - mean stands in for the weights, on the axis between the ends of the scale.

Examples are groups_of into groups that hold every label alike, and weights are centred within each group, so that
every group is a small behaviour of its own: ``statistics`` compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.schema import Schema
from learndock.spaces.heads import HeadName, make_prototypes
from learndock.spaces.helper import Float, Progress
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.space import Space
from learndock.spec.sketch import space_sketch

#: ``(n, columns)``: how much of each example belongs to each label, or weights on them.
SoftLabels = NDArray[np.float64]

GROUPS = 16


@dataclass(frozen=True, eq=False)
class Contributions:
    """What the examples add, as sketches.

    ``features`` ``(n, width)``. ``groups`` ``(G, k)``: the behaviours of the groups; their mean is the behaviour.
    ``vector`` ``(|B|,)`` is the entire parameter vector.
    """

    features: Float
    groups: Float
    vector: Float

    @property
    def behaviour(self) -> Float:
        """Sketch of the parameter vector, ``(k,)``."""
        mean: Float = self.groups.mean(0)
        return mean


def indicators(schema: Schema, targets: NDArray[np.generic]) -> SoftLabels:
    """Targets as ``(n, columns)`` soft_labels that sum to one: label indicators, or places on a scale.

    ``targets`` are class indices ``(n,)``, probabilities ``(n, classes)``, or values ``(n,)``. A value's soft_labels
    are linear in it: only differences between examples count, so the ends may be any.
    """
    values = np.asarray(targets, np.float64)
    if schema.type == "classification":
        found: SoftLabels = values if values.ndim == 2 else np.eye(schema.classes)[values.astype(np.int64)]
        return found
    spread = values.std()
    place = 0.5 + (values - values.mean()) / (4 * spread if spread > 0 else 1.0)
    return np.stack([1 - place, place], 1)


def balanced_weights(schema: Schema, soft_labels: SoftLabels) -> SoftLabels:
    """Weights w ``(n, columns)`` of the formula above; rows sum to zero, and so do columns."""
    if schema.type == "regression":
        return np.asarray(soft_labels - soft_labels.mean(0), np.float64)
    mass = soft_labels.mean(0)
    scaled = np.divide(soft_labels, mass, out=np.zeros_like(soft_labels), where=mass > 0)
    centred: SoftLabels = scaled - scaled.mean(1, keepdims=True)
    return centred


def stratified_groups(schema: Schema, soft_labels: SoftLabels, seed: int) -> NDArray[np.intp]:
    """Deal examples into at most 16 groups of two or more, each with its part of every label: ``(n,)``.

    Classes are groups_of one after the other, in random order within; values from low to high.
    """
    n = len(soft_labels)
    count = max(min(GROUPS, n // 2), 1)
    generator = np.random.Generator(np.random.Philox(key=[seed, 21]))
    chance = generator.random(n)
    first = soft_labels[:, 1] if schema.type == "regression" else _by_appearance(soft_labels.argmax(1))
    order = np.lexsort((chance, first))
    groups = np.empty(n, np.intp)
    # Each round of `count` neighbours is groups_of in an order of its own: no group gets all the low ones
    for start in range(0, n, count):
        block = order[start : start + count]
        groups[block] = generator.permutation(count)[: len(block)]
    return groups


def _by_appearance(labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Labels renumbered as they come up: the order in which a schema lists them must not show."""
    _, seen, numbers = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(seen.argsort().argsort()[numbers], np.intp)


def centre_within(weights: SoftLabels, groups: NDArray[np.intp]) -> SoftLabels:
    """Weights whose columns sum to zero in every group."""
    sums = np.zeros((int(groups.max()) + 1, weights.shape[1]))
    np.add.at(sums, groups, weights)
    return np.asarray(weights - (sums / np.bincount(groups)[:, None])[groups], np.float64)


def contribute(
    space: Space,
    schema: Schema,
    inputs: Sequence[Input],
    soft_labels: SoftLabels,
    *,
    head: HeadName,
    seed: int = 0,
    known: Float | None = None,
    progress: Progress | None = None,
) -> Contributions:
    """Run the graph once over the examples; ``known`` are their features, if they were computed before."""
    prototypes = make_prototypes(space, schema, inputs, soft_labels, head, known)
    groups = stratified_groups(schema, soft_labels, seed)
    directions = prototypes.direct(centre_within(balanced_weights(schema, soft_labels), groups))
    return sum_groups(space, inputs, directions, groups, progress)


def sum_groups(
    space: Space,
    inputs: Sequence[Input],
    directions: Float,
    groups: NDArray[np.intp],
    progress: Progress | None = None,
) -> Contributions:
    """What examples of ``groups`` ``(n,)`` add along ``directions`` ``(n, m)``."""
    helper, sketch = load_helper(space), space_sketch(space)
    n, count = len(inputs), int(groups.max()) + 1
    features = np.zeros((n, space.width), np.float32)
    sums = np.zeros((count, space.size), np.float32)
    for batch in helper.gradients(inputs, directions[:, None, :], progress=progress):
        features[batch.rows] = batch.features
        # Summed by group before they are sketched: a sketch is linear, and sixteen cost less than n. Row by row,
        # because a matrix product would wake other threads that then wait on those of the graph
        for row, gradient in zip(batch.rows, batch.gradients, strict=True):
            sums[groups[row]] += gradient
    # An example whose group holds its label alone has no direction, but is part of what the inputs are about
    still = np.flatnonzero(~np.any(directions != 0, axis=1))
    if len(still):
        features[still] = helper.features([inputs[int(i)] for i in still])
    vector = sums.sum(0, dtype=np.float64) / n
    return Contributions(features, sketch(sums) * np.float32(count / n), vector.astype(np.float32))
