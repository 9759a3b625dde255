"""The bench: its shortcut gives the numbers of ``make_spec``, nobody's examples overlap, and a real run is in order.

The real runs take the folder of tasks that LEARNDOCK_TASKS names (``make soak-tests`` makes one of the tour's data).
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock import Space, make_spec, similarity
from learndock.bench.cache import Cache
from learndock.bench.compare import Comparison, Outcome
from learndock.bench.learners import degrade
from learndock.bench.responses import Answering, Responses, respond
from learndock.bench.size import QUALITIES, QUICK
from learndock.bench.tasks import Task, load_tasks, split
from learndock.data import Examples, Schema
from learndock.errors import DataError
from tests.support.tiny import WORDS

SCHEMA = Schema("classification", ("bad", "good"), ("a bad film", "a good film"), "accuracy")
#: The least that still tells right from wrong: every experiment runs, none of its numbers is worth quoting.
LEAST = replace(
    QUICK, tasks=2, shots=8, pool_shots=8, fit=64, spec=24, test=32, cross_test=16, qualities=("good", "corrupted")
)
THREE = Schema("classification", ("a", "b", "c"), ("the day", "the night", "the rain"), "accuracy")


def texts(n: int, schema: Schema, seed: int = 0) -> Examples:
    generator = np.random.Generator(np.random.Philox(key=seed))
    inputs = [" ".join(generator.choice(WORDS, 6)) for _ in range(n)]
    return Examples(inputs, generator.integers(0, schema.classes, n), schema)


@pytest.mark.parametrize("schema", [SCHEMA, THREE, Schema("regression", ("0", "5"), ("cold", "hot"), "pearson")])
def test_a_spec_from_responses_is_the_spec_that_make_spec_makes(
    tiny_space: Space, tmp_path: Path, schema: Schema
) -> None:
    examples = texts(40, THREE)
    told = respond(Cache(tmp_path), tiny_space, schema, examples)
    assert examples.targets is not None
    targets: np.ndarray = examples.targets if schema.type == "regression" or schema is THREE else examples.targets % 2
    direct = make_spec(replace(examples, targets=targets.astype(float) if schema.type == "regression" else targets),
                       schema, space=tiny_space)  # fmt: skip
    short = told.spec(tiny_space, "task", schema, targets)
    assert similarity(direct, short) == pytest.approx((1, 1), abs=1e-5)
    assert short.reliability == pytest.approx(direct.reliability, abs=1e-4)
    assert short.p_value == pytest.approx(direct.p_value, abs=0.01)


def sketches(told: Answering) -> np.ndarray:
    """Of texts read with descriptions; other responses have none."""
    assert isinstance(told, Responses)
    return np.asarray(told.sketches)


def test_responses_are_read_back_and_depend_on_the_inputs(tiny_space: Space, tmp_path: Path) -> None:
    cache, one = Cache(tmp_path), texts(8, SCHEMA)
    first = sketches(respond(cache, tiny_space, SCHEMA, one))
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert np.array_equal(sketches(respond(cache, tiny_space, SCHEMA, one)), first)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == stamps
    assert not np.array_equal(sketches(respond(cache, tiny_space, SCHEMA, texts(8, SCHEMA, 1))), first)


def test_user_owner_and_test_never_overlap() -> None:
    train = Examples([f"text {i}" for i in range(300)], np.arange(300) % 3, THREE)
    found = split("t", THREE, train, train.take(range(20)), QUICK, family="t")
    user, fit, spec = (set(p.inputs) for p in (found.user, found.fit, found.spec))
    assert not user & fit
    assert not user & spec
    assert not fit & spec
    assert len(user) == 3 * QUICK.pool_shots


def test_little_data_is_still_shared_out() -> None:
    train = Examples([f"text {i}" for i in range(30)], np.arange(30) % 2, SCHEMA)
    found = split("t", SCHEMA, train, train, QUICK, family="t")
    assert len(found.user) == 10
    assert len(found.fit) == len(found.spec) == 10


@pytest.mark.parametrize("quality", QUALITIES)
def test_degraded_data_keeps_every_label(quality: str) -> None:
    train = Examples([f"text {i}" for i in range(200)], (np.arange(200) == 7).astype(np.int64), SCHEMA)
    found = degrade(quality, train, 0)
    assert found.targets is not None
    assert len(found) == (17 if quality == "little" else 200)
    if quality != "noisy60":
        assert set(found.targets) == {0, 1}


def test_a_folder_without_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no tasks\.json"):
        load_tasks(tmp_path, QUICK)
    (tmp_path / "tasks.json").write_text(json.dumps({"x": SCHEMA.to_dict()}))
    with pytest.raises(DataError, match=r"x\.train"):
        load_tasks(tmp_path, QUICK)


def test_gap_closed_is_between_random_and_oracle() -> None:
    def outcome(score: float) -> Outcome:
        return Outcome("t", 0, score, best=0.9, mean=0.5, own=1.0, seconds=0.0, chosen="x")

    found = Comparison({"oracle": [outcome(0.9)], "one-pass": [outcome(0.8)], "random": [outcome(0.5)]}).summary()
    methods = found["methods"]
    assert [methods[n]["gap_closed"] for n in ("oracle", "one-pass", "random")] == pytest.approx([1, 0.75, 0])
    assert [methods[n]["mean_rank"] for n in ("oracle", "one-pass", "random")] == [1, 2, 3]
    assert methods["random"]["win_tie_loss"] == {"win": 1, "tie": 0, "loss": 0}
    assert methods["oracle"]["win_tie_loss"] == {"win": 0, "tie": 0, "loss": 1}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = os.environ.get("LEARNDOCK_TASKS")
    if not folder or not Path(folder, "tasks.json").is_file():
        pytest.skip("LEARNDOCK_TASKS names no folder of tasks; `make soak-tests` makes one of the tour's data")
    pytest.importorskip("statsmodels")
    from learndock.bench.run import bench_text

    out = tmp_path_factory.mktemp("bench")
    return bench_text(Path(folder), out, size=LEAST, report=lambda what, done, total: None), out


@pytest.mark.slow
def test_the_identified_one_is_better_than_chance(quick: tuple[dict[str, Any], Path]) -> None:
    methods = quick[0]["experiments"]["aligned"]["methods"]
    random, found, best = (methods[n]["mean_score"] for n in ("random", "one-pass", "oracle"))
    assert random + 0.02 < found <= best
    assert methods["one-pass"]["top1_own_dataset"] >= 2 / 3


@pytest.mark.slow
def test_every_experiment_leaves_its_table(quick: tuple[dict[str, Any], Path]) -> None:
    results, out = quick
    written = json.loads((out / "results.json").read_text())
    assert set(written["experiments"]) == set(results["experiments"]) >= {"aligned", "beyond", "quality", "semantics"}
    for name in written["experiments"]:
        with (out / f"{name}.csv").open() as file:
            assert len(list(csv.reader(file))) > 1, name
        assert f"(`{name}`)" in (out / "report.md").read_text()
    for keys in written["experiments"]["aligned"]["methods"].values():
        assert {"mean_score", "mean_rank", "gap_closed", "top1_own_dataset", "regret", "seconds_per_query",
                "win_tie_loss"} <= set(keys)  # fmt: skip


@pytest.mark.slow
def test_meanings_of_the_same_inputs(quick: tuple[dict[str, Any], Path]) -> None:
    methods = quick[0]["experiments"]["semantics"]["methods"]
    assert methods["behaviour"]["right_meaning_first"] > methods["domain"]["right_meaning_first"] + 0.2


def task_of(inputs: list[str]) -> Task:
    examples = Examples(inputs, np.arange(len(inputs)) % 2, SCHEMA)
    return Task("t", SCHEMA, examples, examples, examples, examples, "t", "t")


def test_meanings_that_hardly_occur_are_left_out() -> None:
    from learndock.bench.semantics import meanings

    names = [m.name for m in meanings(task_of(["one two", "three four five"] * 20))]
    assert names == ["t", "t: length"]
    names = [m.name for m in meanings(task_of(["one 2", "three four"] * 20))]
    assert names == ["t", "t: number"]
