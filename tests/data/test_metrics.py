"""Metrics against scikit-learn and SciPy on random data, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learndock.data import Schema, higher_is_better, score
from learndock.data.schema import CLASSIFICATION_METRICS, REGRESSION_METRICS
from learndock.errors import DataError, SchemaError


def classes(metric: str, n: int = 2) -> Schema:
    labels = tuple(f"c{i}" for i in range(n))
    return Schema("classification", labels, labels, metric)


def values(metric: str) -> Schema:
    return Schema("regression", (), (), metric)


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("metric", CLASSIFICATION_METRICS)
def test_classification_agrees_with_scikit_learn(metric: str, n: int) -> None:
    oracle = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(n)

    def expected(y: Any, p: Any) -> float:
        if metric == "accuracy":
            return float(oracle.accuracy_score(y, p))
        if metric == "matthews":
            return float(oracle.matthews_corrcoef(y, p))
        named = {"average": "macro"} if metric == "macro_f1" else {"labels": [1], "average": "macro"}
        return float(oracle.f1_score(y, p, zero_division=0, **named))

    for trial in range(40):
        size = int(generator.integers(1, 60))
        used = n if trial % 2 else max(2, n - 1)  # classes may be missing
        targets = generator.integers(0, used, size)
        chances = generator.dirichlet(np.ones(n), size)
        chances[np.arange(size), targets] += generator.random(size) * (trial % 3)
        got = score(classes(metric, n), chances, targets)
        assert got == pytest.approx(expected(targets, chances.argmax(1)), abs=1e-12)
        assert score(classes(metric, n), chances.argmax(1), targets) == got


@pytest.mark.parametrize("metric", REGRESSION_METRICS)
def test_regression_agrees_with_scipy(metric: str) -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(5)
    for trial in range(40):
        size = int(generator.integers(3, 60))
        x = generator.normal(size=size) * 10.0 ** generator.integers(-3, 4)
        y = x + generator.normal(size=size)
        if trial % 2:  # ties
            x, y = np.round(x), np.round(y)
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            continue
        linear, rank = stats.pearsonr(x, y)[0], stats.spearmanr(x, y)[0]
        expected = {
            "pearson": linear,
            "spearman": rank,
            "pearson_spearman": (linear + rank) / 2,
            "mean_squared_error": np.mean((x - y) ** 2),
        }[metric]
        assert score(values(metric), x, y) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert score(values(metric), x[:, None], y) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_constant_sides_score_nothing() -> None:
    assert score(values("pearson_spearman"), [0.1, 0.1, 0.1], [1, 2, 3]) == 0.0
    assert score(classes("matthews"), [1, 1, 1], [0, 1, 1]) == 0.0
    assert score(classes("f1"), [0, 0], [0, 0]) == 0.0
    assert score(values("pearson"), [1e200, -1e200], [1e-200, -1e-200]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("predictions", "targets", "words"),
    [
        ([0, 1], [0], "do not fit"),
        ([], [], "no examples"),
        ([0, np.nan], [0, 1], "NaN"),
        ([[0.1, 0.2, 0.7]], [1], "3 classes, the schema has 2"),
        ([2], [1], "0 to 1"),
        ([0.5], [1], "whole numbers"),
        ([0], [-1], "0 to 1"),
    ],
)
def test_what_cannot_be_scored(predictions: Any, targets: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        score(classes("accuracy"), predictions, targets)


def test_two_values_for_one_target() -> None:
    with pytest.raises(DataError, match="one value"):
        score(values("pearson"), [[1, 2], [3, 4]], [1, 2])


def test_direction_of_every_metric() -> None:
    directions = {m: higher_is_better(m) for m in CLASSIFICATION_METRICS + REGRESSION_METRICS}
    assert [m for m, up in directions.items() if not up] == ["mean_squared_error"]
    with pytest.raises(SchemaError, match="accuracy"):
        higher_is_better("loss")
