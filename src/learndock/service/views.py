"""Folders made of blobs, for the checks, which look at a learnware as a folder."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from learndock.dock.storage.blobs import BlobStore
from learndock.dock.storage.lock import held, write_lock
from learndock.errors import PackageError
from learndock.files import storage_errors

PREFIX = "view-"
HELD = ".held"


@contextlib.contextmanager
def folder_of(store: BlobStore, files: Mapping[str, str], root: Path) -> Iterator[Path]:
    """Yield a folder below ``root`` with the blobs ``path -> SHA-256``; it is deleted when the block ends.

    Raises:
        PackageError: a path is a file and a folder.
        NotFound: a blob is not there.
        PackageError: a path leads out of the folder.
        StorageFull: no room.
    """
    folder = root / f"{PREFIX}{secrets.token_hex(8)}"
    with storage_errors(folder), write_lock(_lock(folder)):
        try:
            folder.mkdir()
            store.link_all(places(folder, files))
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _lock(folder).unlink(missing_ok=True)


def places(folder: Path, files: Mapping[str, str]) -> dict[Path, str]:
    """Return the files by their places in ``folder``, and make the folders that they are in.

    Raises:
        PackageError: a path is a file and a folder, or leads out of the folder.
    """
    folders = {parent.as_posix() for path in files for parent in PurePosixPath(path).parents}
    for path in sorted(folders & set(files)):
        raise PackageError("is a file and a folder", remedy="rename one", about=path)
    for path in files:
        # Nothing below the folder is a symbolic link, so what a path says is where it leads.
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise PackageError(f"{path[:100]!r} leads out of its folder", remedy="give a plain path")
    for parent in folders:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    return {folder / path: sha256 for path, sha256 in files.items()}


def clear(root: Path) -> None:
    """Delete what killed processes left, and nothing of a running one: several may serve one dock."""
    for lock in root.glob(f"{PREFIX}*{HELD}"):
        with held(lock) as free:
            if free:
                shutil.rmtree(lock.with_name(lock.name.removesuffix(HELD)), ignore_errors=True)
                lock.unlink(missing_ok=True)


def _lock(folder: Path) -> Path:
    """Return the lock of a view; it is beside the folder, which contains only what was committed."""
    return folder.with_name(folder.name + HELD)
