"""Tasks of images: a folder's own, scikit-learn's digits, and other questions asked of the same images.

Which label of which data set answers which question is written down here, before anything is measured; so is which
tasks are nearly the same question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from learndock.bench.size import Size
from learndock.bench.tasks import Question, Task, ask_otherwise, load_tasks, split
from learndock.data import Examples, Schema, decode
from learndock.data.examples import Input
from learndock.data.images import Image

ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
WARNINGS = (
    "right of way at next crossing", "yield", "general caution", "dangerous curve left", "dangerous curve right",
    "double curve", "bumpy road", "slippery road", "road narrows on the right", "road work", "traffic signals",
    "pedestrians", "children crossing", "bicycles crossing", "ice or snow", "wild animals crossing",
)  # fmt: skip
ORDERS = (
    "turn right ahead", "turn left ahead", "ahead only", "straight or right", "straight or left", "keep right",
    "keep left", "roundabout",
)  # fmt: skip
LINES = ("banded", "braided", "chequered", "cobwebbed", "cracked", "crosshatched")
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

#: task -> question -> (what the answers are called, which labels get the second, third, ... answer)
BY_LABEL: dict[str, dict[str, tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]]] = {
    "cifar10": {
        "animal": (("a vehicle", "an animal"), (ANIMALS,)),
        "flies": (("it does not fly", "it flies"), (("airplane", "bird"),)),
        "pet or wheels": (
            ("neither a pet nor on wheels", "a pet", "on wheels"), (("cat", "dog"), ("automobile", "truck")),
        ),
    },
    "gtsrb": {
        "speed limit": (("another sign", "a speed limit"), (tuple(f"speed limit {v}" for v in
                                                                 (20, 30, 50, 60, 70, 80, 100, 120)),)),
        "triangle": (("no triangle", "a triangle"), (WARNINGS,)),
        "blue": (("not a blue sign", "a blue sign"), (ORDERS,)),
    },
    "dtd10": {"lines": (("no lines", "lines"), (LINES,))},
    "digits": {
        "even": (("an odd digit", "an even digit"), (("zero", "two", "four", "six", "eight"),)),
        "loop": (("no closed loop", "a closed loop"), (("zero", "six", "eight", "nine"),)),
    },
}  # fmt: skip
#: A question whose answer nearly is another task's: confusing them counts half.
RELATIVES = (("gtsrb: triangle", "gtsrb: blue"), ("cifar10: animal", "cifar10: pet or wheels"))


def vision_tasks(data: Path, size: Size) -> list[Task]:
    """The tasks of ``data``, the digits, and the other questions of each.

    Raises:
        DataError: ``data`` is not a folder of tasks.
    """
    bases = [*load_tasks(data, replace(size, tasks=None)), digits(size)]
    found = []
    for base in bases:
        found += [base, *other_questions(base)]
    known = {frozenset(pair) for pair in RELATIVES}
    found = [replace(t, relatives=frozenset(o.name for o in found if {o.name, t.name} in known)) for t in found]
    if size.tasks is None:
        return found
    # A few of many, but tasks that share images: that is the question
    shared = [t for t in found if sum(o.base == t.base for o in found) > 1]
    return shared[: size.tasks]


def digits(size: Size) -> Task:
    """scikit-learn's handwritten digits, 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    source = load_digits()
    schema = Schema("classification", NAMES, tuple(f"the digit {n}" for n in NAMES), "accuracy")
    inputs = [
        Image.from_pixels((grey * 255 / 16).astype(np.uint8), f"digit {i}") for i, grey in enumerate(source.images)
    ]
    whole = Examples(inputs, source.target.astype(np.int64), schema, "scikit-learn's digits")
    order = np.random.Generator(np.random.Philox(key=[0, 77])).permutation(len(inputs))
    train, test = whole.take(order[:1400]), whole.take(order[1400:])
    return split("digits", schema, train, test, size, family="digits", domain="handwriting", card="handwritten digits")


def other_questions(base: Task) -> list[Task]:
    """Everything else that is asked of a task's images; what hardly ever has one of its answers is left out."""
    made: list[Task | None] = []
    for name, (descriptions, groups) in BY_LABEL.get(base.name, {}).items():
        made.append(ask_otherwise(base, name, descriptions, _by_label(base.schema.labels, groups)))
    if base.name in ("cifar10", "dtd10"):
        middle = float(np.median([_warmth(i) for i in base.fit.inputs]))
        made.append(ask_otherwise(base, "colour", ("cold colours", "warm colours"), _above(_warmth, middle)))
    return [t for t in made if t is not None]


def _by_label(labels: Sequence[str], groups: Sequence[Sequence[str]]) -> Question:
    answers = np.zeros(len(labels), np.int64)
    for number, group in enumerate(groups, start=1):
        answers[[labels.index(label) for label in group]] = number
    return lambda examples: answers[np.asarray(examples.targets, np.int64)]


def _above(measure: Callable[[Input], float], middle: float) -> Question:
    def ask(examples: Examples) -> NDArray[np.int64]:
        return np.array([measure(i) > middle for i in examples.inputs], np.int64)

    return ask


def _warmth(image: Image) -> float:
    """Mean red less mean blue."""
    red, _, blue = decode(image).mean((0, 1))
    return float(red - blue)
