"""First step of the journey: which reader takes a path.

The suffix alone decides; a folder must be one that ``datasets.save_to_disk`` wrote, or contain images.
"""

from __future__ import annotations

from pathlib import Path

from learndock.data import arrow_tables, image_folders, text_tables
from learndock.data.tables import ACCEPTED, Table
from learndock.errors import DataError


def open_table(path: str | Path) -> Table:
    """Open the table at ``path``; reads no more than its beginning.

    Raises:
        DataError: no such file, an unknown suffix, an empty or damaged file, a folder of something else.
        MissingExtra: the file is parquet or arrow and pyarrow is not installed.
    """
    path = Path(path)
    try:
        folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", about=path) from None
    if folder:
        saved = (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()
        images = None if saved else image_folders.image_folder(path)
        return images or arrow_tables.saved_dataset(path)
    if not exists:
        raise DataError("no such file or folder", remedy="check the path", about=path)
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
    raise DataError(f"{found}", remedy=f"learndock reads {ACCEPTED}", about=path)
