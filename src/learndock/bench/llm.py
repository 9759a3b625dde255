"""The pool of language models, the methods that compare their weights, and the questions asked of them alone.

Adapters are trained with one drawing of A, as by one script; so are the users' own where weights are compared with
*shared A*. ``naive`` has the user draw another A, as a stranger would.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.bench.baselines import cosines, once
from learndock.bench.cache import Arrays, Cache
from learndock.bench.compare import Comparison, compare
from learndock.bench.costs import Run
from learndock.bench.experiments import Finding, comparison, refer
from learndock.bench.learners import Answers, Features, degrade, softmax
from learndock.bench.methods import DEFAULT, METHODS, TRIED, Method
from learndock.bench.pool import Bench, Entry, Float, Report, grade, score_all
from learndock.bench.responses import Answering, respond
from learndock.bench.size import Size
from learndock.bench.tasks import Task
from learndock.bench.writers import BATCH, PROBES, Adapter, Base, Read
from learndock.data.examples import Examples
from learndock.data.prompts import Prompt, ScoredPrompt
from learndock.files import sha256_bytes
from learndock.spec.spec import identity

KIND = "adapter"
#: Steps of a quality, as a share of those of a good adapter; the others take all.
SHARES = {"brief": 0.1, "little": 0.3, "noisy60": 0.4, "shuffled": 0.3}
#: Tokens that are written for a prompt with free answers.
MOST = 64
#: Steps of a user's own adapter, for methods that compare weights.
OWN_STEPS = 16
#: Scores of two learnwares that differ by less are no order.
MARGIN = 0.05


@dataclass(frozen=True, eq=False)
class GenerativeBench(Bench):
    """A bench of adapters on one base: their weights, and what the base itself answers."""

    base: Base | None = None
    adapters: Sequence[Adapter] = ()
    alone: Mapping[str, float] | None = None

    def reads(self, task: str, part: str) -> list[Read]:
        """A task's examples as the frozen layers leave them, with all that may be answered."""
        found = self.tasks[task]
        inputs = {"user": found.user.take(self.rows[task]), "test": found.test, "spec": found.spec, "fit": found.fit}
        assert self.base is not None
        return read(self.base, self.cache, asked_of(found, inputs[part]))


def asked_of(task: Task, examples: Examples) -> list[ScoredPrompt]:
    """Prompts with all labels of their task, or with their own completions."""
    if task.schema.classes:
        return [ScoredPrompt(p, task.schema.labels) for p in examples.inputs]
    assert examples.targets is not None
    return [ScoredPrompt(p, (str(t),)) for p, t in zip(examples.inputs, examples.targets, strict=True)]


def read(base: Base, cache: Cache, inputs: Sequence[ScoredPrompt]) -> list[Read]:
    """``Base.read``, kept on disk."""
    key = {"space": identity(base.space.describe("one-pass")), "first": base.first, "inputs": repr(list(inputs))}

    def make() -> Arrays:
        made = base.read(inputs)
        return {
            "laid": np.concatenate([r.laid for r in made]).astype(np.int32),
            "states": np.concatenate([r.states for r in made]),
            "lengths": np.array([len(r.laid) for r in made]),
        }

    found = cache.get("read", key, make)
    ends = np.cumsum(found["lengths"])[:-1]
    laid, states = np.split(found["laid"].astype(np.int64), ends), np.split(found["states"], ends)
    return [Read(x, s) for x, s in zip(laid, states, strict=True)]


def build(base: Base, tasks: Sequence[Task], size: Size, cache: Cache, report: Report) -> GenerativeBench:
    """Train, ask, specify and score; everything expensive is read back where it was computed before."""
    space = base.space
    user: dict[str, Answering] = {}
    owner: dict[str, Answering] = {}
    for place, t in enumerate(tasks):
        report("helper's features", place, len(tasks))
        user[t.name], owner[t.name] = (respond(cache, space, t.schema, e) for e in (t.user, t.spec))
    report("helper's features", len(tasks), len(tasks))
    rows = {t.name: np.unique(np.concatenate([t.draw(size.shots, s) for s in range(size.seeds)])) for t in tasks}
    named = {t.name: t for t in tasks}
    bench = GenerativeBench(space, size, cache, named, (), user, owner, Features(space), rows, {}, base=base)
    wanted = [(t, quality) for t in tasks for quality in size.qualities]
    adapters = []
    for place, (t, quality) in enumerate(wanted):
        report("adapters", place, len(wanted))
        adapters.append(train(bench, t, quality))
    report("adapters", len(wanted), len(wanted))
    known = {t.name: {part: bench.reads(t.name, part) for part in ("user", "test")} for t in tasks}
    entries = []
    for place, ((t, quality), adapter) in enumerate(zip(wanted, adapters, strict=True)):
        report("learnwares", place, len(wanted))
        entries.append(_entry(bench, t, quality, adapter, known))
    report("learnwares", len(wanted), len(wanted))
    alone = {
        name: grade(named[name].schema, a.outputs, _targets(named[name].test, len(a.outputs)))
        for (name, part), a in _answers(bench, None, None, known).items()
        if part == "test"
    }
    bench = replace(bench, entries=entries, adapters=adapters, alone=alone)
    return replace(bench, scores=score_all(bench, report))


def _targets(examples: Examples, count: int) -> NDArray[Any]:
    assert examples.targets is not None
    return examples.targets[:count]


def train(bench: GenerativeBench, task: Task, quality: str) -> Adapter:
    """The adapter of an owner at a quality."""
    size, base = bench.size, bench.base
    assert base is not None
    full = max(size.network_epochs * len(task.fit) // BATCH, 1)
    count = max(round(SHARES.get(quality, 1.0) * full), 1)
    key = {"space": identity(base.space.describe("one-pass")), "first": base.first, "task": task.digest,
           "quality": quality, "steps": count}  # fmt: skip

    def make() -> Arrays:
        data = degrade(quality, task.fit, 0)
        return base.train(_with_answers(bench, task, data, part="fit"), count).arrays()

    return Adapter.of(bench.cache.get("trained", key, make))


def _with_answers(bench: GenerativeBench, task: Task, data: Examples, part: str) -> list[Read]:
    """Examples with the one completion that ``data`` names; where labels are few the prompts were read with all."""
    assert data.targets is not None
    assert bench.base is not None
    if not task.schema.classes:
        return read(bench.base, bench.cache, asked_of(task, data))
    by_prompt = dict(zip(getattr(task, part).inputs, read(bench.base, bench.cache, asked_of(task, getattr(task, part))),
                         strict=True))  # fmt: skip
    return [by_prompt[p].only(int(c)) for p, c in zip(data.inputs, data.targets, strict=True)]


def own_adapter(bench: GenerativeBench, name: str, seed: int, *, shared: bool) -> Adapter:
    """What a user trains on the few examples, to compare weights or activations with."""
    task, base = bench.tasks[name], bench.base
    assert base is not None
    key = {"space": identity(base.space.describe("one-pass")), "first": base.first, "task": task.digest,
           "shots": bench.size.shots, "seed": seed, "shared": shared, "steps": OWN_STEPS}  # fmt: skip

    def make() -> Arrays:
        data = task.user.take(task.draw(bench.size.shots, seed))
        reads = _with_answers(bench, task, data, part="user")
        return base.train(reads, OWN_STEPS, seed=seed, start=0 if shared else 1 + seed).arrays()

    return Adapter.of(bench.cache.get("own", key, make))


def _outputs(task: Task, total: Float, mean: Float) -> Answers:
    if task.schema.classes:
        shares = softmax(total[:, : task.schema.classes])
        return Answers(shares, np.log(np.maximum(shares, 1e-12)))
    likely = np.exp(mean[:, 0])
    return Answers(likely, likely[:, None])


def _answers(
    bench: GenerativeBench, own: str | None, adapter: Adapter | None, known: Mapping[str, Mapping[str, list[Read]]]
) -> dict[tuple[str, str], Answers]:
    """All that is ever asked of one adapter: every task's test examples (its own: all of them) and users' examples."""
    base, size = bench.base, bench.size
    assert base is not None
    parts = []
    for name, reads in known.items():
        tested = reads["test"] if name == own or own is None else reads["test"][: size.cross_test]
        parts += [(name, "test", tested), (name, "user", reads["user"])]
    key = {
        "space": identity(base.space.describe("one-pass")), "first": base.first,
        "weights": sha256_bytes(adapter.flat.tobytes()) if adapter else "",
        "asked": [(n, p, bench.tasks[n].digest, len(r), [int(x) for x in bench.rows[n]]) for n, p, r in parts],
    }  # fmt: skip

    def make() -> Arrays:
        found: Arrays = {}
        for name, part, reads in parts:
            found[f"total {name} {part}"], found[f"mean {name} {part}"] = base.ask(adapter, reads)
        return found

    said = bench.cache.get("asked", key, make)
    return {(n, p): _outputs(bench.tasks[n], said[f"total {n} {p}"], said[f"mean {n} {p}"]) for n, p, _ in parts}


def _entry(
    bench: GenerativeBench, task: Task, quality: str, adapter: Adapter, known: Mapping[str, Mapping[str, list[Read]]]
) -> Entry:
    asked = _answers(bench, task.name, adapter, known)
    predicted = _predicted(bench, task, adapter)
    responses = bench.owner[task.name]
    assert task.spec.targets is not None
    return Entry(
        f"{task.name}/{KIND}/{quality}", task.name, KIND, quality,
        responses.spec(bench.space, "model", task.schema, predicted),
        responses.spec(bench.space, "model", task.schema, task.spec.targets),
        asked, predicted, writes=True,
    )  # fmt: skip


def _predicted(bench: GenerativeBench, task: Task, adapter: Adapter) -> NDArray[Any]:
    """What an adapter says of its owner's prompts: how likely it finds the labels, or what it writes."""
    base = bench.base
    assert base is not None
    key = {"space": identity(base.space.describe("one-pass")), "weights": sha256_bytes(adapter.flat.tobytes()),
           "task": task.digest, "count": len(task.spec), "tokens": MOST}  # fmt: skip

    def make() -> Arrays:
        if task.schema.classes:
            return {"said": _outputs(task, *base.ask(adapter, bench.reads(task.name, "spec"))).outputs}
        # An adapter that writes nothing for a prompt has still said something: that it ends there
        return {"said": np.array([w or "." for w in base.generate(adapter, list(task.spec.inputs), MOST)])}

    said = bench.cache.get("said", key, make)["said"]
    return said if task.schema.classes else said.astype(object)


def runner(bench: Bench) -> Run:
    """Seconds that one adapter takes for prompts it has never seen, all layers counted."""
    found = _generative(bench)

    def run(_: str, task: Task, inputs: list[Any]) -> float:
        assert found.base is not None
        start = time.perf_counter()
        labels = task.schema.labels or ("a worked answer of a dozen words, as these problems usually have them",)
        found.base.ask(found.adapters[0], found.base.read([ScoredPrompt(p, labels) for p in inputs]))
        return time.perf_counter() - start

    return run


# --- methods that need weights -------------------------------------------------------------------------------------


def _generative(bench: Bench) -> GenerativeBench:
    assert isinstance(bench, GenerativeBench)
    return bench


def flat_naive(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """Cosine of all numbers of the adapters, the user's from a drawing of A of his own."""
    found = _generative(bench)
    query = own_adapter(found, task, seed, shared=False).flat
    return cosines([found.adapters[p].flat for p in places], query)


def flat_shared(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """The same less where all began, A being drawn once for all."""
    found = _generative(bench)
    assert found.base is not None
    start = found.base.start().flat
    query = own_adapter(found, task, seed, shared=True).flat - start
    return cosines([found.adapters[p].flat - start for p in places], query)


def delta_activations(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
    """Cosine of what adapters change in the last state of prompts of no task (Xu et al. 2025, Delta Activations).

    The user's vector is that of an adapter trained on the few examples.
    """
    found = _generative(bench)
    base = found.base
    assert base is not None
    probes = read(base, found.cache, [ScoredPrompt(Prompt.of(p), ()) for p in PROBES])
    still = base.states_after(None, probes)

    def change(adapter: Adapter) -> NDArray[Any]:
        key = {"probe": PROBES, "first": base.first, "weights": sha256_bytes(adapter.flat.tobytes())}
        made = found.cache.get("delta", key, lambda: {"x": base.states_after(adapter, probes) - still})
        return np.asarray(made["x"].mean(0), np.float64)

    query = change(own_adapter(found, task, seed, shared=True))
    return cosines([change(found.adapters[p]) for p in places], query)


NAMES = (
    "random",
    "oracle",
    DEFAULT,
    *(f"{DEFAULT}, {n} tried" for n in TRIED),
    "best_single",
    "centroid",
    "rkme",
    "direct",
)
WRITERS: Mapping[str, Method] = {
    **{name: METHODS[name] for name in NAMES},
    "delta activations": Method(delta_activations, pays="nothing", note="of an adapter trained on the few examples"),
    "weights, naive": Method(flat_naive, pays="nothing", note="flattened, the user's A drawn again"),
    "weights, shared A": Method(flat_shared, pays="nothing", note="flattened, one drawing of A for all"),
}


# --- experiments ---------------------------------------------------------------------------------------------------


def _compared(bench: GenerativeBench) -> Comparison:
    everyone, alone = range(len(bench.entries)), bench.alone
    assert alone is not None

    def make() -> Comparison:
        found = compare(bench, WRITERS, lambda task: everyone)
        return refer(found, bench, {"the base itself": lambda _, task, seed: alone[task]})

    # Two tables are of it, and running every adapter takes minutes
    return once(bench, "writers compared", make)


def aligned(bench: GenerativeBench) -> Finding:
    """The owner's data set is in the pool, as in the papers' table of language models."""
    return comparison(
        "The owner's data set is in the pool", _compared(bench),
        "All adapters of all tasks compete; what a method trains for its query is not in its time.",
    )  # fmt: skip


def fields(bench: GenerativeBench) -> Finding:
    """Gap closed by field."""
    found = _compared(bench)
    areas = list(dict.fromkeys(t.domain for t in bench.tasks.values()))
    rows: list[list[Any]] = []
    result: dict[str, Any] = {}
    for name in found.outcomes:
        by_area = {}
        for area in areas:
            kept = [o for o in found.outcomes[name] if bench.tasks[o.task].domain == area]
            room = sum(o.best - o.mean for o in kept)
            by_area[area] = sum(o.score - o.mean for o in kept) / room if room > 0 else 1.0
        result[name] = by_area
        rows.append([name, *by_area.values()])
    rows.sort(key=lambda r: -float(np.mean(r[1:])))
    grid = {"values": [r[1:] for r in rows], "rows": [r[0] for r in rows], "columns": areas}
    return Finding("Gap closed by field", {"methods": result, "tasks": {}}, ("method", *areas), rows, ("grid", grid))


def alone(bench: GenerativeBench) -> Finding:
    """The base and every good adapter on every task."""
    assert bench.alone is not None
    names = list(bench.tasks)
    first = bench.size.qualities[0]
    good = [i for i, e in enumerate(bench.entries) if e.quality == first]
    rows: list[list[Any]] = [["the base itself", *(bench.alone[t] for t in names)]]
    rows += [[bench.entries[i].task, *(float(bench.scores[t][0, i]) for t in names)] for i in good]
    grid = {"values": [r[1:] for r in rows], "rows": [r[0] for r in rows], "columns": names}
    return Finding(
        "Each adapter alone", {"methods": {r[0]: dict(zip(names, r[1:], strict=True)) for r in rows}, "tasks": {}},
        ("adapter, trained well", *names), rows, ("grid", grid),
        "Accuracy on the test prompts; for worked answers (gsm8k) the mean probability of a token of the right one.",
    )  # fmt: skip


def similarities(bench: GenerativeBench) -> Finding:
    """Every task's users beside every adapter: scores, mean over draws."""
    names = list(bench.tasks)
    everyone = range(len(bench.entries))
    values = np.array([
        np.mean([METHODS[DEFAULT].choose(bench, t, s, everyone) for s in range(bench.size.seeds)], 0) for t in names
    ])  # fmt: skip
    labels = [f"{e.task}, {e.quality}" for e in bench.entries]
    rows = [[label, *values[:, i]] for i, label in enumerate(labels)]
    grid = {"values": values.T, "rows": labels, "columns": names}
    return Finding(
        "Similarity of tasks and adapters", {"methods": {}, "tasks": {}}, ("adapter", *names), rows, ("grid", grid)
    )


#: What orders two adapters of one data set; ``direct`` has run both on the user's examples, the most that they can say.
ORDERING = (DEFAULT, f"{DEFAULT}, {TRIED[0]} tried", "direct")


def pairs(bench: GenerativeBench) -> Finding:
    """Inside one data set: is the better adapter first?"""
    rows: list[list[Any]] = []
    every: list[NDArray[np.bool_]] = []
    for task in bench.tasks:
        places = [i for i, e in enumerate(bench.entries) if e.task == task]
        hits = np.concatenate([_in_order(bench, task, seed, places) for seed in range(bench.size.seeds)], axis=1)
        every.append(hits)
        rows.append([task, hits.shape[1], *(_share(h) for h in hits)])
    hits = np.concatenate(every, axis=1)
    rows.append(["all", hits.shape[1], *(_share(h) for h in hits)])
    methods = {
        name: {"pairs_in_order": _share(h), "pairs": hits.shape[1]} for name, h in zip(ORDERING, hits, strict=True)
    }
    return Finding(
        "The better of two adapters first", {"methods": methods, "tasks": {}}, ("task", "pairs", *ORDERING), rows,
        ("bars", {"values": dict(zip(ORDERING, rows[-1][2:], strict=True)), "label": "better one first"}),
        f"Pairs of one task whose scores differ by {MARGIN} or more; share in order, equal ones are not.",
    )  # fmt: skip


def _share(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else float("nan")


def _in_order(bench: GenerativeBench, task: str, seed: int, places: Sequence[int]) -> NDArray[np.bool_]:
    """Of ``ORDERING``'s methods and the pairs whose scores differ: is the better adapter ahead? ``(3, pairs)``."""
    worth = bench.scores[task][seed, places]
    better, worse = np.nonzero(worth[:, None] - worth[None] >= MARGIN)
    given = [METHODS[name].choose(bench, task, seed, places) for name in ORDERING]
    return np.array([g[better] > g[worse] for g in given])
