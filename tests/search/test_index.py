"""The exact index against a loop that cannot be wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learndock.errors import Conflict, NotFound, SpecError, UsageError
from learndock.index import ExactIndex
from tests.support.soak import examples

WIDTH = 5
Vector = np.ndarray[Any, np.dtype[np.float32]]


def naive(vectors: dict[str, Vector], query: Vector, top: int, allowed: set[str] | None) -> list[str]:
    scores = {
        name: sum(float(a) * float(b) for a, b in zip(vector, query, strict=True))
        for name, vector in vectors.items()
        if allowed is None or name in allowed
    }
    return sorted(scores, key=lambda name: (-scores[name], name))[:top]


# Whole numbers of few values: products are exact, so ties are many and their order is checked as well.
small_vectors = st.lists(st.integers(-2, 2), min_size=WIDTH, max_size=WIDTH).map(
    lambda values: np.array(values, dtype=np.float32)
)
names = st.integers(0, 40).map(lambda number: f"n{number}")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.dictionaries(names, small_vectors, max_size=12)),
        st.tuples(st.just("remove"), st.sets(names, max_size=8)),
        st.tuples(
            st.just("search"),
            st.tuples(small_vectors, st.integers(1, 12), st.none() | st.sets(names, max_size=20)),
        ),
    ),
    max_size=25,
)


@settings(max_examples=examples(80), deadline=None)
@given(steps=steps)
def test_like_a_plain_loop_whatever_was_added_and_removed(steps: list[tuple[str, Any]]) -> None:
    index, plain = ExactIndex(WIDTH), {}
    for verb, value in steps:
        if verb == "add":
            new = {name: vector for name, vector in value.items() if name not in plain}
            index.add(list(new), np.array(list(new.values()), dtype=np.float32).reshape(-1, WIDTH))
            plain.update(new)
        elif verb == "remove":
            gone = [name for name in value if name in plain]
            index.remove(gone)
            for name in gone:
                del plain[name]
        else:
            query, top, allowed = value
            found = index.search(query, top, allowed=allowed)
            assert [name for name, _ in found] == naive(plain, query, top, allowed)
            assert [score for _, score in found] == [float(plain[n] @ query) for n, _ in found]
        assert len(index) == len(plain)


def test_answers_are_the_same_to_the_last_bit_in_any_order() -> None:
    draw = np.random.default_rng(7)
    vectors = draw.normal(size=(500, 257)).astype(np.float32)
    vectors[100:200] = vectors[0:100]  # exact ties, far from each other
    names = [f"n{i:03}" for i in range(500)]
    query = vectors[3] + draw.normal(size=257).astype(np.float32) / 10

    def answer(order: np.ndarray[Any, Any]) -> list[tuple[str, float]]:
        index = ExactIndex(257)
        extra = draw.normal(size=(37, 257)).astype(np.float32)
        index.add([f"x{i}" for i in range(37)], extra)
        for part in np.array_split(order, 7):
            index.add([names[i] for i in part], vectors[part])
        index.remove([f"x{i}" for i in range(37)])
        return index.search(query, 20)

    first = answer(np.arange(500))
    assert [name for name, _ in first[:2]] == ["n003", "n103"]
    assert first[0][1] == first[1][1]
    for _ in range(5):
        assert answer(draw.permutation(500)) == first


def test_near_ties_are_told_apart() -> None:
    """Products that float32 cannot tell apart, but float64 can, come in their true order."""
    draw = np.random.default_rng(3)
    base = draw.normal(size=4_096).astype(np.float32)
    vectors = np.repeat(base[None], 300, axis=0)
    for row in range(300):
        place = int(draw.integers(4_096))
        vectors[row, place] = np.nextafter(vectors[row, place], np.float32(9))
    index = ExactIndex(4_096)
    index.add([f"n{i:03}" for i in range(300)], vectors)
    true = vectors.astype(np.float64) @ base.astype(np.float64)
    found = index.search(base, 10)
    assert np.allclose(sorted(true)[::-1][:10], [score for _, score in found], rtol=1e-14, atol=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_values_that_cannot_be_compared(value: float) -> None:
    index = ExactIndex(2)
    index.add(["a"], np.ones((1, 2), dtype=np.float32))
    with pytest.raises(SpecError, match=r"^c: its vector"):
        index.add(["b", "c"], np.array([[1, 1], [1, value]], dtype=np.float32))
    with pytest.raises(SpecError, match=r"^query: its vector"):
        index.search(np.array([value, 1], dtype=np.float32), 1)
    assert index.search(np.ones(2, dtype=np.float32), 5) == [("a", 2.0)]


@pytest.mark.parametrize("shape", [(1, 3), (2, 2), (2,), (1, 1, 2)])
def test_wrong_shapes(shape: tuple[int, ...]) -> None:
    index = ExactIndex(2)
    with pytest.raises(SpecError, match="1 vectors of 2 numbers expected"):
        index.add(["a"], np.ones(shape, dtype=np.float32))
    with pytest.raises(SpecError, match="a query of 2 numbers expected"):
        index.search(np.ones((3,), dtype=np.float32), 1)
    assert len(index) == 0


def test_all_or_nothing() -> None:
    index, ones = ExactIndex(2), np.ones((2, 2), dtype=np.float32)
    index.add(["a", "b"], ones)
    with pytest.raises(Conflict, match="b: is in the index"):
        index.add(["c", "b"], ones)
    with pytest.raises(Conflict, match="twice"):
        index.add(["c", "c"], ones)
    with pytest.raises(NotFound, match="c: not in the index"):
        index.remove(["a", "c"])
    assert [name for name, _ in index.search(ones[0], 9)] == ["a", "b"]


def test_asking_too_little_or_an_empty_index() -> None:
    index = ExactIndex(2)
    assert index.search(np.ones(2, dtype=np.float32), 3) == []
    with pytest.raises(UsageError):
        index.search(np.ones(2, dtype=np.float32), 0)
    with pytest.raises(UsageError):
        ExactIndex(0)
    index.add(["a"], np.ones((1, 2), dtype=np.float32))
    assert index.search(np.ones(2, dtype=np.float32), 3, allowed=()) == []
    assert index.search(np.ones(2, dtype=np.float32), 3, allowed=["unknown"]) == []


def test_what_was_given_is_copied() -> None:
    index, vectors = ExactIndex(2), np.ones((1, 2), dtype=np.float32)
    index.add(["a"], vectors)
    vectors[:] = 9
    assert index.search(np.ones(2, dtype=np.float32), 1) == [("a", 2.0)]
