"""Rebuild the database from the files on disk, when it is lost or damaged."""

from __future__ import annotations

from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.publications import Publication
from learndock.dock.storage.records import Row, Tombstone
from learndock.dock.storage.specs import spec_rows
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
        publications = _publications(storage)
        with storage.replace_database() as records, records.transaction():
            for done, publication in enumerate(publications, start=1):
                if publication.manifest is None:
                    records.bury(Tombstone(publication.name, publication.digest, publication.sequence))
                else:
                    manifest = storage.publications.manifest(publication)
                    row = Row(
                        publication.name, publication.digest, "published", publication.sequence, publication.manifest
                    )
                    try:
                        records.insert(row, manifest, spec_rows(lambda file: storage.blobs.open(file.sha256), manifest))
                    except (Corrupt, SpecError) as error:
                        raise _stuck(storage, publication, error) from None
                if progress is not None:
                    progress(done, len(publications))
    return sum(publication.published for publication in publications)


def _publications(storage: DockLayout) -> list[Publication]:
    found = [storage.publications.read(name) for name in storage.publications.names()]
    return sorted((s for s in found if s is not None), key=lambda s: (s.sequence, s.name))


def _stuck(storage: DockLayout, publication: Publication, error: LearndockError) -> Corrupt:
    return Corrupt(
        f"{error.what}; the database is as it was",
        remedy=f"move {storage.publications.file(publication.name)} away, run `learndock rebuild`, and add the "
        "learnware again from its folder",
    )
