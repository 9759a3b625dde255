"""Between reading and specifying: check that there are enough examples, and choose a few of each class.

Works on targets and schemas alone; inputs are never looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import DataError, UsageError

#: A regression with fewer examples than this says nothing about how outputs depend on inputs.
LEAST_VALUES = 4


def _require_completions(examples: Examples) -> None:
    found = list(_targets(examples))
    if len(found) < LEAST_VALUES:
        raise DataError(
            f"{len(found)} examples are too few", remedy=f"give at least {LEAST_VALUES}", about=examples.source
        )
    if len(set(found)) < 2:
        raise DataError(
            f"all {len(found)} completions are the same",
            remedy="a task needs different ones: add examples with others",
            about=examples.source,
        )


def require_classes(examples: Examples, schema: Schema, *, least: int = 2) -> tuple[str, ...]:
    """Check that the targets can carry a specification; return warnings (classes that do not occur).

    Classification: two classes at least occur, and each that occurs does so ``least`` times. Regression:
    four examples at least, not all of one value.

    Raises:
        DataError: otherwise; names the file, the class and its count.
    """
    if schema.type == "generation":
        _require_completions(examples)
        return ()
    targets = _targets(examples)
    if schema.type == "regression":
        _require_values(examples.source, targets)
        return ()
    counts = np.bincount(targets.astype(np.int64), minlength=schema.classes)
    if len(counts) > schema.classes:
        raise DataError(f"class index {len(counts) - 1}, the schema has {schema.classes}", about=examples.source)
    occurring = np.flatnonzero(counts)
    if len(occurring) < 2:
        name = f' "{schema.labels[occurring[0]]}"' if len(occurring) else ""
        raise DataError(
            f"all {len(targets)} examples are of the class{name}",
            remedy="a task needs at least two classes: add examples of another class",
            about=examples.source,
        )
    for index in occurring:
        if counts[index] < least:
            raise DataError(
                f'class "{schema.labels[index]}" has {counts[index]} '
                f"example{'' if counts[index] == 1 else 's'}, at least {least} are needed",
                remedy="add more of them, or leave the class out",
                about=examples.source,
            )
    absent = [f'"{schema.labels[i]}"' for i in np.flatnonzero(counts == 0)]
    if not absent:
        return ()
    return (f"{examples.source}: no examples of {', '.join(absent)}; nothing is known about them",)


def few_shot(examples: Examples, schema: Schema, k: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose ``k`` examples of every class; return the indices chosen and the rest, both ascending.

    A class with fewer gives all it has. Generation gives any ``k``. A regression gives ``2 k``, one from each of as
    many equal slices of its sorted targets. The same ``seed`` chooses the same examples on every machine.

    Raises:
        DataError: no targets. UsageError: ``k`` under 1.
    """
    if k < 1:
        raise UsageError(f"{k} examples of a class are none", remedy="k must be at least 1")
    targets = _targets(examples)
    generator = np.random.Generator(np.random.Philox(key=seed))
    if schema.type == "generation":
        chosen = list(generator.permutation(len(targets))[:k])
    elif schema.type == "regression":
        chosen = _spread(targets, 2 * k, generator)
    else:
        chosen = [
            index
            for label in range(schema.classes)
            for index in generator.permutation(np.flatnonzero(targets == label))[:k]
        ]
    picked = np.sort(np.asarray(chosen, dtype=np.int64))
    return picked, np.setdiff1d(np.arange(len(targets), dtype=np.int64), picked)


def _spread(targets: NDArray[Any], count: int, generator: np.random.Generator) -> list[int]:
    # Shuffling before a stable sort gives equal targets a random order.
    shuffled = generator.permutation(len(targets))
    ordered = shuffled[np.argsort(targets[shuffled], kind="stable")]
    slices = np.array_split(ordered, min(count, len(ordered)))
    return [int(part[generator.integers(len(part))]) for part in slices]


def _require_values(source: str, targets: NDArray[Any]) -> None:
    if len(targets) < LEAST_VALUES:
        raise DataError(
            f"{len(targets)} examples, a regression needs at least {LEAST_VALUES}", remedy="add more", about=source
        )
    if np.all(targets == targets[0]):
        raise DataError(
            f"all {len(targets)} labels are {targets[0]:g}",
            remedy="a regression needs values that differ",
            about=source,
        )


def _targets(examples: Examples) -> NDArray[Any]:
    if examples.targets is None or len(examples.targets) == 0:
        raise DataError("the examples have no labels", remedy="add a label column (--label)", about=examples.source)
    return examples.targets
