"""Write a learnware of a dock as a folder: every file is verified, and the folder appears once it is complete."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from learndock.dock.storage import lookup
from learndock.dock.storage.blobs import copy_checked
from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.leases import leased
from learndock.dock.storage.records import Row
from learndock.errors import Corrupt, DockError, NotFound, UsageError
from learndock.files import sha256_bytes, storage_errors, sync_folder
from learndock.package.formats import Progress
from learndock.package.manifest import CARD, MANIFEST, File, Manifest
from learndock.package.unfinished import unfinished

#: The system's errors for a full disk, a quota and a size limit.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, eq=False)
class Found:
    """A learnware that is being read: its manifest, what opens its files, and ``alive``, called for every piece.

    ``card`` is its present card, which takes the place of one that the manifest lists.
    """

    manifest: Manifest
    opened: Callable[[Manifest, File], IO[bytes]]
    alive: Callable[[], None] | None = None
    card: File | None = None


#: Looks up a learnware and keeps it readable until the block ends.
Reading = Callable[[], contextlib.AbstractContextManager[Found]]


def export(storage: DockLayout, which: str, out: Path, *, progress: Progress | None = None) -> Path:
    """Write the learnware as the folder ``out``, which must be empty or absent, and return ``out``.

    Raises:
        NotFound: there is no such learnware.
        UsageError: ``out`` is taken.
        Corrupt: a stored file is missing or damaged; ``out`` was not made.
        DockError: the disk fails; ``out`` was not made.
        StorageFull: no room at ``out``, which was not made.
    """

    @contextlib.contextmanager
    def reading() -> Iterator[Found]:
        with leased(storage, which) as (row, lease):
            if sha256_bytes(row.manifest) != row.digest:
                raise Corrupt(
                    "its manifest in the database is damaged", remedy="run `learndock rebuild`", about=row.name
                )
            manifest = Manifest.from_bytes(row.manifest, where=row.name)
            yield Found(manifest, lambda _, file: _stored(storage, row, file), lease.touch, card_of(row, manifest))

    with storage.read() as records:  # before anything is made
        lookup.find(records, which)
    return exported(out, reading, progress=progress)


def exported(out: Path, reading: Reading, *, progress: Progress | None = None) -> Path:
    """Write the learnware that ``reading`` looks up as the folder ``out``, and return ``out``.

    Raises:
        UsageError: ``out`` is taken, or cannot be made.
        Corrupt: the bytes are not those of the manifest; ``out`` was not made.
        DockError: the disk fails; ``out`` was not made.
        StorageFull: no room at ``out``, which was not made.
    """
    _refuse_taken(out)
    place = out.absolute()
    with storage_errors(out), contextlib.ExitStack() as stack:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            part = stack.enter_context(unfinished(place))
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise UsageError(f"cannot be made ({error.strerror})", remedy="name another folder", about=out) from None
        found = stack.enter_context(reading())
        placed = False
        try:
            _fill(found, part, progress)
            part.chmod(0o755)
            part.replace(out)
            placed = True
            sync_folder(place.parent)
        except OSError as error:
            if placed:  # if fsync fails the bytes may be lost, although they can be read now
                shutil.rmtree(place, ignore_errors=True)
            if error.errno in _FULL:
                raise
            raise DockError(
                f"{found.manifest.name} cannot be copied there ({error.strerror or error}); nothing was written",
                remedy="check the disk, or name another folder",
                about=out,
            ) from None
    return out


def _refuse_taken(out: Path) -> None:
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise UsageError("exists and is not an empty folder", remedy="name another", about=out)


def _fill(found: Found, part: Path, progress: Progress | None) -> None:
    manifest = found.manifest
    files = [f if found.card is None or f.path != CARD else found.card for f in manifest.files]
    if found.card is not None and found.card not in files:
        files.append(found.card)
    total = sum(f.size for f in files)
    done = 0
    for file in files:
        _copy(found, file, part / file.path)
        done += file.size
        if progress is not None:
            progress(done, total)
    _write(part / MANIFEST, manifest.to_bytes())
    for folder in (part, *(p for p in part.rglob("*") if p.is_dir())):
        sync_folder(folder)


def card_of(row: Row, manifest: Manifest | None = None) -> File | None:
    """Return the present card of a learnware; beside its content, or where there is none there, within it."""
    card = json.loads(row.about).get("card")
    if card is not None:
        return File(path=CARD, size=card["size"], sha256=card["sha256"])
    manifest = manifest or Manifest.from_bytes(row.manifest, where=row.name)
    return next((file for file in manifest.files if file.path == CARD), None)


def _stored(storage: DockLayout, row: Row, file: File) -> IO[bytes]:
    try:
        return storage.blobs.open(file.sha256)
    except NotFound:
        with storage.read() as records:
            if records.row(row.name, row.number) is None:
                raise NotFound("was removed from this dock", remedy=lookup.SEE_LIST, about=row.name) from None
        raise missing_bytes(f"{row.name}: {file.path}") from None


def missing_bytes(about: str) -> Corrupt:
    """Return the error of a published file whose bytes the dock has lost."""
    return Corrupt("its bytes are missing from the dock", remedy="`learndock add` it again", about=about)


def _copy(found: Found, file: File, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    where = f"{found.manifest.name}: {file.path}"
    with found.opened(found.manifest, file) as stream, target.open("wb") as out:
        try:
            copy_checked(stream, out, sha256=file.sha256, size=file.size, where=where, each=found.alive)
        except Corrupt as error:
            raise Corrupt(
                f"{error.message}; nothing was written",
                remedy="`learndock add` the learnware again, which repairs it",
                about=error.about,
            ) from None
        out.flush()
        os.fsync(out.fileno())


def _write(path: Path, source: bytes) -> None:
    with path.open("wb") as out:
        out.write(source)
        out.flush()
        os.fsync(out.fileno())
