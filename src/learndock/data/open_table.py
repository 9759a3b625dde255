"""First step of the journey: which reader takes a path.

The suffix alone decides; a folder must be one that ``datasets.save_to_disk`` wrote, or contain images.
"""

from __future__ import annotations

from pathlib import Path

from learndock.data import arrow_tables, image_folders, json_tables, separated_tables, workbook
from learndock.data.options import ReadOptions
from learndock.data.tables import ACCEPTED, Table
from learndock.errors import DataError, UsageError


def open_table(path: str | Path, options: ReadOptions | None = None) -> Table:
    """Open the table at ``path``; reads no more than its beginning.

    Raises:
        UsageError: an option that does not act on such a file.
        DataError: no such file, an unknown suffix, an empty or damaged file, a folder of something else.
        MissingExtra: the file is parquet or arrow and pyarrow is not installed.
    """
    path, options = Path(path), options or ReadOptions()
    try:
        folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", about=path) from None
    if folder:
        saved = (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()
        described = None if saved else image_folders.metadata_file(path)
        if described is not None:
            return image_folders.with_left_out(path, open_table(described, options))
        _refuse_unused(path, options, "folders")
        images = None if saved else image_folders.image_folder(path)
        return images or arrow_tables.saved_dataset(path)
    if not exists:
        raise DataError("no such file or folder", remedy="check the path", about=path)
    name = path.name.lower()
    zipped = name.endswith(".gz")
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix in (".csv", ".tsv"):
        _refuse_unused(path, options, "csv and tsv files", "encoding", "separator", "quotes")
        return separated_tables.separated(path, "," if suffix == ".csv" else "\t", options, zipped=zipped)
    if suffix in (".jsonl", ".ndjson"):
        _refuse_unused(path, options, "JSON files", "encoding")
        return json_tables.json_lines(path, options, zipped=zipped)
    if suffix == ".json" and not zipped:
        _refuse_unused(path, options, "JSON files", "encoding")
        return json_tables.json_array(path, options)
    if suffix == ".parquet" and not zipped:
        _refuse_unused(path, options, "parquet files")
        return arrow_tables.parquet(path)
    if suffix in (".xlsx", ".xlsm") and not zipped:
        _refuse_unused(path, options, "workbooks", "sheet")
        return workbook.workbook(path, options)
    found = f'the suffix "{Path(name).suffix}" is unknown' if Path(name).suffix else "it has no suffix"
    raise DataError(f"{found}", remedy=f"learndock reads {ACCEPTED}", about=path)


def _refuse_unused(path: Path, options: ReadOptions, kind: str, *used: str) -> None:
    """Refuse options of how a file is read that this kind of file has no use for.

    Raises:
        UsageError: one of them is given.
    """
    for name in ("encoding", "separator", "quotes", "sheet"):
        if name not in used and getattr(options, name) != getattr(ReadOptions, name):
            flag = "--no-quotes" if options.quotes is False and name == "quotes" else f"--{name}"
            raise UsageError(f"{flag} says nothing about {kind}", remedy="leave it out", about=path)
