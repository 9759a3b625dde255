"""Methods of others and the papers' statistics: on pools whose answer is known, and against brute force and SciPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.bench import statistics
from learndock.bench.baselines import BASELINES, cross_validated, leep_score, log_evidence, nce_score
from learndock.bench.cache import Cache
from learndock.bench.learners import Answers, Features
from learndock.bench.pool import Bench, Entry, read_out
from learndock.bench.responses import Responses
from learndock.bench.size import Size
from learndock.bench.statistics import bootstrap_interval, exact_multinomial, mixed_model
from learndock.bench.tasks import Task
from learndock.data import Examples, Schema
from learndock.errors import DataError
from tests.support.docking import make_spec

WIDTH = 8
SIZE = Size(seeds=2, shots=8, spec=60)
#: Tasks by (where their inputs lie, which feature the label hangs on). Two share their inputs.
PLACES = {"films": (0, 2), "films, long": (0, 3), "news": (1, 4), "value": (5, 6)}
SCHEMAS = {
    "films": Schema("classification", ("bad", "good"), ("a bad film", "a good film"), "accuracy"),
    "films, long": Schema("classification", ("short", "long"), ("a short text", "a long text"), "accuracy"),
    "news": Schema("classification", ("sport", "money"), ("about sport", "about money"), "accuracy"),
    "value": Schema("regression", ("0", "5"), ("low", "high"), "pearson"),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Four tasks, each with a model that knows its label and one that knows nothing."""
    generator = np.random.default_rng(3)
    features = Features(None)  # type: ignore[arg-type]  # everything it is asked for is remembered
    tasks = {name: make_task(name, features, generator) for name in PLACES}
    owner = {n: responses(features, t.spec) for n, t in tasks.items()}
    user = {n: responses(features, t.user) for n, t in tasks.items()}
    rows = {n: np.unique(np.concatenate([t.draw(SIZE.shots, s) for s in range(SIZE.seeds)])) for n, t in tasks.items()}
    unread = make_spec(np.random.default_rng(0))
    entries = [
        Entry(
            f"{n}/{quality}",
            n,
            "made",
            quality,
            unread,
            unread,
            answers(n, quality, tasks, rows, features, generator),
            np.zeros(0),
        )
        for n in tasks
        for quality in ("good", "nothing")
    ]
    scores = {n: generator.random((SIZE.seeds, len(entries))) for n in tasks}
    cache = Cache(Path(tmp_path_factory.mktemp("cache")))
    return Bench(None, SIZE, cache, tasks, entries, user, owner, features, rows, scores)  # type: ignore[arg-type]


def make_task(name: str, features: Features, generator: np.random.Generator) -> Task:
    where, label = PLACES[name]
    schema = SCHEMAS[name]
    axes = np.eye(WIDTH)
    # Labels of the same kind of thing lie near each other, and nearer than those of other tasks
    ends = 2 * axes[label] + 0.5 * np.array([[-1], [1]]) * axes[7]
    features.remember(
        [*schema.descriptions, name], np.vstack([ends, axes[where] + 0.1 * axes[label]]).astype(np.float32)
    )
    parts = []
    for part, count in (("user", 60), ("fit", 4), ("spec", 60), ("test", 60)):
        X = 0.3 * generator.standard_normal((count, WIDTH)) + 2 * axes[where]
        values = np.linspace(-1.5, 1.5, count)
        X[:, label] = generator.permutation(values + np.sign(values) * 0.3)
        inputs = [f"{name} {part} {i}" for i in range(count)]
        features.remember(inputs, X.astype(np.float32))
        targets = X[:, label] if schema.type == "regression" else (X[:, label] > 0).astype(np.int64)
        parts.append(Examples(inputs, targets, schema))
    return Task(name, schema, parts[0], parts[1], parts[2], parts[3], family=name, base=name, card=name)


def responses(features: Features, examples: Examples) -> Responses:
    return Responses(features.plain(examples.inputs), np.zeros((len(examples), 1, 1), np.float32))


def answers(
    task: str, quality: str, tasks: dict[str, Task], rows: Any, features: Features, generator: np.random.Generator
) -> dict[tuple[str, str], Answers]:
    found = {}
    for name, asked in tasks.items():
        for part, inputs in (("test", asked.test.inputs), ("user", [asked.user.inputs[i] for i in rows[name]])):
            X = features.plain(inputs).astype(np.float64)
            told = X[:, PLACES[task][1]] if quality == "good" else generator.standard_normal(len(X))
            if SCHEMAS[task].type == "regression":
                found[name, part] = Answers(told, told[:, None])
            else:
                p = 1 / (1 + np.exp(-4 * told))
                p = np.stack([1 - p, p], 1)
                found[name, part] = Answers(p, np.log(p))
    return found


def order(bench: Bench, method: str, task: str, seed: int = 0, only: Sequence[int] | None = None) -> dict[str, float]:
    places = list(range(len(bench.entries)) if only is None else only)
    given = BASELINES[method].choose(bench, task, seed, places)
    assert given.shape == (len(places),)
    assert np.isfinite(given).all()
    return {bench.entries[p].name: float(v) for p, v in zip(places, given, strict=True)}


# --- methods -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(SIZE.seeds))
@pytest.mark.parametrize("task", PLACES)
@pytest.mark.parametrize("method", ["rkme_labels", "logme", "leep", "nce", "direct"])
def test_the_model_that_knows_the_label_comes_first(bench: Bench, method: str, task: str, seed: int) -> None:
    given = order(bench, method, task, seed)
    assert max(given, key=lambda n: given[n]) == f"{task}/good"


@pytest.mark.parametrize("task", PLACES)
@pytest.mark.parametrize("method", ["card", "centroid", "rkme"])
def test_methods_on_inputs_find_the_task_and_cannot_tell_its_learnwares(bench: Bench, method: str, task: str) -> None:
    given = order(bench, method, task)
    assert given[f"{task}/good"] == given[f"{task}/nothing"]
    elsewhere = [v for n, v in given.items() if PLACES[n.split("/")[0]][0] != PLACES[task][0]]
    assert given[f"{task}/good"] > max(elsewhere) + 0.1


@pytest.mark.parametrize("method", BASELINES)
def test_a_learnware_is_judged_alike_in_any_company(bench: Bench, method: str) -> None:
    whole = order(bench, method, "news", 1)
    some = order(bench, method, "news", 1, [5, 0, 6])
    assert some == pytest.approx({n: whole[n] for n in some})
    assert list(some) == [bench.entries[p].name for p in (5, 0, 6)]


def test_best_single_reads_other_tasks_only(bench: Bench) -> None:
    given = order(bench, "best_single", "news")
    others = np.mean([bench.scores[t].mean(0) for t in PLACES if t != "news"], axis=0)
    assert list(given.values()) == pytest.approx(list(others))
    changed = replace(bench, scores={**bench.scores, "news": bench.scores["news"] + 7})
    assert order(changed, "best_single", "news") == given
    alone = replace(bench, scores={"news": bench.scores["news"]})
    assert set(order(alone, "best_single", "news").values()) == {0.0}


def test_joint_embeddings_tell_exchanged_labels_apart(bench: Bench) -> None:
    good = bench.entries[0]
    turned = {k: Answers(a.outputs[:, ::-1], a.codes[:, ::-1]) for k, a in good.asked.items()}
    pool = replace(bench, entries=[good, replace(good, name="exchanged", asked=turned)])
    given = order(pool, "rkme_labels", "films")
    assert given[good.name] > given["exchanged"]
    # Numbers without meaning are what these see: the two are the same to them
    for method in ("leep", "nce", "logme"):
        given = order(pool, method, "films")
        assert given[good.name] == pytest.approx(given["exchanged"])


def test_direct_breaks_ties_by_likelihood_and_reads_an_encoder_under_the_tasks_phrases(bench: Bench) -> None:
    good = bench.entries[0]
    soft = {k: Answers(0.5 + (a.outputs - 0.5) / 2, a.codes) for k, a in good.asked.items()}
    descriptions = {"films": np.array([[1.0, 0.0], [0.0, 1.0]])}
    other = replace(good, name="encoder", task="news", descriptions=descriptions)
    wrong = replace(other, name="wrong", descriptions={"films": descriptions["films"][::-1]})
    pool = replace(bench, entries=[replace(good, name="soft", asked=soft), good, other, wrong])
    given = order(pool, "direct", "films")
    assert 1 > given[good.name] > given["soft"] > 1 - 1e-5
    assert given["encoder"] == pytest.approx(1, abs=1e-5)
    assert given["wrong"] == pytest.approx(0, abs=1e-5)


def test_cross_validation_never_sees_the_example_it_predicts() -> None:
    schema = SCHEMAS["films"]
    generator = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    known = cross_validated(schema, y[:, None] + 0.01 * generator.standard_normal((40, 1)), y, 0)
    assert (known == y).all()
    # One feature an example, and nothing in common: only a fit to the example itself could be right
    own = np.mean([np.mean(cross_validated(schema, np.eye(40), y, s) == y) for s in range(5)])
    assert own < 0.7
    assert set(cross_validated(schema, np.array([[0.0], [1.0]]), np.array([0, 1]), 0)) <= {0, 1}


def test_only_methods_that_need_the_users_examples_say_so() -> None:
    assert {n for n, b in BASELINES.items() if b.sees_data} == {"logme", "leep", "nce", "direct"}
    assert all(b.name == n and b.note for n, b in BASELINES.items())


# --- transferability -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), [(40, 3), (12, 30), (20, 20)])
def test_logme_is_the_largest_evidence_of_a_grid(n: int, d: int) -> None:
    generator = np.random.default_rng(n)
    F = generator.standard_normal((n, d)) * generator.uniform(0.5, 2, d)
    y = F @ generator.standard_normal(d) / np.sqrt(d) + 0.3 * generator.standard_normal(n)
    best = -np.inf
    for alpha in np.logspace(-2, 3, 101):
        eigen, V = np.linalg.eigh(F @ F.T / alpha)
        z2 = (V.T @ y) ** 2
        for beta in np.logspace(-2, 4, 121):
            spread = eigen + 1 / beta  # y is normal with covariance FF' / alpha + 1 / beta
            best = max(best, -(n * np.log(2 * np.pi) + np.log(spread).sum() + (z2 / spread).sum()) / (2 * n))
    found = log_evidence(F, y)
    assert best - 1e-4 <= found <= best + 0.005


def test_logme_of_features_that_say_nothing_is_finite_and_least() -> None:
    generator = np.random.default_rng(5)
    y = np.repeat([0.0, 1.0], 10)
    informed = log_evidence(np.stack([y, generator.standard_normal(20)], 1), y)
    for nothing in (np.zeros((20, 2)), generator.standard_normal((20, 2))):
        assert np.isfinite(log_evidence(nothing, y))
        assert log_evidence(nothing, y) < informed - 1


def test_leep_and_nce_by_hand() -> None:
    labels = np.array([0, 1, 1, 1])
    outputs = np.array([[1, 0], [1, 0], [0, 1], [0.5, 0.5]])
    # P(y | z): of the first source label 0.25 / 0.625 and 0.375 / 0.625, of the second 0 and 1
    assert leep_score(outputs, labels) == pytest.approx(np.mean(np.log([0.4, 0.6, 1, 0.8])))
    assert nce_score(np.array([0, 0, 1, 1]), labels) == pytest.approx(-0.5 * np.log(2))
    assert nce_score(np.array([7, 3, 3, 3]), labels) == pytest.approx(0)


# --- statistics ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "p"), [(15, 0.0667), (15, 0.5), (9, 0.8), (40, 0.3)])
def test_multinomial_of_two_classes_is_the_binomial_test(n: int, p: float) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    for k in range(n + 1):
        expected = scipy_stats.binomtest(k, n, p).pvalue
        assert exact_multinomial([k, n - k], [p, 1 - p]) == pytest.approx(expected, rel=1e-6)


def test_multinomial_by_hand_drawn_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    third = [1 / 3] * 3
    # Of 27 ways to place three: (3, 0, 0) and its like 1 each; (1, 1, 1) 6; (2, 1, 0) and its like 3 each
    assert exact_multinomial([3, 0, 0], third) == pytest.approx(3 / 27)
    assert exact_multinomial([0, 1, 2], third) == pytest.approx(21 / 27)
    assert exact_multinomial([1, 1, 1], third) == pytest.approx(1)
    assert exact_multinomial([1, 2], [0, 1]) == 0
    counted = exact_multinomial([6, 2, 1, 1], [0.25] * 4)
    monkeypatch.setattr(statistics, "MOST_OUTCOMES", 0)
    drawn = exact_multinomial([6, 2, 1, 1], [0.25] * 4)
    assert drawn != counted
    assert drawn == pytest.approx(counted, abs=0.006)
    assert exact_multinomial([15, *[0] * 14], [1 / 15] * 15) == pytest.approx(1 / (1 + statistics.DRAWS))
    for counts, p in (([1, 2], [0.5, 0.4]), ([1], [0.5, 0.5]), ([-1, 2], [0.5, 0.5])):
        with pytest.raises(DataError):
            exact_multinomial(counts, p)


def test_mixed_model_finds_the_slope_inside_groups() -> None:
    pytest.importorskip("statsmodels")
    generator = np.random.default_rng(1)
    level = np.linspace(-1, 1, 15)
    groups = np.repeat([f"task {i}" for i in range(15)], 20)
    x = np.repeat(level, 20) + 0.2 * generator.standard_normal(300)
    # Between groups score falls with similarity: a plain regression would say so
    y = 0.8 * x - np.repeat(3 * level, 20) + 0.05 * generator.standard_normal(300)
    assert np.polyfit(x, y, 1)[0] < 0
    found = mixed_model(y, x, list(groups))
    assert found["slope"] == pytest.approx(0.8, abs=3 * found["standard_error"])
    assert 0 < found["standard_error"] < 0.05
    assert found["z"] == pytest.approx(found["slope"] / found["standard_error"])
    assert found["p"] < 1e-6
    assert found["group_variance"] == pytest.approx(np.var(3 * level, ddof=1), rel=0.3)
    assert found["residual_variance"] == pytest.approx(0.05**2, rel=0.3)
    assert found["converged"] == 1
    for scores, similarities, names in ((y[:20], x[:20], groups[:20]), (y, np.ones(300), groups), (y[:9], x, groups)):
        with pytest.raises(DataError):
            mixed_model(scores, similarities, list(names))


def test_bootstrap_interval_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(2).standard_normal(60)
    low, high = bootstrap_interval(values, 1)
    error = values.std() / np.sqrt(60)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert bootstrap_interval(values, 1) == (low, high) != bootstrap_interval(values, 2)
    with pytest.raises(DataError):
        bootstrap_interval([])


def test_a_read_out_in_the_span_of_the_examples_is_the_read_out() -> None:
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(0)
    X, T, y = draw.normal(size=(24, 300)), draw.normal(size=(50, 300)), np.arange(24) % 3
    X[np.arange(24), y] += 4
    schema = Schema("classification", ("a", "b", "c"), ("a", "b", "c"), "accuracy")
    mean, spread = X.mean(0), X.std(0)
    whole = LogisticRegression(C=0.1, max_iter=200).fit((X - mean) / spread, y)
    assert (read_out(schema, X, y, T) == whole.predict((T - mean) / spread)).all()
