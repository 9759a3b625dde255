"""The papers' recipe on the same space: a few steps of Adam, the same for a seed, in the direction of the gradient."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import SpaceMismatch, UsageError
from learndock.spaces import Space
from learndock.spaces.heads import description_prototypes
from learndock.spaces.onnx_helper import load_helper
from learndock.spec import make_spec, similarity
from learndock.spec.onepass import indicators
from learndock.spec.paper import PaperSettings, fit, steps
from learndock.spec.sketch import space_sketch

SENTIMENT = Schema("classification", ("bad", "good"), ("a bad film", "a good film"), "accuracy")
SCALE = Schema("regression", ("0", "5"), ("bad", "good"), "pearson")
INPUTS: list[Any] = ["a good film", "the food was bad", "a great day", "awful rain and a very cold night", "fine", "no"]
LABELS = np.array([1, 0, 1, 0, 1, 0])


def fitted(space: Space, targets: np.ndarray = LABELS, asked: Schema = SENTIMENT, **settings: Any) -> np.ndarray:
    chosen = PaperSettings(**{"steps": 4, "batch": 3, "bfloat16": False, **settings})
    return fit(space, asked, INPUTS, targets, head="descriptions", settings=chosen)


def test_the_same_for_a_seed_to_the_last_bit(tiny_space: Space) -> None:
    one, other = fitted(tiny_space), fitted(tiny_space)
    assert one.shape == (768,)
    assert np.array_equal(one, other)
    assert np.isfinite(one).all()
    # Adam's first steps move every number by about the learning rate
    assert np.abs(one).max() <= 4 * 2e-5 * 1.01
    chosen = PaperSettings(steps=4, batch=3, bfloat16=False)
    again = fit(tiny_space, SENTIMENT, INPUTS, LABELS, head="descriptions", settings=chosen, seed=1)
    assert not np.array_equal(one, again)


def test_one_step_goes_where_the_gradient_points(tiny_space: Space) -> None:
    """Against the plain gradient of the loss, from the exported graph: cross-entropy weights are labels less p."""
    found = fitted(tiny_space, steps=1, batch=6)
    prototypes = description_prototypes(load_helper(tiny_space), SENTIMENT)
    logits = 20.0 * load_helper(tiny_space).features(INPUTS) @ prototypes.points.T
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    directions = prototypes.direct(np.eye(2)[LABELS] - p)
    gradient = np.zeros(768)
    for batch in load_helper(tiny_space).gradients(INPUTS, directions[:, None, :]):
        gradient += batch.gradients.sum(0)
    # Adam's first step is the sign of the gradient
    clear = np.abs(gradient) > 1e-4 * np.abs(gradient).max()
    assert (np.sign(found) == np.sign(gradient))[clear].mean() > 0.99
    assert float(found @ gradient / np.linalg.norm(found) / np.linalg.norm(gradient)) > 0.3


@pytest.mark.parametrize("kind", ["labels", "probabilities", "regression"])
def test_the_loss_falls(kind: str, tiny_space: Space) -> None:
    import torch

    from learndock.spaces.authoring.author import TextAuthored, example_batch
    from learndock.spaces.authoring.torch_helper import space_torch_helper
    from learndock.spec.paper import _loss

    asked = SCALE if kind == "regression" else SENTIMENT
    draw = np.random.default_rng(0)
    targets = {"labels": LABELS, "regression": LABELS * 2.5, "probabilities": draw.dirichlet([1, 1], size=6)}[kind]
    vector = fitted(tiny_space, targets, asked, steps=40, batch=6, learning_rate=1e-3)
    helper = space_torch_helper(tiny_space)
    *batch, _ = example_batch(TextAuthored(helper), INPUTS, 0)
    points = torch.from_numpy(description_prototypes(load_helper(tiny_space), asked).points[None].repeat(6, 0))
    soft_labels = torch.from_numpy(indicators(asked, targets).astype(np.float32))
    ends = np.cumsum([rows * columns for rows, columns in helper.shapes])[:-1]
    B = [torch.from_numpy(p.reshape(s)) for p, s in zip(np.split(vector, ends), helper.shapes, strict=True)]
    before, after = (float(_loss(asked, helper.features(b, *batch), points, soft_labels, 20.0)) for b in (None, B))
    assert after < before


def test_a_spec_of_it(tiny_space: Space) -> None:
    examples = Examples(INPUTS, LABELS, SENTIMENT)
    told: list[tuple[int, int]] = []
    spec = make_spec(
        examples, space=tiny_space, recipe="paper", steps=3, batch=4, full=True, progress=lambda *a: told.append(a)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert spec.settings["steps"] == 3
    assert spec.settings["learning_rate"] == 2e-5
    assert spec.vector is not None
    sketched = space_sketch(tiny_space)(spec.vector.astype(np.float32)[None])[0]
    assert sketched @ spec.unit_behaviour / np.linalg.norm(sketched) == pytest.approx(1, abs=1e-3)
    # Both recipes share the domain, and may not be compared
    one_pass = make_spec(examples, space=tiny_space)
    np.testing.assert_array_equal(spec.domain, one_pass.domain)
    with pytest.raises(SpaceMismatch, match="recipe"):
        similarity(spec, one_pass)


def test_bfloat16_stays_close(tiny_space: Space) -> None:
    one, other = fitted(tiny_space, steps=8), fitted(tiny_space, steps=8, bfloat16=True)
    assert float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)) > 0.9


def test_every_example_has_its_turn() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, size=37).tolist()
    found = steps(lengths, PaperSettings(steps=50, batch=8), 0)
    assert len(found) == 50
    for start in range(0, 50 - 5, 5):
        assert sorted(np.concatenate(found[start : start + 5]).tolist()) == list(range(37))


def test_unknown_settings_are_refused(tiny_space: Space) -> None:
    with pytest.raises(UsageError, match=r"unknown settings for paper.*momentum"):
        make_spec(Examples(INPUTS, LABELS, SENTIMENT), space=tiny_space, recipe="paper", momentum=0.9)


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"steps": -1}])
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], tiny_space: Space) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        make_spec(Examples(INPUTS, LABELS, SENTIMENT), space=tiny_space, recipe="paper", **change)


def test_without_torch_the_remedy_is_named(tiny_space: Space) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
import numpy as np
from learndock.data import Examples, Schema
from learndock.errors import MissingExtra
from learndock.spec import make_spec
schema = Schema("classification", ("bad", "good"), ("bad", "good"), "accuracy")
try:
    make_spec(Examples(["a", "b"] * 4, np.array([0, 1] * 4), schema), space={str(tiny_space.folder)!r}, recipe="paper")
except MissingExtra as error:
    assert 'pip install "learndock[torch]"' in str(error), error
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("refused", 0), done.stderr
