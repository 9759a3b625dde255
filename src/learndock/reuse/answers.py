"""Write a model's predictions to a file, beside the columns of the inputs: csv, tsv, jsonl or parquet by its suffix."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.open_table import open_table
from learndock.data.options import ReadOptions
from learndock.data.schema import Schema
from learndock.errors import MissingExtra, UsageError
from learndock.files import atomic_write
from learndock.package.learnware import Learnware

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
#: Name of the column that holds the answer, and the start of those that hold the probability of a label.
ANSWER, PROBABILITY = "prediction", "probability_"
_DIGITS = 6


def check_suffix(path: str | Path) -> Path:
    """Return ``path`` if predictions can be written under its suffix: known before a model runs for minutes.

    Raises:
        UsageError: they cannot.
        MissingExtra: parquet, and pyarrow is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f'predictions are not written as "{path.suffix}"',
            remedy=f"end the name in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}",
            about=path,
        )
    if path.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingExtra(
            "parquet needs pyarrow", remedy='pip install "learndock[parquet]", or write .csv or .jsonl', about=path
        )
    return path


def write_predictions(
    path: str | Path,
    learnware: Learnware,
    inputs: Sequence[Input],
    predictions: NDArray[Any],
    *,
    rows: Sequence[int] = (),
    source: str | Path | None = None,
    options: ReadOptions | None = None,
) -> None:
    """Write one row per input: the columns of ``source``, the prediction, and the probability of each label.

    ``predictions`` are those of ``predict``: ``(n, classes)``, ``(n,)`` values or ``(n,)`` texts. ``source`` is the
    file that the inputs were read from (with ``options``), and ``rows`` are their row numbers in it (else 1 to n).
    Without a ``source`` the only column beside the prediction is ``row``. JSON lines keep the probabilities in one
    object, the other formats in one column per label. Cells of bytes (images) are left out. The file appears
    complete, or not at all.

    Raises:
        UsageError: inputs and predictions differ in number, the folder does not exist, or the suffix is another.
        DataError: ``source`` cannot be read again.
        MissingExtra: parquet, and pyarrow is not installed.
        StorageFull: the disk is full.

    Example:
        >>> learnware, texts = learndock.open_learnware("learnware"), ["a fine film", "what a waste of time"]
        >>> learndock.write_predictions("out.csv", learnware, texts, learndock.predict(learnware, texts))
        >>> print(pathlib.Path("out.csv").read_text().splitlines()[0])
        row,prediction,probability_negative,probability_positive
    """
    path = check_suffix(path)
    if len(inputs) != len(predictions) or (rows and len(rows) != len(inputs)):
        raise UsageError(f"{len(inputs)} inputs but {len(predictions)} predictions")
    if not path.parent.is_dir():
        raise UsageError(f"its folder {path.parent} does not exist", remedy="make it first", about=path)
    numbers = list(rows) or list(range(1, len(inputs) + 1))
    own = [{"row": int(n)} for n in numbers] if source is None else own_cells(source, numbers, options)
    suffix = path.suffix.lower()
    with atomic_write(path) as stream:
        if suffix == ".jsonl":
            for cells, found in zip(own, predictions, strict=True):
                line = {**cells, **_free(cells, answer(learnware.schema, found))}
                stream.write((json.dumps(line, ensure_ascii=False, default=str) + "\n").encode())
            return
        table = [{**cells, **_free(cells, flat_answer(learnware.schema, found))}
                 for cells, found in zip(own, predictions, strict=True)]  # fmt: skip
        if suffix == ".parquet":
            _write_parquet(stream, table)
        else:
            _write_separated(stream, table, "," if suffix == ".csv" else "\t")


def own_cells(source: str | Path, rows: Sequence[int], options: ReadOptions | None = None) -> list[dict[str, Any]]:
    """The cells of ``rows`` of a table, without those that hold bytes.

    Raises:
        DataError: the table cannot be read, or has fewer rows.
    """
    table, wanted = open_table(source, options), set(rows)
    found = {r.number: _readable(r.cells) for r in table.rows(table.columns) if r.number in wanted}
    return [found[n] for n in rows]


def answer(schema: Schema, prediction: Any) -> dict[str, Any]:
    """One prediction for people and JSON: ``prediction``, and ``probabilities`` by label where there are classes."""
    if schema.type == "regression":
        return {ANSWER: float(prediction)}
    if schema.type == "generation":
        return {ANSWER: str(prediction)}
    probabilities = {label: round(float(p), _DIGITS) for label, p in zip(schema.labels, prediction, strict=True)}
    return {ANSWER: schema.labels[int(np.argmax(prediction))], "probabilities": probabilities}


def flat_answer(schema: Schema, prediction: Any) -> dict[str, Any]:
    """One prediction as cells of a table: a column per label holds its probability."""
    found = answer(schema, prediction)
    probabilities = found.pop("probabilities", {})
    return {**found, **{f"{PROBABILITY}{label}": p for label, p in probabilities.items()}}


def _free(cells: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """``found`` under names that the input's own columns do not have."""
    renamed = {}
    for name, value in found.items():
        while name in cells:
            name += "_"
        renamed[name] = value
    return renamed


def _readable(cells: Mapping[str, Any]) -> dict[str, Any]:
    def bytes_in(value: Any) -> bool:
        return isinstance(value, bytes) or (isinstance(value, dict) and any(map(bytes_in, value.values())))

    return {name: value for name, value in cells.items() if not bytes_in(value)}


def _columns(table: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in table for name in row))


def _write_separated(stream: IO[bytes], table: Sequence[Mapping[str, Any]], separator: str) -> None:
    columns = _columns(table)
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in table)
    text.flush()
    text.detach()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else value


def _write_parquet(stream: IO[bytes], table: Sequence[Mapping[str, Any]]) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra(
            "parquet needs pyarrow", remedy='pip install "learndock[parquet]", or write .csv or .jsonl'
        ) from None
    columns: Iterator[tuple[str, list[Any]]] = ((name, [row.get(name) for row in table]) for name in _columns(table))
    parquet.write_table(pyarrow.table(dict(columns)), stream)
