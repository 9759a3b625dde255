"""The dock's folder: what lies where, and how it is opened, read, and written by one at a time.

dock.json            {"format": 1}; its presence makes a folder a dock
learnwares/          what was published and removed: the truth (see ``shelf``)
blobs/               the files' bytes (see ``blobs``)
records.sqlite       what readers ask (see ``records``); a link, so that a new one is put in place at once
service.json         there where the dock is served: the service refers to blobs too (see ``DockLayout.referred``)
leases/              notes of those who are reading (see ``leases``)
staging/             unfinished things; whatever lies here without a writer is rubbish
backup-RANDOM/       hard links to blobs while a backup copies them; rubbish once its lock is free
adding-RANDOM/       a learnware's files before they get their names; rubbish once its lock is free
restoring.json       there until a restore into the folder has ended; nobody opens the dock meanwhile
lock, collecting     held by the one who writes; by the one who collects, or refers to blobs anew
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from learndock.dock.storage import sqlite
from learndock.dock.storage.blobs import BlobStore, DiskBlobs
from learndock.dock.storage.lock import write_lock
from learndock.dock.storage.publications import Publications
from learndock.dock.storage.records import Records
from learndock.errors import Corrupt, DockError, NotFound
from learndock.files import atomic_write, storage_errors, sync_folder

MARK = "dock.json"
RESTORING = "restoring.json"
#: In the folder of a dock that a service serves; the service writes it.
SERVED = "service.json"
FORMAT = 1
#: The lock in a folder that something is going on in.
HELD = "held"
#: Seconds after which a mark that was not finished has nobody who is writing it.
_OLD = 3600.0


class DockLayout:
    """The folder of a dock that exists; made by ``open_layout``."""

    def __init__(self, folder: Path, blobs: BlobStore | None = None) -> None:
        self.folder = folder
        self.staging = folder / "staging"
        self.leases = folder / "leases"
        self.lock = folder / "lock"
        self.database = folder / "records.sqlite"
        self.publications = Publications(folder / "learnwares")
        self.blobs: BlobStore = blobs or DiskBlobs(folder / "blobs", self.staging)
        #: Returns the SHA-256 of blobs that others than learnwares need; a service that shares the dock sets it.
        self.referrers: Callable[[], set[str]] | None = None

    @contextlib.contextmanager
    def read(self) -> Iterator[Records]:
        """The records for reading; sees one state of the dock at each question."""
        with self.errors():
            self._look_for_database()
            with sqlite.opened_to_read(self.database) as connection:
                yield Records(connection)

    @contextlib.contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the writer's lock; yields whether it is held."""
        with self.errors(), write_lock(self.lock, wait=wait) as held:
            yield held

    @contextlib.contextmanager
    def collection_lock(self) -> Iterator[None]:
        """Hold collections off, or who refers to blobs anew; inside of ``locked`` where both are held.

        A blob that nobody refers to may be on a collection's list already; who is about to refer to it says so in
        here, before or after that collection and not in its midst.
        """
        with self.errors(), write_lock(self.folder / "collecting"):
            yield

    @contextlib.contextmanager
    def write(self) -> Iterator[Records]:
        """The records for writing; the caller holds the lock."""
        with self.errors():
            self._look_for_database()
            with sqlite.opened_to_write(self.database) as connection:
                yield Records(connection)

    @contextlib.contextmanager
    def replace_database(self) -> Iterator[Records]:
        """New records that take the place of the present ones when the block ends; the caller holds the lock.

        The file before stays, for readers that are in the middle of it, until ``old_databases`` are deleted.
        """
        new = self.folder / f"records-{secrets.token_hex(4)}.sqlite"
        try:
            with self.errors():
                with sqlite.created(new) as connection:
                    yield Records(connection)
                link = self.staging / new.with_suffix(".link").name
                link.symlink_to(new.name)
                # A relative link is resolved where it lies: it means its target only once it is moved.
                link.replace(self.database)
                sync_folder(self.folder)
        except BaseException:
            if not self.database.exists() or self.database.resolve() != new.resolve():
                for file in self.folder.glob(f"{new.name}*"):
                    file.unlink(missing_ok=True)
            raise

    def old_databases(self) -> list[Path]:
        """Database files that were replaced, and what belongs to them."""
        current = self.database.resolve().name
        return [f for f in self.folder.glob("records-*.sqlite*") if not f.name.startswith(current)]

    @contextlib.contextmanager
    def hard_links(self) -> Iterator[Path]:
        """A folder for second names of blobs, gone when the block ends; the caller holds the lock while it is made.

        A collection leaves it alone for as long as its maker lives.
        """
        with self._held_folder("backup") as folder:
            yield folder

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Yield a folder for files that are on their way in, gone when the block ends; the caller holds no lock.

        A collection leaves it alone for as long as its maker lives.
        """
        with contextlib.ExitStack() as stack:
            with self.locked():
                folder = stack.enter_context(self._held_folder("adding"))
            yield folder

    @contextlib.contextmanager
    def _held_folder(self, purpose: str) -> Iterator[Path]:
        """Yield a folder with a lock in it; the caller holds the writer's lock while it is made, so that gc waits."""
        folder = self.folder / f"{purpose}-{secrets.token_hex(4)}"
        folder.mkdir()
        try:
            with write_lock(folder / HELD):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def abandoned(self) -> list[Path]:
        """Return the folders of killed writers and backups, and unfinished marks; the caller holds the lock."""
        found = []
        for folder in (*self.folder.glob("backup-*"), *self.folder.glob("adding-*")):
            with contextlib.suppress(FileNotFoundError), write_lock(folder / HELD, wait=False) as free:
                if free:
                    found.append(folder)
        # The dock's own mark is written before there is a lock: only time tells.
        over = time.time() - _OLD
        return [*found, *(f for f in self.folder.glob(".*.json.*.part") if f.stat().st_mtime < over)]

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the system says of the dock's files into our errors.

        Raises:
            StorageFull: no room.
            DockError: not readable, not writable, a failing disk.
        """
        try:
            with storage_errors(self.folder):
                yield
        except OSError as error:
            raise DockError(
                f"{error.strerror or error}",
                remedy="see that the dock's folder can be read and written",
                about=error.filename or self.folder,
            ) from None

    @property
    def served(self) -> bool:
        """Whether a service keeps files of its own among the blobs."""
        return (self.folder / SERVED).exists()

    def referred(self) -> set[str]:
        """Return the SHA-256 of blobs that belong to no learnware and must stay.

        Raises:
            DockError: a service keeps files here, and ``referrers`` was not set to ask it.
        """
        if self.referrers is not None:
            return self.referrers()
        if self.served:
            raise DockError(
                "a service keeps files of its own here, and only its tables know which are needed",
                remedy="run `learndock gc`, which asks them",
                about=self.folder,
            )
        return set()

    def _look_for_database(self) -> None:
        if not self.database.exists():
            raise Corrupt("is missing", remedy="make it anew with `learndock rebuild`", about=self.database)


def open_layout(folder: Path, *, create: bool) -> DockLayout:
    """The home in ``folder``; a new one where there is nothing yet and ``create`` says so.

    Raises:
        NotFound: there is no dock, and none is to be made.
        DockError: the folder holds something else, half a restored dock, or a dock of a newer learndock.
        Corrupt: its mark is damaged.
    """
    storage = DockLayout(folder)
    with storage.errors():
        if (folder / RESTORING).exists():
            raise DockError(
                "a restore into it did not end, or goes on", remedy="run `learndock restore` again", about=folder
            )
        if not (folder / MARK).exists():
            _found(folder, create=create)
        _check_mark(folder / MARK)
        for part in ("blobs", "learnwares", "staging"):
            if not (folder / part).is_dir():
                (folder / part).mkdir(exist_ok=True)
                sync_folder(folder)
        if not storage.database.exists():
            _first_database(storage)
    return storage


def _found(folder: Path, *, create: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise DockError("is a file", remedy="a dock is a folder", about=folder)
    foreign = folder.is_dir() and any(not _unfinished_mark(f) for f in folder.iterdir())
    # Looked at again: another process may have founded the dock in the meantime.
    if foreign and not (folder / MARK).exists():
        raise DockError(
            f"holds files but no {MARK}, so it is no dock", remedy="name an empty or a new folder", about=folder
        )
    if not create:
        raise NotFound("no dock here", remedy="`learndock add` makes one, or name another with --dock", about=folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / MARK) as out:
        out.write(json.dumps({"format": FORMAT}).encode() + b"\n")


def _unfinished_mark(file: Path) -> bool:
    # One who was killed while founding the dock leaves this; another may be founding it right now.
    return file.name == MARK or (file.name.startswith(f".{MARK}.") and file.name.endswith(".part"))


def _check_mark(mark: Path) -> None:
    try:
        source = json.loads(mark.read_bytes())
        found = source["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"damaged ({error})", remedy=f'it should read {{"format": {FORMAT}}}', about=mark) from None
    if found != FORMAT:
        raise DockError(
            f"the dock has format {found!r}, this learndock knows {FORMAT}",
            remedy="upgrade with `pip install --upgrade learndock`",
            about=mark,
        )


def _first_database(storage: DockLayout) -> None:
    with storage.locked():
        # Where learnwares were published, an empty database would deny them: that is for ``rebuild`` to mend.
        if storage.database.exists() or not storage.publications.empty():
            return
        for stale in storage.folder.glob("records-*.sqlite*"):
            stale.unlink(missing_ok=True)
        with storage.replace_database():
            pass


def is_address(named: str) -> bool:
    """Whether a dock is named by an address, and not by a folder."""
    return named.lower().startswith(("http://", "https://"))


def default_folder() -> Path:
    """The dock that is meant when none is named: ``LEARNDOCK_DOCK``, or one in the user's data folder."""
    named = os.environ.get("LEARNDOCK_DOCK")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("learndock")) / "dock"
