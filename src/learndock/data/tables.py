"""What every reader of files returns: a table of raw rows.

Nothing is converted here: a csv cell stays text, a JSON number stays a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ACCEPTED = (
    ".csv, .tsv, .jsonl, each also with .gz; .json, .xlsx, .parquet; a folder written by datasets' save_to_disk; "
    "or a folder of images, by class"
)


class Row(NamedTuple):
    """One row: its 1-based number (header not counted), its 1-based line if it has one, its cells by column.

    A column that the row does not have is not in ``cells``; a cell without a value is None.
    """

    number: int
    line: int | None
    cells: Mapping[str, object]

    @property
    def place(self) -> str:
        """Where a person finds the row."""
        return f"row {self.number}" + ("" if self.line is None else f" (line {self.line})")


@dataclass(frozen=True)
class Unusable:
    """A cell whose value the file does not hold, such as a formula that was never computed; ``why`` says what to do.

    It matters only where the cell is an input or a label, whose readers refuse it. In a table of results it is empty.
    """

    why: str

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True)
class Table:
    """A file of rows, read from the start by each iteration, and only as far as it goes.

    ``columns`` are the header's names (jsonl: the keys of the first row). ``rows(names)`` reads from the
    start; readers of column stores read those columns alone. Paths in cells are relative to ``folder``.
    ``class_names`` holds the names behind the integers of a column, where the file knows them.

    ``remarks`` are what a person should know about how the file was read; some are known after reading only.

    ``rows`` raises DataError that names the row where the file is damaged.
    """

    path: Path
    columns: tuple[str, ...]
    rows: Callable[[Sequence[str]], Iterator[Row]]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder that contains the table, or is the table."""
        return self.path if self.path.is_dir() else self.path.parent


def skipped(rows: Sequence[int], thing: str, things: str | None = None) -> str:
    """A remark on rows that were left out."""
    return f"{counted(rows, thing, things)} left out"


def counted(rows: Sequence[int], thing: str, things: str | None = None) -> str:
    """How many rows, and where the first is."""
    return f"{len(rows):,} {thing if len(rows) == 1 else things or thing + 's'} (the first in row {rows[0]})"
