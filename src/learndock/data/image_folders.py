"""Rows from a folder of images: a sub-folder for each class, or images without labels; called by ``open_table``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from learndock.data.images import SUFFIXES
from learndock.data.tables import Row, Table
from learndock.errors import DataError

MOST = 1_000_000


def image_folder(folder: Path) -> Table | None:
    """The table of a folder of images, or None where there is none in it.

    ``folder/CLASS/NAME.jpg`` gives the columns ``image`` (a path) and ``label`` (the class); ``folder/NAME.jpg`` gives
    ``image`` alone. Rows are in the order of names, hidden files are passed over.

    Raises:
        DataError: images stand beside the classes' folders, or a class's folder holds no image.
    """
    loose, classes = _images(folder), _folders(folder)
    labelled = {name: _images(folder / name) for name in classes}
    if not loose and not any(labelled.values()):
        return None
    if loose and any(labelled.values()):
        raise DataError(
            "images stand beside folders of images", remedy=f"put {loose[0]} into the folder of its class", about=folder
        )
    empty = [name for name in classes if not labelled[name]]
    if not loose and empty:
        raise DataError(
            f"holds no image ({', '.join(SUFFIXES)})", remedy="add some, or remove the folder", about=folder / empty[0]
        )
    if loose:
        found = [(name, None) for name in loose]
    else:
        found = [(f"{label}/{name}", label) for label in classes for name in labelled[label]]  # type: ignore[misc]
    if len(found) > MOST:
        raise DataError(f"{len(found)} images, at most {MOST} are read from a folder", about=folder)

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        for number, (name, label) in enumerate(found, start=1):
            cells: dict[str, object] = {"image": name} if label is None else {"image": name, "label": label}
            yield Row(number, None, {c: cells[c] for c in wanted if c in cells})

    return Table(folder, ("image", "label") if not loose else ("image",), rows)


def _images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(
            e.name for e in entries if not e.name.startswith(".") and e.name.lower().endswith(SUFFIXES) and e.is_file()
        )


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
