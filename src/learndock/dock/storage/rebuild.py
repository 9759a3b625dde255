"""Rebuild the database from the files on disk, when it is lost or damaged."""

from __future__ import annotations

import contextlib
import sqlite3

from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.publications import Publication
from learndock.dock.storage.records import Records
from learndock.dock.storage.specs import spec_rows
from learndock.dock.storage.writing import reconcile
from learndock.errors import Corrupt, LearndockError, SpecError
from learndock.package.formats import Progress


def rebuild(storage: DockLayout, *, progress: Progress | None = None) -> int:
    """Build a new database beside the present one, put it in place at once, and return its number of learnwares.

    Readers see the same ids in the same order with the same vectors as before.

    Raises:
        Corrupt: a record or a spec on disk is damaged; the present database stays.
        StorageFull: no room; the present database stays.
    """
    with storage.locked():
        _finish_pending(storage)
        publications = _publications(storage)
        _finish_moves(storage, publications)
        with storage.replace_database() as records, records.transaction():
            for done, publication in enumerate(publications, start=1):
                try:
                    _insert(storage, records, publication)
                except (Corrupt, SpecError) as error:
                    raise _stuck(storage, publication, error) from None
                if progress is not None:
                    progress(done, len(publications))
    return sum(publication.published for publication in publications)


def _finish_pending(storage: DockLayout) -> None:
    """Finish a change of two names that was interrupted, as far as the present database knows of it."""
    with contextlib.suppress(LearndockError, sqlite3.Error), storage.write() as records:
        reconcile(storage, records)


def _finish_moves(storage: DockLayout, publications: list[Publication]) -> None:
    """Finish moves of which only the new name's file was written; the learnware with more former names is the newer."""
    by_name = {publication.name: place for place, publication in enumerate(publications)}
    for new in publications:
        place = by_name.get(new.former[-1]) if new.former else None
        old = None if place is None else publications[place]
        if place is not None and old is not None and old.published and len(old.former) < len(new.former):
            publications[place] = old.left(new.name)
            with storage.publications.replaced(publications[place]):
                pass


def _insert(storage: DockLayout, records: Records, publication: Publication) -> None:
    for version in publication.published_versions():
        manifest = storage.publications.manifest(publication, version)
        records.insert(publication.name, version, spec_rows(lambda file: storage.blobs.open(file.sha256), manifest))
    records.settle(publication)


def _publications(storage: DockLayout) -> list[Publication]:
    found = [storage.publications.read(name) for name in storage.publications.names()]
    return sorted((s for s in found if s is not None), key=lambda s: s.name)


def _stuck(storage: DockLayout, publication: Publication, error: LearndockError) -> Corrupt:
    return Corrupt(
        f"{error.what}; the database is as it was",
        remedy=f"move {storage.publications.file(publication.name)} away, run `learndock rebuild`, and add the "
        "learnware again from its folder",
    )
