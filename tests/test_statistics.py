"""Intervals and p-values mean what they say: checked on many small sets of which the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from learndock.data.schema import Schema
from learndock.spec import statistics
from learndock.spec.onepass import Contributions, balanced_weights, indicators

SIZE = 128


def schema(classes: int) -> Schema:
    labels = tuple(f"label {c}" for c in range(classes))
    return Schema("classification", labels, labels, "accuracy")


SCALE = Schema("regression", (), (), "pearson")


def contributions(
    seed: int, *, n: int = 32, classes: int = 2, strength: float = 0.0, known: int | None = None, size: int = SIZE
) -> Contributions:
    """What a helper would give: each example has a random gradient that its label moves by ``strength``.

    The gradient along an anchor is the example's matrix times the anchor; ``known`` leaves that many labels.
    """
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.arange(n) % classes)
    anchors = draw.normal(size=(classes, 6))
    anchors -= anchors.mean(0)
    slopes = draw.normal(size=(n, 6, size)) + strength * draw.normal(size=(classes, 6, size))[labels]
    by_label = np.einsum("cw,nwk->nck", anchors, slopes).astype(np.float32)
    shares = np.eye(classes)[labels]
    weights = balanced_weights(schema(classes), shares)
    own = np.einsum("nc,nck->nk", weights, by_label).astype(np.float32)
    if known is not None:
        for i in range(n):
            others = draw.permutation(np.delete(np.arange(classes), labels[i]))
            by_label[i, others[known - 1 :]] = np.nan
    nothing = np.zeros((n, 1), np.float32)
    return Contributions(nothing, shares, own, by_label, nothing[0])


def p_value(found: Contributions, classes: int, seed: int = 0) -> float:
    permuted = statistics.permute(found, schema(classes), statistics.PERMUTATIONS, seed)
    return statistics.evidence(found.own.mean(0), permuted)


# --- evidence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "known"), [(2, None), (4, None), (10, None), (10, 4)])
def test_labels_that_mean_nothing_give_uniform_p_values(classes: int, known: int | None) -> None:
    n = 40 if known is None else 80
    found = np.array(
        [p_value(contributions(seed, n=n, classes=classes, known=known, size=64), classes) for seed in range(200)]
    )
    for level, low, high in ((0.1, 0.04, 0.18), (0.5, 0.38, 0.62), (0.9, 0.82, 0.97)):
        assert low <= (found <= level).mean() <= high, level


@pytest.mark.parametrize(("classes", "known"), [(2, None), (4, None), (10, 4)])
def test_labels_that_mean_something_are_noticed(classes: int, known: int | None) -> None:
    found = [
        p_value(contributions(seed, n=60, classes=classes, known=known, strength=0.6), classes) for seed in range(20)
    ]
    assert max(found) <= 0.02


def test_a_p_value_is_never_zero() -> None:
    assert statistics.evidence(np.full(4, 9, np.float32), np.zeros((199, 4), np.float32)) == 1 / 200
    assert statistics.evidence(np.zeros(4, np.float32), np.ones((199, 4), np.float32)) == 1


def test_permuting_keeps_the_lengths_of_chance_in_both_ways() -> None:
    """With a few labels of each example known, permuted behaviours are as long as with all, and as centred."""
    classes = 10
    lengths = []
    for known in (None, 4):
        some = []
        for seed in range(12):
            found = contributions(seed, n=120, classes=classes, known=known)
            permuted = statistics.permute(found, schema(classes), 100, seed)
            assert np.isfinite(permuted).all()
            squares = (permuted.astype(np.float64) ** 2).sum(1)
            some.append(squares.mean())
            # No direction is favoured, but for what labels chosen once for each example have in common
            assert (permuted.mean(0) ** 2).sum() < (0.05 if known is None else 0.3) * squares.mean()
        lengths.append(np.mean(some))
    assert lengths[1] == pytest.approx(lengths[0], rel=0.1)


def test_permuting_a_scale() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(size=30)
    shares = indicators(SCALE, values)
    gradients = draw.normal(size=(30, SIZE)).astype(np.float32)
    by_label = np.stack([-gradients, gradients], 1)
    own = np.einsum("nc,nck->nk", balanced_weights(SCALE, shares), by_label).astype(np.float32)
    found = Contributions(np.zeros((30, 1), np.float32), shares, own, by_label, np.zeros(1, np.float32))
    permuted = statistics.permute(found, SCALE, 400, 1)
    place = (values - values.mean()) / (4 * values.std())
    assert permuted.std() == pytest.approx(2 * place.std() * gradients.std() / math.sqrt(30), rel=0.1)


@pytest.mark.parametrize("known", [None, 4])
def test_draws_are_the_same_for_a_seed(known: int | None) -> None:
    found = contributions(0, n=40, classes=10, known=known)
    one, other, third = (statistics.permute(found, schema(10), 5, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, other)
    assert np.abs(one - third).max() > 0
    moved = [statistics.resample(found, schema(10), 5, seed) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(moved[0], moved[1])
    assert np.abs(moved[0] - moved[2]).max() > 0


# --- bootstrap -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 4])
def test_resampling_moves_a_behaviour_as_much_as_another_sample_would(classes: int) -> None:
    """Analytic: the variance of a mean over classes of m examples each, unbiased."""
    n = 16 * classes
    found = contributions(1, n=n, classes=classes, strength=0.5)
    labels = found.shares.argmax(1)
    variance = sum(found.own[labels == c].var(0, ddof=1) * 16 for c in range(classes)) / n**2
    moved = statistics.resample(found, schema(classes), 3000, 0)
    assert np.sqrt((moved.astype(np.float64) ** 2).mean()) == pytest.approx(np.sqrt(variance.mean()), rel=0.03)
    assert np.abs(moved.mean(0)).max() < 6 * np.sqrt(variance.max() / 3000)


def test_resampling_of_a_scale_draws_from_all() -> None:
    found = contributions(2, n=30)
    moved = statistics.resample(found, SCALE, 3000, 0)
    expected = found.own.std(0, ddof=1) / math.sqrt(30)
    assert np.sqrt((moved.astype(np.float64) ** 2).mean()) == pytest.approx(
        float(np.sqrt((expected**2).mean())), rel=0.03
    )


def test_resampling_a_class_of_one() -> None:
    found = contributions(3, n=9)
    lonely = np.eye(2)[[0] * 8 + [1]]
    moved = statistics.resample(
        Contributions(found.features, lonely, found.own, found.by_label, found.vector), schema(2), 20, 0
    )
    assert np.isfinite(moved).all()
    # The lonely example is in every sample once: only the others move
    assert np.linalg.norm(moved) > 0


# --- folded rows ---------------------------------------------------------------------------------------------


def test_deviations_survive_the_folding() -> None:
    """Standard deviation along a direction from 40 folded draws, against the truth in 4,096 numbers."""
    draw = np.random.default_rng(5)
    scales = draw.gamma(1.0, size=4096)
    along = draw.normal(size=(50, 4096)).astype(np.float32)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    truth = np.sqrt((along**2 * scales**2).sum(1))
    ratios = []
    for _ in range(20):
        rows = (draw.normal(size=(40, 4096)) * scales).astype(np.float32)
        folded = statistics.folded(rows, 2.0)
        assert folded.shape == (40, 128)
        _, ways = statistics.projected_deviation(folded, statistics.folded(along, 1.0))
        ratios.append(2 * ways / truth)
    # Folding adds noise of about the size of the row itself where rows point nowhere; it is taken off, to a fifth
    assert np.median(ratios) > 0.3


def test_deviation_along_the_common_direction() -> None:
    """Where draws mostly move along one line, folding must not hide how far."""
    draw = np.random.default_rng(6)
    line = draw.normal(size=4096).astype(np.float32)
    line /= np.linalg.norm(line)
    rows = (3 * draw.normal(size=(400, 1)) * line[None] + 0.01 * draw.normal(size=(400, 4096))).astype(np.float32)
    _, found = statistics.projected_deviation(statistics.folded(rows, 1.0), statistics.folded(line[None], 1.0))
    assert found[0] == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize("degrees", [10, 40])
def test_the_tail_of_students_t(degrees: int) -> None:
    from scipy.stats import t

    values = np.linspace(-6, 6, 241)
    np.testing.assert_allclose(statistics.tail(values, degrees), t.sf(values, degrees), atol=0.002)
