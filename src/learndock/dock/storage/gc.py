"""Clearing away what nobody refers to: blobs of removed learnwares, and what killed writers left."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass

from learndock.dock.storage.layout import Home
from learndock.dock.storage.leases import leases
from learndock.dock.storage.publish import reconcile


@dataclass(frozen=True)
class Collected:
    """How many things were cleared away; ``leased`` blobs are being read and go the next time."""

    blobs: int
    unfinished: int
    leased: int = 0


def referenced(home: Home) -> set[str]:
    """SHA-256 of every blob that a published learnware has, by what the disk says.

    Raises:
        Corrupt: a record is damaged, so that its blobs cannot be known.
    """
    found: set[str] = set()
    for name in home.shelf.names():
        standing = home.shelf.read(name)
        if standing is not None and standing.published:
            found.update(f.sha256 for f in home.shelf.manifest(standing).files)
    return found


def collect(home: Home) -> Collected:
    """Delete unreferenced blobs that nobody is reading, unfinished files and replaced databases.

    Needs no room on the disk: it goes by the files alone, and looks after the database once there is room.

    Raises:
        Corrupt: a record is damaged; nothing was deleted.
        DockError: who refers to blobs cannot be known from here; nothing was deleted.
    """
    with home.locked():
        with home.sparing():
            # The list of blobs first: one that comes meanwhile is not on it, whoever refers to it.
            there = list(home.blobs.digests())
            needed = referenced(home) | home.referred()
            held, dead = leases(home.leases)
            unneeded = [sha256 for sha256 in there if sha256 not in needed]
            spared = [sha256 for sha256 in unneeded if sha256 in held]
            for sha256 in unneeded:
                if sha256 not in held:
                    home.blobs.delete(sha256)
        unfinished = [*home.staging.iterdir(), *home.shelf.leftovers(), *home.old_databases(), *dead]
        unfinished += home.abandoned()
        for path in unfinished:
            if path.is_dir() and not path.is_symlink():
                with contextlib.suppress(FileNotFoundError):  # a backup that ended just now was first
                    shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        with home.write() as records:
            reconcile(home, records)
    return Collected(len(unneeded) - len(spared), len(unfinished), len(spared))
