"""First step of the journey: a file of examples becomes a table of raw rows.

Nothing is converted or guessed here: a csv cell stays text, a JSON number stays a number. Which reader takes
a path is decided by its suffix alone; a folder must be one that ``datasets.save_to_disk`` wrote, or hold images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from learndock.errors import DataError

ACCEPTED = (
    ".csv, .tsv, .jsonl, each also with .gz; .parquet; a folder written by datasets' save_to_disk; "
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
class Table:
    """A file of rows that is read as often, and only as far, as somebody iterates.

    ``columns`` are the header's names (jsonl: the keys of the first row). ``rows(names)`` reads from the
    start; readers of column stores read those columns alone. Paths in cells are relative to ``folder``.
    ``class_names`` holds the names behind the integers of a column, where the file knows them.

    ``rows`` raises DataError with the row for whatever in the file is damaged.
    """

    path: Path
    columns: tuple[str, ...]
    rows: Callable[[Sequence[str]], Iterator[Row]]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder that the table lies in, or is."""
        return self.path if self.path.is_dir() else self.path.parent


def open_table(path: str | Path) -> Table:
    """Look at ``path`` and make its table; reads no more than the header.

    Raises:
        DataError: no such file, an unknown suffix, an empty or damaged file, a folder of something else.
        MissingExtra: the file is parquet or arrow and pyarrow is not installed.
    """
    # The readers stand on this module's Table, so they are fetched when needed.
    from learndock.data import arrow_tables, image_folders, text_tables

    path = Path(path)
    try:
        folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if folder:
        saved = (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()
        images = None if saved else image_folders.image_folder(path)
        return images or arrow_tables.saved_dataset(path)
    if not exists:
        raise DataError(f"{path}: no such file or folder; check the path")
    name = path.name.lower()
    zipped = name.endswith(".gz")
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix in (".csv", ".tsv"):
        return text_tables.separated(path, "," if suffix == ".csv" else "\t", zipped=zipped)
    if suffix == ".jsonl":
        return text_tables.json_lines(path, zipped=zipped)
    if suffix == ".parquet" and not zipped:
        return arrow_tables.parquet(path)
    found = f'the suffix "{Path(name).suffix}" is unknown' if Path(name).suffix else "it has no suffix"
    raise DataError(f"{path}: {found}; learndock reads {ACCEPTED}")
