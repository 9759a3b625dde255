"""Tasks of other meaning over the same inputs: the question that the inputs alone cannot answer.

From any task of single texts other tasks are made by asking something else of the same texts: long or short, a number
mentioned or not, one of its labels against the rest; and the same question with its labels exchanged. Owners train a
good and a noisy model for each meaning; a user with a few examples of one meaning should find the good model of that
meaning, among all models over the same texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from learndock.bench.experiments import Finding
from learndock.bench.learners import Features, train_logistic
from learndock.bench.pool import Bench, Report
from learndock.bench.responses import Answering, respond
from learndock.bench.tasks import Question, Task, ask_otherwise
from learndock.data import Examples
from learndock.data.examples import Input
from learndock.data.metrics import score
from learndock.search.score import rank
from learndock.spec.spec import Spec

Float = NDArray[np.float64]
QUALITIES = ("good", "noisy60", "corrupted")


def meanings(task: Task) -> list[Task]:
    """The task itself and every other question that its texts carry."""
    found = [replace(task, base=task.name)]
    if task.schema.type != "classification" or not isinstance(task.fit.inputs[0], str):
        return found
    middle = float(np.median([len(i.split()) for i in task.fit.inputs]))
    questions: dict[str, tuple[tuple[str, str], Question]] = {
        "length": (("a short text", "a long text"), lambda e: _over(e, lambda i: len(i.split()) > middle)),
        "number": (
            ("no number is mentioned", "a number is mentioned"),
            lambda e: _over(e, lambda i: any(c.isdigit() for c in i)),
        ),
    }
    if task.schema.classes > 2:
        for label in range(min(task.schema.classes, 3)):
            description = task.schema.descriptions[label]
            questions[f"only {task.schema.labels[label]}"] = (
                (f"not: {description}", description),
                _only(label),
            )
    for name, (descriptions, ask) in questions.items():
        made = ask_otherwise(task, name, descriptions, ask)
        if made is not None:
            found.append(made)
    return found


def _only(label: int) -> Question:
    return lambda examples: (np.asarray(examples.targets) == label).astype(np.int64)


def _over(examples: Examples, holds: Callable[[Input], bool]) -> NDArray[np.int64]:
    return np.array([holds(i) for i in examples.inputs], np.int64)


@dataclass(frozen=True, eq=False)
class Answer:
    """A model over a base's inputs: which meaning, which quality, its spec and what it scores on its own meaning."""

    meaning: str
    quality: str
    spec: Spec
    score: float


def semantics(bench: Bench, report: Report) -> Finding:
    """Is the right meaning first, among models over the same inputs?"""
    rows, tasks = [], {}
    totals: dict[str, list[float]] = {}
    groups = [m for t in bench.tasks.values() if len(m := meanings(t)) > 1]
    for place, group in enumerate(groups):
        report("meanings", place, len(groups))
        answers, queries = _group(bench, group)
        for task, specs in queries.items():
            found = _first(specs, answers, task)
            tasks[task] = found
            for method, value in found.items():
                totals.setdefault(method, []).append(value)
            rows.append([task, len(group), *found.values()])
    report("meanings", len(groups), len(groups))
    names = list(totals)
    rows.append(["mean", "", *(float(np.mean(totals[n])) for n in names)])
    methods = {n: {"right_meaning_first": float(np.mean(totals[n]))} for n in names}
    methods["one-pass"]["queries"] = len(tasks) * bench.size.seeds
    return Finding(
        "Other meanings of the same inputs", {"methods": methods, "tasks": tasks}, ("task", "meanings", *names), rows,
        ("bars", {"values": {n: float(np.mean(totals[n])) for n in names}, "label": "right meaning first"}),
        "Learnwares: logistic regression on frozen features, well trained, 60% label noise, untrained, and "
        "the well-trained model of the same question with its labels exchanged, for each meaning. Share of draws with "
        "a learnware of the right meaning (and labels) first; `good first` asks for the well-trained one.",
    )  # fmt: skip


def _group(bench: Bench, group: Sequence[Task]) -> tuple[list[Answer], Mapping[str, list[Spec]]]:
    features = bench.features
    answers: list[Answer] = []
    queries: dict[str, list[Spec]] = {}
    for task in group:
        drawn = [task.draw(bench.size.shots, s) for s in range(bench.size.seeds)]
        rows = np.unique(np.concatenate(drawn))
        owner = respond(bench.cache, bench.space, task.schema, task.spec)
        user = respond(bench.cache, bench.space, task.schema, task.user.take(rows))
        queries[task.name] = [_spec(bench, task, user, rows, d, s) for s, d in enumerate(drawn)]
        answers += _answers(bench, task, owner, features)
    return answers, queries


def _spec(
    bench: Bench, task: Task, user: Answering, rows: NDArray[np.int64], drawn: NDArray[np.int64], seed: int
) -> Spec:
    assert task.user.targets is not None
    places = np.searchsorted(rows, drawn)
    return user.take(places).spec(bench.space, "task", task.schema, task.user.targets[drawn], seed)


def _answers(bench: Bench, task: Task, owner: Answering, features: Features) -> list[Answer]:
    found = []
    assert task.test.targets is not None
    for quality in QUALITIES:
        model = train_logistic(task.schema, features, task.fit, quality, 1)
        outputs = model.answer(list(task.spec.inputs)).outputs
        worth = score(task.schema, model.answer(list(task.test.inputs)).outputs, task.test.targets)
        found.append(Answer(task.name, quality, owner.spec(bench.space, "model", task.schema, outputs), worth))
        if quality == "good":
            turned = np.roll(outputs, 1, axis=1)
            spec = owner.spec(bench.space, "model", task.schema, turned)
            found.append(Answer(task.name, "exchanged", spec, float("nan")))
    return found


def _first(specs: Sequence[Spec], answers: Sequence[Answer], task: str) -> dict[str, float]:
    domains = np.stack([a.spec.unit_domain for a in answers])
    behaviours = np.stack([a.spec.unit_behaviour for a in answers])
    trust = np.array([a.spec.reliability for a in answers])
    right = np.array([a.meaning == task and a.quality != "exchanged" for a in answers])
    good = np.array([a.meaning == task and a.quality == "good" for a in answers])
    sums = {"one-pass": 0.0, "good first": 0.0, "behaviour": 0.0, "domain": 0.0}
    for spec in specs:
        owners = [f"{a.meaning}/{a.quality}" for a in answers]
        ranked = rank(spec, domains, behaviours, trust, owners)
        domain, behaviour = ranked.domain, ranked.behaviour
        best = int(ranked.key.argmax())
        sums["one-pass"] += right[best]
        sums["good first"] += good[best]
        sums["behaviour"] += right[int(behaviour.argmax())]
        # All learnwares over one set of inputs have the same domain: the choice is by chance
        front = domain >= domain.max() - 1e-6
        sums["domain"] += float(right[front].mean())
    return {name: value / len(specs) for name, value in sums.items()}
