"""The experiments on one pool: which method finds what, at which cost, and with what certainty.

Each function takes a ``Bench`` and gives a ``Finding``: what results.json keeps, and the rows of its table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.bench.compare import Comparison, Outcome, compare
from learndock.bench.methods import DEFAULT, METHODS, PARTS, Method, applicable, by_specs, parts, rank_entries
from learndock.bench.pool import Bench, read_out
from learndock.data.metrics import score, spearman
from learndock.search.score import trust
from learndock.search.table import SpecTable
from learndock.spaces.onnx_helper import load_helper
from learndock.spec.sketch import fold
from learndock.spec.spec import Spec

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """One experiment's answer.

    ``result`` goes into results.json; ``columns`` and ``rows`` are its table; ``figure`` is (kind, data) for the
    report, or None.
    """

    title: str
    result: dict[str, Any]
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    figure: tuple[str, dict[str, Any]] | None = None
    note: str = ""


COLUMNS = ("method", "mean score", "mean rank", "gap closed", "own data set first", "regret", "s / query",
           "win / tie / loss of the default")  # fmt: skip


def comparison(title: str, found: Comparison, note: str = "") -> Finding:
    """A table of methods."""
    result = found.summary()
    rows = []
    for name, m in sorted(result["methods"].items(), key=lambda item: -item[1]["mean_score"]):
        against = m["win_tie_loss"]
        rows.append(
            [
                name, m["mean_score"], m["mean_rank"], m["gap_closed"], m["top1_own_dataset"], m["regret"],
                m["seconds_per_query"], f"{against['win']} / {against['tie']} / {against['loss']}" if against else "",
            ]
        )  # fmt: skip
    bars = {name: m["gap_closed"] for name, m in result["methods"].items()}
    return Finding(title, result, COLUMNS, rows, ("bars", {"values": bars, "label": "gap closed"}), note)


#: What a user has of a task and a draw without any learnware: ``(bench, task, seed)`` to a score.
Reference = Callable[[Bench, str, int], float]


def refer(found: Comparison, bench: Bench, references: Mapping[str, Reference]) -> Comparison:
    """Add what does not depend on the pool to what was compared."""
    for name, score_of in references.items():
        found.outcomes[name] = [
            Outcome(o.task, o.seed, score_of(bench, o.task, o.seed), o.best, o.mean, 0.0, 0.0, "")
            for o in found.outcomes["oracle"]
        ]
    return found


def aligned(
    bench: Bench, more: Mapping[str, Method] | None = None, references: Mapping[str, Reference] | None = None
) -> Finding:
    """The owner's data set is in the pool (tables A5 and A6); ``more`` methods, and what users have without it."""
    everyone = range(len(bench.entries))
    found = compare(bench, {**applicable(bench), **(more or {})}, lambda task: everyone)
    return comparison(
        "The owner's data set is in the pool", refer(found, bench, references or {}),
        "All learnwares of all tasks compete. Tasks of one source and one question count as own for each other.",
    )  # fmt: skip


def corrupted(bench: Bench) -> Finding:
    """Specs fitted to predictions against specs fitted to labels, with untrained models about (tables 2 and A8)."""
    methods = {
        "random": METHODS["random"],
        "oracle": METHODS["oracle"],
        DEFAULT: METHODS[DEFAULT],
        "fitted to labels": Method(by_specs(labels=True)),
        **{n: METHODS[n] for n in ("rkme", "centroid") if n in METHODS},
    }
    everyone = range(len(bench.entries))
    found = compare(bench, methods, lambda task: everyone)
    told = comparison(
        "Fitting predictions against fitting labels", found, "With labels all learnwares of one data set look alike."
    )
    for name, outcomes in found.outcomes.items():
        chosen = [o.chosen.endswith("/corrupted") for o in outcomes]
        told.result["methods"][name]["corrupted_first"] = float(np.mean(chosen))
        told.result["methods"][name]["corrupted_first_count"] = int(sum(chosen))
    rows = [[*row[:6], told.result["methods"][row[0]]["corrupted_first_count"]] for row in told.rows]
    return Finding(told.title, told.result, (*COLUMNS[:6], "corrupted first"), rows, told.figure, told.note)


def quality(bench: Bench) -> Finding:
    """Inside one data set: does similarity order learnwares by their score?"""
    rows: list[list[Any]] = []
    own_names: dict[str, Any] = {}
    correlations: list[float] = []
    regrets: list[float] = []
    for task in bench.tasks:
        places = [i for i, e in enumerate(bench.entries) if e.task == task]
        found, lost = [], []
        for seed in range(bench.size.seeds):
            given = METHODS[DEFAULT].choose(bench, task, seed, places)
            worth = bench.scores[task][seed, places]
            found.append(spearman(given, worth))
            lost.append(float(worth.max() - worth[given.argmax()]))
        spread = float(np.ptp(bench.scores[task][0, places]))
        own_names[task] = {"spearman": found, "regret": lost, "spread": spread}
        rows.append([task, len(places), spread, float(np.mean(found)), float(np.mean(lost))])
        correlations.append(float(np.mean(found)))
        regrets.append(float(np.mean(lost)))
    rows.append(["mean", "", "", float(np.mean(correlations)), float(np.mean(regrets))])
    result = {
        "methods": {DEFAULT: {"spearman": float(np.mean(correlations)), "regret": float(np.mean(regrets))}},
        "tasks": own_names,
    }
    columns = ("task", "learnwares", "best - worst score", "Spearman", "regret")
    bars = {str(r[0]): float(r[3]) for r in rows}
    return Finding(
        "Quality inside one data set", result, columns, rows, ("bars", {"values": bars, "label": "Spearman"})
    )


def weigh(bench: Bench) -> Finding:
    """What domain and behaviour bring, and how to weigh them."""
    everyone = range(len(bench.entries))
    found = compare(bench, PARTS, lambda task: everyone)
    told = comparison("Domain, behaviour and their weights", found)
    inside = {}
    for name, method in PARTS.items():
        if name in ("random", "oracle"):
            continue
        inside[name] = float(
            np.mean(
                [
                    spearman(method.choose(bench, task, seed, places), bench.scores[task][seed, places])
                    for task in bench.tasks
                    for seed in range(bench.size.seeds)
                    for places in [[i for i, e in enumerate(bench.entries) if e.task == task]]
                ]
            )
        )
        told.result["methods"][name]["spearman_inside"] = inside[name]
    rows = [[*row[:6], inside.get(str(row[0]), float("nan"))] for row in told.rows]
    return Finding(told.title, told.result, (*COLUMNS[:6], "Spearman inside a data set"), rows, told.figure)


def shots(bench: Bench) -> Finding:
    """How many examples per class a user needs."""
    everyone = range(len(bench.entries))
    rows, result, line = [], {}, {}
    for k in (2, 4, 8, 16, 32, 64):
        if k > bench.size.pool_shots:
            break

        def choose(bench: Bench, task: str, seed: int, places: Sequence[int], k: int = k) -> Float:
            return rank_entries(bench, bench.task_spec(task, seed, k), places)

        methods = {"random": METHODS["random"], "oracle": METHODS["oracle"], DEFAULT: Method(choose)}
        summary = compare(bench, methods, lambda task: everyone).summary()["methods"][DEFAULT]
        result[str(k)] = summary
        line[k] = summary["gap_closed"]
        rows.append([k, summary["mean_score"], summary["gap_closed"], summary["top1_own_dataset"], summary["regret"]])
    columns = ("examples per class", "mean score", "gap closed", "own data set first", "regret")
    return Finding(
        "How many examples", {"methods": {f"{DEFAULT}, k = {k}": m for k, m in result.items()}, "tasks": {}}, columns,
        rows, ("line", {"x": list(line), "y": list(line.values()), "x label": columns[0], "y label": "gap closed"}),
        "A class with fewer examples gives all it has: tasks with little data stop growing.",
    )  # fmt: skip


def sketches(bench: Bench) -> Finding:
    """Narrower sketches and int8 against the sketch that a spec keeps (table A9 and figure 3)."""
    whole = {s: _similarities(bench, s, lambda v: v) for s in range(bench.size.seeds)}
    forms: dict[str, Any] = {f"sketch {k}": (lambda v, k=k: fold(v, k)) for k in (2048, 1024, 512, 256, 128)}
    width = len(bench.entries[0].spec.behaviour)
    forms = {n: f for n, f in forms.items() if int(n.split()[1]) < width}
    forms["int8"] = _int8
    forms["sign"] = np.sign
    rows, result = [], {}
    everyone = range(len(bench.entries))
    for name, form in [(f"sketch {width}", lambda v: v), *forms.items()]:

        def choose(bench: Bench, task: str, seed: int, places: Sequence[int], form: Any = form) -> Float:
            domain, _, repeats = parts(bench.task_spec(task, seed), [bench.entries[p].spec for p in places])
            found: Float = domain + trust(repeats) * _cosines(bench, task, seed, form)[list(places)]
            return found

        methods = {"random": METHODS["random"], "oracle": METHODS["oracle"], name: Method(choose)}
        m = compare(bench, methods, lambda task: everyone).summary()["methods"][name]
        other = {s: _similarities(bench, s, form) for s in whole}
        agree = float(np.mean([np.corrcoef(whole[s].ravel(), other[s].ravel())[0, 1] for s in whole]))
        error = float(np.mean([np.abs(whole[s] - other[s]).mean() for s in whole]))
        kept = width if name in ("int8", "sign") else int(name.split()[1])
        size = {"int8": kept, "sign": kept // 8}.get(name, 2 * kept)
        result[name] = {**m, "correlation": agree, "mean_error": error, "bytes": size}
        rows.append([name, size, agree, error, m["gap_closed"], m["top1_own_dataset"], m["regret"]])
    columns = ("form", "bytes", "correlation of cosines", "mean error", "gap closed", "own data set first", "regret")
    wide = sorted(int(n.split()[1]) for n in result if n.startswith("sketch"))
    line = {
        "x": wide, "y": [result[f"sketch {k}"]["correlation"] for k in wide],
        "x label": "numbers of the sketch", "y label": "correlation of cosines",
    }  # fmt: skip
    return Finding("Narrower sketches", {"methods": result, "tasks": {}}, columns, rows, ("line", line))


def _int8(values: NDArray[np.float32]) -> NDArray[np.float32]:
    scale = np.abs(values).max(1, keepdims=True) / 127
    return np.asarray(np.round(values / scale) * scale, np.float32)


def _cosines(bench: Bench, task: str, seed: int, form: Any) -> Float:
    rows = form(np.stack([e.spec.behaviour for e in bench.entries]))
    query = form(bench.task_spec(task, seed).behaviour[None])[0]
    found: Float = (rows @ query) / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query))
    return found


def _similarities(bench: Bench, seed: int, form: Any) -> Float:
    return np.stack([_cosines(bench, task, seed, form) for task in bench.tasks])


def nothing_fits(bench: Bench) -> Finding:
    """Does "nothing here fits" keep its word, and is it said when it should be?"""
    rows = {}
    for task in bench.tasks.values():
        places = range(len(bench.entries))
        strangers = [i for i in places if bench.tasks[bench.entries[i].task].domain != task.domain]
        own = [i for i in places if bench.own(task.name, bench.entries[i])]
        for seed in range(bench.size.seeds):
            spec = bench.task_spec(task.name, seed)
            shuffled = _permuted(bench, task.name, seed)
            rows[task.name, seed] = {
                "own present": _chance(bench, spec, list(places)),
                "own and neighbours absent": _chance(bench, spec, strangers) if strangers else float("nan"),
                "labels permuted": _chance(bench, shuffled, list(places)),
                "only own": _chance(bench, spec, own),
            }
    said = {
        kind: np.array([r[kind] for r in rows.values() if np.isfinite(r[kind])])
        for kind in ("own present", "own and neighbours absent", "labels permuted", "only own")
    }
    table = [[k, len(v), *(_share(v, level) for level in (0.01, 0.05, 0.2))] for k, v in said.items()]
    area = {k: _area(said["own present"], said[k]) for k in ("own and neighbours absent", "labels permuted")}
    result = {
        "methods": {
            DEFAULT: {
                "false_alarm_5": _share(said["labels permuted"], 0.05),
                "found_5": _share(said["own present"], 0.05),
                "strangers_5": _share(said["own and neighbours absent"], 0.05),
                "auc_permuted": area["labels permuted"],
                "auc_absent": area["own and neighbours absent"],
            }
        },
        "tasks": {f"{t} {s}": r for (t, s), r in rows.items()},
    }
    data = {k: [float(x) for x in v] for k, v in said.items() if k != "only own" and len(v)}
    return Finding(
        "Nothing fits", result, ("who is there", "queries", "said to fit at 1%", "at 5%", "at 20%"), table,
        ("roc", data),
        f"Area under the ROC curve, own present against labels permuted {area['labels permuted']:.3f}, against own and "
        f"neighbours absent {area['own and neighbours absent']:.3f}. A learnware of another domain may truly fit "
        "(sentiment is sentiment), so only permuted labels are a null.",
    )  # fmt: skip


def _share(values: Float, level: float) -> float:
    """How many are said to fit at a level; NaN for none."""
    return float((values <= level).mean()) if len(values) else float("nan")


def _permuted(bench: Bench, task: str, seed: int) -> Spec:
    found = bench.tasks[task]
    assert found.user.targets is not None
    rows = found.draw(bench.size.shots, seed)
    generator = np.random.Generator(np.random.Philox(key=[seed, 75]))
    targets = generator.permutation(found.user.targets[rows])
    return bench.user[task].take(rows).spec(bench.space, "task", found.schema, targets, seed)


def _chance(bench: Bench, spec: Spec, places: Sequence[int]) -> float:
    specs = [bench.entries[p].spec for p in places]
    domains, behaviours = np.stack([s.domain for s in specs]), np.stack([s.behaviour for s in specs])
    ids = [bench.entries[p].name for p in places]
    found = SpecTable(ids, domains, behaviours, np.array([s.reliability for s in specs])).identify(spec).p_value_any
    return 1.0 if found is None else found


def _area(positive: Float, negative: Float) -> float:
    """Area under the ROC curve: how often a positive has the smaller p-value."""
    if not len(positive) or not len(negative):
        return float("nan")
    less = (positive[:, None] < negative[None]).mean()
    equal = (positive[:, None] == negative[None]).mean()
    return float(less + equal / 2)


def beyond(
    bench: Bench, more: Mapping[str, Method] | None = None, references: Mapping[str, Reference] | None = None
) -> Finding:
    """All learnwares of the user's data set are gone; the identified one is tuned on the few examples (tables 1, A7).

    Tuning, the same for all: a read-out (see ``pool.read_out``) on the codes of the identified model beside the
    helper's own frozen features, fitted on the user's few examples. ``helper alone`` is the same without a learnware.
    """
    worth: dict[tuple[str, int], Float] = {}

    def tuned(task: str, seed: int, places: Sequence[int]) -> Float:
        if (task, seed) not in worth:
            worth[task, seed] = np.array([_tuned(bench, task, seed, p) for p in range(len(bench.entries))])
        return worth[task, seed][list(places)]

    def others(task: str) -> list[int]:
        return [i for i, e in enumerate(bench.entries) if not bench.own(task, e) and e.task != task]

    found = compare(bench, {**applicable(bench), **(more or {})}, others, scores=tuned)
    found = refer(found, bench, references or {})
    alone = [_alone(bench, task, seed) for task in bench.tasks if others(task) for seed in range(bench.size.seeds)]
    told = comparison(
        "Beyond: own data set absent, tuned on the few examples", found,
        f"Tuning the helper alone on the same examples: mean score {np.mean(alone):.3f}.",
    )  # fmt: skip
    told.result["methods"]["helper alone"] = {"mean_score": float(np.mean(alone))}
    return told


def _tuned(bench: Bench, task: str, seed: int, place: int) -> float:
    found, entry = bench.tasks[task], bench.entries[place]
    places, labels = bench.drawn(task, seed)
    rows = bench.rows[task][places]
    # Own learnwares were asked more; all are compared on the same examples
    tested = entry.asked[task, "test"].codes[: bench.size.cross_test]
    X = np.hstack([_unit(bench.user[task].features[rows]), _unit(entry.asked[task, "user"].codes[places])])
    T = np.hstack([_unit(_test_features(bench, task, len(tested))), _unit(tested)])
    assert found.test.targets is not None
    return score(found.schema, read_out(found.schema, X, labels, T), found.test.targets[: len(tested)])


def _alone(bench: Bench, task: str, seed: int) -> float:
    found = bench.tasks[task]
    places, labels = bench.drawn(task, seed)
    T = _test_features(bench, task, bench.size.cross_test)
    assert found.test.targets is not None
    X = _unit(bench.user[task].features[bench.rows[task][places]])
    return score(found.schema, read_out(found.schema, X, labels, _unit(T)), found.test.targets[: len(T)])


def _test_features(bench: Bench, task: str, count: int) -> NDArray[np.float32]:
    """The helper's features of the first test examples, a pair read as one text."""
    inputs = list(bench.tasks[task].test.inputs[: bench.size.cross_test])
    digest = bench.tasks[task].digest
    key = {"space": dict(bench.space.describe("one-pass")), "task": digest, "count": len(inputs)}
    return bench.cache.get("tested", key, lambda: {"x": load_helper(bench.space).features(inputs)})["x"][:count]


def _unit(rows: NDArray[Any]) -> Float:
    values = np.asarray(rows, np.float64)
    found: Float = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return found


def relations(bench: Bench) -> Finding:
    """Score on similarity with the task as group (tables A10, A11); the exact multinomial test (table A12)."""
    from learndock.bench.statistics import exact_multinomial, mixed_model

    rows, result = [], {}
    for name, method in (("score", METHODS[DEFAULT]), ("domain", PARTS["domain"]), ("behaviour", PARTS["behaviour"])):
        similarities, worth, groups = [], [], []
        for task in bench.tasks:
            given = method.choose(bench, task, 0, range(len(bench.entries)))
            similarities += list(given)
            worth += list(bench.scores[task][0])
            groups += [task] * len(given)
        fitted = mixed_model(np.array(worth), np.array(similarities), groups)
        result[f"score on {name}"] = fitted
        rows.append([f"score on {name}", fitted["slope"], fitted["standard_error"], fitted["z"], fitted["p"]])
    hits = 0
    for task in bench.tasks:
        given = METHODS[DEFAULT].choose(bench, task, 0, range(len(bench.entries)))
        hits += bench.own(task, bench.entries[int(given.argmax())])
    share = float(np.mean([np.mean([bench.own(t, e) for e in bench.entries]) for t in bench.tasks]))
    p = exact_multinomial([hits, len(bench.tasks) - hits], [share, 1 - share])
    result["own data set first"] = {"count": int(hits), "tasks": len(bench.tasks), "chance": share, "p": p}
    rows.append([f"own data set first {hits} of {len(bench.tasks)}, chance {share:.3f}", "", "", "", p])
    return Finding(
        "Statistics", {"methods": result, "tasks": {}}, ("model", "slope", "standard error", "z", "p"), rows,
        ("bars", {"values": {r[0]: r[1] for r in rows[:-1]}, "label": "slope of the score on the similarity"}),
        "Mixed linear model, random intercept a task, first draw of the user; exact multinomial test.",
    )  # fmt: skip


EXPERIMENTS = {
    "aligned": aligned,
    "beyond": beyond,
    "quality": quality,
    "corrupted": corrupted,
    "approximation": sketches,
    "k": shots,
    "nothing_fits": nothing_fits,
    "parts": weigh,
    "statistics": relations,
}


def by_name(names: Sequence[str] | None) -> Mapping[str, Any]:
    """The experiments asked for, all by default."""
    return EXPERIMENTS if names is None else {n: EXPERIMENTS[n] for n in names}
