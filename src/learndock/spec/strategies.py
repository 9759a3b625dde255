"""What depends on how a task is answered: one small strategy for labels and values, one for completions.

``make`` asks a strategy for an arrangement (which examples are compared with what), for what the examples contribute to
a one-pass spec, and for the vector of the papers' recipe; everything after that is the same for all tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.schema import Schema
from learndock.errors import DataError, ModelError, UsageError
from learndock.progress import Progress
from learndock.spaces.heads import HeadName, head_for
from learndock.spaces.helper import Float
from learndock.spaces.space import Space
from learndock.spec import generation
from learndock.spec.onepass import Contributions, contribute, indicators, sum_groups
from learndock.spec.paper import PaperSettings, fit

Targets = NDArray[Any]

#: Predictions of a model that are the same for every input have no behaviour.
LEAST_VARIATION = 1e-9


class Strategy(Protocol):
    """How the examples of a task become a behaviour."""

    @property
    def head(self) -> HeadName:
        """Return what labels are represented by."""
        ...

    def gather(
        self,
        space: Space,
        schema: Schema,
        inputs: Sequence[Input],
        targets: Targets,
        *,
        seed: int,
        known: Float | None = None,
        progress: Progress | None = None,
    ) -> tuple[Contributions, dict[str, Any]]:
        """Return what the examples contribute to a one-pass spec, and settings that the spec names."""
        ...

    def fit(
        self,
        space: Space,
        schema: Schema,
        inputs: Sequence[Input],
        targets: Targets,
        *,
        settings: PaperSettings,
        seed: int,
        progress: Progress | None = None,
    ) -> Float:
        """Return the vector of the papers' recipe, ``(|B|,)``."""
        ...

    @property
    def usual(self) -> dict[str, Any]:
        """Return settings of the papers' recipe that differ from ``PaperSettings``."""
        ...


@dataclass(frozen=True)
class Labelled:
    """Labels or values, represented in the feature space by descriptions or means."""

    head: HeadName
    usual: dict[str, Any]

    def gather(
        self,
        space: Space,
        schema: Schema,
        inputs: Sequence[Input],
        targets: Targets,
        *,
        seed: int,
        known: Float | None = None,
        progress: Progress | None = None,
    ) -> tuple[Contributions, dict[str, Any]]:
        """See ``Strategy``; ``known`` are the features of the inputs ``(n, width)``, where they are known already."""
        soft_labels = indicators(schema, targets)
        found = contribute(
            space, schema, inputs, soft_labels, head=self.head, seed=seed, known=known, progress=progress
        )
        return found, {}

    def fit(
        self,
        space: Space,
        schema: Schema,
        inputs: Sequence[Input],
        targets: Targets,
        *,
        settings: PaperSettings,
        seed: int,
        progress: Progress | None = None,
    ) -> Float:
        """See ``Strategy``."""
        return fit(
            space, schema, list(inputs), targets, head=self.head, settings=settings, seed=seed, progress=progress
        )


@dataclass(frozen=True)
class Completions:
    """Texts, or labels that are texts, compared by how likely the helper finds them after a prompt."""

    head: HeadName
    usual: dict[str, Any]

    def gather(
        self,
        space: Space,
        schema: Schema,
        inputs: Sequence[Input],
        targets: Targets,
        *,
        seed: int,
        known: Float | None = None,
        progress: Progress | None = None,
    ) -> tuple[Contributions, dict[str, Any]]:
        """See ``Strategy``; the settings say how many prompts and completions were cut. ``known`` is not needed."""
        asked = generation.arrange(schema, inputs, targets, seed)
        found = sum_groups(space, asked.inputs, asked.directions, asked.groups, progress)
        return found, {"cut": generation.cut(space, asked.inputs)}

    def fit(
        self,
        space: Space,
        schema: Schema,
        inputs: Sequence[Input],
        targets: Targets,
        *,
        settings: PaperSettings,
        seed: int,
        progress: Progress | None = None,
    ) -> Float:
        """See ``Strategy``."""
        from learndock.spec.paper_generation import fit_completions

        asked = generation.chosen(schema, inputs, targets)
        return fit_completions(space, asked, settings=settings, seed=seed, progress=progress)


def strategy_of(head: HeadName) -> Strategy:
    """The strategy for a head."""
    if head == "completions":
        return Completions(head, {"steps": generation.STEPS})
    return Labelled(head, {})


def choose_strategy(schema: Schema, space: Space, head: HeadName | None) -> Strategy:
    """The strategy for a task in a space; by default the head is the best that both allow.

    Raises:
        UsageError: task, head and space do not go together.
    """
    head = head or head_for(schema, space)
    if (head == "completions") != (space.input == "generation"):
        raise UsageError(f'the head "{head}" does not belong to the space {space.name}, which reads {space.input}')
    if schema.type == "generation" and head != "completions":
        raise UsageError(f"the space {space.name} reads {space.input}", remedy="completions need a space of generation")
    if schema.type == "regression" and head == "completions":
        raise UsageError(
            f"the space {space.name} compares completions", remedy="a regression has none. Use a space of texts"
        )
    return strategy_of(head)


# --- predictions, by the type of the task --------------------------------------------------------------------


def check_predictions(predictions: Targets, schema: Schema, n: int) -> Targets:
    """Predictions as float64 (texts for generation), checked.

    Raises:
        ModelError: wrong shape, NaN or infinity, not probabilities, or the same for every input.
        DataError: too few examples.
    """
    return _CHECKS[schema.type](predictions, schema, n)


def _check_probabilities(predictions: Targets, schema: Schema, n: int) -> Targets:
    values = np.asarray(predictions, np.float64)
    if values.ndim == 1:
        if not np.isin(values, np.arange(schema.classes)).all():
            raise ModelError(
                f"predictions are not class indices, which are whole numbers from 0 to {schema.classes - 1}"
            )
        values = np.eye(schema.classes)[values.astype(np.int64)]
    values = _check_numbers(values, (n, schema.classes))
    if values.min() < -1e-6 or np.abs(values.sum(1) - 1).max() > 1e-3:
        raise ModelError("predictions are not probabilities: rows must be at least 0 and sum to 1")
    return _check_behaviour(values)


def _check_values(predictions: Targets, schema: Schema, n: int) -> Targets:
    return _check_behaviour(_check_numbers(np.asarray(predictions, np.float64), (n,)))


def _check_texts(predictions: Targets, schema: Schema, n: int) -> Targets:
    return generation.check_written(predictions, n)


_CHECKS: dict[str, Callable[[Targets, Schema, int], Targets]] = {
    "classification": _check_probabilities,
    "regression": _check_values,
    "generation": _check_texts,
}


def _check_numbers(values: Targets, expected: tuple[int, ...]) -> Targets:
    if values.shape != expected:
        raise ModelError(f"predictions have shape {values.shape}, the schema and the examples ask for {expected}")
    if not np.isfinite(values).all():
        raise ModelError("predictions hold NaN or infinity; nothing can be specified from them")
    return values


def _check_behaviour(values: Targets) -> Targets:
    if len(values) < 4:
        raise DataError(
            f"{len(values)} examples are too few for a spec", remedy="give at least 4, better a few hundred"
        )
    if values.std(0).max() < LEAST_VARIATION:
        raise ModelError("the model predicts the same for every example; it has no behaviour to specify")
    return values
