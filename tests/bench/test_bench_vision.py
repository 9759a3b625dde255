"""The bench on images: tasks of other meaning, models without the helper, and specs by another way than make_spec's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from learndock.bench.cache import Cache
from learndock.bench.learners import degrade
from learndock.bench.methods import METHODS, applicable
from learndock.bench.pool import Bench
from learndock.bench.responses import Passes, respond
from learndock.bench.size import IMAGES_QUICK
from learndock.bench.tasks import Task
from learndock.bench.vision import Shapes, train_network, train_shapes
from learndock.bench.vision_tasks import BY_LABEL, digits, other_questions
from learndock.data import decode
from learndock.spaces import get_space
from learndock.spec import make_spec
from learndock.tour.images import load_image_tasks

SIZE = replace(IMAGES_QUICK, fit=200, test=150)


@pytest.fixture(scope="module")
def base() -> Task:
    return digits(SIZE)


def test_other_questions_are_asked_of_the_same_people(base: Task) -> None:
    made = other_questions(base)
    assert [t.name for t in made] == ["digits: even", "digits: loop"]
    for task in made:
        assert task.base == "digits"
        for part in ("user", "fit", "spec", "test"):
            assert getattr(task, part).inputs is getattr(base, part).inputs
    even = made[0]
    assert base.test.targets is not None
    np.testing.assert_array_equal(even.test.targets, (base.test.targets % 2 == 0).astype(int))
    named = {label for groups in BY_LABEL["digits"].values() for group in groups[1] for label in group}
    assert named <= set(base.schema.labels)


def test_owners_and_users_share_no_image(base: Task) -> None:
    seen = [set(getattr(base, part).inputs) for part in ("user", "fit", "spec", "test")]
    # The data set holds a few images twice: only those may be met again
    assert sum(len(s) for s in seen) - len(set().union(*seen)) <= 2


def test_models_without_the_helper_learn(base: Task) -> None:
    shapes = Shapes()
    good = train_shapes(shapes, base.schema, base.fit, "good", 0)
    shuffled = train_shapes(shapes, base.schema, base.fit, "shuffled", 0)
    tested = list(base.test.inputs)
    right = [float((m.answer(tested).outputs.argmax(1) == base.test.targets).mean()) for m in (good, shuffled)]
    assert right[0] > 0.8
    assert right[1] < 0.3
    assert shapes(tested[:2]).shape == (2, 624)


@pytest.mark.slow
def test_a_small_network_learns(base: Task) -> None:
    pytest.importorskip("torch")
    network = train_network(base.schema, base.fit, "good", replace(SIZE, network_epochs=5), 0)
    answers = network.answer(list(base.test.inputs))
    assert answers.codes.shape == (len(base.test), 64)
    assert (answers.outputs.argmax(1) == base.test.targets).mean() > 0.3


def test_shuffled_labels_are_drawn_anew(base: Task) -> None:
    assert base.fit.targets is not None
    kept = np.mean(degrade("shuffled", base.fit, 0).targets == base.fit.targets)
    assert kept < 0.25


@pytest.mark.slow
def test_specs_of_the_bench_are_those_of_make_spec(base: Task, tmp_path: Path) -> None:
    space = get_space("efficientnet-lite0")
    if not space.present():
        pytest.skip("weights of efficientnet-lite0 are not on this machine")
    few = base.user.take(base.draw(2, 0))
    responses = respond(Cache(tmp_path), space, base.schema, few)
    assert isinstance(responses, Passes)
    assert few.targets is not None
    ours = responses.spec(space, "task", base.schema, few.targets)
    theirs = make_spec(few, base.schema, space=space)
    np.testing.assert_allclose(ours.unit_behaviour, theirs.unit_behaviour, atol=2e-3)
    np.testing.assert_allclose(ours.unit_domain, theirs.unit_domain, atol=1e-3)


def test_methods_that_compare_words_are_not_asked_here() -> None:
    bench = Bench(get_space("efficientnet-lite0"), SIZE, None, {}, [], {}, {}, None, {}, {})  # type: ignore[arg-type]
    assert set(METHODS) - set(applicable(bench)) == {"card", "rkme_labels"}


def test_the_tours_digits_have_two_questions() -> None:
    tasks = load_image_tasks()
    digit, loop = tasks["digit"], tasks["digit_loop"]
    assert digit.test.targets is not None
    assert loop.test.targets is not None
    assert set(digit.test.targets[loop.test.targets == 1]) == {0, 6, 8, 9}
    assert decode(digit.train.inputs[0]).shape == (8, 8, 3)
    assert not set(map(id, digit.train.inputs)) & set(map(id, digit.test.inputs))
