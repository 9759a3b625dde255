"""From full fine-tuning to a sketch, and the papers' recipe beside the default: what is compared is what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from learndock import Space, make_spec
from learndock.bench.cache import Cache
from learndock.bench.forms import FORMS, descent, directions_of, forms
from learndock.bench.learners import Features
from learndock.bench.pool import Bench, build, logistic
from learndock.bench.recipes import recipes
from learndock.bench.size import QUICK
from learndock.bench.tasks import split
from learndock.data import Examples, Schema
from tests.support.tiny import WORDS

pytest.importorskip("sklearn")
pytest.importorskip("torch")

SCHEMA = Schema("classification", ("a", "b", "c"), ("the day", "the night", "the rain"), "accuracy")
VALUES = Schema("regression", ("0", "5"), ("cold", "hot"), "pearson")
SIZE = replace(QUICK, shots=8, pool_shots=16, fit=60, spec=24, test=30, cross_test=20, qualities=("good", "corrupted"))


def texts(n: int, schema: Schema, seed: int) -> Examples:
    generator = np.random.Generator(np.random.Philox(key=seed))
    targets = generator.integers(0, 3, n)
    inputs = [" ".join([*generator.choice(WORDS, 5), WORDS[t], WORDS[t]]) for t in targets]
    return Examples(inputs, targets.astype(float) if schema is VALUES else targets, schema)


@pytest.fixture(scope="module")
def bench(tiny_space: Space, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    tasks = [split(name, schema, texts(200, schema, seed), texts(30, schema, seed + 9), SIZE, family=name)
             for seed, (name, schema) in enumerate([("labels", SCHEMA), ("values", VALUES)])]  # fmt: skip
    features = Features(tiny_space)
    folder = tmp_path_factory.mktemp("forms")
    kinds = {"logistic": logistic(features)}
    return build(tiny_space, tasks, SIZE, Cache(folder), kinds, features, lambda *_: None)


@pytest.mark.parametrize("task", ["labels", "values"])
def test_b_of_the_descent_is_the_parameter_vector_of_the_spec(bench: Bench, task: str) -> None:
    from learndock.spaces.authoring.torch_helper import space_torch_helper

    helper, owner = space_torch_helper(bench.space), bench.tasks[task].spec
    assert owner.targets is not None
    found = descent(helper, owner.inputs, directions_of(bench, bench.tasks[task].schema, owner.targets))
    spec = make_spec(owner, bench.tasks[task].schema, space=bench.space, full=True)
    assert spec.vector is not None
    assert cosine(found["B"], spec.vector) > 0.9999
    assert found["B"].size == bench.space.size
    assert found["all weights"].size > found["target layers"].size == found["B A"].size > found["B"].size
    assert not any(p.requires_grad for p in helper.model.parameters())


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(float), other.astype(float)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_the_table_goes_from_all_weights_to_the_sketch(bench: Bench) -> None:
    found = forms(bench, lambda *_: None)
    assert [r[0] for r in found.rows] == list(FORMS)
    told = found.result["methods"]
    assert told["all weights"]["correlation"] == pytest.approx(1)
    assert told["B"]["correlation"] > 0.5
    assert told["sketch"]["bytes"] < told["B"]["bytes"] * 16
    stamps = {p: p.stat().st_mtime_ns for p in Path(bench.cache.folder).glob("forms-*")}
    assert len(stamps) == 1
    forms(bench, lambda *_: None)
    assert {p: p.stat().st_mtime_ns for p in Path(bench.cache.folder).glob("forms-*")} == stamps


def test_the_papers_recipe_stands_beside_the_default_one(bench: Bench) -> None:
    sized = replace(bench, size=replace(SIZE, paper_tasks=2, paper_steps=3))
    found = recipes(sized, lambda *_: None)
    told = found.result["methods"]
    assert "2 tasks (labels, values), 4 learnwares, 3 steps; draws of the user: 1" in str(found.note)
    assert told["oracle"]["gap_closed"] == 1.0
    for name in ("one-pass", "one-pass, behaviour alone", "paper, behaviour alone (as published)", "paper with domain"):
        assert told[name]["gap_closed"] <= 1.0
        assert told[name]["seconds_task_spec"] > 0
    # Seconds of the paper's recipe are those of when it ran; ours are measured now
    again = recipes(sized, lambda *_: None).result["methods"]
    assert again["paper with domain"]["seconds_model_spec"] == told["paper with domain"]["seconds_model_spec"]
    assert len(list(Path(bench.cache.folder).glob("paper-*"))) == 2 + 4
