"""A folder of tasks, and who gets which examples: user, owner and test never overlap."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from learndock.bench.size import Size
from learndock.data import Examples, Schema, read_examples
from learndock.data.choose import few_shot
from learndock.errors import DataError

#: A training part is split like this where it is too small for what a run asks.
USER_SHARE = 1 / 3
Item = TypeVar("Item")
#: Rows read of a file: more are never needed, and a chosen few of a large file are all we want.
MOST_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class Task:
    """One task and its parts.

    ``user`` is what users' few examples are drawn from, ``fit`` and ``spec`` are the owner's (models are trained
    on one and specified on the other), ``test`` scores. ``family`` names tasks that are one source and one question
    (found by equal descriptions and domain): they count for each other. ``base`` names the task whose inputs these are.
    ``relatives`` names tasks that are nearly the same question, named before anything is measured: they count half.
    """

    name: str
    schema: Schema
    user: Examples
    fit: Examples
    spec: Examples
    test: Examples
    family: str
    base: str
    domain: str = ""
    card: str = ""
    relatives: frozenset[str] = frozenset()

    def draw(self, shots: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Which of ``user`` one user has: ``shots`` per class."""
        return few_shot(self.user, self.schema, _count(self.schema, shots), seed)[0]

    @cached_property
    def digest(self) -> str:
        """Hash of all inputs and targets: a cache key."""
        found = hashlib.sha256(repr(self.schema).encode())
        for part in (self.user, self.fit, self.spec, self.test):
            found.update(repr(list(part.inputs)).encode())
            found.update(
                repr([] if part.targets is None else list(part.targets)).encode()
                if self.schema.type == "generation"
                else np.asarray(part.targets, np.float64).tobytes()
            )
        return found.hexdigest()[:16]


def load_tasks(data: Path, size: Size, names: Sequence[str] | None = None) -> list[Task]:
    """The tasks of a folder with ``tasks.json`` and ``NAME.{train,test}.jsonl[.gz]`` (or .csv, .parquet).

    Raises:
        DataError: no ``tasks.json``, or a file that it names is missing.
    """
    index = data / "tasks.json"
    if not index.is_file():
        raise DataError("has no tasks.json", remedy="name a folder that describes its tasks there", about=data)
    entries = json.loads(index.read_text(encoding="utf-8"))
    chosen = list(names or entries)
    if missing := [n for n in chosen if n not in entries]:
        raise DataError(f"has no task {', '.join(missing)}", about=index)
    if size.tasks:
        chosen = spread(chosen, size.tasks)
    return [_load(data, name, entries[name], size) for name in chosen]


def spread(names: Sequence[Item], count: int) -> list[Item]:
    """A few of many, from all over the list."""
    places = np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)
    return [names[i] for i in places]


def _load(data: Path, name: str, entry: dict[str, str], size: Size) -> Task:
    schema = Schema.from_file(f"{data / 'tasks.json'}#{name}")
    train = read_examples(_file(data, name, "train"), schema=schema, limit=MOST_ROWS)
    test = read_examples(_file(data, name, "test"), schema=schema, limit=MOST_ROWS)
    # Tasks that say of no domain are neighbours where they come from one source
    domain = entry.get("domain") or entry.get("source") or name
    card = f"{name.replace('_', ' ')}: {', '.join(schema.descriptions)}. {domain}"
    family = f"{domain}|{'|'.join(schema.descriptions)}" if schema.descriptions else name
    return split(name, schema, train, test, size, family=family, domain=domain, card=card)


def split(
    name: str, schema: Schema, train: Examples, test: Examples, size: Size, *, family: str, domain: str = "",
    card: str = "", base: str | None = None,
) -> Task:  # fmt: skip
    """Deal a task's examples to user, owner and test."""
    generator = np.random.Generator(np.random.Philox(key=[0, 71]))
    user, rest = few_shot(train, schema, _count(schema, size.pool_shots), 71)
    most = int(len(train) * USER_SHARE)
    if len(user) > most:
        rest = np.concatenate([rest, generator.permutation(user)[most:]])
        user = np.setdiff1d(user, rest)
    rest = generator.permutation(rest)
    spec = rest[: min(size.spec, len(rest) // 2)]
    fit = rest[len(spec) : len(spec) + max(size.fit, size.network_fit)]
    tested = generator.permutation(len(test))[: size.test]
    return Task(
        name, schema, train.take(user), train.take(fit), train.take(spec), test.take(tested),
        family, base or name, domain, card,
    )  # fmt: skip


def _count(schema: Schema, shots: int) -> int:
    """What ``few_shot`` is asked for: free texts count as two classes, as values do."""
    return 2 * shots if schema.type == "generation" else shots


#: From examples to another question's targets.
Question = Callable[[Examples], NDArray[np.int64]]
#: A label that hardly occurs makes no task.
LEAST_SHARE = 0.1


def ask_otherwise(task: Task, name: str, descriptions: Sequence[str], ask: Question) -> Task | None:
    """Another question to the same inputs, dealt to the same people; None where a label hardly ever is the answer."""
    schema = Schema("classification", tuple(descriptions), tuple(descriptions), "accuracy")
    parts = {p: replace(getattr(task, p), targets=ask(getattr(task, p)), schema=schema)
             for p in ("user", "fit", "spec", "test")}  # fmt: skip
    shares = [np.bincount(p.targets, minlength=len(descriptions)) / len(p.targets) for p in parts.values()]
    if min(float(s.min()) for s in shares) < LEAST_SHARE:
        return None
    return replace(
        task, name=f"{task.name}: {name}", schema=schema, family=f"{task.name}: {name}", base=task.name, **parts
    )


def _file(data: Path, name: str, part: str) -> Path:
    for ending in ("jsonl.gz", "jsonl", "csv", "tsv", "parquet"):
        path = data / f"{name}.{part}.{ending}"
        if path.exists():
            return path
    raise DataError(f"has no {name}.{part}.jsonl.gz (or .jsonl, .csv, .tsv, .parquet)", about=data)
