"""Which column is which label: names decide, or the owner does; positions never do in silence."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.data.schema import Schema
from learndock.errors import DataError, ModelError, UsageError
from learndock.package import open_learnware, pack
from learndock.package.columns import Columns, names_beside, names_in, placeholders, settle_columns
from learndock.package.judge import better_order, check_expected, judge
from tests.support import models


def schema_of(*labels: str) -> Schema:
    return Schema("classification", labels, labels, "accuracy")


@pytest.mark.parametrize(
    ("names", "labels", "order"),
    [
        (["negative", "positive"], ["negative", "positive"], [0, 1]),
        (["POSITIVE", "Negative "], ["negative", "positive"], [1, 0]),
        (["not_spam", "Spam"], ["spam", "Not spam"], [1, 0]),
        (["Sci/Tech", "world-news"], ["World News", "sci tech"], [1, 0]),
        (["STRASSE", "weg"], ["Weg", "straße"], [1, 0]),
        (["\N{FULLWIDTH LATIN CAPITAL LETTER A}", "b"], ["B", "a"], [1, 0]),
        (["1", "0"], ["0", "1"], [1, 0]),
        (["1.0", "2.0"], ["2", "1"], [1, 0]),
        (["-1", "1"], ["1", "-1"], [1, 0]),
        (["C", "C++"], ["c++", "c"], [1, 0]),
        (["\N{THUMBS UP SIGN}", "\N{THUMBS DOWN SIGN}"], ["\N{THUMBS DOWN SIGN}", "\N{THUMBS UP SIGN}"], [1, 0]),
        (["LABEL_0", "LABEL_1"], ["1", "0"], [1, 0]),
        (["LABEL_0", "LABEL_1"], ["LABEL_1", "LABEL_0"], [1, 0]),
    ],
)
def test_names_that_match(names: list[str], labels: list[str], order: list[int]) -> None:
    found = settle_columns(names, schema_of(*labels), where="x")
    assert (list(found.order), found.by) == (order, "names")


@pytest.mark.parametrize(
    ("names", "labels", "words"),
    [
        (["SPAM", "NOT_SPAM"], ["ham", "spam"], 'only SPAM of.*is a label.*--map "NOT_SPAM=ham"'),
        (["LABEL_0", "LABEL_1"], ["no", "yes"], "do not name its columns.*--in-order"),
        (["LABEL_0", "LABEL_1"], ["1", "2"], "do not name its columns"),
        (["World", "Sport"], ["world", "sports"], "only World of"),
        (["1", "-1"], ["1", "0"], "only 1 of"),
        (["a", "b"], ["x", "y"], "no column name of the model is a label.*columns: a, b.*labels: x, y"),
        (["good", "GOOD"], ["good", "bad"], "only good, GOOD of"),
        (["0", "1"], ["no", "yes"], "no column name"),
        (["C++", "Java"], ["C#", "java"], "only Java of"),
        ([">50K", "unknown"], ["<=50K", "unknown"], "only unknown of"),
        (["AB+", "0"], ["AB-", "0"], "only 0 of"),
        (["A-", "B"], ["A", "B"], "only B of"),
    ],
)
def test_names_that_do_not_match(names: list[str], labels: list[str], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        settle_columns(names, schema_of(*labels), where="x")


@pytest.mark.parametrize(
    ("names", "mapping", "order"),
    [
        (["SPAM", "NOT_SPAM"], {"NOT_SPAM": "ham"}, [1, 0]),
        (["SPAM", "NOT_SPAM"], {"not spam": "Ham", "spam": "spam"}, [1, 0]),
        (["LABEL_0", "LABEL_1"], {"LABEL_0": "spam", "LABEL_1": "ham"}, [1, 0]),
        (["LABEL_0", "LABEL_1"], {"0": "spam", "1": "ham"}, [1, 0]),
        (["ham", "spam"], {"ham": "spam", "spam": "ham"}, [1, 0]),
    ],
)
def test_the_owner_decides(names: list[str], mapping: dict[str, str], order: list[int]) -> None:
    found = settle_columns(names, schema_of("ham", "spam"), mapping=mapping, where="x")
    assert (list(found.order), found.by) == (order, "map")


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"x": "ham"}, "x is not a column of the model"),
        ({"LABEL_0": "eggs"}, "eggs is not a label of the task"),
        ({"LABEL_0": "ham"}, "says nothing about LABEL_1"),
        ({"LABEL_0": "ham", "LABEL_1": "ham"}, "mapped twice"),
        ({"LABEL_0": "ham", "0": "spam"}, "mapped twice"),
        ({"7": "ham"}, "7 is not a column"),
    ],
)
def test_mappings_that_do_not_fit(mapping: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        settle_columns(placeholders(2), schema_of("ham", "spam"), mapping=mapping, where="x")


def test_the_order_of_the_schema_counts_only_where_names_say_nothing() -> None:
    assert settle_columns(placeholders(2), schema_of("no", "yes"), in_order=True, where="x").by == "order"
    found = settle_columns(["yes", "no"], schema_of("no", "yes"), in_order=True, where="x")
    assert (found.order, found.by) == ((1, 0), "names")
    assert found.pairs(schema_of("no", "yes")) == ((0, "yes", "yes"), (1, "no", "no"))


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"id2label": {"0": "a", "1": "b"}}, ["a", "b"]),
        ({"id2label": {"1": "b", "0": "a", "10": "k"} | {str(i): str(i) for i in range(2, 10)}},
         ["a", "b", *map(str, range(2, 10)), "k"]),
        ({"id2label": ["a", "b"]}, ["a", "b"]),
        ({"label2id": {"b": 1, "a": 0}}, ["a", "b"]),
        ({"label2id": {"b": "1", "a": "0"}}, ["a", "b"]),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"pos": 0, "neg": 1}}, ["pos", "neg"]),
        ({"id2label": {"0": "a", "1": "b"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}, ["a", "b"]),
        ({"id2label": {"0": "A", "1": "B"}, "label2id": {"a": 0, "b": 1}}, ["A", "B"]),
        ({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0}}, ["a", "b"]),
        ({"id2label": {"0": 0, "1": 1}}, ["0", "1"]),
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ({}, ["LABEL_0", "LABEL_1"]),
    ],
)  # fmt: skip
def test_names_in_a_configuration(config: dict[str, Any], names: list[str]) -> None:
    assert names_in(config, where="config.json") == names


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 1, "b": 0}}, "contradict each other"),
        ({"id2label": {"a": "0", "b": "1"}}, "id2label must name"),
        ({"label2id": {"a": "first", "b": "second"}}, "label2id must give the number"),
    ],
)
def test_names_that_contradict_each_other(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        names_in(config, where="config.json")


# --- packing -----------------------------------------------------------------------------------------------


def packed(model: Path, out: Path, labels: Sequence[str] = models.SENTIMENT.labels, **change: Any) -> Any:
    schema = schema_of(*labels)
    return pack(model, out, name="a/b", schema=schema, examples=models.sentiment(24), space=models.space(), **change)


def test_pack_says_which_column_is_which_label(tmp_path: Path) -> None:
    folder = models.write_onnx(tmp_path / "m", labels=("positive", "negative"))
    found = packed(folder, tmp_path / "out", ["Negative", "POSITIVE"])
    assert found.columns == Columns(("positive", "negative"), (1, 0), "names")
    assert found.manifest.settings["columns"] == [1, 0]
    assert (found.score, found.remarks) == (1.0, ())
    assert found.folder == tmp_path / "out"
    assert open_learnware(tmp_path / "out").spec().space_id == found.spec.space_id
    with pytest.raises(ModelError, match="only negative of the model's column names is a label"):
        packed(folder, tmp_path / "other", ["negative", "good"])
    assert packed(folder, tmp_path / "other", ["negative", "good"], mapping={"positive": "good"}).score == 1.0
    with pytest.raises(ModelError, match="answered otherwise here than by your own program"):
        packed(folder, tmp_path / "third", expected=["positive"] * 24)
    assert not (tmp_path / "third").exists()


def test_a_file_beside_the_model_names_its_columns(tmp_path: Path) -> None:
    folder = models.write_onnx(tmp_path / "m", labels=("positive", "negative"))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="do not name its columns"):
        packed(folder, tmp_path / "out")
    (folder / "labels.json").write_text(json.dumps(["positive", "negative"]))
    found = packed(folder, tmp_path / "out")
    assert (found.columns.order, found.score) == ((1, 0), 1.0)
    assert open_learnware(tmp_path / "out").load().predict(["good", "bad"]).argmax(axis=1).tolist() == [1, 0]
    for wrong in ("{}", "[]", '["a", "a"]', "[1, 2]"):
        (folder / "labels.json").write_text(wrong)
        with pytest.raises(ModelError, match="different names, one per column"):
            names_beside(folder)


def test_a_wrong_order_is_said(tmp_path: Path) -> None:
    folder = models.write_onnx(tmp_path / "m")
    found = packed(folder, tmp_path / "out", mapping={"negative": "positive", "positive": "negative"})
    assert found.score == 0.0
    assert len(found.remarks) == 1
    assert "100% of your examples would be right instead of 0% (reading negative as positive" in found.remarks[0]
    assert "--map" in found.remarks[0]


# --- the owner's own labels ------------------------------------------------------------------------------------


def test_a_better_order_is_the_best_of_all() -> None:
    """Against every permutation, by brute force."""
    random = np.random.default_rng(0)
    for classes in (2, 3, 5):
        for _ in range(10):
            targets = random.integers(0, classes, 80)
            turned = random.permutation(classes)
            answers = np.where(random.random(80) < 0.8, turned[targets], random.integers(0, classes, 80))
            best = max((np.array(p)[answers] == targets).mean() for p in itertools.permutations(range(classes)))
            found = better_order(answers, targets, classes)
            if found is None:
                assert best - (answers == targets).mean() < 0.5
            else:
                assert found[1] == pytest.approx(best)
                assert (np.array(found[2])[answers] == targets).mean() == pytest.approx(best)


def test_no_order_is_proposed_to_a_guess() -> None:
    """The best of many orders fits any guess: it must hold on examples that it was not chosen by."""
    random = np.random.default_rng(1)
    proposed = [better_order(random.integers(0, 8, 64), random.integers(0, 8, 64), 8) for _ in range(200)]
    assert sum(p is not None for p in proposed) <= 2


def test_chance_is_said_and_a_good_model_is_left_alone() -> None:
    random = np.random.default_rng(2)
    three = schema_of("a", "b", "c")
    targets = np.arange(90) % 3
    good = np.eye(3)[targets] * 0.8 + 0.1
    assert judge(three, good, targets, None).remarks == ()
    remarks = judge(three, np.eye(3)[random.integers(0, 3, 90)], targets, None).remarks
    assert "no better than chance" in remarks[0]
    always = judge(three, np.eye(3)[np.zeros(90, int)], targets, None)
    assert "no better than chance (mean recall 0.33" in always.remarks[0]
    assert judge(three, good, None, None).score is None


def test_values_that_do_not_follow_the_labels() -> None:
    scale = Schema("regression", (), (), "pearson")
    targets = np.linspace(0, 1, 40)
    assert judge(scale, targets * 0.9, targets, None).remarks == ()
    assert "do not rise with the labels" in judge(scale, -targets, targets, None).remarks[0]
    logits = judge(scale, targets * 8 - 4, targets, None).remarks
    assert len(logits) == 1
    assert "trained with a sigmoid" in logits[0]


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (["negative", "positive"] * 12, None),
        (["NEGATIVE", "Positive"] * 12, None),
        ([[1.0, 0.0], [0.0, 1.0]] * 12, None),
        ([{"positive": 0.0, "negative": 1.0}, {"positive": 1.0, "negative": 0.0}] * 12, None),
        (["negative", "positive"] * 11 + ["positive"] * 2, "1 of 24 inputs are answered otherwise.*input 23: negative"),
        ([[0.9, 0.1], [0.0, 1.0]] * 12, "12 of 24 inputs are answered otherwise"),
        (["negative"] * 5, "5 expected answers for 24 inputs"),
        (["neg", "pos"] * 12, "'neg' is not a label of the task"),
        ([[1.0]] * 24, "give 2 numbers per input"),
    ],
)
def test_what_the_owners_program_answers(expected: list[Any], words: str | None) -> None:
    predictions = np.tile(np.eye(2), (12, 1))
    if words is None:
        check_expected(models.SENTIMENT, predictions, expected)
    else:
        with pytest.raises((ModelError, DataError), match=words):
            check_expected(models.SENTIMENT, predictions, expected)


def test_expected_values() -> None:
    scale = Schema("regression", (), (), "pearson")
    check_expected(scale, np.array([1.0, 1_000.0]), [1.0005, 1_000.5])
    with pytest.raises(ModelError, match="1 of 2 inputs are answered otherwise"):
        check_expected(scale, np.array([1.0, 2.0]), [1, 2.1])
    with pytest.raises(DataError, match="not a number"):
        check_expected(scale, np.array([1.0]), ["1"])
