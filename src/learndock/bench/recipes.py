"""The papers' recipe against the one-pass one on a part of the pool, and what each way of choosing costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.bench.cache import Arrays
from learndock.bench.compare import compare
from learndock.bench.experiments import Finding
from learndock.bench.methods import DEFAULT, METHODS, PARTS, Method
from learndock.bench.pool import Bench, Report, examples_of
from learndock.data import Examples, Schema
from learndock.data.metrics import spearman
from learndock.spec import make_spec
from learndock.spec.spec import identity

Float = NDArray[np.float64]
#: Which learnwares of a task the expensive recipe specifies.
QUALITIES = ("good", "noisy60", "corrupted", "shuffled")
#: Of these kinds: what any space offers.
KINDS = ("logistic", "adapter")


def recipes(bench: Bench, report: Report) -> Finding:
    """``paper`` against ``one-pass``: the same learnwares, the same users, and the time of each."""
    names = list(bench.tasks)[:: max(len(bench.tasks) // max(bench.size.paper_tasks, 1), 1)][: bench.size.paper_tasks]
    places = [
        i for i, e in enumerate(bench.entries)
        if e.task in names and e.kind in KINDS and e.quality in QUALITIES
    ]  # fmt: skip
    draws = [(name, seed) for name in names for seed in range(bench.size.seeds)]
    total, done = len(draws) + len(places), 0
    users: dict[tuple[str, int], Arrays] = {}
    owners: dict[int, Arrays] = {}
    for name, seed in draws:
        report("recipe paper", done, total)
        few = examples_of(bench.tasks[name], bench, seed)
        users[name, seed] = _fitted(bench, bench.tasks[name].schema, few, None)
        done += 1
    for p in places:
        report("recipe paper", done, total)
        entry = bench.entries[p]
        task = bench.tasks[entry.task]
        owners[p] = _fitted(bench, task.schema, task.spec, entry.predicted)
        done += 1
    report("recipe paper", total, total)

    def behaviour(_: Bench, task: str, seed: int, chosen: Sequence[int]) -> Float:
        return np.array([owners[p]["behaviour"] @ users[task, seed]["behaviour"] for p in chosen], np.float64)

    def whole(bench: Bench, task: str, seed: int, chosen: Sequence[int]) -> Float:
        domain = np.array([owners[p]["domain"] @ users[task, seed]["domain"] for p in chosen], np.float64)
        return domain + behaviour(bench, task, seed, chosen)

    methods = {
        "random": METHODS["random"],
        "oracle": METHODS["oracle"],
        DEFAULT: METHODS[DEFAULT],
        f"{DEFAULT}, behaviour alone": PARTS["behaviour"],
        "paper, behaviour alone (as published)": Method(behaviour),
        "paper with domain": Method(whole),
    }
    summary = compare(bench, methods, lambda task: places, tasks=names).summary()
    rows = []
    seconds_paper = {k: float(np.median([v["seconds"] for v in made.values()]))
                     for k, made in (("task", users), ("model", owners))}  # fmt: skip
    seconds_ours = _seconds(bench, names)
    for name, method in methods.items():
        m = summary["methods"][name]
        inside = [
            spearman(method.choose(bench, t, seed, own), bench.scores[t][seed, own])
            for t, seed in draws
            for own in [[p for p in places if bench.entries[p].task == t]]
        ]
        m["spearman_inside"] = float(np.mean(inside)) if name not in ("random", "oracle") else None
        cost = seconds_paper if "paper" in name else seconds_ours if DEFAULT in name else {}
        m.update({f"seconds_{k}_spec": v for k, v in cost.items()})
        rows.append([name, m["mean_score"], m["gap_closed"], m["top1_own_dataset"], m["spearman_inside"],
                     cost.get("task", ""), cost.get("model", "")])  # fmt: skip
    ratio = {k: seconds_paper[k] / seconds_ours[k] for k in seconds_paper}
    summary["ratio"] = ratio
    columns = (
        "recipe",
        "mean score",
        "gap closed",
        "own data set first",
        "Spearman inside",
        "s / task spec",
        "s / model spec",
    )
    return Finding(
        "The papers' recipe", summary, columns, rows,
        ("bars", {"values": {r[0]: r[2] for r in rows}, "label": "gap closed"}),
        f"{len(names)} tasks ({', '.join(names)}), {len(places)} learnwares, {bench.size.paper_steps} steps; "
        f"draws of the user: {bench.size.seeds}. One pass is {ratio['task']:.0f} times cheaper for a task spec, "
        f"{ratio['model']:.0f} for a model spec.",
    )  # fmt: skip


def _fitted(bench: Bench, schema: Schema, examples: Examples, predictions: NDArray[Any] | None) -> Arrays:
    key = {
        "space": identity(bench.space.describe("paper")), "schema": schema.to_dict(), "steps": bench.size.paper_steps,
        "inputs": repr(list(examples.inputs)),
        "targets": repr((examples.targets if predictions is None else predictions).tolist()),  # type: ignore[union-attr]
    }  # fmt: skip

    def make() -> Arrays:
        start = time.perf_counter()
        spec = make_spec(examples, schema, space=bench.space, predictions=predictions, recipe="paper",
                         steps=bench.size.paper_steps)  # fmt: skip
        seconds = time.perf_counter() - start
        return {"behaviour": spec.unit_behaviour, "domain": spec.unit_domain, "seconds": np.array(seconds)}

    return bench.cache.get("paper", key, make)


def _seconds(bench: Bench, names: Sequence[str]) -> dict[str, float]:
    """Seconds of one-pass specs of the same examples, from texts to spec, measured now."""
    found: dict[str, list[float]] = {"task": [], "model": []}
    for name in names:
        task = bench.tasks[name]
        few = examples_of(task, bench, 0)
        start = time.perf_counter()
        make_spec(few, task.schema, space=bench.space)
        found["task"].append(time.perf_counter() - start)
        start = time.perf_counter()
        make_spec(task.spec, task.schema, space=bench.space)
        found["model"].append(time.perf_counter() - start)
    return {k: float(np.median(v)) for k, v in found.items()}
