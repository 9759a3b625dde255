"""The dock's folder: which file is where, and how it is opened, read, and written by one writer at a time.

dock.json            {"format": 2}; its presence makes a folder a dock; 1 until a dock of learndock 0.1.0 is written
learnwares/          what was published and removed: the truth (see ``publications``)
blobs/               the files' bytes (see ``blobs``)
records.sqlite       what readers query (see ``records``); a symbolic link, so that a rebuild replaces it at once
service.json         marks a dock that is served: the service needs blobs too (see ``DockLayout.referred``)
leases/              what is being read (see ``leases``)
staging/             unfinished files; without a writer they are garbage
backup-RANDOM/       hard links to blobs while a backup copies them; garbage once its lock is free
adding-RANDOM/       a learnware's files before they get their names; garbage once its lock is free
restoring.json       present until a restore into the folder has finished; the dock cannot be opened until then
lock                 locked by the writer
reserve              room that deletions use where the disk is full (see ``reserve``)
collecting           locked by gc, and by a service while it adds references to blobs
"""

from __future__ import annotations

import contextlib
import json
import os
import re
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
from learndock.dock.storage.reserve import Reserve
from learndock.errors import Corrupt, DockError, NotFound, UsageError
from learndock.files import atomic_write, storage_errors, sync_folder

MARK = "dock.json"
RESTORING = "restoring.json"
#: In the folder of a dock that a service serves; the service writes it.
SERVED = "service.json"
FORMAT = 2
#: Formats that this learndock reads. Writing makes the older one ``FORMAT``, so that an older learndock refuses it.
KNOWN = (1, FORMAT)
#: The lock file in a folder that a process is using.
HELD = "held"
#: Seconds after which no process is still writing an unfinished mark.
_OLD = 3600.0
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_HOST_PORT = re.compile(r"(?:[a-z0-9_.-]+|\[[0-9a-f:]+\]):[0-9]{1,5}(?:/.*)?", re.IGNORECASE)


class DockLayout:
    """The folder of an existing dock; get one from ``open_layout``."""

    def __init__(self, folder: Path, blobs: BlobStore | None = None) -> None:
        self.folder = folder
        self.staging = folder / "staging"
        self.leases = folder / "leases"
        self.lock = folder / "lock"
        self.database = folder / "records.sqlite"
        self.publications = Publications(folder / "learnwares")
        self.reserve = Reserve(folder)
        self.blobs: BlobStore = blobs or DiskBlobs(folder / "blobs", self.staging)
        #: Returns the SHA-256 of blobs that something other than a learnware needs; a service sets it.
        self.referrers: Callable[[], set[str]] | None = None
        self.format = FORMAT
        self._idle: sqlite.Idle | None = None

    def keep_open(self) -> None:
        """Keep the database open between writes, for a process that writes often; ``close`` ends that."""
        self._idle = sqlite.Idle()

    def close(self) -> None:
        """Close what ``keep_open`` keeps."""
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def upgrade(self) -> None:
        """Mark a dock of an older format as one of ``FORMAT``; the caller holds the lock and is about to write."""
        if self.format != FORMAT:
            self._write_mark()
            self.format = FORMAT

    def _write_mark(self) -> None:
        with self.errors(), atomic_write(self.folder / MARK) as out:
            out.write(mark_bytes())

    @contextlib.contextmanager
    def read(self) -> Iterator[Records]:
        """Open the records for reading; each query sees one state of the dock."""
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
        """Hold the lock between ``gc`` and new references to blobs; take it after ``locked`` where both are needed.

        An unreferenced blob may already be on the list of a running ``gc``. Whatever adds a reference to it does so
        under this lock, so before or after that ``gc``, not during it.
        """
        with self.errors(), write_lock(self.folder / "collecting"):
            yield

    @contextlib.contextmanager
    def write(self) -> Iterator[Records]:
        """Open the records for writing; the caller holds the lock."""
        with self.errors():
            self._look_for_database()
            with sqlite.opened_to_write(self.database) as connection:
                if self._idle is not None:
                    self._idle.keep(self.database)
                yield Records(connection)

    @contextlib.contextmanager
    def replace_database(self) -> Iterator[Records]:
        """Yield new records that replace the present ones when the block ends; the caller holds the lock.

        The previous file stays for its readers until ``old_databases`` are deleted.
        """
        new = self.folder / f"records-{secrets.token_hex(4)}.sqlite"
        try:
            with self.errors():
                with sqlite.created(new) as connection:
                    yield Records(connection)
                link = self.staging / new.with_suffix(".link").name
                link.symlink_to(new.name)
                # A relative link is resolved from its own folder: it is valid only once it is moved.
                link.replace(self.database)
                sync_folder(self.folder)
        except BaseException:
            if not self.database.exists() or self.database.resolve() != new.resolve():
                for file in self.folder.glob(f"{new.name}*"):
                    file.unlink(missing_ok=True)
            raise

    def old_databases(self) -> list[Path]:
        """Return the database files that were replaced, and their logs."""
        current = self.database.resolve().name
        return [f for f in self.folder.glob("records-*.sqlite*") if not f.name.startswith(current)]

    @contextlib.contextmanager
    def hard_links(self) -> Iterator[Path]:
        """Yield a folder for hard links to blobs, deleted when the block ends; take the lock before you enter it.

        ``gc`` leaves the folder alone while its process lives.
        """
        with self._held_folder("backup") as folder:
            yield folder

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Yield a folder for files that are being added, deleted when the block ends; the caller holds no lock.

        ``gc`` leaves the folder alone while its process lives.
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
        # The dock's own mark is written before there is a lock, so its age decides.
        over = time.time() - _OLD
        return [*found, *(f for f in self.folder.glob(".*.json.*.part") if f.stat().st_mtime < over)]

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Translate the system's errors about the dock's files into ours.

        Raises:
            StorageFull: no room.
            StorageFailed: the disk reported an error.
            DockError: not readable, not writable.
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
            raise Corrupt("is missing", remedy="run `learndock rebuild`", about=self.database)


def open_layout(folder: Path, *, create: bool) -> DockLayout:
    """Return the layout of the dock in ``folder``; with ``create``, of a new dock where there is none.

    Raises:
        NotFound: there is no dock, and ``create`` is False.
        DockError: the folder holds something else, an unfinished restore, or a dock of a newer learndock.
        Corrupt: its mark is damaged.
    """
    storage = DockLayout(folder)
    with storage.errors():
        if (folder / RESTORING).exists():
            raise DockError(
                "a restore into it has not finished",
                remedy="wait for it, or run `learndock restore` again",
                about=folder,
            )
        if not (folder / MARK).exists():
            _make_dock(folder, create=create)
        storage.format = check_mark((folder / MARK).read_bytes(), folder / MARK)
        for part in ("blobs", "learnwares", "staging"):
            if not (folder / part).is_dir():
                (folder / part).mkdir(exist_ok=True)
                sync_folder(folder)
        if not storage.database.exists():
            _first_database(storage)
    return storage


def _make_dock(folder: Path, *, create: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise DockError("is a file; a dock is a folder", remedy="name a folder", about=folder)
    foreign = folder.is_dir() and any(not _unfinished_mark(f) for f in folder.iterdir())
    # Checked again: another process may have made the dock since.
    if foreign and not (folder / MARK).exists():
        raise DockError(
            f"holds files but no {MARK}, so it is not a dock", remedy="name an empty or a new folder", about=folder
        )
    if not create:
        raise NotFound("no dock here", remedy="`learndock add` makes one, or name another with --dock", about=folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / MARK) as out:
        out.write(mark_bytes())


def _unfinished_mark(file: Path) -> bool:
    # A process that was killed while it made the dock leaves this; another may be making it now.
    return file.name == MARK or (file.name.startswith(f".{MARK}.") and file.name.endswith(".part"))


def mark_bytes() -> bytes:
    """Return the content of a dock's mark."""
    return json.dumps({"format": FORMAT}).encode() + b"\n"


def check_mark(source: bytes, mark: Path | str) -> int:
    """Return the format of a dock whose mark holds ``source``.

    Raises:
        DockError: a newer learndock made the dock.
        Corrupt: the mark is damaged.
    """
    try:
        found = json.loads(source)["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"damaged ({error})", remedy=f'it should read {{"format": {FORMAT}}}', about=mark) from None
    if found not in KNOWN:
        raise DockError(
            f"the dock has format {found!r}, this learndock knows {FORMAT}",
            remedy="upgrade with `pip install --upgrade learndock`",
            about=mark,
        )
    return int(found)


def _first_database(storage: DockLayout) -> None:
    with storage.locked():
        # If learnwares were published, an empty database would hide them; that is a case for ``rebuild``.
        if storage.database.exists() or not storage.publications.empty():
            return
        for stale in storage.folder.glob("records-*.sqlite*"):
            stale.unlink(missing_ok=True)
        with storage.replace_database():
            pass


def is_address(named: str) -> bool:
    """Whether ``named`` is an address, not a folder."""
    return named.lower().startswith(("http://", "https://"))


def refuse_half_address(named: str) -> None:
    """Refuse what is meant as an address and is not one, so that it does not become a folder of that name.

    Raises:
        UsageError: ``named`` has another scheme than http and https, or is ``host:port`` without one.
    """
    if is_address(named):
        return
    if _SCHEME.match(named):
        raise UsageError(
            "is not the address of a service",
            remedy="services have addresses such as http://host:port; databases are settings of `learndock serve`",
            about=named,
        )
    if _HOST_PORT.fullmatch(named) and not Path(named).exists():
        raise UsageError(
            "would be a folder of that name",
            remedy=f"did you mean http://{named}? For a folder write ./{named}",
            about=named,
        )


def default_folder() -> Path:
    """Return the default dock: ``LEARNDOCK_DOCK``, or a folder in the user's data."""
    named = os.environ.get("LEARNDOCK_DOCK")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("learndock")) / "dock"
