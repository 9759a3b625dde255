"""The sketch keeps inner products, with the error that its formula promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learndock.spaces.philox import sketch_tables
from learndock.spec.sketch import count_sketch, fold
from tests.support.soak import examples


def unit_rows(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def test_it_is_a_sum_of_signed_coordinates_by_bucket() -> None:
    bucket, sign = sketch_tables(1, 700, 64)
    vector = np.random.default_rng(0).normal(size=700).astype(np.float32)
    expected = np.zeros(64)
    for i in range(700):
        expected[bucket[i]] += sign[i] * vector[i]
    np.testing.assert_allclose(count_sketch(1, 700, 64)(vector[None])[0], expected, rtol=1e-5, atol=1e-5)


def test_buckets_that_nothing_falls_into_stay_zero() -> None:
    sketch = count_sketch(1, 20, 4096)
    found = sketch(np.ones((1, 20), np.float32))[0]
    assert np.count_nonzero(found) <= 20
    assert set(np.abs(found[found != 0]).tolist()) == {1.0}


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_error_of_a_cosine_is_what_the_formula_says(rho: float) -> None:
    draw = np.random.default_rng(int(rho * 10))
    pairs, count, size = 1500, 4000, 256
    first = draw.normal(size=(pairs, count)).astype(np.float32)
    second = (rho * first + math.sqrt(1 - rho**2) * draw.normal(size=(pairs, count))).astype(np.float32)
    sketch = count_sketch(1, count, size)
    truth = (unit_rows(first) * unit_rows(second)).sum(1)
    error = (unit_rows(sketch(first)) * unit_rows(sketch(second))).sum(1) - truth
    expected = (1 - rho**2) / math.sqrt(size)
    assert error.std() == pytest.approx(expected, rel=0.15)
    assert abs(error.mean()) < 5 * expected / math.sqrt(pairs) + 1 / size


def test_a_folded_sketch_is_the_sketch_of_the_smaller_size() -> None:
    vectors = np.random.default_rng(1).normal(size=(3, 5000)).astype(np.float32)
    folded = fold(count_sketch(1, 5000, 4096)(vectors), 128)
    np.testing.assert_allclose(folded, count_sketch(1, 5000, 128)(vectors), rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=examples(50))
@given(
    st.integers(0, 2**32 - 1),
    st.floats(-100, 100, width=32),
    st.floats(-100, 100, width=32),
)
def test_it_is_linear(seed: int, a: float, b: float) -> None:
    sketch = count_sketch(1, 500, 64)
    one, other = np.random.default_rng(seed).normal(size=(2, 500)).astype(np.float32)
    together = sketch((np.float32(a) * one + np.float32(b) * other)[None])
    apart = np.float32(a) * sketch(one[None]) + np.float32(b) * sketch(other[None])
    np.testing.assert_allclose(together, apart, atol=1e-4 * (1 + abs(a) + abs(b)))
