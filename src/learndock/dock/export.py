"""Handing a learnware out: a folder whose every byte was checked on the way, or no folder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from learndock.dock import names
from learndock.dock.blobs import copy_checked
from learndock.dock.home import Home
from learndock.dock.leases import Lease, leased
from learndock.dock.records import Row
from learndock.errors import Corrupt, DockError, NotFound, UsageError
from learndock.files import sha256_bytes, storage_errors, sync_folder
from learndock.package.formats import Progress
from learndock.package.manifest import MANIFEST, File, Manifest
from learndock.package.unfinished import unfinished

#: How the system says that there is no room.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def export(home: Home, which: str, out: Path, *, progress: Progress | None = None) -> Path:
    """Write the learnware as the folder ``out``, which must be empty or not exist; returns ``out``.

    Raises:
        NotFound: there is no such learnware.
        UsageError: ``out`` is taken.
        Corrupt: a stored file is missing or damaged; ``out`` was not made.
        DockError: the disk fails; ``out`` was not made.
        StorageFull: no room at ``out``, which was not made.
    """
    _refuse_taken(out)
    with home.read() as records:
        names.find(records, which)
    place = out.absolute()
    with storage_errors(out), contextlib.ExitStack() as stack:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            part = stack.enter_context(unfinished(place))
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise UsageError(f"{out}: cannot be made ({error.strerror}); name another folder") from None
        row, lease = stack.enter_context(leased(home, which))
        placed = False
        try:
            _fill(home, row, part, lease, progress)
            part.chmod(0o755)
            part.replace(out)
            placed = True
            sync_folder(place.parent)
        except OSError as error:
            if placed:  # an fsync that failed is a failure, even where all bytes seem to be there
                shutil.rmtree(place, ignore_errors=True)
            if error.errno in _FULL:
                raise
            raise DockError(
                f"{out}: {row.name} cannot be copied there ({error.strerror or error}); nothing was left. See to the "
                "disk, or name another folder"
            ) from None
    return out


def _refuse_taken(out: Path) -> None:
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise UsageError(f"{out}: exists and is not an empty folder; name another")


def _fill(home: Home, row: Row, part: Path, lease: Lease, progress: Progress | None) -> None:
    if sha256_bytes(row.manifest) != row.digest:
        raise Corrupt(f"{row.name}: its manifest in the database is damaged; run `learndock rebuild`")
    manifest = Manifest.from_bytes(row.manifest, where=row.name)
    total = sum(f.size for f in manifest.files)
    done = 0
    for file in manifest.files:
        _copy(home, row, file, part / file.path, lease)
        done += file.size
        if progress is not None:
            progress(done, total)
    _write(part / MANIFEST, row.manifest)
    for folder in (part, *(p for p in part.rglob("*") if p.is_dir())):
        sync_folder(folder)


def _copy(home: Home, row: Row, file: File, target: Path, lease: Lease) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        stream = home.blobs.open(file.sha256)
    except NotFound:
        with home.read() as records:
            if records.row(row.name) is None:
                raise NotFound(f"{row.name}: was removed from this dock") from None
        raise Corrupt(
            f"{row.name}: {file.path}: its bytes are missing from the dock; `learndock add` it again"
        ) from None
    with stream, target.open("wb") as out:
        try:
            where = f"{row.name}: {file.path}"
            copy_checked(stream, out, sha256=file.sha256, size=file.size, where=where, each=lease.touch)
        except Corrupt as error:
            raise Corrupt(f"{error}; nothing was written. `learndock add` the learnware again to mend it") from None
        out.flush()
        os.fsync(out.fileno())


def _write(path: Path, source: bytes) -> None:
    with path.open("wb") as out:
        out.write(source)
        out.flush()
        os.fsync(out.fileno())
