"""Handing a learnware out: a folder whose every byte was checked on the way, or no folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from learndock.dock import names
from learndock.dock.blobs import copy_checked
from learndock.dock.home import Home
from learndock.errors import Corrupt, NotFound, UsageError
from learndock.files import sha256_bytes, storage_errors, sync_folder
from learndock.package.formats import Progress
from learndock.package.manifest import MANIFEST, File, Manifest

#: Finds a learnware; opens one of its files.
Find = Callable[[], Manifest]
Opened = Callable[[Manifest, File], IO[bytes]]


def export(home: Home, which: str, out: Path, *, progress: Progress | None = None) -> Path:
    """Write the learnware as the folder ``out``, which must be empty or not exist; returns ``out``.

    Raises:
        NotFound: there is no such learnware.
        UsageError: ``out`` is taken.
        Corrupt: a stored file is missing or damaged; ``out`` was not made.
        StorageFull: no room at ``out``, which was not made.
    """

    def find() -> Manifest:
        with home.read() as records:
            row = names.find(records, which)
        if sha256_bytes(row.manifest) != row.digest:
            raise Corrupt(f"{row.name}: its manifest in the database is damaged; run `learndock rebuild`")
        return Manifest.from_bytes(row.manifest, where=row.name)

    return exported(out, find, lambda manifest, file: _stored(home, manifest.name, file), progress=progress)


def exported(out: Path, find: Find, opened: Opened, *, progress: Progress | None = None) -> Path:
    """Write the learnware that ``find`` gives as the folder ``out``, each file from the stream that ``opened`` gives.

    Raises:
        UsageError: ``out`` is taken.
        Corrupt: other bytes came than the manifest says; ``out`` was not made.
        StorageFull: no room at ``out``, which was not made.
    """
    _refuse_taken(out)
    manifest = find()
    with storage_errors(out):
        try:
            out.absolute().parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}.", suffix=".part"))
        except OSError as error:
            raise UsageError(f"{out}: cannot be made ({error.strerror}); name another folder") from None
        try:
            _fill(manifest, opened, part, progress)
            part.chmod(0o755)
            part.replace(out)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        sync_folder(out.absolute().parent)
    return out


def _refuse_taken(out: Path) -> None:
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise UsageError(f"{out}: exists and is not an empty folder; name another")


def _fill(manifest: Manifest, opened: Opened, part: Path, progress: Progress | None) -> None:
    total = sum(f.size for f in manifest.files)
    done = 0
    for file in manifest.files:
        _copy(manifest, file, opened, part / file.path)
        done += file.size
        if progress is not None:
            progress(done, total)
    _write(part / MANIFEST, manifest.to_bytes())
    for folder in (part, *(p for p in part.rglob("*") if p.is_dir())):
        sync_folder(folder)


def _stored(home: Home, name: str, file: File) -> IO[bytes]:
    try:
        return home.blobs.open(file.sha256)
    except NotFound:
        with home.read() as records:
            if records.row(name) is None:
                raise NotFound(f"{name}: was removed from this dock") from None
        raise Corrupt(f"{name}: {file.path}: its bytes are missing from the dock; `learndock add` it again") from None


def _copy(manifest: Manifest, file: File, opened: Opened, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened(manifest, file) as stream, target.open("wb") as out:
        try:
            copy_checked(stream, out, sha256=file.sha256, size=file.size, where=f"{manifest.name}: {file.path}")
        except Corrupt as error:
            raise Corrupt(f"{error}; nothing was written. `learndock add` the learnware again to mend it") from None
        out.flush()
        os.fsync(out.fileno())


def _write(path: Path, source: bytes) -> None:
    with path.open("wb") as out:
        out.write(source)
        out.flush()
        os.fsync(out.fileno())
