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
from learndock.spaces.authoring.torch_helper import Recipe
from learndock.spaces.onnx_helper import load_helper
from learndock.spec import make_spec, similarity, spec_from_bytes, spec_to_bytes
from learndock.spec.onepass import balanced_weights, centre_within, contribute, indicators, stratified_groups
from learndock.spec.sketch import space_sketch

WORDS = {
    "bad": ("bad", "awful", "poor", "pain"),
    "good": ("good", "fine", "great", "sun"),
    "bank": ("bank", "loan", "money", "rates"),
    "match": ("match", "team", "goal", "rain"),
}
REST = ("the", "a", "film", "day", "was", "very", "in", "and", "it", "not")


def schema(*labels: str, descriptions: Sequence[str] = ()) -> Schema:
    return Schema("classification", labels, tuple(descriptions) or labels, "accuracy")


SENTIMENT = schema("bad", "good", descriptions=("a bad film", "a good film"))
SCALE = Schema("regression", ("0", "5"), ("bad", "good"), "pearson")
OPEN_SCALE = Schema("regression", (), (), "pearson")


def texts(n: int, classes: Sequence[str] = ("bad", "good"), seed: int = 0) -> tuple[list[Any], np.ndarray]:
    """``n`` texts of which every one has a word of its class."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % len(classes)
    found = []
    for label in labels:
        words = [*draw.choice(REST, size=int(draw.integers(2, 9))), draw.choice(WORDS[classes[int(label)]])]
        found.append(" ".join(draw.permutation(words)))
    return found, labels


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# --- weights -------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(2, 6), st.integers(0, 2**32 - 1), st.booleans())
def test_rows_and_columns_of_the_weights_sum_to_zero(n: int, classes: int, seed: int, soft: bool) -> None:
    draw = np.random.default_rng(seed)
    labels = [str(c) for c in range(classes)]
    targets = draw.dirichlet(np.ones(classes), size=n) if soft else draw.integers(classes, size=n)
    soft_labels = indicators(schema(*labels), targets)
    present = soft_labels.mean(0) > 0
    weights = balanced_weights(schema(*labels), soft_labels)
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
    from tests.support.torch_reference import Reference

    return Reference(tiny_encoder, Recipe(rank=4, max_tokens=64))


@pytest.mark.parametrize("kind", ["descriptions", "means", "probabilities", "regression"])
def test_the_vector_is_the_sum_that_the_formula_says(kind: str, tiny_space: Space, reference: Any) -> None:
    """Example by example in torch, weights and prototypes by their definitions."""
    inputs, labels = texts(10, seed=1)
    labels = np.where(np.arange(10) < 3, 0, labels)
    n, asked = len(inputs), SCALE if kind == "regression" else SENTIMENT
    draw = np.random.default_rng(5)
    soft_labels: np.ndarray = np.eye(2)[labels]
    if kind == "probabilities":
        soft_labels = draw.dirichlet(np.ones(2), size=n)
    if kind == "regression":
        values = draw.normal(size=n)
        place = 0.5 + (values - values.mean()) / (4 * values.std())
        soft_labels = np.stack([1 - place, place], 1)
    if kind == "means":
        features = reference.features(inputs)
        points = np.zeros((n, 2, 32))
        for i in range(n):
            others = np.arange(n) != i
            points[i] = [features[others & (labels == c)].mean(0) for c in (0, 1)]
    else:
        points = np.repeat(reference.features(list(asked.descriptions))[None], n, 0)
    if kind == "regression":
        weights = soft_labels - soft_labels.mean(0)
    else:
        weights = soft_labels / soft_labels.mean(0)
        weights = weights - weights.mean(1, keepdims=True)
    groups = stratified_groups(asked, soft_labels, 0)
    for group in range(n // 2):
        weights[groups == group] -= weights[groups == group].mean(0)
    expected = np.zeros((n // 2, 768))
    for i in range(n):
        centred = points[i] - points[i].mean(0)
        expected[groups[i]] += reference.gradient(inputs[i], (weights[i] @ centred).astype(np.float32))
    head: Any = "means" if kind == "means" else "descriptions"
    found = contribute(tiny_space, asked, inputs, soft_labels, head=head)
    assert relative(found.vector, expected.sum(0) / n) < 2e-5
    sketched = space_sketch(tiny_space)(expected.astype(np.float32)) * (n // 2) / n
    assert relative(found.groups, sketched) < 2e-5
    assert relative(found.behaviour, space_sketch(tiny_space)(found.vector[None])[0]) < 1e-4


# --- groups --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(4, 150), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_groups_hold_every_label_alike(n: int, classes: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(classes, size=n)
    found = stratified_groups(schema(*map(str, range(classes))), np.eye(classes)[labels], seed % 1000)
    sizes = np.bincount(found)
    assert len(sizes) == min(16, n // 2)
    assert sizes.min() >= 2
    assert sizes.max() - sizes.min() <= 1
    for c in range(classes):
        counts = np.bincount(found[labels == c], minlength=len(sizes))
        assert counts.max() - counts.min() <= 2


def test_groups_of_a_scale_hold_low_and_high() -> None:
    values = np.random.default_rng(0).permutation(64.0 + np.arange(64))
    groups = stratified_groups(SCALE, indicators(SCALE, values), 0)
    means = [values[groups == g].mean() for g in range(16)]
    assert np.std(means) < 0.5 * values.std() / 2  # less than four drawn at random would have


@settings(deadline=None)
@given(st.integers(4, 60), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_weights_sum_to_zero_in_every_group(n: int, classes: int, seed: int) -> None:
    asked = schema(*map(str, range(classes)))
    soft_labels = np.random.default_rng(seed).dirichlet(np.ones(classes), size=n)
    groups = stratified_groups(asked, soft_labels, 0)
    weights = centre_within(balanced_weights(asked, soft_labels), groups)
    np.testing.assert_allclose(weights.sum(1), 0, atol=1e-9 * n)
    for group in np.unique(groups):
        np.testing.assert_allclose(weights[groups == group].sum(0), 0, atol=1e-9 * n)


def test_what_does_not_depend_on_the_input_leaves_no_trace(tiny_space: Space) -> None:
    """The same text throughout: its gradient, however long, must not be in the behaviour."""
    inputs = ["the same film"] * 15 + ["a great day"]
    soft_labels = indicators(SENTIMENT, np.arange(16) % 2)
    found = contribute(tiny_space, SENTIMENT, inputs, soft_labels, head="descriptions")
    lengths = np.linalg.norm(found.groups, axis=1)
    assert (lengths > 1e-5 * lengths.max()).sum() == 1  # the group of the one that differs


# --- what it means -------------------------------------------------------------------------------------------


def length(space: Space, inputs: list[Any], targets: np.ndarray, asked: Schema = SENTIMENT) -> float:
    soft_labels = indicators(asked, targets)
    found = contribute(space, asked, inputs, soft_labels, head="descriptions")
    return float(np.linalg.norm(found.vector))


@pytest.mark.parametrize("asked", [SENTIMENT, SCALE], ids=["classes", "scale"])
def test_outputs_that_ignore_inputs_leave_nothing(asked: Schema, minilm: Space) -> None:
    inputs, labels = texts(96)
    targets = labels if asked is SENTIMENT else labels + 0.0
    draw = np.random.default_rng(1)
    shuffled = [draw.permutation(targets) for _ in range(6)]
    real = length(minilm, inputs, targets, asked)
    found = np.stack([_vector(minilm, inputs, t, asked) for t in shuffled])
    assert np.linalg.norm(found, axis=1).max() < 0.6 * real
    # In expectation nothing is left: the mean over shufflings is shorter than each
    assert np.linalg.norm(found.mean(axis=0)) < 0.25 * real


def _vector(space: Space, inputs: list[Any], targets: np.ndarray, asked: Schema) -> np.ndarray:
    return contribute(space, asked, inputs, indicators(asked, targets), head="descriptions").vector


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


def test_an_example_given_twice_changes_little(minilm: Space) -> None:
    inputs, labels = texts(32)
    one = _vector(minilm, inputs, labels, SENTIMENT)
    other = _vector(minilm, inputs * 2, np.tile(labels, 2), SENTIMENT)
    assert cosine(one, other) > 0.95


def test_class_balance_does_not_show(minilm: Space) -> None:
    """The bad texts three times: nearly the same behaviour, since classes weigh the same."""
    inputs, labels = texts(32)
    bad = [t for t, label in zip(inputs, labels, strict=True) if label == 0]
    one = _vector(minilm, inputs, labels, SENTIMENT)
    other = _vector(minilm, inputs + 2 * bad, np.concatenate([labels, np.zeros(32, int)]), SENTIMENT)
    assert cosine(one, other) > 0.9


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
    assert asked.p_value is not None
    assert asked.p_value < 0.01
    assert good.p_value is not None
    assert good.p_value < 0.01
    assert good.contrasts is None
    assert asked.contrasts.shape == (12, 4096)


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
    assert spec.p_value < 0.05
    assert np.isfinite(spec.behaviour).all()
    shuffled = task(minilm, inputs, np.random.default_rng(2).permutation(labels), asked)
    assert shuffled.p_value > 0.05
    model = make_spec(Examples(inputs, None, asked), space=minilm, predictions=np.eye(12)[labels])
    assert similarity(spec, model)[1] > 0.99


def test_classes_that_are_missing_or_rare(tiny_space: Space) -> None:
    inputs, labels = texts(22)
    labels = np.array([0] * 20 + [1] * 2)
    asked = schema("bad", "good", "neither one")
    spec = task(tiny_space, inputs, labels, asked)
    assert np.isfinite(spec.behaviour).all()
    assert np.isfinite(spec.contrasts).all()
    with pytest.raises(DataError):
        task(tiny_space, inputs, np.zeros(22, int), asked)


def test_pairs_of_texts(minilm: Space) -> None:
    left, labels = texts(24, seed=3)
    pairs = [(a, "good film" if label else "bad film") for a, label in zip(left, labels, strict=True)]
    spec = task(minilm, pairs, labels, SENTIMENT)
    assert spec.p_value < 0.05
    assert similarity(spec, task(minilm, left, labels, SENTIMENT))[1] < 0.999


@pytest.mark.parametrize("asked", [SCALE, OPEN_SCALE], ids=["descriptions", "means"])
def test_regression(asked: Schema, minilm: Space) -> None:
    inputs, labels = texts(40)
    values = labels * 3.0 + np.random.default_rng(0).normal(size=40)
    spec = task(minilm, inputs, values, asked)
    assert spec.p_value < 0.05
    assert spec.settings["head"] == ("descriptions" if asked is SCALE else "means")
    scaled = task(minilm, inputs, values * 100 - 7, asked)
    assert similarity(spec, scaled)[1] == pytest.approx(1, abs=1e-3)


def test_a_masked_helper(tiny_masked_space: Space) -> None:
    inputs, labels = texts(32)
    spec = task(tiny_masked_space, inputs, labels, SENTIMENT)
    assert spec.behaviour.shape == (4096,)
    assert 0 < spec.p_value <= 1
    assert similarity(spec, task(tiny_masked_space, inputs, 1 - labels, SENTIMENT))[1] == pytest.approx(-1, abs=1e-3)


def test_a_spec_is_the_same_twice_and_whole_on_request(tiny_space: Space) -> None:
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


def test_examples_that_repeat_make_a_spec_that_can_be_read(tiny_space: Space) -> None:
    """Groups that are all the same vary by nothing, or by rounding."""
    spec = task(tiny_space, ["a good film", "a bad film"] * 16, np.arange(32) % 2 == 0, SENTIMENT)
    back = spec_from_bytes(spec_to_bytes(spec))
    np.testing.assert_array_equal(back.behaviour, spec.behaviour)


@pytest.mark.parametrize("n", [4, 5, 6, 7])
def test_very_few_examples(n: int, tiny_space: Space) -> None:
    inputs, labels = texts(n)
    spec = task(tiny_space, inputs, labels, SENTIMENT)
    assert 0 < spec.p_value <= 1
    assert len(spec.contrasts) == n // 2 - 1
    spec_from_bytes(spec_to_bytes(spec))


def test_the_domain_is_of_all_examples_also_of_those_without_a_direction(tiny_space: Space) -> None:
    inputs = ["good film", "bad film", "rain that winter", "the nurse wrote", "blood pain", "money loan"]
    # Five of one label and one of the other: most groups hold one label and say nothing of behaviour
    few = Examples(inputs, np.array([0, 0, 0, 0, 0, 1]), SENTIMENT)
    found = contribute(tiny_space, SENTIMENT, inputs, indicators(SENTIMENT, few.targets), head="descriptions")  # type: ignore[arg-type]
    assert np.allclose(found.features, load_helper(tiny_space).features(inputs), atol=1e-5)
