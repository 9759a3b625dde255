"""What if the user's words for the labels are not the owner's?

The dock stays as it is; only the user's schema is put otherwise. Nothing of this knows a task: paraphrases are frames
that fit any label; other languages are tried where the label names are in a small word list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from learndock.bench.compare import compare
from learndock.bench.experiments import Finding
from learndock.bench.methods import DEFAULT, METHODS, Method, rank_entries
from learndock.bench.pool import Bench, Report
from learndock.bench.responses import respond
from learndock.bench.tasks import Task
from learndock.spec.make import make_spec
from learndock.spec.spec import Spec

Float = NDArray[np.float64]
Rewording = Callable[[Task], tuple[str, ...] | None]

GERMAN = {
    "negative": "negativ", "positive": "positiv", "neutral": "neutral", "subjective": "subjektiv",
    "objective": "sachlich", "description": "Beschreibung", "entity": "Gegenstand", "abbreviation": "Abkürzung",
    "human": "Person", "number": "Zahl", "location": "Ort", "joy": "Freude", "anger": "Wut", "sadness": "Trauer",
    "optimism": "Zuversicht", "offensive": "beleidigend", "not offensive": "nicht beleidigend", "yes": "ja",
    "no": "nein",
    "entailment": "folgt daraus", "not entailment": "folgt nicht daraus", "paraphrase": "gleiche Bedeutung",
    "not paraphrase": "andere Bedeutung",
}  # fmt: skip


def _frame(frame: str) -> Rewording:
    return lambda task: tuple(frame.format(p) for p in task.schema.descriptions)


REWORDINGS: dict[str, Rewording] = {
    "as the owner says it": lambda task: task.schema.descriptions,
    "this is an example of: ...": _frame("this is an example of: {}"),
    "someone would say: ...": _frame("someone would say that it is {}"),
    "the category ...": _frame("the category “{}”"),
    "bare label names": lambda task: task.schema.labels,
    "German label names": lambda task: (
        tuple(GERMAN[x] for x in task.schema.labels) if all(x in GERMAN for x in task.schema.labels) else None
    ),
    "labels permuted": lambda task: (*task.schema.descriptions[1:], task.schema.descriptions[0]),
}
NUMBERS = "class 0, class 1, ..."


def descriptions(bench: Bench, report: Report) -> Finding:
    """What identification keeps when the user words the labels otherwise."""
    specs: dict[tuple[str, str, int], Spec] = {}
    for place, (name, reword) in enumerate(REWORDINGS.items()):
        report("wordings", place, len(REWORDINGS) + 1)
        for task in bench.tasks.values():
            if task.schema.type == "classification" and (words := reword(task)) is not None:
                for seed in range(bench.size.seeds):
                    specs[name, task.name, seed] = _spec(bench, task, words, seed)
    for task in bench.tasks.values():
        if task.schema.type == "classification":
            numbered = tuple(f"class {i}" for i in range(task.schema.classes))
            schema = replace(task.schema, labels=numbered, descriptions=numbered)
            for seed in range(bench.size.seeds):
                few = task.user.take(task.draw(bench.size.shots, seed))
                specs[NUMBERS, task.name, seed] = make_spec(few, schema, space=bench.space, seed=seed)
    report("wordings", len(REWORDINGS) + 1, len(REWORDINGS) + 1)
    rows, methods = [], {}
    for name in (*REWORDINGS, NUMBERS):
        tasks = [t for t in bench.tasks if (name, t, 0) in specs]
        if not tasks:
            continue

        def choose(bench: Bench, task: str, seed: int, places: Sequence[int], name: str = name) -> Float:
            return rank_entries(bench, specs[name, task, seed], places)

        asked = {"random": METHODS["random"], "oracle": METHODS["oracle"], DEFAULT: Method(choose)}
        m = compare(bench, asked, lambda task: range(len(bench.entries)), tasks=tasks).summary()["methods"][DEFAULT]
        methods[name] = m
        rows.append([name, len(tasks), m["mean_score"], m["gap_closed"], m["top1_own_dataset"], m["regret"]])
    columns = ("the user's words", "tasks", "mean score", "gap closed", "own data set first", "regret")
    bars = {"values": {n: m["gap_closed"] for n, m in methods.items()}, "label": "gap closed"}
    return Finding("Other words for the labels", {"methods": methods, "tasks": {}}, columns, rows, ("bars", bars))


def _spec(bench: Bench, task: Task, words: tuple[str, ...], seed: int) -> Spec:
    rows = bench.rows[task.name]
    schema = replace(task.schema, descriptions=words)
    told = respond(bench.cache, bench.space, schema, task.user.take(rows))
    drawn = task.draw(bench.size.shots, seed)
    assert task.user.targets is not None
    return told.take(np.searchsorted(rows, drawn)).spec(bench.space, "task", schema, task.user.targets[drawn], seed)
