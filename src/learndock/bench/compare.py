"""Run methods over tasks and draws, and say how well each chose."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.bench.methods import DEFAULT, Method
from learndock.bench.pool import Bench

Float = NDArray[np.float64]
#: Scores closer than this are a tie between methods.
TIE = 0.005


@dataclass
class Outcome:
    """What one method did for one query.

    ``score`` is the chosen learnware's (mean over those tied in front), ``own`` the share of those of the own family,
    ``kin`` the same with named relatives at half.
    """

    task: str
    seed: int
    score: float
    best: float
    mean: float
    own: float
    seconds: float
    chosen: str
    kin: float = 0.0


@dataclass
class Comparison:
    """Outcomes of every method on the same queries."""

    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """``{"methods": ..., "tasks": ...}`` as results.json holds it."""
        table = {name: np.array([o.score for o in found]) for name, found in self.outcomes.items()}
        ranks = _mean_ranks(table)
        methods = {}
        for name, found in self.outcomes.items():
            best, mean = np.array([o.best for o in found]), np.array([o.mean for o in found])
            room = float((best - mean).mean())
            methods[name] = {
                "mean_score": float(table[name].mean()),
                "mean_rank": ranks[name],
                "gap_closed": float((table[name] - mean).mean() / room) if room > 0 else 1.0,
                "top1_own_dataset": float(np.mean([o.own for o in found])),
                "top1_or_relative": float(np.mean([o.kin for o in found])),
                "regret": float((best - table[name]).mean()),
                "seconds_per_query": float(np.median([o.seconds for o in found])),
                "win_tie_loss": _against(table, name),
            }
        return {"methods": methods, "tasks": self._tasks()}

    def _tasks(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, outcomes in self.outcomes.items():
            for o in outcomes:
                task = found.setdefault(o.task, {})
                entry = task.setdefault(name, {"scores": [], "own": [], "chosen": []})
                entry["scores"].append(o.score)
                entry["own"].append(o.own)
                entry["chosen"].append(o.chosen)
        return found


def compare(
    bench: Bench,
    methods: Mapping[str, Method],
    pool: Callable[[str], Sequence[int]],
    *,
    scores: Callable[[str, int, Sequence[int]], Float] | None = None,
    tasks: Sequence[str] | None = None,
) -> Comparison:
    """Every method on every task and draw; ``pool(task)`` says which learnwares stand there.

    ``scores(task, seed, places)`` says what each is worth; default: ``bench.scores``.
    """
    found = Comparison()
    for task in tasks or list(bench.tasks):
        places = list(pool(task))
        if not places:
            continue
        own = np.array([bench.own(task, bench.entries[p]) for p in places], float)
        kin = np.array([bench.kin(task, bench.entries[p]) for p in places], float)
        for seed in range(bench.size.seeds):
            worth = bench.scores[task][seed, places] if scores is None else scores(task, seed, places)
            for name, method in methods.items():
                start = time.perf_counter()
                given = worth if name == "oracle" else method.choose(bench, task, seed, places)
                seconds = time.perf_counter() - start + method.seconds(bench, places)
                front = np.flatnonzero(given >= given.max() - 1e-12)
                chosen = bench.entries[places[front[0]]].name if len(front) == 1 else ""
                found.outcomes.setdefault(name, []).append(
                    Outcome(
                        task, seed, float(worth[front].mean()), float(worth.max()), float(worth.mean()),
                        float(own[front].mean()), seconds, chosen, float(kin[front].mean()),
                    )
                )  # fmt: skip
    return found


def _mean_ranks(table: Mapping[str, Float]) -> dict[str, float]:
    """Average place of each method over the queries, equal scores sharing theirs; the oracle competes too."""
    names = list(table)
    values = np.stack([table[n] for n in names])
    better = (values[None] > values[:, None] + 1e-12).sum(1)
    equal = (np.abs(values[None] - values[:, None]) <= 1e-12).sum(1)
    place = 1 + better + (equal - 1) / 2
    return {n: float(place[i].mean()) for i, n in enumerate(names)}


def _against(table: Mapping[str, Float], name: str) -> dict[str, int]:
    """The default method's wins, ties and losses against ``name``."""
    ours = table.get(DEFAULT)
    if ours is None:
        return {}
    margin = ours - table[name]
    wins, losses = int((margin > TIE).sum()), int((margin < -TIE).sum())
    return {"win": wins, "tie": len(margin) - wins - losses, "loss": losses}
