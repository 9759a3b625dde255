"""The database made anew from the files on disk: what to do when it is lost or damaged."""

from __future__ import annotations

from learndock.dock.storage.layout import Home
from learndock.dock.storage.publications import Standing
from learndock.dock.storage.records import Row, Tombstone
from learndock.dock.storage.specs import spec_rows
from learndock.errors import Corrupt, SpecError
from learndock.package.formats import Progress


def rebuild(home: Home, *, progress: Progress | None = None) -> int:
    """Make the database anew, beside the present one, and put it in place at once; returns its length.

    Readers see the same ids in the same order with the same vectors as before.

    Raises:
        Corrupt: a record or a spec on disk is damaged; the present database stays.
        StorageFull: no room; the present database stays.
    """
    with home.locked():
        standings = _standings(home)
        with home.replace_database() as records, records.transaction():
            for done, standing in enumerate(standings, start=1):
                if standing.manifest is None:
                    records.bury(Tombstone(standing.name, standing.digest, standing.sequence))
                else:
                    manifest = home.shelf.manifest(standing)
                    row = Row(standing.name, standing.digest, "published", standing.sequence, standing.manifest)
                    try:
                        records.insert(row, manifest, spec_rows(home.blobs, manifest))
                    except (Corrupt, SpecError) as error:
                        raise _stuck(home, standing, error) from None
                if progress is not None:
                    progress(done, len(standings))
    return sum(standing.published for standing in standings)


def _standings(home: Home) -> list[Standing]:
    found = [home.shelf.read(name) for name in home.shelf.names()]
    return sorted((s for s in found if s is not None), key=lambda s: (s.sequence, s.name))


def _stuck(home: Home, standing: Standing, error: Exception) -> Corrupt:
    return Corrupt(
        f"{error}; the database is as it was. Move {home.shelf.file(standing.name)} away, run "
        "`learndock rebuild`, and add the learnware again from its folder"
    )
