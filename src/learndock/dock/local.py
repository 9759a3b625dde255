"""The embedded dock: a folder on this machine, and what one can do with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from learndock.dock.admission import Admit, admit
from learndock.dock.storage import lookup
from learndock.dock.storage.export import export
from learndock.dock.storage.gc import Collected, collect
from learndock.dock.storage.layout import Home, default_folder, is_address, settle
from learndock.dock.storage.publish import publish, reconcile, remove
from learndock.dock.storage.rebuild import rebuild
from learndock.dock.storage.records import Row
from learndock.dock.storage.specs import stored_spec
from learndock.dock.storage.verify import Problem, verify
from learndock.errors import Corrupt, NotFound, PackageError, StorageFull, UsageError
from learndock.package.formats import Progress
from learndock.package.manifest import Manifest
from learndock.spec.spec import Array, Spec


@dataclass(frozen=True)
class Record:
    """A learnware of the dock; ``sequence`` grows in the order of addition."""

    name: str
    digest: str
    manifest: Manifest
    sequence: int

    @property
    def id(self) -> str:
        """``owner/name@sha256``."""
        return f"{self.name}@{self.digest}"


@dataclass(frozen=True, eq=False)
class SpecTable:
    """The specs of a space in order of addition.

    ``domain`` ``(N, D)`` and ``behaviour`` ``(N, k)`` are float32, ``reliability`` ``(N,)`` float64.
    """

    ids: tuple[str, ...]
    domain: Array
    behaviour: Array
    reliability: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)


def open_dock(
    path: str | Path | None = None,
    *,
    create: bool = True,
    admit: Admit = admit,
) -> Dock:
    """Open the dock in the folder ``path``; a new one where there is nothing yet, unless ``create`` is False.

    Without ``path`` it is ``LEARNDOCK_DOCK``, or a folder in the user's data. ``admit`` is the
    check of what comes in; a stricter one may stand in its place. An address, ``http://...``, is the dock of a
    service there; the token is that of ``learndock login``.

    Raises:
        NotFound: there is no dock, and none is to be made.
        DockError: the folder holds something else, or a dock of a newer learndock.
    """
    named = os.environ.get("LEARNDOCK_DOCK") if path is None else path
    if isinstance(named, str) and is_address(named):
        from learndock.dock.remote.dock import RemoteDock

        return RemoteDock(named, admit=admit)
    home = settle(default_folder() if path is None else Path(path).expanduser(), create=create)
    dock = Dock(home, admit=admit)
    dock._tidy()
    return dock


class Dock:
    """A dock; get one from ``open_dock``. Safe for threads and processes: one writes, all read meanwhile."""

    #: Its address, where it lies behind one; None for a folder.
    url: str | None = None

    def __init__(self, home: Home, *, admit: Admit) -> None:
        self._home = home
        self._admit = admit

    @property
    def folder(self) -> Path:
        """Where the dock lies."""
        return self._home.folder

    def __len__(self) -> int:
        with self._home.read() as records:
            return records.count()

    def add(
        self, folder: str | Path, *, vouched: bool = False, progress: Progress | None = None, private: bool = False
    ) -> Record:
        """Check a learnware folder and publish it; the same content again gives the same record.

        ``vouched``: let its specs in although they copy another's, or are near to everything (see ``gate``).
        Progress is in bytes stored. A folder has nothing ``private``: who may read it, reads all.

        Raises:
            UsageError: ``private`` is asked for.
            PackageError, UnsafeModel, SpecError: it may not be stored; nothing was changed.
            SuspectSpec: a spec would crowd out others; nothing was changed.
            Conflict: the name stands, or stood, for other content.
            StorageFull: no room; nothing was changed.
        """
        if private:
            raise UsageError("a dock in a folder has nothing private; name a service with --dock http://...")
        admitted = self._admit(Path(folder))
        return _record(publish(self._home, admitted, vouched=vouched, progress=progress))

    def records(self, *, known: Mapping[str, Record] = MappingProxyType({})) -> list[Record]:
        """All learnwares, in order of addition; those of ``known``, by id, are not read anew."""
        with self._home.read() as records:
            rows = records.rows()
        found = ((known.get(f"{row.name}@{row.digest}"), row) for row in rows)
        return [r if r is not None and r.sequence == row.sequence else _record(row) for r, row in found]

    def get_record(self, which: str) -> Record:
        """The learnware ``owner/name`` or ``owner/name@`` and at least 6 hexadecimal digits.

        Raises:
            UsageError: what stands behind the @ is no version.
            NotFound: there is none; the message suggests names that are close.
        """
        with self._home.read() as records:
            return _record(lookup.find(records, which))

    def remove(self, which: str) -> Record:
        """Take a learnware out; its name keeps a tombstone, so that it never stands for other content.

        Its bytes stay until ``collect``.

        Raises:
            NotFound: there is no such learnware.
            StorageFull: no room for the tombstone; nothing was changed.
        """
        return _record(remove(self._home, which))

    def export(self, which: str, out: str | Path, *, progress: Progress | None = None) -> Path:
        """Write the learnware as the folder ``out``, hashing every file on the way. Progress is in bytes.

        Raises:
            NotFound: there is no such learnware.
            UsageError: ``out`` exists and is not an empty folder.
            Corrupt: a stored file is missing or damaged; ``out`` was not made.
            StorageFull: no room at ``out``, which was not made.
        """
        return export(self._home, which, Path(out), progress=progress)

    def verify(self, which: str | None = None, *, progress: Progress | None = None) -> list[Problem]:
        """Re-hash the files of one learnware, or of all; compare records and database. Progress is in bytes.

        Raises:
            NotFound: there is no such learnware.
        """
        return verify(self._home, which, progress=progress)

    def rebuild(self, *, progress: Progress | None = None) -> int:
        """Make the database anew from the files; returns the number of learnwares. Progress is in names.

        Raises:
            Corrupt: a record or a spec on disk is damaged; the database is as it was.
            StorageFull: no room; the database is as it was.
        """
        return rebuild(self._home, progress=progress)

    def collect(self) -> Collected:
        """Delete what nobody refers to: blobs of removed learnwares, and what killed writers left.

        Raises:
            Corrupt: a record on disk is damaged; nothing was deleted.
        """
        return collect(self._home)

    def spaces(self) -> dict[str, tuple[str, int]]:
        """Space id -> its name and how many learnwares have a spec in it."""
        with self._home.read() as records:
            return records.spaces()

    def vectors(self, space_id: str, *, names: Sequence[str] | None = None) -> SpecTable:
        """All specs of a space, or those of some learnwares; empty where there are none.

        Raises:
            Corrupt: the database is damaged.
        """
        with self._home.read() as records:
            ids, domain, behaviour, reliability = records.table(space_id, names)
        return SpecTable(tuple(ids), self._matrix(domain), self._matrix(behaviour), np.array(reliability, np.float64))

    def spec(self, which: str, space_id: str) -> Spec:
        """The whole spec of a learnware in one space.

        Raises:
            NotFound: no such learnware, or none of its specs is of that space.
            Corrupt: the stored bytes are damaged.
        """
        manifest = self.get_record(which).manifest
        for entry in manifest.specs:
            if entry.space_id == space_id:
                file = next(f for f in manifest.files if f.path == entry.path)
                return stored_spec(self._home.blobs, manifest, entry, file)
        raise NotFound(f"{which}: has no spec of the space {space_id[:12]}")

    def _matrix(self, rows: list[bytes]) -> NDArray[np.float32]:
        width = len(rows[0]) if rows else 0
        if any(len(row) != width for row in rows):
            raise Corrupt(f"{self._home.database}: specs of one space differ in width; run `learndock rebuild`")
        flat = np.frombuffer(b"".join(rows), dtype="<f4").astype(np.float32)
        return flat.reshape(len(rows), width // 4)

    def _tidy(self) -> None:
        # Whoever opens a dock whose writer was killed finishes that writer's work. Readers do without: a
        # database that is damaged, or a disk that is full, must not keep anyone from reading or rebuilding.
        with contextlib.suppress(Corrupt, StorageFull):
            with self._home.read() as records:
                outdated = records.outdated()
                if not outdated and not records.pending():
                    return
            with self._home.locked(wait=outdated) as held:
                if held:
                    with self._home.write() as records:
                        reconcile(self._home, records)


def _record(row: Row) -> Record:
    try:
        manifest = Manifest.from_bytes(row.manifest, where=row.name)
    except PackageError as error:
        raise Corrupt(f"{error}; run `learndock rebuild`") from None
    return Record(row.name, row.digest, manifest, row.sequence)
