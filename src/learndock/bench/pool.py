"""The pool: graded learnwares of every task, what each answers, and the spec of each.

A learnware's score on a task is defined once:

    labels of its own family   its own outputs on the task's test examples
    other labels, an encoder   its features under the task's own descriptions (as the papers do), where there are some
    other labels, otherwise    a small read-out (logistic regression or ridge on its codes) fitted on the user's
                               few examples

Models of pairs get a single text with an empty partner; models of single texts get the two sides joined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.bench.cache import Arrays, Cache
from learndock.bench.learners import Answers, Features, Model, Tuned, train_logistic
from learndock.bench.responses import Answering, respond
from learndock.bench.size import Size
from learndock.bench.tasks import Task
from learndock.data.examples import Examples, Input
from learndock.data.images import Image
from learndock.data.metrics import score
from learndock.data.schema import Schema
from learndock.spaces.helper import Progress
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.space import Space
from learndock.spec.spec import Spec

Float = NDArray[np.float64]
#: ``report(what, done, total)``
Report = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Entry:
    """A learnware of the pool.

    ``spec`` was fitted to its predictions, ``label_spec`` to the labels of the same examples. ``asked`` holds its
    answers by (task, part): part is ``test`` or ``user`` (the rows ``Bench.rows[task]`` of the user's examples);
    ``descriptions`` an encoder's features of a task's label descriptions. ``predicted`` is what ``spec`` was fitted to.
    ``changed``: what tuning changed in a network (see ``learners.Tuned``). ``writes``: it answers the question of any
    task itself, as a language model does; ``asked`` then holds its answers in that task's labels.
    """

    name: str
    task: str
    kind: str
    quality: str
    spec: Spec
    label_spec: Spec
    asked: Mapping[tuple[str, str], Answers]
    predicted: NDArray[Any]
    descriptions: Mapping[str, Float] = field(default_factory=dict)
    writes: bool = False
    changed: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Bench:
    """All that experiments read.

    ``user`` and ``owner`` hold the helper's responses to each task's user and spec examples; ``rows[task]`` are the
    user's examples that any seed draws; ``scores[task]`` is ``(seeds, learnwares)``.
    ``seconds`` says what a user's query costs beyond comparing: ``spec``, ``features``, and each kind of model run on
    the few examples (see ``costs``).
    """

    space: Space
    size: Size
    cache: Cache
    tasks: Mapping[str, Task]
    entries: Sequence[Entry]
    user: Mapping[str, Answering]
    owner: Mapping[str, Answering]
    features: Features
    rows: Mapping[str, NDArray[np.int64]]
    scores: Mapping[str, Float]
    seconds: Mapping[str, float] = field(default_factory=dict)

    def task_spec(self, task: str, seed: int, shots: int | None = None) -> Spec:
        """The spec of a user who drew ``shots`` per class."""
        found = self.tasks[task]
        assert found.user.targets is not None
        rows = found.draw(shots or self.size.shots, seed)
        return self.user[task].take(rows).spec(self.space, "task", found.schema, found.user.targets[rows], seed)

    def drawn(self, task: str, seed: int) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Where a user's examples stand among ``rows[task]``, and their targets."""
        found = self.tasks[task]
        assert found.user.targets is not None
        rows = found.draw(self.size.shots, seed)
        return np.searchsorted(self.rows[task], rows), found.user.targets[rows]

    def own(self, task: str, entry: Entry) -> bool:
        """Whether a learnware has the labels of ``task``."""
        return self.tasks[task].family == self.tasks[entry.task].family

    def answers(self, task: str, entry: Entry) -> bool:
        """Whether a learnware's outputs are answers to ``task``."""
        return entry.writes or self.own(task, entry)

    def kin(self, task: str, entry: Entry) -> float:
        """1 for a learnware of the same labels, 1/2 for one of a named relative, 0 otherwise."""
        return 1.0 if self.own(task, entry) else 0.5 if entry.task in self.tasks[task].relatives else 0.0


Trainer = Callable[[Task, str, "Progress | None"], Model]


def build(
    space: Space, tasks: Sequence[Task], size: Size, cache: Cache, kinds: Mapping[str, Trainer], features: Features,
    report: Report,
) -> Bench:  # fmt: skip
    """Train, ask, specify and score; everything expensive is read back where it was computed before."""
    named = {t.name: t for t in tasks}
    user: dict[str, Answering] = {}
    owner: dict[str, Answering] = {}
    for place, t in enumerate(tasks):
        report("helper's responses", place, len(tasks))
        user[t.name] = respond(cache, space, t.schema, t.user)
        owner[t.name] = respond(cache, space, t.schema, t.spec)
    report("helper's responses", len(tasks), len(tasks))
    _encode(features, tasks, cache, size, report)
    rows = {t.name: np.unique(np.concatenate([t.draw(size.shots, s) for s in range(size.seeds)])) for t in tasks}
    wanted = [(t, kind, quality) for t in tasks for kind in kinds for quality in _qualities(kind, size)]
    entries = []
    for place, (t, kind, quality) in enumerate(wanted):
        report("learnwares", place, len(wanted))
        entries.append(_entry(space, t, kind, quality, tasks, rows, size, cache, kinds[kind], owner[t.name]))
    report("learnwares", len(wanted), len(wanted))
    bench = Bench(space, size, cache, named, entries, user, owner, features, rows, {})
    return replace(bench, scores=score_all(bench, report))


def _qualities(kind: str, size: Size) -> tuple[str, ...]:
    if kind == "network":
        return size.network_qualities
    return size.qualities if kind == "logistic" or size.other_qualities is None else size.other_qualities


def logistic(features: Features) -> Trainer:
    """The kind of model that any space offers: linear on the helper's frozen features."""

    def train(task: Task, quality: str, progress: Progress | None) -> Model:
        return train_logistic(task.schema, features, task.fit, quality, 0)

    return train


def adapt(inputs: Sequence[Input], like: Input) -> list[Input]:
    """Inputs in the shape that a model of ``like`` takes."""
    if isinstance(like, tuple) and not isinstance(inputs[0], tuple):
        return [(i, "") for i in inputs]
    if isinstance(like, str) and isinstance(inputs[0], tuple):
        return [" ".join(i) for i in inputs]
    return list(inputs)


def _encode(features: Features, tasks: Sequence[Task], cache: Cache, size: Size, report: Report) -> None:
    """Frozen features of every text that a linear model will meet, task by task, through the cache."""
    for place, t in enumerate(tasks):
        report("features", place, len(tasks))
        whole = [*t.user.inputs, *t.fit.inputs, *t.spec.inputs, *t.test.inputs]
        if isinstance(whole[0], tuple):
            whole = [*(side for pair in whole for side in pair), *adapt([*t.user.inputs, *t.test.inputs], ""), ""]
        known = list(dict.fromkeys(whole)) if isinstance(whole[0], str | Image) else whole
        if features.knows(known):
            continue  # another question of the same inputs came first
        key = {"space": dict(features.space.describe("one-pass")), "task": t.digest, "inputs": len(known)}
        found = cache.get("features", key, lambda known=known: {"x": load_helper(features.space).features(known)})  # type: ignore[misc]
        features.remember(known, found["x"])
    report("features", len(tasks), len(tasks))


def _entry(
    space: Space, task: Task, kind: str, quality: str, tasks: Sequence[Task], rows: Mapping[str, NDArray[np.int64]],
    size: Size, cache: Cache, train: Trainer, responses: Answering,
) -> Entry:  # fmt: skip
    name = f"{task.name}/{kind}/{quality}"
    key = {
        "learnware": name, "digest": task.digest, "tasks": [(t.name, t.digest, len(rows[t.name])) for t in tasks],
        "network": [size.network_fit, size.network_epochs, "changed"] if kind == "network" else None,
        "cross": size.cross_test, "space": dict(space.describe("one-pass")),
    }  # fmt: skip
    found = cache.get("learnware", key, lambda: _ask(train(task, quality, None), task, tasks, rows, size, kind))
    asked = {
        (t.name, part): Answers(found[f"outputs {t.name} {part}"], found[f"codes {t.name} {part}"].astype(np.float64))
        for t in tasks
        for part in ("test", "user")
    }
    descriptions = {t.name: found[f"descriptions {t.name}"] for t in tasks if f"descriptions {t.name}" in found}
    changed = {n.removeprefix("changed "): a for n, a in found.items() if n.startswith("changed ")}
    assert task.spec.targets is not None
    return Entry(
        name, task.name, kind, quality,
        responses.spec(space, "model", task.schema, found["spec"]),
        responses.spec(space, "model", task.schema, task.spec.targets),
        asked, found["spec"], descriptions, changed=changed,
    )  # fmt: skip


def _ask(
    model: Model, task: Task, tasks: Sequence[Task], rows: Mapping[str, NDArray[np.int64]], size: Size, kind: str
) -> Arrays:
    """Everything that is ever asked of one model, in one go: networks are not kept."""
    like = task.fit.inputs[0]
    parts: list[tuple[str, list[Input]]] = [("spec", list(task.spec.inputs))]
    for t in tasks:
        test = t.test.inputs if t.family == task.family else t.test.inputs[: size.cross_test]
        parts.append((f"{t.name} test", adapt(list(test), like)))
        parts.append((f"{t.name} user", adapt([t.user.inputs[i] for i in rows[t.name]], like)))
        if kind == "network" and isinstance(like, str | tuple):
            parts.append((f"descriptions {t.name}", adapt(list(t.schema.descriptions), "")))
    answers = model.answer([i for _, inputs in parts for i in inputs])
    found: Arrays = {}
    if isinstance(model, Tuned):
        found.update({f"changed {n}": a for n, a in model.changed().items()})
    start = 0
    for name, inputs in parts:
        place = slice(start, start + len(inputs))
        start += len(inputs)
        if name == "spec":
            found["spec"] = answers.outputs[place]
        elif name.startswith("descriptions"):
            found[name] = answers.codes[place].astype(np.float32)
        else:
            found[f"outputs {name}"] = answers.outputs[place]
            found[f"codes {name}"] = answers.codes[place].astype(np.float32)
    return found


def score_all(bench: Bench, report: Report) -> dict[str, Float]:
    """What every learnware is worth on every task: ``(seeds, learnwares)`` by task."""
    return {name: _scores(bench, task, report) for name, task in bench.tasks.items()}


def _scores(bench: Bench, task: Task, report: Report) -> Float:
    found = np.zeros((bench.size.seeds, len(bench.entries)))
    for place, entry in enumerate(bench.entries):
        report(f"scores on {task.name}", place, len(bench.entries))
        for seed in range(bench.size.seeds):
            found[seed, place] = worth(bench, task, entry, seed)
            if bench.answers(task.name, entry) or task.name in entry.descriptions:
                found[:, place] = found[0, place]
                break
    return found


def worth(bench: Bench, task: Task, entry: Entry, seed: int) -> float:
    """The score of a learnware on a task, as the module's head defines it."""
    asked = entry.asked[task.name, "test"]
    assert task.test.targets is not None
    targets = task.test.targets[: len(asked.codes)]
    if bench.answers(task.name, entry):
        return grade(task.schema, asked.outputs, targets)
    if task.name in entry.descriptions and task.schema.type == "classification":
        return score(task.schema, (asked.codes @ entry.descriptions[task.name].T).argmax(1), targets)
    places, labels = bench.drawn(task.name, seed)
    return score(
        task.schema, read_out(task.schema, entry.asked[task.name, "user"].codes[places], labels, asked.codes), targets
    )


def grade(schema: Schema, outputs: Float, targets: NDArray[Any]) -> float:
    """The schema's metric of a model's outputs; for free text the mean probability of a token of the right completion.

    Texts that a small model writes hardly ever match, so what it would have said counts: ``outputs`` is ``(n,)`` there.
    """
    return float(outputs.mean()) if schema.type == "generation" else score(schema, outputs, targets)


def read_out(schema: Schema, X: Float, y: NDArray[Any], tested: Float) -> NDArray[Any]:
    """A small model on standardised codes, fitted on a user's few examples: predictions for ``tested``."""
    from sklearn.linear_model import LogisticRegression, Ridge

    mean, spread = X.mean(0), X.std(0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    X, tested = (X - mean) / scale, (tested - mean) / scale
    if len(X) < X.shape[1]:
        # A ridge penalty leaves the weights in the span of the examples, whose few dimensions are all it takes
        along = np.linalg.qr(X.T)[0]
        X, tested = X @ along, tested @ along
    if schema.type == "regression":
        return np.asarray(Ridge(10.0).fit(X, y).predict(tested))
    fitted = LogisticRegression(C=0.1, max_iter=200).fit(X, y)
    return np.asarray(fitted.predict(tested), np.int64)


def examples_of(task: Task, bench: Bench, seed: int) -> Examples:
    """The user's few examples themselves."""
    return task.user.take(task.draw(bench.size.shots, seed))
