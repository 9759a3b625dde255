"""The helper's answers, once for all specs: features, and the sketched gradient of every example in every label.

A one-pass behaviour is linear in the weights w_ic, and prototypes sum to zero over the labels, so with

    r_ic = sketch of d<f(x_i), g_c>/dB      for all labels but the last

the behaviour of any model on these examples is 1/n sum_i sum_c (w_ic - w_iC) r_ic. What costs a pass of the helper for
each model then costs a product: hundreds of graded learnwares and draws of users become affordable. The numbers are
those of ``make_spec`` up to rounding (a test compares them).

Where a helper reads no words the prototypes are class means, and depend on all labels; where it writes, a prompt is
read once for all completions. Every spec then costs its own pass (``Passes``), which is kept on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learndock.bench.cache import Arrays, Cache
from learndock.data import Examples, Schema
from learndock.data.examples import Input
from learndock.files import sha256_bytes
from learndock.spaces.heads import description_prototypes, head_for
from learndock.spaces.helper import Progress
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.space import Space
from learndock.spec.make import assemble, gather
from learndock.spec.onepass import Contributions, balanced_weights, centre_within, indicators, stratified_groups
from learndock.spec.sketch import space_sketch
from learndock.spec.spec import Kind, Spec, identity

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Responses:
    """``features`` ``(n, width)`` and ``sketches`` ``(n, columns - 1, k)`` of n examples."""

    features: Float
    sketches: Float

    def take(self, rows: NDArray[np.integer]) -> Responses:
        """Those of a few examples."""
        return Responses(self.features[rows], self.sketches[rows])

    def contributions(self, schema: Schema, targets: NDArray[np.generic], seed: int = 0) -> Contributions:
        """What ``onepass.contribute`` gives for the same examples and labels, without the whole vector."""
        soft_labels = indicators(schema, targets)
        groups = stratified_groups(schema, soft_labels, seed)
        weights = centre_within(balanced_weights(schema, soft_labels), groups)
        weights = (weights[:, :-1] - weights[:, -1:]).astype(np.float32)
        count, n = int(groups.max()) + 1, len(soft_labels)
        sums = np.stack([np.tensordot(weights[groups == g], self.sketches[groups == g], axes=2) for g in range(count)])
        return Contributions(self.features, sums * np.float32(count / n), np.zeros(0, np.float32))

    def spec(self, space: Space, kind: Kind, schema: Schema, targets: NDArray[np.generic], seed: int = 0) -> Spec:
        """The spec of these examples with ``targets`` (labels, or a model's probabilities)."""
        found = self.contributions(schema, targets, seed)
        return assemble(space, kind, schema, len(self.features), found, head="descriptions", seed=seed)


@dataclass(frozen=True, eq=False)
class Passes:
    """The same for heads of class means and of completions: ``features`` ``(n, width)`` once, gradients per spec."""

    cache: Cache
    space: Space
    inputs: Sequence[Input]
    features: Float

    def take(self, rows: NDArray[np.integer]) -> Passes:
        """Those of a few examples."""
        return Passes(self.cache, self.space, [self.inputs[int(i)] for i in rows], self.features[rows])

    def spec(self, space: Space, kind: Kind, schema: Schema, targets: NDArray[np.generic], seed: int = 0) -> Spec:
        """The spec of these examples with ``targets`` (labels, or a model's probabilities)."""
        head = head_for(schema, space)
        texts = schema.type == "generation"
        key = {
            "space": identity(space.describe("one-pass")),
            "inputs": repr(list(self.inputs)),
            "targets": repr(list(targets))
            if texts
            else sha256_bytes(np.ascontiguousarray(targets, np.float64).tobytes()),
            "classes": schema.classes,
            "seed": seed,
            **({"labels": schema.labels} if head == "completions" else {}),
        }

        def make() -> Arrays:
            made = gather(space, schema, self.inputs, targets, head=head, seed=seed, known=self.features)
            return {"groups": made.groups}

        groups = self.cache.get("means", key, make)["groups"]
        found = Contributions(self.features, groups, np.zeros(0, np.float32))
        return assemble(space, kind, schema, len(self.features), found, head=head, seed=seed)


Answering = Responses | Passes


def respond(
    cache: Cache, space: Space, schema: Schema, examples: Examples, progress: Progress | None = None
) -> Answering:
    """Run the helper over ``examples``, or read what it said before."""
    if not space.reads_descriptions:
        asked = {"space": identity(space.describe("one-pass")), "inputs": repr(list(examples.inputs))}
        features = cache.get("passed", asked, lambda: {"features": load_helper(space).features(list(examples.inputs))})
        return Passes(cache, space, list(examples.inputs), features["features"])
    key = {
        "space": identity(space.describe("one-pass")),
        "descriptions": list(schema.descriptions),
        "inputs": repr(list(examples.inputs)),
    }
    found = cache.get("responses", key, lambda: _run(space, schema, examples, progress))
    return Responses(found["features"], found["sketches"])


def _run(space: Space, schema: Schema, examples: Examples, progress: Progress | None) -> Arrays:
    helper, sketch = load_helper(space), space_sketch(space)
    points = description_prototypes(helper, schema).points
    n, columns = len(examples), len(points) - 1
    directions = np.broadcast_to(points[:-1], (n, columns, points.shape[1]))
    features = np.zeros((n, space.width), np.float32)
    sketches = np.zeros((n, columns, space_sketch(space).size), np.float32)
    for batch in helper.gradients(list(examples.inputs), directions, progress=progress):
        features[batch.rows] = batch.features
        sketches[batch.rows, batch.columns] = sketch(batch.gradients)
    return {"features": features, "sketches": sketches}
