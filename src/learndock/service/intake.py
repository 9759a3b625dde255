"""The files that come within one request: written to one folder, looked at there, and stored together.

    take each file -> keep: leases in one transaction, bytes synced together, then their names

An upload costs a few transactions and syncs per file; here they are per request, however many files it has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from learndock.dock.storage.layout import DockLayout
from learndock.errors import TooLarge
from learndock.files import storage_errors
from learndock.package.manifest import check_path
from learndock.service import views
from learndock.service.database import Database
from learndock.service.holdings import Holdings
from learndock.service.principal import Principal
from learndock.service.receiver import Blob, Hashes
from learndock.settings import Settings


class Intake:
    """Receives the files of one request after another; safe for threads."""

    def __init__(
        self, database: Database, storage: DockLayout, holdings: Holdings, root: Path, settings: Settings
    ) -> None:
        self._database, self._storage, self._holdings, self._settings = database, storage, holdings, settings
        self._root = root

    @contextlib.contextmanager
    def open(self, who: Principal) -> Iterator[Arrivals]:
        """Yield a folder for the files of one request of ``who``; what was not kept is deleted when the block ends."""
        who.need("write")
        with self.folder() as folder:
            yield Arrivals(who, folder, self)

    def folder(self) -> contextlib.AbstractContextManager[Path]:
        """Return an empty folder for the time of a ``with`` block, on the file system of the blobs."""
        return views.folder_of(self._storage.blobs, {}, self._root)

    def adopt(self, files: Mapping[str, Path]) -> None:
        """See ``BlobStore.adopt_all``; the files have leases."""
        self._storage.blobs.adopt_all(files)

    def keep(self, who: Principal, files: Mapping[Blob, Path]) -> None:
        """Store files durably, with a lease for each as ``Uploads`` gives one.

        Raises:
            QuotaExceeded: more bytes than ``who`` may keep; nothing was stored.
            StorageFull: no room.
        """
        if not files:
            return
        # The leases are committed before the blobs are stored, so that gc never sees a blob without one (see
        # ``Uploads._keep``).
        with self._storage.collection_lock(), self._database.write() as connection:
            there = self._holdings.held(connection, who, {b.sha256 for b in files})
            more = sum(b.size for b in files if b.sha256 not in there)
            if more:
                self._holdings.check_quota(connection, who, more)
            self._holdings.lease(connection, who, list(files))
        self._storage.blobs.adopt_all({b.sha256: path for b, path in files.items()})

    def check_size(self, size: int) -> None:
        """Check that the service takes files of ``size`` bytes.

        Raises:
            TooLarge: it does not.
        """
        if size > self._settings.max_file:
            raise TooLarge(f"{size} bytes, and this service takes files of at most {self._settings.max_file}")


class Arrivals:
    """The files of one request of ``who``, in ``folder``."""

    def __init__(self, who: Principal, folder: Path, intake: Intake) -> None:
        self.folder = folder
        self._who, self._intake = who, intake
        self._files: dict[Blob, Path] = {}
        self._taken = 0

    def take(self, size: int, pieces: Callable[[], Iterable[bytes | memoryview]], *, path: str = "") -> Blob:
        """Write a file of ``size`` bytes to the folder, as ``path``, and hash it; it is not stored yet.

        Raises:
            PackageError: not a path that a learnware's file can have.
            TooLarge: more than the service takes, or more than ``size``.
            StorageFull: no room.
        """
        self._intake.check_size(size)
        place, hashes = self.folder / (check_path(path) if path else f"{self._taken}"), Hashes(size)
        self._taken += 1
        with storage_errors(place), place.open("wb") as out:
            for piece in pieces():
                if hashes.passed + len(piece) > size:
                    raise TooLarge(f"more bytes than the {size} that were announced", remedy="send it again")
                out.write(piece)
                hashes.update(piece)
        blob = hashes.blob()
        self._files[blob] = place
        return blob

    def keep(self) -> None:
        """Store all files that were taken (see ``Intake.keep``)."""
        self._intake.keep(self._who, self._files)
        self._files = {}

    def adopt(self) -> None:
        """Store all files that were taken and have leases already; they stay in the folder, too.

        Raises:
            StorageFull: no room.
        """
        with self._intake.folder() as links, storage_errors(links):
            kept = {blob.sha256: links / blob.sha256 for blob in self._files}
            for blob, place in self._files.items():
                kept[blob.sha256].hardlink_to(place)
            self._intake.adopt(kept)
        self._files = {}
