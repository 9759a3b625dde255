"""Back up a service while it runs, and restore a dock from the backup.

A backup is itself a dock in a folder, wherever the original keeps its data: it can be verified, served, and restored
into a folder or into PostgreSQL and an object store. Backing up and restoring is also the way to migrate a dock.
Writers wait while the lists are read (and, with an object store, while the bytes are copied). Readers never wait.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, text

from learndock.dock.local import LocalDock
from learndock.dock.open import open_local_dock
from learndock.dock.storage.blobs import DiskBlobs
from learndock.dock.storage.gc import referenced
from learndock.dock.storage.layout import MARK as DOCK_MARK
from learndock.dock.storage.layout import RESTORING, SERVED, DockLayout, mark_bytes
from learndock.dock.storage.lock import held
from learndock.dock.storage.publications import Publication
from learndock.dock.storage.rebuild import rebuild
from learndock.errors import Conflict, Corrupt, DockError, NotFound, UsageError
from learndock.files import atomic_write, storage_errors, sync_folder
from learndock.package.formats import Progress
from learndock.service.database import Database, mark_change
from learndock.service.referrers import DATABASE
from learndock.service.tables import metadata, parts, tree, uploads
from learndock.settings import Settings

#: What is on its way is not part of a backup.
_LEFT_OUT = {uploads.name, parts.name}
_ROWS = 1000


def backup(settings: Settings, folder: Path, out: Path, *, progress: Progress | None = None) -> int:
    """Write the dock of a service, and the service's own tables, as the folder ``out``; returns how many blobs.

    Every byte is hashed on the way. ``dock.json`` is written last, so an incomplete backup is not a dock. Progress is
    in blobs.

    Raises:
        NotFound: there is no dock.
        UsageError: ``out`` exists and is not empty, be it by a backup that did not end.
        Corrupt: a stored file is missing or damaged; verify the dock.
        StorageFull: no room at ``out``.
    """
    if _half(out):
        raise UsageError(
            "contains an unfinished backup", remedy="if none is running, remove it, or name another folder", about=out
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError("exists and is not an empty folder", remedy="name another", about=out)
    with (
        _opened(settings, folder, create=False) as (dock, database),
        storage_errors(out),
        contextlib.ExitStack() as stack,
    ):
        for part in ("blobs", "learnwares", "staging"):
            (out / part).mkdir(parents=True, exist_ok=True)
        storage, target = dock.storage, DiskBlobs(out / "blobs", out / "staging")
        links = None
        with storage.locked():
            publications = [
                s for s in map(storage.publications.read, list(storage.publications.names())) if s is not None
            ]
            needed = referenced(storage)
            if database is not None:
                needed |= _copy_tables(database, out / DATABASE)
            if isinstance(storage.blobs, DiskBlobs):
                links = stack.enter_context(storage.hard_links())
                _link(storage, needed, links)
            else:
                _copy(storage, needed, target, progress)
        if links is not None:
            _copy_links(links, needed, target, progress)
        _finish(out, publications, served=database is not None)
        return len(needed)


def restore(settings: Settings, source: Path, folder: Path, *, progress: Progress | None = None) -> int:
    """Restore the backup ``source`` where the settings say; returns how many blobs. Progress is in blobs.

    Raises:
        NotFound, DockError: ``source`` is not a complete backup.
        Conflict: there is something already where the dock is to be.
        Corrupt: the backup is damaged.
        StorageFull: no room.

    A dock in a folder cannot be opened until its restore has ended. After one that did not end, the next starts over.
    """
    if _half(source):
        raise DockError(
            "is not a dock: the backup did not finish", remedy="make another with `learndock backup`", about=source
        )
    saved = open_local_dock(source, create=False).storage
    served = (source / DATABASE).exists()
    mark = folder / RESTORING
    if mark.exists():
        with held(mark) as mine:
            if not mine:
                raise _restored_elsewhere(folder)
            _clear(folder)
    with _opened(settings, folder, create=True, tables=served) as (dock, database), contextlib.ExitStack() as stack:
        storage = dock.storage
        if not storage.publications.empty() or (database is not None and not _empty(database)):
            raise Conflict("there is a dock already", remedy="restore into a place where there is none", about=folder)
        if not settings.database:
            stack.enter_context(_shut(mark, source))
        digests = list(saved.blobs.digests())
        _copy(saved, set(digests), storage.blobs, progress)
        if database is not None:
            # Before the learnwares: without these rows, each of them would be public.
            _restore_tables(source / DATABASE, database)
        with storage.locked():
            for name in saved.publications.names():
                publication = saved.publications.read(name)
                if publication is not None:
                    with storage.publications.replaced(publication):
                        pass
        rebuild(storage)
        return len(digests)


@contextlib.contextmanager
def _shut(mark: Path, source: Path) -> Iterator[None]:
    """Keep the dock from being opened until the block ends without an error; after a failure it stays closed."""
    with atomic_write(mark) as stream:
        stream.write(json.dumps({"from": str(source.absolute())}).encode() + b"\n")
    with held(mark) as mine:
        if not mine:
            raise _restored_elsewhere(mark.parent)
        yield
        mark.unlink()
        sync_folder(mark.parent)


def _restored_elsewhere(folder: Path) -> Conflict:
    return Conflict("another restore into it goes on", remedy="wait for that", about=folder)


def _half(out: Path) -> bool:
    """Return whether an unfinished backup is here."""
    return (out / "blobs").is_dir() and not (out / DOCK_MARK).exists()


def _clear(folder: Path) -> None:
    """Empty the dock that an earlier restore left incomplete; everything in it is from that restore."""
    for name in (SERVED, f"{DATABASE}*", "records*.sqlite*", "blobs", "learnwares", "leases", "staging", "uploads"):
        for path in folder.glob(name):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    (folder / RESTORING).unlink()
    sync_folder(folder)


@contextlib.contextmanager
def _opened(
    settings: Settings, folder: Path, *, create: bool, tables: bool = False
) -> Iterator[tuple[LocalDock, Database | None]]:
    """Open the dock that the settings name, and the service's tables if it has any; ``tables`` makes them."""
    from learndock.service.service import open_database, open_home

    dock = open_home(settings, folder, create=create)
    database = None
    if tables or settings.database or (folder / SERVED).exists():
        database = open_database(settings, dock)
    try:
        yield dock, database
    finally:
        if database is not None:
            database.close()


def _copy_tables(database: Database, file: Path) -> set[str]:
    """Copy the service's tables, in one state, to a file; returns the blobs that commits refer to."""
    copy = Database(f"sqlite:///{file.absolute()}")
    try:
        copy.migrate()
        with database.read() as reading, copy.write() as writing:
            _copy_rows(reading, writing)
        with copy.read() as connection:
            needed = set(connection.execute(select(tree.c.sha256)).scalars())
    finally:
        copy.close()
    # One file, not three: the log is written back where the last connection closes.
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
    return needed


def _restore_tables(file: Path, database: Database) -> None:
    kept = Database(f"sqlite:///{file.absolute()}")
    try:
        with kept.read() as reading, database.write() as writing:
            for table in reversed(metadata.sorted_tables):
                writing.execute(delete(table))  # a service that was started has a key already
            _copy_rows(reading, writing)
            _count_on(database, writing)
            mark_change(writing)
    finally:
        kept.close()


def _copy_rows(reading: Connection, writing: Connection) -> None:
    for table in metadata.sorted_tables:
        if table.name in _LEFT_OUT:
            continue
        result = reading.execute(select(table))
        while rows := result.fetchmany(_ROWS):
            writing.execute(insert(table), [dict(row._mapping) for row in rows])


def _count_on(database: Database, connection: Connection) -> None:
    """Let PostgreSQL number new rows above the copied ones; SQLite does so by itself."""
    if database.sqlite:
        return
    for table in metadata.sorted_tables:
        if "id" in table.c and table.c.id.autoincrement is True:
            last = connection.execute(select(func.max(table.c.id))).scalar()
            if last is not None:
                connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {int(last)})"))


def _empty(database: Database) -> bool:
    with database.read() as connection:
        return all(
            connection.execute(select(func.count()).select_from(metadata.tables[name])).scalar() == 0
            for name in ("owners", "repositories")
        )


def _link(storage: DockLayout, needed: set[str], links: Path) -> None:
    """Make hard links to the blobs, so that gc does not delete them while they are copied."""
    for sha256 in needed:
        try:
            storage.blobs.link(sha256, links / sha256)
        except NotFound:
            raise _missing(sha256) from None


def _copy_links(links: Path, needed: set[str], target: DiskBlobs, progress: Progress | None) -> None:
    for done, sha256 in enumerate(sorted(needed), start=1):
        path = links / sha256
        with path.open("rb") as stream:
            target.put(stream, sha256=sha256, size=path.stat().st_size)
        path.unlink()
        if progress is not None:
            progress(done, len(needed))


def _copy(storage: DockLayout, needed: set[str], target: Any, progress: Progress | None) -> None:
    for done, sha256 in enumerate(sorted(needed), start=1):
        try:
            with storage.errors(), storage.blobs.open(sha256) as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(0)
                target.put(stream, sha256=sha256, size=size)
        except NotFound:
            raise _missing(sha256) from None
        if progress is not None:
            progress(done, len(needed))


def _missing(sha256: str) -> Corrupt:
    return Corrupt(f"blob {sha256[:12]} is missing from the dock", remedy="`learndock verify` says whose it is")


def _finish(out: Path, publications: list[Publication], *, served: bool) -> None:
    """Write the records of all names, the database, and last the mark that makes the folder a dock."""
    storage = DockLayout(out)
    for publication in publications:
        with storage.publications.replaced(publication):
            pass
    rebuild(storage)
    if served:
        with atomic_write(out / SERVED) as stream:
            stream.write(json.dumps({"format": 1, "database": "here"}).encode() + b"\n")
    with atomic_write(out / DOCK_MARK) as stream:
        stream.write(mark_bytes())
    sync_folder(out)
    sync_folder(out.absolute().parent)
