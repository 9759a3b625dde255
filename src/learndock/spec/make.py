"""Making a specification: examples and labels, or a model's predictions, in; a ``Spec`` out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock._version import VERSION
from learndock.data.choose import require_classes
from learndock.data.examples import Examples, Input
from learndock.data.schema import Schema
from learndock.errors import DataError, ModelError, UsageError
from learndock.spaces.heads import HeadName
from learndock.spaces.helper import Progress
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.reading import what_was_not_read
from learndock.spaces.space import Space, default_space, get_space
from learndock.spec import statistics
from learndock.spec.onepass import Contributions
from learndock.spec.paper import PaperSettings
from learndock.spec.sketch import space_sketch
from learndock.spec.spec import Array, Kind, Spec
from learndock.spec.strategies import Strategy, check_predictions, choose_strategy, strategy_of

RECIPES = ("one-pass", "paper")


def make_spec(
    examples: Examples,
    schema: Schema | None = None,
    *,
    space: Space | str | None = None,
    predictions: NDArray[Any] | None = None,
    recipe: str = "one-pass",
    head: HeadName | None = None,
    full: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    **settings: Any,
) -> Spec:
    """Make the specification of a task (from labels) or of a model (from its ``predictions`` on ``examples``).

    The one-pass recipe sums, over the examples, the gradients of the helper's outputs in its LoRA matrices B at
    B = 0, weighted by label-centred, class-balanced weights (docs/evidence.md has what that finds). The recipe of the
    papers trains B instead: Section 3 of "A Study on PAVE Specification for Learnware" (ICLR 2026), arXiv 2505.13425.

    Args:
        examples: inputs; with targets where no ``predictions`` are given.
        schema: what the labels mean; by default ``examples.schema``.
        space: name, folder or ``Space``; by default the built-in one for such inputs.
        predictions: ``(n, classes)`` probabilities, ``(n,)`` class indices or values, or for generation ``(n,)``
            generated texts; with them the spec is of a model.
        recipe: ``"one-pass"`` or ``"paper"`` (which needs torch; ``settings`` are those of ``PaperSettings``).
        head: ``"descriptions"`` or ``"means"``: whether a label is represented by its description, or by the mean of
            its examples. By default descriptions, where the schema has words and the helper reads them.
        full: also keep the entire parameter vector, not only its sketch.
        seed: of what is drawn: groups of examples, contrasts, the order of the paper's recipe.
        progress: called with (steps done, steps in all).

    Raises:
        DataError: too few examples, one class only, targets that are not finite.
        ModelError: predictions of the wrong shape, not finite, or all equal.
        UsageError: an unknown recipe or setting; neither targets nor predictions.
        SpaceError: there is no such space.
        WeightsMissing, WeightsChanged, MissingExtra

    Example:
        >>> examples = learndock.read_examples("few.csv")
        >>> learndock.make_spec(examples)
        <Spec: task, 16 examples, space minilm-l6, p-value 0.009>
        >>> probabilities = learndock.predict(learndock.open_learnware("learnware"), examples.inputs)
        >>> learndock.make_spec(examples, predictions=probabilities).kind
        'model'
    """
    schema = schema or examples.schema
    if schema is None:
        raise UsageError("no schema is known", remedy="pass one", about=examples.source)
    if recipe not in RECIPES:
        raise UsageError(f'recipe "{recipe}" is unknown', remedy=f"use one of {', '.join(RECIPES)}")
    kind: Kind = "task" if predictions is None else "model"
    if predictions is None:
        if examples.targets is None:
            raise UsageError("has no labels", remedy="a task spec needs them", about=examples.source)
        require_classes(examples, schema)
        targets: NDArray[Any] = examples.targets
        if schema.type != "generation" and not np.isfinite(targets).all():
            raise DataError("a target is NaN or infinite", remedy="remove that row", about=examples.source)
    else:
        targets = check_predictions(predictions, schema, len(examples))
    space = get_space(space or default_space(examples.kind))
    strategy, inputs = choose_strategy(schema, space, head), list(examples.inputs)
    if recipe == "one-pass":
        if settings:
            raise UsageError(f"one-pass has no settings {', '.join(settings)}")
        found, more = strategy.gather(space, schema, inputs, targets, seed=seed, progress=progress)
        spec = assemble(space, kind, schema, len(examples), found, head=strategy.head, seed=seed, full=full)
        spec = replace(spec, settings={**spec.settings, **more})
    else:
        chosen = _paper_settings(strategy, settings)
        vector = strategy.fit(space, schema, inputs, targets, settings=chosen, seed=seed, progress=progress)
        behaviour = space_sketch(space)(vector[None])[0]
        features = load_helper(space).features(inputs)
        spec = _assemble(space, "paper", kind, schema, len(examples), features, behaviour, vector if full else None)
        spec = replace(spec, settings={"head": strategy.head, **chosen.to_dict()}).canonical()
    unread = what_was_not_read(load_helper(space), examples.inputs)
    return replace(spec, settings={**spec.settings, "reading": unread}) if unread else spec


def _paper_settings(strategy: Strategy, settings: dict[str, Any]) -> PaperSettings:
    try:
        return PaperSettings(**{**strategy.usual, **settings})
    except TypeError as error:
        raise UsageError(f"unknown settings for paper: {error}") from None


def gather(
    space: Space,
    schema: Schema,
    inputs: Sequence[Input],
    targets: NDArray[Any],
    *,
    head: HeadName,
    seed: int = 0,
    known: Array | None = None,
    progress: Progress | None = None,
) -> Contributions:
    """What examples contribute to a one-pass spec: one pass of the helper.

    ``targets`` are labels, values, probabilities ``(n, classes)`` or texts; ``known`` the features ``(n, width)`` of
    the inputs, where they are known already.
    """
    strategy = strategy_of(head)
    return strategy.gather(space, schema, inputs, targets, seed=seed, known=known, progress=progress)[0]


def assemble(
    space: Space,
    kind: Kind,
    schema: Schema,
    n: int,
    found: Contributions,
    *,
    head: HeadName,
    seed: int = 0,
    full: bool = False,
) -> Spec:
    """The one-pass spec of ``n`` examples from what they contribute.

    Raises:
        ModelError: the behaviour is zero.
    """
    behaviour = found.behaviour
    rows = statistics.contrasts(found.groups, seed) if kind == "task" else None
    spec = _assemble(space, "one-pass", kind, schema, n, found.features, behaviour, found.vector if full else None)
    return replace(
        spec,
        settings={"head": head},
        p_value=statistics.p_value(found.groups, seed),
        reliability=statistics.reliability(found.groups),
        # A contrast varies as one group does; the mean of G groups varies by 1/sqrt(G) of that
        contrasts=None if rows is None else rows / np.float32(_length(behaviour) * len(found.groups) ** 0.5),
    ).canonical()


def _assemble(
    space: Space,
    recipe: str,
    kind: Kind,
    schema: Schema,
    n: int,
    features: Array,
    behaviour: Array,
    vector: Array | None,
) -> Spec:
    length = _length(behaviour)
    domain = features.mean(0) - space.center
    return Spec(
        kind=kind,
        space=space.describe(recipe),
        schema=schema.to_dict(),
        n=n,
        domain=domain / np.float32(_root_mean_square(domain)),
        behaviour=behaviour / np.float32(length),
        vector=None if vector is None else (vector / np.float32(_root_mean_square(vector))).astype(np.float16),
        version=VERSION,
    )


def _length(behaviour: Array) -> float:
    length = _root_mean_square(behaviour)
    if not np.isfinite(length) or length <= 0:
        raise ModelError(
            "the behaviour is zero: outputs do not depend on the inputs in any way that the helper can see"
        )
    return length


def _root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
