"""Standard errors and p-values mean what they say: checked on many small sets of which the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from learndock.data.schema import Schema
from learndock.spec import statistics
from learndock.spec.onepass import balanced_weights, centre_within, indicators, stratified_groups

SIZE = 256
SCALE = Schema("regression", (), (), "pearson")


def schema(classes: int) -> Schema:
    labels = tuple(f"label {c}" for c in range(classes))
    return Schema("classification", labels, labels, "accuracy")


def groups(seed: int, *, n: int = 32, classes: int = 2, strength: float = 0.0, common: float = 3.0) -> np.ndarray:
    """Behaviours of groups as one pass makes them, from made-up gradients.

    Each example has a random matrix of gradients, the same ``common`` part for all, and ``strength`` times what its
    label moves. ``classes`` 1 is a scale.
    """
    draw = np.random.default_rng(seed)
    spectrum = 1 / np.sqrt(1 + np.arange(SIZE) / 10)
    columns = max(classes, 2)
    prototypes = draw.normal(size=(columns, 5))
    prototypes -= prototypes.mean(0)
    if classes == 1:
        targets = draw.normal(size=n)
        asked, known = SCALE, targets[:, None] * draw.normal(size=(5, SIZE))[None].reshape(1, -1)
    else:
        targets = draw.permutation(np.arange(n) % classes)
        asked, known = schema(classes), draw.normal(size=(classes, 5 * SIZE))[targets]
    slopes = draw.normal(size=(n, 5, SIZE)) + common * draw.normal(size=(5, SIZE))
    slopes = (slopes + strength * known.reshape(n, 5, SIZE)) * spectrum
    soft_labels = indicators(asked, targets)
    groups_of = stratified_groups(asked, soft_labels, seed)
    directions = centre_within(balanced_weights(asked, soft_labels), groups_of) @ prototypes
    rows = np.einsum("nw,nwk->nk", directions, slopes)
    found = np.zeros((groups_of.max() + 1, SIZE))
    np.add.at(found, groups_of, rows)
    return (found * len(found) / n).astype(np.float32)


# --- evidence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "n"), [(1, 32), (1, 40), (2, 32), (2, 12), (2, 37), (4, 64), (10, 160), (10, 40)])
def test_labels_that_mean_nothing_give_uniform_p_values(classes: int, n: int) -> None:
    found = np.array([statistics.p_value(groups(seed, n=n, classes=classes), seed) for seed in range(250)])
    for level, low, high in ((0.1, 0.04, 0.18), (0.5, 0.39, 0.61), (0.9, 0.82, 0.97)):
        assert low <= (found <= level).mean() <= high, level


@pytest.mark.parametrize("classes", [1, 2, 4, 10])
def test_labels_that_mean_something_are_noticed(classes: int) -> None:
    found = [
        statistics.p_value(groups(seed, n=16 * max(classes, 2), classes=classes, strength=1.0), 0) for seed in range(20)
    ]
    assert max(found) <= 0.02


def test_a_p_value_is_never_zero_and_the_same_for_a_seed() -> None:
    strong = np.ones((16, 8), np.float32)
    assert 1 / 1000 <= statistics.p_value(strong, 0) <= 0.01
    some = groups(3)
    assert statistics.p_value(some, 5) == statistics.p_value(some, 5)
    # One group has two signs, and both are as long
    assert statistics.p_value(some[:1], 0) == 1
    assert statistics.p_value(np.zeros((16, 8), np.float32), 0) == 1


# --- contrasts -----------------------------------------------------------------------------------------------


def test_contrasts_hold_nothing_of_the_behaviour() -> None:
    draw = np.random.default_rng(0)
    own = draw.normal(size=(16, 64)).astype(np.float32)
    one = statistics.contrasts(own, 1)
    shifted = statistics.contrasts(own + 100 * draw.normal(size=64).astype(np.float32), 1)
    assert one is not None
    assert shifted is not None
    assert one.shape == (12, 64)
    np.testing.assert_allclose(one, shifted, atol=1e-3)


@pytest.mark.parametrize(("count", "kept"), [(16, 12), (13, 12), (12, 11), (2, 1), (1, None)])
def test_contrasts_are_orthogonal_and_of_unit_length(count: int, kept: int | None) -> None:
    found = statistics.contrasts(np.eye(count, dtype=np.float32), 0)
    if kept is None:
        assert found is None
        return
    assert found is not None
    np.testing.assert_allclose(found @ found.T, np.eye(kept), atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-6)


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_the_standard_error_is_how_far_another_sample_would_be(classes: int) -> None:
    """Along fixed directions: what contrasts say of one sample, against what many samples do."""
    draw = np.random.default_rng(1)
    along = draw.normal(size=(6, SIZE)).astype(np.float32)
    said, happened = [], []
    for seed in range(400):
        # Prototypes and the common part are of the seed too, so only fresh chance: strength 0
        found = groups(10_000 + seed, n=16 * max(classes, 2), classes=classes)
        rows = statistics.contrasts(found, seed)
        assert rows is not None
        said.append(statistics.deviation(rows, along) ** 2 / len(found))
        happened.append((along @ found.mean(0)) ** 2)
    np.testing.assert_allclose(np.mean(said, 0), np.mean(happened, 0), rtol=0.35)
    assert float(np.mean(said)) == pytest.approx(float(np.mean(happened)), rel=0.12)


@pytest.mark.parametrize("bits", [False, True])
def test_a_t_of_contrasts_is_students(bits: bool) -> None:
    """Or somewhat narrower, when of each number only its sign is kept."""
    from scipy.stats import kstest
    from scipy.stats import t as student

    draw = np.random.default_rng(2)
    along = draw.normal(size=(1, SIZE)).astype(np.float32)
    found = []
    for seed in range(400):
        own = groups(20_000 + seed)
        rows = statistics.contrasts(own, seed)
        assert rows is not None
        if bits:
            rows = statistics.unpack_bits(*statistics.pack_bits(rows))
        found.append(float(along[0] @ own.mean(0)) / (statistics.deviation(rows, along)[0] / math.sqrt(len(own))))
    share = float((statistics.tail(np.array(found), 12) < 0.05).mean())
    if bits:  # bits add noise to what is known of the deviation: rather too careful than too sure
        assert 0.005 < share < 0.07
    else:
        assert kstest(found, student(12).cdf).pvalue > 0.01
        assert 0.02 < share < 0.09


# --- bits ----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 5), st.just(16)), elements=st.floats(-1000, 1000, width=32)).filter(
        lambda rows: bool((np.abs(rows).max(1) > 1e-3).all())
    )
)
def test_bits_keep_the_inner_product_with_the_row(rows: np.ndarray) -> None:
    bits, scales = statistics.pack_bits(rows)
    assert bits.shape == (len(rows), 2)
    assert bits.dtype == np.uint8
    back = statistics.unpack_bits(bits, scales)
    assert (np.sign(back) == np.sign(rows))[rows != 0].all()
    square = (rows.astype(np.float64) ** 2).sum(1)
    np.testing.assert_allclose((back.astype(np.float64) * rows).sum(1), square, rtol=1e-4)
    # Once they are signs they stay as they are
    again = statistics.unpack_bits(*statistics.pack_bits(back))
    np.testing.assert_allclose(again, back, rtol=1e-6)


def test_bits_keep_lengths_along_other_directions() -> None:
    draw = np.random.default_rng(4)
    rows = draw.normal(size=(200, 4096)).astype(np.float32)
    along = (rows[:1] + draw.normal(size=(1, 4096))).astype(np.float32)
    back = statistics.unpack_bits(*statistics.pack_bits(rows))
    exact, kept = rows @ along[0], back @ along[0]
    assert np.corrcoef(exact, kept)[0, 1] > 0.75
    assert kept[0] == pytest.approx(exact[0], rel=0.05)


# --- Student -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [4, 12, 40])
def test_the_tail_of_students_t(degrees: int) -> None:
    from scipy.stats import t

    values = np.linspace(-6, 6, 241)
    np.testing.assert_allclose(statistics.tail(values, degrees), t.sf(values, degrees), atol=0.003)


@pytest.mark.parametrize(("share", "degrees"), [(0.05, 12), (0.05, 4), (0.01, 12), (0.5, 7)])
def test_the_critical_value_is_the_tails_inverse(share: float, degrees: int) -> None:
    from scipy.stats import t

    assert statistics.critical(share, degrees) == pytest.approx(t.isf(share, degrees), abs=0.03)


@pytest.mark.parametrize("degrees", [1, 2, 3])
def test_few_degrees_are_not_too_sure(degrees: int) -> None:
    """A task of four examples has one contrast: intervals and p-values must not be far too narrow."""
    from scipy.stats import t

    assert statistics.critical(0.05, degrees) == pytest.approx(t.isf(0.05, degrees), rel=0.2)


def test_reliability_is_the_share_that_repeats() -> None:
    """Against the truth: a fixed behaviour of known length in noise of known variance."""
    draw = np.random.default_rng(3)
    for signal in (0.0, 0.5, 1.0, 4.0):
        towards = np.full(SIZE, signal, np.float32)
        found = [
            statistics.reliability((towards + draw.normal(size=(16, SIZE)) * 2).astype(np.float32)) for _ in range(40)
        ]
        noise = 4 / 16
        assert np.mean(found) == pytest.approx(signal**2 / (signal**2 + noise), abs=0.06)


@pytest.mark.parametrize("rows", [np.zeros((4, 8), np.float32), np.ones((1, 8), np.float32)])
def test_reliability_of_nothing_is_nothing(rows: np.ndarray) -> None:
    assert statistics.reliability(rows) == 0.0


def test_reliability_of_what_always_repeats_is_one() -> None:
    assert statistics.reliability(np.ones((4, 8), np.float32)) == 1.0
