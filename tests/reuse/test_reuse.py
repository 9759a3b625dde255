"""Predict, evaluate and tune a learnware."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import DataError, ModelError, UnsafeModel, UsageError
from learndock.package import Learnware, open_learnware, pack
from learndock.reuse import evaluate, finetune, predict, write_predictions
from learndock.reuse.evaluate import rename_labels
from tests.support import models

MOODS = Schema("classification", ("bad", "good"), ("bad", "good"), "macro_f1")
THREE = Schema("classification", ("low", "middle", "high"), ("l", "m", "h"), "accuracy")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("reuse")
    for name, folder in (
        ("onnx", models.write_onnx(place / "m-onnx")),
        ("sklearn", models.write_sklearn(place / "m-sklearn")),
    ):
        pack(
            folder,
            place / name,
            name=f"lab/{name}",
            schema=models.SENTIMENT,
            examples=models.sentiment(24),
            space=models.space(),
        )
    pack(
        models.write_onnx(place / "m-value", tail="value"), place / "value", name="lab/value", schema=models.SCALE,
        examples=models.sentiment(24), space=models.space(),
    )  # fmt: skip
    return place


@pytest.fixture
def learnware(place: Path) -> Learnware:
    return open_learnware(place / "onnx")


# --- predict -----------------------------------------------------------------------------------------------


def test_predictions_on_disk(learnware: Learnware, tmp_path: Path) -> None:
    inputs = ["good film", "bad film"]
    found = predict(learnware, inputs)
    write_predictions(tmp_path / "p.jsonl", learnware, inputs, found)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [(x["row"], x["prediction"]) for x in lines] == [(1, "positive"), (2, "negative")]
    assert set(lines[0]["probabilities"]) == {"negative", "positive"}
    assert sum(lines[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    write_predictions(tmp_path / "p.jsonl", learnware, inputs, found, rows=[7, 9])
    assert [json.loads(x)["row"] for x in (tmp_path / "p.jsonl").read_text().splitlines()] == [7, 9]


def test_values_on_disk(place: Path, tmp_path: Path) -> None:
    learnware = open_learnware(place / "value")
    found = predict(learnware, ["good", "bad"])
    write_predictions(tmp_path / "p.jsonl", learnware, ["good", "bad"], found)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [x["prediction"] for x in lines] == found.tolist()


def test_predictions_that_cannot_be_written(learnware: Learnware, tmp_path: Path) -> None:
    found = predict(learnware, ["good"])
    with pytest.raises(UsageError, match="2 inputs but 1 predictions"):
        write_predictions(tmp_path / "p.jsonl", learnware, ["a", "b"], found)
    with pytest.raises(UsageError, match="does not exist"):
        write_predictions(tmp_path / "no" / "p.jsonl", learnware, ["a"], found)
    assert list(tmp_path.iterdir()) == []


# --- evaluate ----------------------------------------------------------------------------------------------


def test_an_evaluation(learnware: Learnware) -> None:
    inputs = ["good", "good", "bad", "bad"]
    found = evaluate(learnware, Examples(inputs, np.array([1, 0, 0, 0])), models.SENTIMENT)
    assert (found.score, found.metric, found.n) == (0.75, "accuracy", 4)
    assert found.confusion is not None
    assert found.confusion.tolist() == [[2, 1], [0, 1]]
    assert found.counts == {"negative": 3, "positive": 1}
    assert found.recall == {"negative": pytest.approx(2 / 3), "positive": 1.0}


def test_labels_in_another_order_and_case(learnware: Learnware) -> None:
    turned = Schema("classification", ("Positive", "NEGATIVE"), ("g", "b"), "accuracy")
    found = evaluate(learnware, Examples(["good", "bad"], np.array([0, 1])), turned)
    assert found.score == 1.0
    none = evaluate(learnware, Examples(["good"], np.array([0])), turned)
    assert none.recall == {"Positive": 1.0, "NEGATIVE": None}


def test_other_labels_need_a_mapping(learnware: Learnware) -> None:
    examples = Examples(["good", "bad"], np.array([1, 0]))
    with pytest.raises(UsageError) as caught:
        evaluate(learnware, examples, MOODS)
    for words in ("negative, positive", "bad, good", "--map theirs=yours", "learndock finetune"):
        assert words in str(caught.value)
    found = evaluate(learnware, examples, MOODS, mapping={"Positive": "good", "negative": "bad"})
    assert (found.score, found.metric) == (1.0, "macro_f1")
    theirs = rename_labels(learnware.schema, {"Positive": "good", "negative": "bad"})
    assert (theirs.labels, theirs.metric) == (("bad", "good"), learnware.schema.metric)
    assert rename_labels(Schema("classification", ("a_b", "c"), ("x", "y"), "accuracy"), {"A b": "d"}).labels[0] == "d"
    renamed = Examples(["good", "bad"], np.array([1, 0]), theirs)
    assert evaluate(learnware, renamed, mapping={"Positive": "good", "negative": "bad"}).score == 1.0
    with pytest.raises(UsageError, match="--map names neutral"):
        evaluate(learnware, examples, MOODS, mapping={"neutral": "good"})
    with pytest.raises(UsageError, match="--map gives Negative two labels"):
        evaluate(learnware, examples, MOODS, mapping={"negative": "bad", "Negative": "good", "positive": "good"})
    with pytest.raises(UsageError, match="never answers good"):
        evaluate(learnware, examples, MOODS, mapping={"positive": "bad", "negative": "bad"})


def test_several_labels_may_become_one(place: Path, tmp_path: Path) -> None:
    inputs = ["film", "food", "day"] * 8
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(CountVectorizer(), LogisticRegression()).fit(inputs, inputs)
    topics = Schema("classification", ("film", "food", "day"), ("f", "m", "d"), "accuracy")
    pack(
        models.write_sklearn(tmp_path / "m", pipeline), tmp_path / "l", name="a/b", schema=topics,
        examples=Examples(inputs), space=models.space(),
    )  # fmt: skip
    wanted = Schema("classification", ("day", "other"), ("d", "o"), "accuracy")
    found = evaluate(
        open_learnware(tmp_path / "l"), Examples(["food", "film", "day"], np.array([1, 1, 0])), wanted,
        mapping={"film": "other", "food": "other"},
    )  # fmt: skip
    assert found.score == 1.0


def test_regression_and_wrong_types(place: Path, learnware: Learnware) -> None:
    inputs, targets = models.texts(20)
    found = evaluate(open_learnware(place / "value"), Examples(inputs, targets * 5.0), models.SCALE)
    assert found.score > 0.8
    assert found.confusion is None
    with pytest.raises(UsageError, match="does classification, the task is regression"):
        evaluate(learnware, Examples(inputs, targets * 5.0), models.SCALE)
    with pytest.raises(DataError, match="needs examples with labels"):
        evaluate(learnware, Examples(inputs), models.SENTIMENT)


# --- tune --------------------------------------------------------------------------------------------------


def test_tuning_makes_a_learnware_of_the_users_task(place: Path, tmp_path: Path) -> None:
    inputs = [f"the {w} day" for w in ("bad", "film", "good")] * 8
    examples = Examples(inputs, np.arange(24) % 3, THREE)
    seen: list[tuple[int, int]] = []
    manifest = finetune(
        open_learnware(place / "sklearn"), examples, tmp_path / "mine", name="me/levels", schema=THREE,
        space=models.space(),
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    found = open_learnware(tmp_path / "mine")
    assert found.manifest.digest == manifest.digest
    assert found.schema == THREE
    assert found.spec().kind == "model"
    assert "lab/sklearn, tuned further" in (tmp_path / "mine" / "README.md").read_text()
    assert evaluate(found, examples, THREE).score == 1.0
    assert seen
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_tuning_an_adapter_keeps_its_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNDOCK_BASES", str(tmp_path / "bases"))
    base = models.write_bert(tmp_path / "bases" / "bert")
    adapter = models.write_adapter(tmp_path / "adapter", base)
    first = pack(adapter, tmp_path / "l", name="lab/adapter", schema=models.SENTIMENT, examples=models.sentiment(16))
    second = finetune(
        open_learnware(tmp_path / "l"),
        models.sentiment(16),
        tmp_path / "mine",
        name="me/adapter",
        schema=models.SENTIMENT,
        space=models.space(),
    )
    assert second.base == first.manifest.base
    assert evaluate(open_learnware(tmp_path / "mine"), models.sentiment(16), models.SENTIMENT).n == 16


def test_tuning_that_is_refused_writes_nothing(place: Path, learnware: Learnware, tmp_path: Path) -> None:
    few = models.sentiment(8)
    with pytest.raises(ModelError, match="no gradients"):
        finetune(learnware, few, tmp_path / "out", name="me/x", schema=models.SENTIMENT)
    with pytest.raises(DataError, match="needs examples with labels"):
        finetune(learnware, Examples(["a"]), tmp_path / "out", name="me/x", schema=models.SENTIMENT)
    with pytest.raises(UsageError, match="make it first"):
        finetune(learnware, few, tmp_path / "no" / "out", name="me/x", schema=models.SENTIMENT)
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="exists"):
        finetune(learnware, few, tmp_path / "taken", name="me/x", schema=models.SENTIMENT)
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_a_poisoned_learnware_is_not_tuned(place: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(place / "sklearn", tmp_path / "l"))
    learnware = open_learnware(folder)
    (folder / "model.skops").write_bytes(models.payload(tmp_path / "canary"))
    with pytest.raises((UnsafeModel, ModelError)):
        finetune(learnware, models.sentiment(8), tmp_path / "out", name="me/x", schema=models.SENTIMENT)
    with pytest.raises((UnsafeModel, ModelError)):
        predict(learnware, ["good"])
    assert not (tmp_path / "canary").exists()
    assert not (tmp_path / "out").exists()
