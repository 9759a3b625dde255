"""Rows from a folder of images: a sub-folder for each class, or images without labels; called by ``open_table``.

What is passed over is counted: images of other kinds, and images in folders inside a class's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from learndock.data.columns import IMAGE_COLUMNS
from learndock.data.images import SUFFIXES
from learndock.data.tables import Row, Table
from learndock.errors import DataError

MOST = 1_000_000
#: Files that operating systems leave in folders.
_LITTER = frozenset(("thumbs.db", "desktop.ini"))
#: Names of splits, as tools lay out folders of images.
_SPLITS = frozenset(("train", "training", "test", "testing", "val", "valid", "validation", "dev"))
_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".xlsx")
#: A file beside images that says which label each has, as ``datasets`` reads it.
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


@dataclass(frozen=True)
class _Folder:
    """What a folder holds; ``nested`` are images in folders inside it."""

    images: Sequence[str]
    folders: Sequence[str]
    others: Sequence[str]
    nested: Sequence[str] = field(default=())


def image_folder(folder: Path) -> Table | None:
    """The table of a folder of images, or None where it contains none.

    ``folder/CLASS/NAME.jpg`` gives the columns ``image`` (a path) and ``label`` (the class); ``folder/NAME.jpg`` gives
    ``image`` alone. Rows are in the order of names; hidden files are passed over.

    Raises:
        DataError: images beside the classes' folders, a class's folder without images, or folders of splits.
    """
    top = _look(folder)
    inside = {name: _look(folder / name, deep=True) for name in top.folders}
    loose, labelled = top.images, {name: found.images for name, found in inside.items()}
    if not loose and not any(labelled.values()):
        _refuse_splits(folder, inside)
        return None
    if loose and any(labelled.values()):
        raise DataError(
            "images beside folders of images", remedy=f"put {loose[0]} into the folder of its class", about=folder
        )
    tables = [name for name in top.others if name.lower().endswith(_TABLES)]
    if not loose and len(top.folders) == 1 and tables:
        raise DataError(
            f"one folder of images, and {tables[0]} beside it",
            remedy=f"name the table: {folder / tables[0]}",
            about=folder,
        )
    empty = [name for name in top.folders if not labelled[name]]
    if not loose and empty:
        raise DataError(
            f"{folder / empty[0]}: holds no image ({', '.join(SUFFIXES)})", remedy="add some, or remove the folder"
        )
    found: list[tuple[str, str | None]] = [(name, None) for name in loose]
    if not loose:
        found = [(f"{label}/{name}", label) for label in top.folders for name in labelled[label]]
    if len(found) > MOST:
        raise DataError(f"{len(found)} images, at most {MOST} are read from a folder", about=folder)

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        for number, (name, label) in enumerate(found, start=1):
            cells: dict[str, object] = {"image": name} if label is None else {"image": name, "label": label}
            yield Row(number, None, {c: cells[c] for c in wanted if c in cells})

    return Table(folder, ("image", "label") if not loose else ("image",), rows, remarks=_remarks(top, inside))


def metadata_file(folder: Path) -> Path | None:
    """The file beside images that names them and their labels, or None."""
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def with_left_out(folder: Path, table: Table) -> Table:
    """``table``, the metadata of a ``folder``, with a remark on images that it does not name once all rows are read."""
    remarks = dict(table.remarks)

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        named: set[str] = set()
        for row in table.rows(wanted):
            cells = (row.cells.get(column) for column in IMAGE_COLUMNS)
            named.update(os.path.normpath(cell) for cell in cells if isinstance(cell, str))
            yield row
        remarks.update(table.remarks)
        left = [name for name in _images_below(folder) if name not in named] if named else []
        if left:
            count = "1 image" if len(left) == 1 else f"{len(left):,} images"
            remarks["left"] = f"{count} that it does not name left out (the first {left[0]})"

    return replace(table, rows=rows, remarks=remarks)


def _images_below(folder: Path) -> Iterator[str]:
    for place, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield os.path.relpath(Path(place, name), folder)


def _remarks(top: _Folder, inside: dict[str, _Folder]) -> dict[str, str]:
    others = [*top.others, *(f"{name}/{other}" for name, found in inside.items() for other in found.others)]
    nested = [f"{name}/{image}" for name, found in inside.items() for image in found.nested]
    remarks = {}
    if inside and all(name.lower() in _SPLITS for name in inside):
        remarks["splits"] = (
            f"the classes are called {', '.join(inside)}, as parts of a data set are: if they are no labels, name one"
        )
    if others:
        count = "1 file" if len(others) == 1 else f"{len(others):,} files"
        remarks["others"] = (
            f"{count} of other kinds left out (the first {others[0]}); images are read as {', '.join(SUFFIXES)}"
        )
    if nested:
        count = "1 image" if len(nested) == 1 else f"{len(nested):,} images"
        remarks["nested"] = (
            f"{count} in a folder inside a class left out (the first {nested[0]}); move images into the class's folder"
        )
    return remarks


def _refuse_splits(folder: Path, inside: dict[str, _Folder]) -> None:
    splits = [name for name, found in inside.items() if found.nested and name.lower() in _SPLITS]
    if splits:
        raise DataError(
            f"holds the splits {', '.join(splits)}", remedy=f"name one, as in {folder / splits[0]}", about=folder
        )
    deep = [f"{name}/{found.nested[0]}" for name, found in inside.items() if found.nested]
    if deep:
        raise DataError(
            f"images are two folders down (the first {deep[0]})",
            remedy=(
                "learndock reads FOLDER/CLASS/IMAGE: name the folder that contains the classes, as in "
                f"{folder / deep[0].split('/', 1)[0]}"
            ),
            about=folder,
        )


def _look(folder: Path, *, deep: bool = False) -> _Folder:
    images, folders, others = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name.lower() in _LITTER:
                continue
            if entry.is_dir():
                folders.append(name)
            elif name.lower().endswith(SUFFIXES) and entry.is_file():
                images.append(name)
            else:
                others.append(name)
    nested = []
    for name in sorted(folders) if deep else ():
        for place, inner, files in os.walk(folder / name):
            inner.sort()
            nested += [
                os.path.relpath(Path(place, f), folder)
                for f in sorted(files)
                if f.lower().endswith(SUFFIXES) and not f.startswith(".")
            ]
    return _Folder(sorted(images), sorted(folders), sorted(others), nested)
