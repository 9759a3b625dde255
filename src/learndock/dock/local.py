"""A dock on this machine: in a folder, or with its records in PostgreSQL and its bytes in an object store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from learndock.dock.admission import Admit, Admitted, admit
from learndock.dock.protocol import GcResult, Problem, Record, records_table
from learndock.dock.storage import lookup
from learndock.dock.storage.export import export
from learndock.dock.storage.gc import gc
from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.publish import publish, remove
from learndock.dock.storage.rebuild import rebuild
from learndock.dock.storage.records import Row
from learndock.dock.storage.specs import stored_spec
from learndock.dock.storage.verify import verify
from learndock.errors import Corrupt, PackageError
from learndock.package.formats import Progress
from learndock.package.manifest import Manifest
from learndock.spec.spec import Array, Spec


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


class LocalDock:
    """A ``Dock`` on this machine; get one from ``open_dock``. Safe for threads and processes: one writes, all read.

    ``storage`` is where it keeps its records and bytes. ``admit`` checks each folder that is added; a service replaces
    it by one that does the same in another process.
    """

    def __init__(self, storage: DockLayout, *, admit: Admit = admit) -> None:
        self.storage = storage
        self.admit = admit

    @property
    def folder(self) -> Path:
        """The dock's folder; a server-backed dock keeps only unfinished things there."""
        return self.storage.folder

    def __len__(self) -> int:
        with self.storage.read() as records:
            return records.count()

    def __repr__(self) -> str:
        count = len(self)
        return f"<LocalDock {self.folder}: {count} learnware{'' if count == 1 else 's'}>"

    def _repr_html_(self) -> str:
        return records_table(self.records(), str(self.folder))

    def add(self, folder: str | Path, *, vouched: bool = False, progress: Progress | None = None) -> Record:
        """See ``Dock.add``; with ``vouched`` the gate admits specs that copy another's or are hubs (see ``gate``)."""
        return self.publish(self.admit(Path(folder)), vouched=vouched, progress=progress)

    def publish(
        self, admitted: Admitted, *, vouched: bool = False, progress: Progress | None = None, stored: bool = False
    ) -> Record:
        """Publish a learnware that was admitted; with ``stored`` its files are in the blob store already.

        Raises:
            See ``add``.
        """
        row = publish(self.storage, admitted, vouched=vouched, progress=progress, stored=stored)
        return Record(row.name, row.digest, admitted.manifest, row.sequence)

    def records(self, *, known: Mapping[str, Record] = MappingProxyType({})) -> list[Record]:
        """See ``Dock.records``; those of ``known``, by id, are not parsed again."""
        with self.storage.read() as records:
            rows = records.rows()
        found = ((known.get(f"{row.name}@{row.digest}"), row) for row in rows)
        return [r if r is not None and r.sequence == row.sequence else _record(row) for r, row in found]

    def get_record(self, which: str) -> Record:
        """See ``Dock.get_record``; the error suggests similar names."""
        with self.storage.read() as records:
            return _record(lookup.find(records, which))

    def remove(self, which: str) -> Record:
        """See ``Dock.remove``; the files stay until ``gc``.

        Raises:
            NotFound: there is no such learnware.
            StorageFull: no room for the tombstone; nothing was changed.
        """
        return _record(remove(self.storage, which))

    def get(self, which: str, out: str | Path, *, progress: Progress | None = None) -> Path:
        """See ``Dock.get``."""
        return export(self.storage, which, Path(out), progress=progress)

    def verify(self, which: str | None = None, *, progress: Progress | None = None) -> list[Problem]:
        """Hash the files of one learnware, or of all, again; compare records and database. Progress is in bytes.

        Raises:
            NotFound: there is no such learnware.
        """
        return verify(self.storage, which, progress=progress)

    def rebuild(self, *, progress: Progress | None = None) -> int:
        """Rebuild the database from the files; returns the number of learnwares. Progress is in names.

        Raises:
            Corrupt: a record or a spec on disk is damaged; the database is as it was.
            StorageFull: no room; the database is as it was.
        """
        return rebuild(self.storage, progress=progress)

    def gc(self) -> GcResult:
        """Delete unreferenced files: blobs of removed learnwares, and the leftovers of interrupted commands.

        Raises:
            Corrupt: a record on disk is damaged; nothing was deleted.
            DockError: the dock is served, and ``storage.referrers`` is not set; nothing was deleted.
        """
        return gc(self.storage)

    def spaces(self) -> dict[str, tuple[str, int]]:
        """See ``Dock.spaces``."""
        with self.storage.read() as records:
            return records.spaces()

    def spec(self, which: str, space_id: str) -> Spec:
        """See ``Dock.spec``."""
        record = self.get_record(which)
        entry, file = record.spec_file(space_id)
        return stored_spec(self.storage.blobs, record.manifest, entry, file)

    def vectors(self, space_id: str, *, names: Sequence[str] | None = None) -> SpecTable:
        """Return all specs of a space, or those of some learnwares; empty where there are none.

        Raises:
            Corrupt: the database is damaged.
        """
        with self.storage.read() as records:
            ids, domain, behaviour, reliability = records.table(space_id, names)
        return SpecTable(tuple(ids), self._matrix(domain), self._matrix(behaviour), np.array(reliability, np.float64))

    def _matrix(self, rows: list[bytes]) -> NDArray[np.float32]:
        width = len(rows[0]) if rows else 0
        if any(len(row) != width for row in rows):
            raise Corrupt(
                "specs of one space differ in width", remedy="run `learndock rebuild`", about=self.storage.database
            )
        flat = np.frombuffer(b"".join(rows), dtype="<f4").astype(np.float32)
        return flat.reshape(len(rows), width // 4)


def _record(row: Row) -> Record:
    try:
        manifest = Manifest.from_bytes(row.manifest, where=row.name)
    except PackageError as error:
        raise Corrupt(f"{error}", remedy="run `learndock rebuild`") from None
    return Record(row.name, row.digest, manifest, row.sequence)
