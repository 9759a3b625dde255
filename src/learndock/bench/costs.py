"""What one query costs: a method that sees the user's data has to run every model on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from learndock.bench.experiments import Finding
from learndock.bench.methods import DEFAULT, METHODS
from learndock.bench.pool import Bench, examples_of
from learndock.bench.tasks import Task
from learndock.spaces.onnx_helper import load_helper
from learndock.spec import make_spec

LEARNWARES = 100
#: ``run(kind, task, inputs)``: the seconds that one learnware of a kind takes for inputs it has never seen.
Run = Callable[[str, Task, list[Any]], float]


def measure(bench: Bench, kinds: Sequence[str], run: Run) -> dict[str, float]:
    """Median seconds, over five tasks, of a task spec, of features, and of each kind of model, on a user's examples."""
    found: dict[str, list[float]] = {name: [] for name in ("spec", "features", *kinds)}
    for task in list(bench.tasks.values())[:5]:
        few = examples_of(task, bench, 0)
        start = time.perf_counter()
        make_spec(few, task.schema, space=bench.space)
        found["spec"].append(time.perf_counter() - start)
        start = time.perf_counter()
        load_helper(bench.space).features(list(few.inputs))
        found["features"].append(time.perf_counter() - start)
        for kind in kinds:
            found[kind].append(run(kind, task, list(few.inputs)))
    return {name: float(np.median(seconds)) for name, seconds in found.items()}


def costs(bench: Bench) -> Finding:
    """Seconds of a query over 100 learnwares: the spec and the search, or running all of them on the few examples."""
    places = [i % len(bench.entries) for i in range(LEARNWARES)]
    start = time.perf_counter()
    METHODS[DEFAULT].choose(bench, next(iter(bench.tasks)), 0, places)
    ours = bench.seconds["spec"] + time.perf_counter() - start
    rows: list[list[Any]] = [[DEFAULT, "specification and search", ours, 1.0]]
    for kind in sorted({e.kind for e in bench.entries}):
        seconds = bench.seconds[kind] * LEARNWARES
        rows.append([f"any that sees the data, {kind} learnwares", f"{LEARNWARES} models run", seconds, ours / seconds])
    result = {str(r[0]): {"seconds_per_query": r[2], "our_share": r[3]} for r in rows}
    columns = ("method", "what is run", "seconds", "ours / theirs")
    return Finding(
        "What a query costs", {"methods": result, "tasks": {}}, columns, rows,
        ("bars", {"values": {r[0]: r[2] for r in rows}, "label": "seconds of a query"}),
        f"{LEARNWARES} learnwares, users of {bench.size.shots} examples per class, median of five tasks; loading "
        "models is not counted.",
    )  # fmt: skip
