"""From full fine-tuning to a sketch: what each form of a behaviour keeps of the one before (the papers' table A9).

At B = 0 the gradient by a target layer's weight W is G, by its B it is G A^T, and what that moves W by is G A^T A: one
backward pass through all weights gives every form of the same descent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from learndock.bench.baselines import cosine
from learndock.bench.cache import Arrays
from learndock.bench.compare import compare
from learndock.bench.experiments import Finding
from learndock.bench.methods import METHODS, Method
from learndock.bench.pool import Bench, Report, examples_of
from learndock.bench.tasks import spread
from learndock.data import Schema
from learndock.data.examples import Input
from learndock.spaces.heads import description_prototypes
from learndock.spaces.onnx_helper import batches, load_helper
from learndock.spec import make_spec
from learndock.spec.onepass import balanced_weights, centre_within, indicators, stratified_groups
from learndock.spec.spec import identity

if TYPE_CHECKING:
    from learndock.spaces.authoring.torch_helper import TorchHelper

Float = NDArray[np.float64]
#: A vector of all weights is 90 MB: a few learnwares of a few tasks stand for all.
TASKS = 4
QUALITIES = ("good", "noisy60", "corrupted")
KINDS = ("logistic", "tfidf")
FORMS = ("all weights", "target layers", "B A", "B", "sketch")


def descent(
    helper: TorchHelper, inputs: Sequence[Input], directions: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """sum_i d<f(x_i), t_i> by all weights, by those of the target layers, as B A and as B; each in one row.

    ``directions`` ``(n, width)`` are the t_i.
    """
    import torch

    weights = [p for p in helper.model.parameters() if p.is_floating_point()]
    total = [torch.zeros_like(p) for p in weights]
    encoded = helper.encoder(list(inputs))
    for p in weights:
        p.requires_grad_()
    try:
        for rows in batches([len(e) for e in encoded]):
            batch = helper.encoder.pad_batch([encoded[i] for i in rows])
            found = helper.features(None, *(torch.from_numpy(batch[name]) for name in helper.names))
            objective = (found * torch.from_numpy(directions[np.asarray(rows)])).sum()
            for into, more in zip(total, torch.autograd.grad(objective, weights, allow_unused=True), strict=True):
                if more is not None:
                    into += more
    finally:
        for p in weights:
            p.requires_grad_(False)
    by_weight = {id(p): g for p, g in zip(weights, total, strict=True)}
    G = [by_weight[id(layer.weight)] for _, layer in helper.layers]
    B = [g @ a.T for g, a in zip(G, helper.A, strict=True)]
    found_forms = {
        "all weights": total,
        "target layers": G,
        "B A": [b @ a for b, a in zip(B, helper.A, strict=True)],
        "B": B,
    }
    return {name: torch.cat([t.flatten() for t in parts]).numpy() for name, parts in found_forms.items()}


def directions_of(bench: Bench, schema: Schema, targets: NDArray[Any], seed: int = 0) -> NDArray[np.float32]:
    """What recipe ``one-pass`` differentiates along, ``(n, width)``."""
    soft_labels = indicators(schema, targets)
    weights = centre_within(balanced_weights(schema, soft_labels), stratified_groups(schema, soft_labels, seed))
    return description_prototypes(load_helper(bench.space), schema).direct(weights)


def forms(bench: Bench, report: Report) -> Finding:
    """Does a smaller form choose as full fine-tuning does? Behaviour alone, first draw of the user."""
    worded = [n for n, t in bench.tasks.items() if t.schema.descriptions]
    names = spread(worded, TASKS)
    places = [
        i for i, e in enumerate(bench.entries)
        if e.task in names and e.quality in QUALITIES and e.kind in KINDS
    ]  # fmt: skip
    key = {
        "space": identity(bench.space.describe("one-pass")), "tasks": [bench.tasks[n].digest for n in names],
        "learnwares": [bench.entries[p].name for p in places], "shots": bench.size.shots,
    }  # fmt: skip
    found = bench.cache.get("forms", key, lambda: _measure(bench, names, places, report))
    first = replace(bench, size=replace(bench.size, seeds=1))
    rows: list[list[Any]] = []
    result: dict[str, Any] = {}
    for name in FORMS:
        cosines = found[f"cosines {name}"]

        def choose(bench: Bench, task: str, seed: int, chosen: Sequence[int], given: Any = cosines) -> Float:
            return np.asarray(given[names.index(task), [places.index(p) for p in chosen]], np.float64)

        methods = {"random": METHODS["random"], "oracle": METHODS["oracle"], name: Method(choose)}
        m = compare(first, methods, lambda task: places, tasks=names).summary()["methods"][name]
        numbers = int(found[f"numbers {name}"])
        agree = float(np.corrcoef(found["cosines all weights"].ravel(), cosines.ravel())[0, 1])
        size = numbers * (2 if name == "sketch" else 4)
        result[name] = {**m, "correlation": agree, "numbers": numbers, "bytes": size}
        rows.append([name, numbers, size, agree, m["gap_closed"], m["top1_own_dataset"], m["regret"]])
    seconds = {n: float(np.median(found[f"seconds {n}"])) for n in ("all weights", "sketch")}
    columns = ("form", "numbers", "bytes", "correlation with all weights", "gap closed", "own data set first", "regret")
    return Finding(
        "From full fine-tuning to a sketch", {"methods": result, "tasks": {}, "seconds": seconds}, columns, rows,
        ("bars", {"values": {n: result[n]["correlation"] for n in FORMS}, "label": "correlation with all weights"}),
        f"{len(places)} learnwares of {', '.join(names)}. A pass over the users' examples takes "
        f"{seconds['all weights']:.2f} s by all weights (torch), {seconds['sketch']:.2f} s as a spec (median).",
    )  # fmt: skip


def _measure(bench: Bench, names: Sequence[str], places: Sequence[int], report: Report) -> Arrays:
    from learndock.spaces.authoring.torch_helper import space_torch_helper

    helper = space_torch_helper(bench.space)
    done, total = 0, len(names) + len(places)
    users: list[dict[str, NDArray[np.float32]]] = []
    seconds: dict[str, list[float]] = {"all weights": [], "sketch": []}
    for name in names:
        report("forms", done, total)
        task = bench.tasks[name]
        few = examples_of(task, bench, 0)
        assert few.targets is not None
        start = time.perf_counter()
        made = descent(helper, few.inputs, directions_of(bench, task.schema, few.targets))
        seconds["all weights"].append(time.perf_counter() - start)
        start = time.perf_counter()
        spec = make_spec(few, task.schema, space=bench.space)
        seconds["sketch"].append(time.perf_counter() - start)
        users.append({**made, "sketch": spec.unit_behaviour})
        done += 1
    cosines = {form: np.zeros((len(names), len(places))) for form in FORMS}
    for column, p in enumerate(places):
        report("forms", done, total)
        entry = bench.entries[p]
        task = bench.tasks[entry.task]
        made = descent(helper, task.spec.inputs, directions_of(bench, task.schema, entry.predicted))
        made["sketch"] = entry.spec.unit_behaviour
        for row, user in enumerate(users):
            for form in FORMS:
                cosines[form][row, column] = cosine(user[form], made[form])
        done += 1
    report("forms", total, total)
    return {
        **{f"cosines {f}": c for f, c in cosines.items()},
        **{f"numbers {f}": np.array(users[0][f].size) for f in FORMS},
        **{f"seconds {f}": np.array(s) for f, s in seconds.items()},
    }
