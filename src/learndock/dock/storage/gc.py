"""Delete what is not referenced: blobs of removed versions, and what killed writers left."""

from __future__ import annotations

import contextlib
import shutil

from learndock.dock.protocol import GcResult
from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.leases import leases
from learndock.dock.storage.writing import reconcile


def referenced(storage: DockLayout) -> set[str]:
    """Return the SHA-256 of every blob of a published version and of every card, according to the files on disk.

    Raises:
        Corrupt: a record is damaged, so that its blobs are unknown.
    """
    found: set[str] = set()
    for name in storage.publications.names():
        publication = storage.publications.read(name)
        if publication is not None:
            found |= publication.cards()
            for version in publication.published_versions():
                found.update(f.sha256 for f in storage.publications.manifest(publication, version).files)
    return found


def gc(storage: DockLayout) -> GcResult:
    """Delete unreferenced blobs that are not being read, unfinished files and replaced databases.

    Needs no room on the disk: the files alone decide, and the database is opened last.

    Raises:
        Corrupt: a record is damaged; nothing was deleted.
        DockError: a service needs blobs, and cannot be asked which; nothing was deleted.
    """
    with storage.locked():
        with storage.collection_lock():
            # The list of blobs comes first, so that blobs that are added now are not on it.
            there = list(storage.blobs.digests())
            needed = referenced(storage) | storage.referred()
            held, dead = leases(storage.leases)
            unneeded = [sha256 for sha256 in there if sha256 not in needed]
            spared = [sha256 for sha256 in unneeded if sha256 in held]
            for sha256 in unneeded:
                if sha256 not in held:
                    storage.blobs.delete(sha256)
        unfinished = [*storage.staging.iterdir(), *storage.publications.leftovers(), *storage.old_databases(), *dead]
        unfinished += storage.abandoned()
        for path in unfinished:
            if path.is_dir() and not path.is_symlink():
                with contextlib.suppress(FileNotFoundError):  # a backup that ended just now deleted it
                    shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        with storage.write() as records:
            reconcile(storage, records)
    return GcResult(len(unneeded) - len(spared), len(unfinished), len(spared))
