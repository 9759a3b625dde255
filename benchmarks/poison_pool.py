"""Honest learnwares and unrelated users for ``poison.py``: real specs, computed once.

Of each task of a folder (see ``identify_text.py``) owners train logistic regressions (ridge for values) on frozen
sentence features, from all their data, from 5% of it, or with 60% of the labels drawn anew. Each owner has half of the
task's training examples, drawn anew, and specifies the model on half of the examples set aside for that. Users draw 16
examples a class, many times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from learndock import Spec, get_space
from learndock.bench.cache import Arrays, Cache
from learndock.bench.learners import Features, train_logistic
from learndock.bench.responses import respond
from learndock.bench.size import Size
from learndock.bench.tasks import Task, load_tasks
from learndock.spaces import Space
from learndock.spaces.onnx_helper import load_helper

QUALITIES = ("good", "little", "noisy60")
SIZE = Size(pool_shots=48, spec=256, fit=600, network_fit=0, test=50)


@dataclass(frozen=True, eq=False)
class Named:
    """A spec under ``owner/name``, of a model or of a user's task; ``family`` says which tasks count for each other."""

    name: str
    family: str
    spec: Spec


@dataclass(frozen=True, eq=False)
class Pool:
    """What an attacker finds, and who is to be protected."""

    learnwares: Sequence[Named]
    queries: Sequence[Named]

    def sparse(self) -> Pool:
        """The same users, with one learnware of each quality a task."""
        return Pool([w for w in self.learnwares if w.name.endswith("-0/model")], self.queries)


def make_pool(data: Path, cache: Path, draws: int, owners: int) -> Pool:
    """``owners`` of each quality for every task, and ``draws`` users."""
    space, kept = get_space("minilm-l6"), Cache(cache)
    learnwares: list[Named] = []
    queries: list[Named] = []
    for task in load_tasks(data, SIZE):
        print(f"specs of {task.name}", flush=True)
        user = respond(kept, space, task.schema, task.user)
        assert task.user.targets is not None
        for draw in range(draws):
            rows = task.draw(16, draw)
            spec = user.take(rows).spec(space, "task", task.schema, task.user.targets[rows], draw)
            queries.append(Named(f"{task.name}/{draw}", task.family, spec))
        learnwares += _learnwares(task, space, kept, owners)
    return Pool(learnwares, queries)


def _learnwares(task: Task, space: Space, kept: Cache, owners: int) -> list[Named]:
    responses = respond(kept, space, task.schema, task.spec)
    key = {"space": dict(space.describe("one-pass")), "task": task.digest, "owners": owners}
    answers = kept.get("owners", key, lambda: _answers(task, space, kept, owners))
    found = []
    for name, outputs in answers.items():
        rows = _half(len(task.spec), int(name.rsplit("-", 1)[1]), 2)
        spec = responses.take(rows).spec(space, "model", task.schema, outputs)
        found.append(Named(f"{task.name}-{name}/model", task.family, spec))
    return found


def _answers(task: Task, space: Space, kept: Cache, owners: int) -> Arrays:
    """What each owner's model says of the owner's examples."""
    features = Features(space)
    whole = [*task.fit.inputs, *task.spec.inputs]
    texts = list(dict.fromkeys(side for one in whole for side in (one if isinstance(one, tuple) else (one,))))
    key = {"space": dict(space.describe("one-pass")), "task": task.digest}
    features.remember(texts, kept.get("features", key, lambda: {"x": load_helper(space).features(texts)})["x"])
    found: Arrays = {}
    for owner in range(owners):
        for quality in QUALITIES:
            fitted = task.fit.take(_half(len(task.fit), owner, 1))
            model = train_logistic(task.schema, features, fitted, quality, owner)
            asked = task.spec.take(_half(len(task.spec), owner, 2))
            found[f"{quality}-{owner}"] = np.asarray(model.answer(list(asked.inputs)).outputs)
    return found


def _half(count: int, owner: int, what: int) -> np.ndarray:
    generator = np.random.Generator(np.random.Philox(key=[owner, 80 + what]))
    return np.sort(generator.permutation(count)[: count // 2])
