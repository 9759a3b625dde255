"""Predictions on disk: the suffix decides the format, and the input's own columns are kept."""

from __future__ import annotations

import csv
import datetime
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from learndock.data import Schema, read_examples
from learndock.errors import MissingExtra, UsageError
from learndock.package import Learnware
from learndock.reuse.answers import check_suffix, write_predictions

LABELS = Schema("classification", ("negative", "positive"), ("bad", "good"), "accuracy")
FOUND = np.array([[0.25, 0.75], [0.875, 0.125]])


class Packed:
    """What the writer asks of a learnware: its schema."""

    schema = LABELS


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text('id,text,label\n007,"good, very",positive\n,bad,negative\n', encoding="utf-8")
    return path


def write(source: Path, out: Path, predictions: np.ndarray = FOUND) -> Path:
    examples = read_examples(source, labels=False)
    learnware: Learnware = Packed()  # type: ignore[assignment]
    write_predictions(out, learnware, examples.inputs, predictions, rows=examples.rows, source=source)
    return out


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t"), (".CSV", ",")])
def test_tables_keep_the_columns_of_the_input(source: Path, tmp_path: Path, suffix: str, separator: str) -> None:
    with write(source, tmp_path / f"out{suffix}").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter=separator))
    assert rows == [
        {"id": "007", "text": "good, very", "label": "positive", "prediction": "positive",
         "probability_negative": "0.25", "probability_positive": "0.75"},
        {"id": "", "text": "bad", "label": "negative", "prediction": "negative",
         "probability_negative": "0.875", "probability_positive": "0.125"},
    ]  # fmt: skip


def test_a_workbook_keeps_its_columns_though_some_cells_hold_no_value(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [("day", "text", "sum"), (datetime.date(2024, 1, 2), "good", "=1+1"), (None, "bad", 2)]:
        book.active.append(row)
    book.active.merge_cells("A2:A3")
    book.save(tmp_path / "mine.xlsx")
    with write(tmp_path / "mine.xlsx", tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["day"], r["text"], r["sum"], r["prediction"]) for r in rows] == [
        ("", "good", "", "positive"),
        ("", "bad", "2", "negative"),
    ]


def test_json_lines_keep_probabilities_in_one_object(source: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in write(source, tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[1] == {
        "id": "",
        "text": "bad",
        "label": "negative",
        "prediction": "negative",
        "probabilities": {"negative": 0.875, "positive": 0.125},
    }


def test_parquet(source: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="reads parquet")
    table = parquet.read_table(write(source, tmp_path / "out.parquet")).to_pydict()
    assert table["id"] == ["007", ""]
    assert table["prediction"] == ["positive", "negative"]
    assert table["probability_positive"] == [0.75, 0.125]


def test_a_column_of_the_input_is_never_replaced(tmp_path: Path) -> None:
    source = tmp_path / "mine.jsonl"
    source.write_text('{"text": "a", "prediction": "mine"}\n{"text": "b", "prediction": {"x": [1]}}\n')
    lines = [json.loads(line) for line in write(source, tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(x["prediction"], x["prediction_"]) for x in lines] == [("mine", "positive"), ({"x": [1]}, "negative")]


def test_parquet_without_pyarrow_is_refused_before_the_model_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "pyarrow" else find(name, *more)
    )
    with pytest.raises(MissingExtra, match=r"write \.csv or \.jsonl"):
        check_suffix(tmp_path / "out.parquet")
    assert check_suffix(tmp_path / "out.csv") == tmp_path / "out.csv"


@pytest.mark.parametrize("name", ["out.xlsx", "out", "out.csv.gz", "out.json"])
def test_other_suffixes_are_refused_and_nothing_is_written(source: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"end the name in \.csv"):
        write(source, tmp_path / name)
    assert not (tmp_path / name).exists()
