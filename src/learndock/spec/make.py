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
from learndock.spaces.heads import HeadName, head_for
from learndock.spaces.helper import Progress
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.reading import what_was_not_read
from learndock.spaces.space import Space, default_space, get_space
from learndock.spec import generation, statistics
from learndock.spec.onepass import Contributions, SoftLabels, contribute, indicators, sum_groups
from learndock.spec.sketch import space_sketch
from learndock.spec.spec import Array, Kind, Spec

RECIPES = ("one-pass", "paper")

#: Predictions of a model that say the same of every input carry no behaviour.
LEAST_VARIATION = 1e-9


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
    head = head or head_for(schema, space)
    if (head == "completions") != (space.input == "generation"):
        raise UsageError(f'the head "{head}" does not belong to the space {space.name}, which reads {space.input}')
    if schema.type == "generation" and head != "completions":
        raise UsageError(f"the space {space.name} reads {space.input}", remedy="completions need a space of generation")
    if schema.type == "regression" and head == "completions":
        raise UsageError(
            f"the space {space.name} compares completions", remedy="a regression has none. Use a space of texts"
        )
    common = _Common(kind, schema, examples, _soft_labels(schema, targets), targets, head, seed)
    if recipe == "one-pass":
        if settings:
            raise UsageError(f"one-pass has no settings {', '.join(settings)}")
        spec = _one_pass(space, common, full, progress)
    else:
        spec = _paper(space, common, targets, full, progress, settings)
    unread = what_was_not_read(load_helper(space), examples.inputs)
    return replace(spec, settings={**spec.settings, "reading": unread}) if unread else spec


def check_predictions(predictions: NDArray[Any], schema: Schema, n: int) -> NDArray[Any]:
    """Predictions as float64 (texts for generation), checked.

    Raises:
        ModelError: wrong shape, NaN or infinity, no probabilities, or the same for every input.
    """
    if schema.type == "generation":
        return generation.check_written(predictions, n)
    values = np.asarray(predictions, np.float64)
    if schema.type == "classification" and values.ndim == 1:
        if not np.isin(values, np.arange(schema.classes)).all():
            raise ModelError(f"predictions are no class indices: whole numbers from 0 to {schema.classes - 1}")
        values = np.eye(schema.classes)[values.astype(np.int64)]
    expected = (n, schema.classes) if schema.type == "classification" else (n,)
    if values.shape != expected:
        raise ModelError(f"predictions have shape {values.shape}, the schema and the examples ask for {expected}")
    if not np.isfinite(values).all():
        raise ModelError("predictions hold NaN or infinity; nothing can be specified from them")
    if schema.type == "classification" and (values.min() < -1e-6 or np.abs(values.sum(1) - 1).max() > 1e-3):
        raise ModelError("predictions are not probabilities: rows must be at least 0 and sum to 1")
    if n < 4:
        raise DataError(f"{n} examples are too few for a spec", remedy="give at least 4, better a few hundred")
    if values.std(0).max() < LEAST_VARIATION:
        raise ModelError("the model predicts the same for every example; it has no behaviour to specify")
    return values


class _Common:
    """What both recipes need to know."""

    def __init__(
        self,
        kind: Kind,
        schema: Schema,
        examples: Examples,
        soft_labels: SoftLabels,
        targets: NDArray[Any],
        head: HeadName,
        seed: int,
    ) -> None:
        self.kind, self.schema, self.examples, self.targets = kind, schema, examples, targets
        self.soft_labels, self.head, self.seed = soft_labels, head, seed

    @property
    def inputs(self) -> list[Any]:
        return list(self.examples.inputs)


def _one_pass(space: Space, common: _Common, full: bool, progress: Progress | None) -> Spec:
    found = gather(
        space, common.schema, common.inputs, common.targets, head=common.head, seed=common.seed, progress=progress
    )
    spec = assemble(
        space, common.kind, common.schema, len(common.examples), found, head=common.head, seed=common.seed, full=full
    )
    if common.head == "completions":
        asked = generation.arrange(common.schema, common.inputs, common.targets, common.soft_labels, common.seed)
        return replace(spec, settings={**spec.settings, "cut": generation.cut(space, asked.inputs)})
    return spec


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

    ``targets`` are labels, values, probabilities ``(n, classes)`` or texts; ``known`` the features ``(n, width)`` where
    somebody has them.
    """
    soft_labels = _soft_labels(schema, targets)
    if head == "completions":
        asked = generation.arrange(schema, inputs, targets, soft_labels, seed)
        return sum_groups(space, asked.inputs, asked.directions, asked.groups, progress)
    return contribute(space, schema, inputs, soft_labels, head=head, seed=seed, known=known, progress=progress)


def _soft_labels(schema: Schema, targets: NDArray[Any]) -> SoftLabels:
    return indicators(schema, targets) if schema.type != "generation" else np.zeros((len(targets), 0))


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


def _paper(
    space: Space,
    common: _Common,
    targets: NDArray[Any],
    full: bool,
    progress: Progress | None,
    settings: dict[str, Any],
) -> Spec:
    from learndock.spec.paper import PaperSettings, fit

    try:
        usual = {"steps": generation.STEPS} if common.head == "completions" else {}
        chosen = PaperSettings(**{**usual, **settings})
    except TypeError as error:
        raise UsageError(f"unknown settings for paper: {error}") from None
    if common.head == "completions":
        from learndock.spec.paper_generation import fit_completions

        asked = generation.chosen(common.schema, common.inputs, targets)
        vector = fit_completions(space, asked, settings=chosen, seed=common.seed, progress=progress)
    else:
        vector = fit(
            space, common.schema, common.inputs, targets,
            head=common.head, settings=chosen, seed=common.seed, progress=progress,
        )  # fmt: skip
    behaviour = space_sketch(space)(vector[None])[0]
    features = load_helper(space).features(common.inputs)
    spec = _assemble(
        space, "paper", common.kind, common.schema, len(common.examples), features, behaviour, vector if full else None
    )
    return replace(spec, settings={"head": common.head, **chosen.to_dict()}).canonical()


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
