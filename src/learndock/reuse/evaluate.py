"""How well a learnware does on the user's labelled examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Examples
from learndock.data.metrics import score
from learndock.data.schema import Schema
from learndock.errors import DataError, UsageError
from learndock.notebook import html_table, number
from learndock.package.columns import find_name, name_key
from learndock.package.formats import Progress
from learndock.package.learnware import Learnware
from learndock.reuse.predict import predict_with_remarks


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The score of a learnware on labelled examples, and what it is made of.

    ``score`` is in ``metric`` over ``n`` examples. ``labels`` are the user's; ``counts`` says how many examples each
    has and ``recall`` which share of them was recognised (None for a class without examples). ``confusion`` is
    ``(classes, classes)``: rows are true labels, columns predicted ones, both in the order of ``labels``. For
    regression and generation there is the score alone. ``remarks`` say which inputs the model read only in part.
    """

    score: float
    metric: str
    n: int
    labels: tuple[str, ...] = ()
    counts: Mapping[str, int] | None = None
    recall: Mapping[str, float | None] | None = None
    confusion: NDArray[np.int64] | None = None
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        recalls = "".join(f", {label} {number(value)}" for label, value in (self.recall or {}).items())
        return (
            f"<Evaluation: {self.metric} {self.score:.3f} on {self.n} examples{recalls and '; recall' + recalls[1:]}>"
        )

    def _repr_html_(self) -> str:
        said = f"{self.metric} {self.score:.3f} on {self.n} examples"
        if self.confusion is None or not self.recall:
            return html_table((self.metric, "examples"), [(number(self.score, ".3f"), self.n)])
        rows = [
            (label, *(int(n) for n in row), number(self.recall[label]))
            for label, row in zip(self.labels, self.confusion, strict=True)
        ]
        return html_table(("true / predicted", *self.labels, "recall"), rows, caption=said)


def evaluate(
    learnware: Learnware,
    examples: Examples,
    schema: Schema | None = None,
    *,
    mapping: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a learnware on labelled examples and score it in the user's own labels.

    Labels are matched by name without regard to case. Several of the learnware's labels may become one of the user's:
    their probabilities add up.

    Args:
        learnware: see ``open_learnware``.
        examples: inputs with labels.
        schema: the user's task; by default the one of ``examples``.
        mapping: the user's label for a label of the learnware, as ``{"neg": "negative"}``.
        progress: called with (inputs done, inputs in all).

    Raises:
        UsageError: the labels do not match, or no schema is known; the message lists both sides and what to do.
        DataError: the examples have no labels.
        UnsafeModel, ModelError, MissingExtra: see ``predict``.

    Example:
        >>> learndock.evaluate(learndock.open_learnware("learnware"), learndock.read_examples("few.csv"))
        <Evaluation: accuracy 1.000 on 16 examples; recall negative 1.00, positive 1.00>
    """
    if examples.targets is None or not len(examples):
        raise DataError("evaluating needs examples with labels", about=examples.source)
    schema = schema or examples.schema
    if schema is None:
        raise UsageError("no schema is known", remedy="pass one", about=examples.source)
    table = match_labels(learnware.schema, schema, mapping or {})
    predictions, remarks = predict_with_remarks(learnware, examples.inputs, progress=progress)
    if schema.type in ("regression", "generation"):
        value = score(schema, predictions, examples.targets)
        return Evaluation(value, schema.metric, len(examples), remarks=remarks)
    found = predictions @ table
    targets = np.asarray(examples.targets, dtype=np.int64)
    confusion = np.zeros((schema.classes, schema.classes), dtype=np.int64)
    np.add.at(confusion, (targets, found.argmax(axis=1)), 1)
    counts = confusion.sum(axis=1)
    recall = {label: float(confusion[i, i] / counts[i]) if counts[i] else None for i, label in enumerate(schema.labels)}
    return Evaluation(
        score(schema, found, targets),
        schema.metric,
        len(examples),
        schema.labels,
        {label: int(counts[i]) for i, label in enumerate(schema.labels)},
        recall,
        confusion,
        remarks,
    )


def match_labels(own: Schema, wanted: Schema, mapping: Mapping[str, str]) -> NDArray[np.float64]:
    """Return which of the user's labels each label of the learnware is: ``(own, wanted)`` of 0 and 1.

    Raises:
        UsageError: the types differ, a mapping names an unknown label, or some label has no counterpart.
    """
    if own.type != wanted.type:
        raise UsageError(f"the learnware does {own.type}, the task is {wanted.type}; they cannot be compared")
    if own.type in ("regression", "generation"):
        return np.zeros((0, 0))
    plain = _plain if _collide(own, wanted) else name_key
    columns = {plain(label): i for i, label in enumerate(wanted.labels)}
    given: dict[str, str] = {}
    for theirs, yours in mapping.items():
        if given.setdefault(plain(theirs), plain(yours)) != plain(yours):
            raise UsageError(f"--map gives {theirs} two labels", remedy="map each label of the learnware once")
    unknown = sorted(set(given) - {plain(v) for v in own.labels}) + sorted(set(given.values()) - set(columns))
    if unknown:
        raise UsageError(f"--map names {', '.join(unknown)}, which is not a label here", remedy=f"{_both(own, wanted)}")
    table = np.zeros((own.classes, wanted.classes))
    for row, label in enumerate(own.labels):
        column = columns.get(given.get(plain(label), plain(label)))
        if column is None:
            raise UsageError(
                f"the learnware's label {label} is not a label of the task", remedy=f"{_remedy(own, wanted)}"
            )
        table[row, column] = 1.0
    without = [label for label, used in zip(wanted.labels, table.sum(axis=0).tolist(), strict=True) if not used]
    if without:
        raise UsageError(f"the learnware never answers {', '.join(without)}", remedy=f"{_remedy(own, wanted)}")
    return table


def rename_labels(own: Schema, mapping: Mapping[str, str]) -> Schema:
    """Return the schema of a learnware under the user's names for its labels; several labels may become one."""
    if own.type != "classification" or not mapping:
        return own
    given = {find_name(theirs, own.labels): yours for theirs, yours in mapping.items()}
    found: dict[str, str] = {}
    for place, (label, meaning) in enumerate(zip(own.labels, own.descriptions, strict=True)):
        name = given.get(place, label)
        found.setdefault(name, meaning if name == label else name)
    return Schema("classification", tuple(found), tuple(found.values()), own.metric)


def _collide(*schemas: Schema) -> bool:
    """Whether letters and digits alone make two labels of one schema equal, as of "C" and "C++"."""
    return any(len({name_key(label) for label in s.labels}) < len(s.labels) for s in schemas)


def _plain(label: str) -> str:
    return " ".join(label.split()).casefold()


def _both(own: Schema, wanted: Schema) -> str:
    return f"the learnware's labels: {', '.join(own.labels)}; the task's: {', '.join(wanted.labels)}"


def _remedy(own: Schema, wanted: Schema) -> str:
    return (
        f"{_both(own, wanted)}. Say which is which with --map theirs=yours, or give the model your labels "
        "with `learndock finetune`"
    )
