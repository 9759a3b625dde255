"""The recipes on prompts and completions: what is answered, not only what is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from learndock.data import Examples, Schema
from learndock.errors import DataError, ModelError, UsageError
from learndock.spaces import Space
from learndock.spec import Spec, make_spec, similarity, spec_from_bytes, spec_to_bytes
from learndock.spec.generation import arrange
from tests.support.causal import prompts

FREE = Schema("generation", (), (), "exact_match")
CHOICE = Schema("classification", ("yes", "no"), ("yes", "no"), "accuracy")


def written(about: list[bool], seed: int | None = None) -> np.ndarray[Any, Any]:
    """What a model writes that knows the topic; with a seed, one whose texts are mixed up."""
    found = np.array(["cold winter" if a else "a good match" for a in about], object)
    return found if seed is None else np.random.default_rng(seed).permutation(found)


def task_spec(space: Space, n: int = 32) -> Spec:
    inputs, about = prompts(n, 1)
    return make_spec(Examples(inputs, written(about), FREE), space=space)


# --- which completions are compared --------------------------------------------------------------------------


def test_every_prompt_is_weighed_against_others_of_its_block() -> None:
    inputs, _ = prompts(34)
    texts = np.array([f"answer {i}" for i in range(34)], object)
    found = arrange(FREE, inputs, texts, 0)
    np.testing.assert_allclose(found.directions.sum(1), 0, atol=1e-6)
    total: dict[str, float] = {}
    for asked, row, own in zip(found.inputs, found.directions, texts, strict=True):
        by_text = dict(zip(asked.completions, row[: len(asked.completions)].tolist(), strict=True))
        assert max(by_text, key=by_text.__getitem__) == own
        assert len(by_text) >= 4
        for text, weight in by_text.items():
            total[text] = total.get(text, 0.0) + weight
    np.testing.assert_allclose(list(total.values()), 0, atol=1e-6)  # no completion is preferred as such
    again = arrange(FREE, inputs, texts, 0)
    np.testing.assert_array_equal(again.directions, found.directions)


def test_equal_completions_of_a_block_cancel() -> None:
    inputs, _ = prompts(8)
    found = arrange(FREE, inputs, np.array(["same"] * 7 + ["other"], object), 0)
    silent = [asked for asked, row in zip(found.inputs, found.directions, strict=True) if not row.any()]
    assert len(silent) == 6
    with pytest.raises(DataError, match="are the same"):
        arrange(FREE, inputs, np.array(["same"] * 8, object), 0)


# --- specs ---------------------------------------------------------------------------------------------------


def test_right_and_shuffled_answers_to_the_same_prompts_are_told_apart(tiny_causal_space: Space) -> None:
    task = task_spec(tiny_causal_space)
    inputs, about = prompts(48, 2)
    good, bad = (
        make_spec(Examples(inputs), FREE, space=tiny_causal_space, predictions=written(about, seed))
        for seed in (None, 3)
    )
    assert similarity(good, bad)[0] > 0.999  # the same domain
    assert similarity(task, good)[1] > 0.5 > 0.3 > similarity(task, bad)[1]
    assert task.p_value is not None
    assert task.p_value <= 0.05
    assert bad.p_value is not None
    assert bad.p_value > 0.05
    assert task.reliability > bad.reliability


def test_scored_options_are_free_text_of_few_words(tiny_causal_space: Space) -> None:
    """A model that only knows how likely each option is has the same kind of behaviour."""
    inputs, about = prompts(48, 4)
    options = replace(CHOICE, labels=("cold winter", "a good match"), descriptions=("w", "m"))
    likely = np.array([[0.9, 0.1] if a else [0.2, 0.8] for a in about])
    found = make_spec(Examples(inputs), options, space=tiny_causal_space, predictions=likely)
    assert similarity(task_spec(tiny_causal_space), found)[1] > 0.3
    assert found.settings["head"] == "completions"


def test_a_spec_comes_back_from_its_file_and_repeats(tiny_causal_space: Space) -> None:
    one, other = task_spec(tiny_causal_space, 12), task_spec(tiny_causal_space, 12)
    assert spec_to_bytes(one) == spec_to_bytes(other)
    found = spec_from_bytes(spec_to_bytes(one))
    assert found.space_id == one.space_id
    assert found.settings["cut"] == {"prompts": 0, "completions": 0}


def test_cut_prompts_are_counted(tiny_causal_space: Space) -> None:
    inputs, about = prompts(8)
    from learndock.data.prompts import Prompt

    long = [Prompt.of("bank loan " * 60 + inputs[0].text), *inputs[1:]]
    assert make_spec(Examples(long, written(about), FREE), space=tiny_causal_space).settings["cut"]["prompts"] == 1


def test_the_papers_recipe_sees_the_same(tiny_causal_space: Space) -> None:
    inputs, about = prompts(32, 5)
    settings: dict[str, Any] = {"recipe": "paper", "steps": 40, "learning_rate": 2e-3, "bfloat16": False}
    more = {"space": tiny_causal_space, **settings}
    task = make_spec(Examples(inputs, written(about), FREE), **more)
    again, about_again = prompts(32, 6)
    good, bad = (make_spec(Examples(again), FREE, predictions=written(about_again, seed), **more) for seed in (None, 7))
    assert similarity(task, good)[1] > similarity(task, bad)[1]
    assert task.settings["steps"] == 40
    assert task.p_value is None


# --- what cannot be specified --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", "", "b", "c"], "wrote nothing for prompt 2 .*1 of 4"),
        (["a"] * 4, "the same for every prompt"),
        (["a", "b", "c"], "expected 4 texts"),
        ([1, 2, 3, 4], "expected 4 texts"),
    ],
)
def test_models_that_write_nothing_of_use(tiny_causal_space: Space, texts: list[Any], message: str) -> None:
    inputs, _ = prompts(4)
    with pytest.raises(ModelError, match=message):
        make_spec(Examples(inputs), FREE, space=tiny_causal_space, predictions=np.array(texts, object))


def test_tasks_that_are_none(tiny_causal_space: Space, tiny_space: Space) -> None:
    inputs, about = prompts(8)
    with pytest.raises(DataError, match="all 8 completions are the same"):
        make_spec(Examples(inputs, np.array(["x"] * 8, object), FREE), space=tiny_causal_space)
    with pytest.raises(DataError, match="3 examples are too few"):
        make_spec(Examples(inputs[:3], written(about)[:3], FREE), space=tiny_causal_space)
    with pytest.raises(UsageError, match="completions need a space of generation"):
        make_spec(Examples(inputs, written(about), FREE), space=tiny_space)
    with pytest.raises(UsageError, match='head "means" does not belong'):
        make_spec(Examples(inputs, written(about), FREE), space=tiny_causal_space, head="means")
    regression = Schema("regression", (), (), "pearson")
    with pytest.raises(UsageError, match="a regression has none"):
        make_spec(Examples(inputs, np.arange(8.0), regression), space=tiny_causal_space)
