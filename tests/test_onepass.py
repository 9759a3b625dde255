"""One pass: a centred, balanced sum of gradients, whichever way it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import DataError, ModelError, UsageError
from learndock.spaces import Space
from learndock.spaces.heads import Anchors, mean_anchors, phrase_anchors
from learndock.spaces.torch_helper import Recipe
from learndock.spec import make_spec, similarity
from learndock.spec.onepass import (
    OTHER_LABELS,
    _every_label,
    _own_only,
    _some_labels,
    balanced_weights,
    contribute,
    indicators,
)

WORDS = {
    "bad": ("bad", "awful", "poor", "pain"),
    "good": ("good", "fine", "great", "sun"),
    "bank": ("bank", "loan", "money", "rates"),
    "match": ("match", "team", "goal", "rain"),
}
REST = ("the", "a", "film", "day", "was", "very", "in", "and", "it", "not")


def schema(*labels: str, phrases: Sequence[str] = ()) -> Schema:
    return Schema("classification", labels, tuple(phrases) or labels, "accuracy")


SENTIMENT = schema("bad", "good", phrases=("a bad film", "a good film"))
SCALE = Schema("regression", ("0", "5"), ("bad", "good"), "pearson")
OPEN_SCALE = Schema("regression", (), (), "pearson")


def texts(n: int, classes: Sequence[str] = ("bad", "good"), seed: int = 0) -> tuple[list[Any], np.ndarray]:
    """``n`` texts of which every one has a word of its class."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % len(classes)
    found = []
    for label in labels:
        words = [*draw.choice(REST, size=int(draw.integers(2, 9))), draw.choice(WORDS[classes[label]])]
        found.append(" ".join(draw.permutation(words)))
    return found, labels


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# --- weights -------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(2, 6), st.integers(0, 2**32 - 1), st.booleans())
def test_rows_and_columns_of_the_weights_sum_to_zero(n: int, classes: int, seed: int, soft: bool) -> None:
    draw = np.random.default_rng(seed)
    labels = [str(c) for c in range(classes)]
    targets = draw.dirichlet(np.ones(classes), size=n) if soft else draw.integers(classes, size=n)
    shares = indicators(schema(*labels), targets)
    present = shares.mean(0) > 0
    weights = balanced_weights(schema(*labels), shares)
    np.testing.assert_allclose(weights.sum(1), 0, atol=1e-7 * (1 + np.abs(weights).max()))
    # Every class that occurs weighs the same; one that does not has nothing to balance
    if present.all():
        np.testing.assert_allclose(weights.sum(0), 0, atol=1e-7 * n * (1 + np.abs(weights).max()))


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50), st.floats(0.1, 100), st.floats(-1e3, 1e3))
def test_a_scale_has_no_zero_and_no_unit(values: list[float], factor: float, shift: float) -> None:
    targets = np.array(values)
    if targets.std() < 1e-6 * max(1, np.abs(targets).max()):
        return
    weights = balanced_weights(SCALE, indicators(SCALE, targets))
    np.testing.assert_allclose(weights.sum(0), 0, atol=1e-8)
    np.testing.assert_allclose(weights.sum(1), 0, atol=1e-8)
    moved = balanced_weights(SCALE, indicators(SCALE, factor * targets + shift))
    np.testing.assert_allclose(moved, weights, atol=1e-5)


def test_the_formula_in_words() -> None:
    # Three of one class, one of the other: 1/p is 4/3 and 4, halved by centring over two classes
    weights = balanced_weights(SENTIMENT, indicators(SENTIMENT, np.array([0, 0, 0, 1])))
    np.testing.assert_allclose(weights[:3], [[2 / 3, -2 / 3]] * 3)
    np.testing.assert_allclose(weights[3], [-2, 2])


# --- against autograd ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(tiny_encoder: Path) -> Any:
    from torch_reference import Reference

    return Reference(tiny_encoder, Recipe(rank=4, max_tokens=64))


@pytest.mark.parametrize("kind", ["phrases", "means", "probabilities", "regression"])
def test_the_vector_is_the_sum_that_the_formula_says(kind: str, tiny_space: Space, reference: Any) -> None:
    """Example by example in torch, weights and anchors by their definitions."""
    inputs, labels = texts(10, seed=1)
    labels = np.where(np.arange(10) < 3, 0, labels)
    n, asked = len(inputs), SCALE if kind == "regression" else SENTIMENT
    draw = np.random.default_rng(5)
    shares: np.ndarray = np.eye(2)[labels]
    if kind == "probabilities":
        shares = draw.dirichlet(np.ones(2), size=n)
    if kind == "regression":
        values = draw.normal(size=n)
        place = 0.5 + (values - values.mean()) / (4 * values.std())
        shares = np.stack([1 - place, place], 1)
    if kind == "means":
        features = reference.features(inputs)
        points = np.zeros((n, 2, 32))
        for i in range(n):
            others = np.arange(n) != i
            points[i] = [features[others & (labels == c)].mean(0) for c in (0, 1)]
    else:
        points = np.repeat(reference.features(list(asked.phrases))[None], n, 0)
    expected = np.zeros(768)
    for i in range(n):
        if kind == "regression":
            weights = shares[i] - shares.mean(0)
        else:
            weights = shares[i] / shares.mean(0)
            weights = weights - weights.mean()
        centred = points[i] - points[i].mean(0)
        expected += reference.gradient(inputs[i], (weights @ centred).astype(np.float32)) / n
    head: Any = "means" if kind == "means" else "phrases"
    for relabel in (True, False):
        found = contribute(tiny_space, asked, inputs, shares, head=head, relabel=relabel)
        assert relative(found.vector, expected) < 2e-5


# --- one behaviour, three ways -------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "head"), [(2, "phrases"), (4, "phrases"), (4, "means"), (4, "soft")])
def test_all_ways_give_the_same_behaviour(classes: int, head: str, tiny_space: Space) -> None:
    names = list(WORDS)[:classes]
    inputs, labels = texts(24, names)
    asked = schema(*names)
    shares: np.ndarray = np.eye(classes)[labels]
    if head == "soft":
        shares = 0.7 * shares + 0.3 * np.random.default_rng(0).dirichlet(np.ones(classes), size=24)
    weights = balanced_weights(asked, shares)
    anchors: Anchors = (
        mean_anchors(tiny_space.helper.features(inputs), shares)
        if head == "means"
        else phrase_anchors(tiny_space.helper, asked)
    )
    own = _own_only(tiny_space, inputs, shares, anchors.direct(weights)[:, None, :], None)
    every = _every_label(tiny_space, inputs, shares, weights, anchors, None)
    ways = [every]
    if classes > OTHER_LABELS:
        ways.append(_some_labels(tiny_space, inputs, shares, weights, anchors, 0, None))
    for found in ways:
        assert relative(found.own, own.own) < 1e-4
        assert relative(found.own.mean(0), own.own.mean(0)) < 1e-4
        assert relative(found.vector, own.vector) < 1e-4
        np.testing.assert_allclose(found.features, own.features, atol=1e-5)
    # What single labels add is the same too, where it was computed
    if len(ways) == 2:
        known = ~np.isnan(ways[1].by_label)
        assert known[:, :, 0].sum(1).tolist() == [1 + OTHER_LABELS] * 24
        assert known[np.arange(24), labels].all()
        assert relative(ways[1].by_label[known], every.by_label[known]) < 1e-4


def test_the_sketch_of_the_vector_is_the_behaviour(tiny_space: Space) -> None:
    from learndock.spec.sketch import space_sketch

    inputs, labels = texts(12)
    found = contribute(tiny_space, SENTIMENT, inputs, indicators(SENTIMENT, labels), head="phrases", relabel=True)
    assert relative(space_sketch(tiny_space)(found.vector[None])[0], found.own.mean(0)) < 1e-4


# --- what it means -------------------------------------------------------------------------------------------


def length(space: Space, inputs: list[Any], targets: np.ndarray, asked: Schema = SENTIMENT) -> float:
    shares = indicators(asked, targets)
    found = contribute(space, asked, inputs, shares, head="phrases", relabel=False)
    return float(np.linalg.norm(found.vector))


@pytest.mark.parametrize("asked", [SENTIMENT, SCALE], ids=["classes", "scale"])
def test_outputs_that_ignore_inputs_leave_nothing(asked: Schema, minilm: Space) -> None:
    inputs, labels = texts(96)
    targets = labels if asked is SENTIMENT else labels + 0.0
    draw = np.random.default_rng(1)
    shuffled = [draw.permutation(targets) for _ in range(6)]
    real = length(minilm, inputs, targets, asked)
    assert max(length(minilm, inputs, t, asked) for t in shuffled) < 0.6 * real
    # In expectation nothing is left: the mean over shufflings is shorter than each
    together = np.mean([_vector(minilm, inputs, t, asked) for t in shuffled], axis=0)
    assert np.linalg.norm(together) < 0.25 * real


def _vector(space: Space, inputs: list[Any], targets: np.ndarray, asked: Schema) -> np.ndarray:
    return contribute(space, asked, inputs, indicators(asked, targets), head="phrases", relabel=False).vector


@pytest.mark.parametrize("classes", [2, 3])
def test_the_order_of_labels_does_not_matter(classes: int, tiny_space: Space) -> None:
    names = list(WORDS)[:classes]
    inputs, labels = texts(30, names)
    order = np.roll(np.arange(classes), 1)
    turned = schema(*[names[c] for c in order])
    one = _vector(tiny_space, inputs, labels, schema(*names))
    other = _vector(tiny_space, inputs, np.argsort(order)[labels], turned)
    assert relative(other, one) < 1e-4


def test_exchanged_labels_give_the_opposite(tiny_space: Space) -> None:
    inputs, labels = texts(30)
    one, other = (_vector(tiny_space, inputs, t, SENTIMENT) for t in (labels, 1 - labels))
    assert relative(-other, one) < 1e-4


def test_an_example_given_twice_changes_nothing(tiny_space: Space) -> None:
    inputs, labels = texts(12)
    one = _vector(tiny_space, inputs, labels, SENTIMENT)
    other = _vector(tiny_space, inputs * 2, np.tile(labels, 2), SENTIMENT)
    assert relative(other, one) < 1e-4


def test_class_balance_does_not_show(tiny_space: Space) -> None:
    """The bad texts three times: the same behaviour, since classes weigh the same."""
    inputs, labels = texts(16)
    bad = [t for t, label in zip(inputs, labels, strict=True) if label == 0]
    one = _vector(tiny_space, inputs, labels, SENTIMENT)
    other = _vector(tiny_space, inputs + 2 * bad, np.concatenate([labels, np.zeros(16, int)]), SENTIMENT)
    assert relative(other, one) < 1e-4


# --- specs of many kinds -------------------------------------------------------------------------------------


def task(space: Space, inputs: list[Any], targets: np.ndarray, asked: Schema, **settings: Any) -> Any:
    return make_spec(Examples(inputs, targets, asked), space=space, **settings)


def test_a_task_and_a_model_of_it_are_alike(minilm: Space) -> None:
    inputs, labels = texts(32, seed=1)
    others, truth = texts(64, seed=2)
    asked = task(minilm, inputs, labels, SENTIMENT)
    sure = np.eye(2)[truth] * 0.8 + 0.1
    good, shuffled, turned = (
        make_spec(Examples(others, None, SENTIMENT), space=minilm, predictions=p)
        for p in (sure, sure[np.random.default_rng(0).permutation(64)], 1 - sure)
    )
    assert similarity(asked, good)[1] > 0.6
    assert abs(similarity(asked, shuffled)[1]) < 0.5 * similarity(asked, good)[1]
    assert similarity(asked, turned)[1] == pytest.approx(-similarity(asked, good)[1], abs=1e-3)
    assert asked.evidence == pytest.approx(1 / 200)
    assert good.evidence == pytest.approx(1 / 200)
    assert (good.spread, good.null) == (None, None)
    assert asked.spread.shape == (24, 128)
    assert asked.null.shape == (40, 128)


def test_class_indices_are_predictions_too(tiny_space: Space) -> None:
    inputs, labels = texts(16)
    examples = Examples(inputs, None, SENTIMENT)
    one = make_spec(examples, space=tiny_space, predictions=labels)
    other = make_spec(examples, space=tiny_space, predictions=np.eye(2)[labels])
    np.testing.assert_array_equal(one.behaviour, other.behaviour)


def test_twelve_classes(minilm: Space) -> None:
    words = [w for group in WORDS.values() for w in group[:3]]
    inputs = [f"the {w} was {r}" for r in ("very", "not", "in it", "a day") for w in words]
    labels = np.tile(np.arange(12), 4)
    asked = schema(*[f"about {w}" for w in words])
    spec = task(minilm, inputs, labels, asked)
    assert spec.evidence < 0.05
    assert np.isfinite(spec.behaviour).all()
    shuffled = task(minilm, inputs, np.random.default_rng(2).permutation(labels), asked)
    assert shuffled.evidence > 0.05
    # The same mean of contributions whether relabelling is asked for or not
    shares = indicators(asked, labels)
    ways = [contribute(minilm, asked, inputs, shares, head="phrases", relabel=r) for r in (True, False)]
    assert relative(ways[0].vector, ways[1].vector) < 1e-4
    model = make_spec(Examples(inputs, None, asked), space=minilm, predictions=np.eye(12)[labels])
    assert similarity(spec, model)[1] > 0.99


def test_classes_that_are_missing_or_rare(tiny_space: Space) -> None:
    inputs, labels = texts(22)
    labels = np.array([0] * 20 + [1] * 2)
    asked = schema("bad", "good", "neither one")
    spec = task(tiny_space, inputs, labels, asked)
    assert np.isfinite(spec.behaviour).all()
    assert np.isfinite(spec.null).all()
    assert np.isfinite(spec.spread).all()
    with pytest.raises(DataError):
        task(tiny_space, inputs, np.zeros(22, int), asked)


def test_pairs_of_texts(minilm: Space) -> None:
    left, labels = texts(24, seed=3)
    pairs = [(a, "good film" if label else "bad film") for a, label in zip(left, labels, strict=True)]
    spec = task(minilm, pairs, labels, SENTIMENT)
    assert spec.evidence < 0.05
    assert similarity(spec, task(minilm, left, labels, SENTIMENT))[1] < 0.999


@pytest.mark.parametrize("asked", [SCALE, OPEN_SCALE], ids=["phrases", "means"])
def test_regression(asked: Schema, minilm: Space) -> None:
    inputs, labels = texts(40)
    values = labels * 3.0 + np.random.default_rng(0).normal(size=40)
    spec = task(minilm, inputs, values, asked)
    assert spec.evidence < 0.05
    assert spec.settings["head"] == ("phrases" if asked is SCALE else "means")
    scaled = task(minilm, inputs, values * 100 - 7, asked)
    assert similarity(spec, scaled)[1] == pytest.approx(1, abs=1e-3)


def test_a_masked_helper(tiny_masked_space: Space) -> None:
    inputs, labels = texts(32)
    spec = task(tiny_masked_space, inputs, labels, SENTIMENT)
    assert spec.behaviour.shape == (4096,)
    assert 0 < spec.evidence <= 1
    assert similarity(spec, task(tiny_masked_space, inputs, 1 - labels, SENTIMENT))[1] == pytest.approx(-1, abs=1e-3)


def test_a_spec_is_the_same_twice_and_whole_on_request(tiny_space: Space) -> None:
    from learndock.spec import spec_to_bytes

    inputs, labels = texts(16)
    one, other = (spec_to_bytes(task(tiny_space, inputs, labels, SENTIMENT, full=True)) for _ in range(2))
    assert one == other
    spec = task(tiny_space, inputs, labels, SENTIMENT, full=True)
    assert spec.vector.shape == (768,)
    assert task(tiny_space, inputs, labels, SENTIMENT).vector is None


# --- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predictions", "error", "message"),
    [
        (np.full((16, 2), 0.5), ModelError, "predicts the same for every example"),
        (np.full((16, 2), np.nan), ModelError, "NaN or infinity"),
        (np.full((16, 3), 1 / 3), ModelError, r"shape \(16, 3\), the schema and the examples ask for \(16, 2\)"),
        (np.eye(2)[np.arange(15) % 2], ModelError, r"shape \(15, 2\)"),
        (np.eye(2)[np.arange(16) % 2] * 3, ModelError, "not probabilities"),
        (np.array([[2.0, -1.0], [0.0, 1.0]] * 8), ModelError, "not probabilities"),
    ],
)
def test_predictions_that_specify_nothing(
    predictions: np.ndarray, error: type[Exception], message: str, tiny_space: Space
) -> None:
    inputs, _ = texts(16)
    with pytest.raises(error, match=message):
        make_spec(Examples(inputs, None, SENTIMENT), space=tiny_space, predictions=predictions)


@pytest.mark.parametrize("indices", [[0, 1, 2, 1], [0, 1, -1, 1], [0, 1, 0.5, 1], [0, 1, np.nan, 1], [0, 1, 1e30, 1]])
def test_class_indices_that_are_none(indices: list[float], tiny_space: Space) -> None:
    with pytest.raises(ModelError):
        make_spec(Examples(["a"] * 4, None, SENTIMENT), space=tiny_space, predictions=np.array(indices))


def test_what_is_missing_is_said(tiny_space: Space) -> None:
    inputs, labels = texts(16)
    with pytest.raises(UsageError, match="no schema"):
        make_spec(Examples(inputs, labels), space=tiny_space)
    with pytest.raises(UsageError, match=r"mine\.csv: has no labels"):
        make_spec(Examples(inputs, None, SENTIMENT, "mine.csv"), space=tiny_space)
    with pytest.raises(UsageError, match='recipe "fast" is unknown'):
        task(tiny_space, inputs, labels, SENTIMENT, recipe="fast")
    with pytest.raises(UsageError, match="one-pass has no settings steps"):
        task(tiny_space, inputs, labels, SENTIMENT, steps=3)
    with pytest.raises(DataError, match="NaN or infinite"):
        task(tiny_space, inputs, np.where(labels, np.inf, 1.0), SCALE)
    with pytest.raises(DataError, match="too few"):
        make_spec(Examples(inputs[:3], None, SENTIMENT), space=tiny_space, predictions=np.eye(2)[[0, 1, 0]])


def test_inputs_that_are_all_alike_have_no_behaviour(tiny_space: Space) -> None:
    """Labels cannot depend on inputs that do not differ; rounding must not be taken for behaviour."""
    labels = np.arange(16) % 2
    with pytest.raises(ModelError, match="do not depend on the inputs"):
        task(tiny_space, ["the same film"] * 16, labels, SENTIMENT)
