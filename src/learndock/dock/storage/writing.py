"""How the state of a name changes: pending rows, then its file, then the rows that follow from the file.

    row 'pending' and new rows committed -> replace the name's file -> rows made those of the file
                                 the writer's lock held

Replacing the file (``publications``) decides. A writer that fails puts the file back and undoes its rows. One that is
killed leaves the name pending; the next writer makes the rows those of the file, whichever of both states it has.

A change of two names replaces two files, the deciding one first. The second file is kept with its pending row
beforehand, so that the next writer can replace it where a writer was killed between the two.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.publications import Publication, Version, parse
from learndock.dock.storage.records import CHANGING, Known, Records, SpecRow, disagreement
from learndock.errors import Corrupt, LearndockError, StorageFull
from learndock.files import sha256_bytes


@contextlib.contextmanager
def writing(storage: DockLayout) -> Iterator[Records]:
    """Yield the records for writing, with the lock held and earlier writers' work finished."""
    with storage.locked(), storage.write() as records:
        storage.upgrade()
        reconcile(storage, records)
        yield records


def reconcile(storage: DockLayout, records: Records) -> None:
    """Finish or drop what killed writers left, according to the files on disk; the caller holds the lock."""
    for name, doing in records.pending().items():
        _finish_second(storage, name, doing)
        publication = storage.publications.read(name)
        with records.transaction():
            if publication is None:
                records.forget(name)
            else:
                records.settle(publication)


def finish_pending(storage: DockLayout) -> None:
    """Finish or drop what a killed writer left, and migrate an older database.

    Waits for the lock only if the database is outdated. A damaged database or a full disk is ignored here: it must not
    prevent reading or rebuilding.
    """
    with contextlib.suppress(Corrupt, StorageFull):
        with storage.read() as records:
            outdated = records.outdated()
            if not outdated and not records.pending():
                return
        with storage.locked(wait=outdated) as held:
            if held:
                with storage.write() as records:
                    reconcile(storage, records)


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def agreed(storage: DockLayout, records: Records, name: str) -> Publication | None:
    """Return the state of ``name`` on which disk and database agree; the caller holds the lock.

    Raises:
        Corrupt: they disagree; overwriting either would lose something.
    """
    publication, known = storage.publications.read(name), records.known(name)
    if known != (None if publication is None else Known.of(publication)):
        raise disagreement(name)
    return publication


def begin(
    records: Records,
    after: Publication,
    second: Publication | None = None,
    specs: Iterable[SpecRow] | None = None,
    copied_from: str | None = None,
) -> None:
    """Record in the caller's transaction that a name, or two, will change.

    Its last version is new with ``specs``, or all its versions are those of the name ``copied_from``.
    """
    records.begin(after.name)
    if copied_from is not None:
        records.copy(copied_from, after)
    if specs is not None:
        records.insert(after.name, after.versions[-1], specs)
    if second is not None:
        records.begin(second.name, _doing(after, second))


@contextlib.contextmanager
def undone(
    storage: DockLayout, records: Records, before: Publication | None, *names: str, new_blobs: Iterable[str] = ()
) -> Iterator[None]:
    """Where the block fails, undo the rows that ``begin`` made, and delete the blobs that were new."""
    try:
        yield
    except BaseException:
        # The first error is the one to raise. What cannot be undone now, as on a full disk, does no harm: the name is
        # pending, and the next writer finishes or drops it.
        with contextlib.suppress(OSError, LearndockError, sqlite3.Error), storage.errors():
            found = storage.publications.read(names[0])
            if found == before:  # otherwise it could not be put back, and must not refer to blobs that are not there
                for sha256 in new_blobs:
                    storage.blobs.delete(sha256)
                reconcile(storage, records)
        raise


def replace(storage: DockLayout, records: Records, after: Publication, second: Publication | None = None) -> None:
    """Replace the file of a name, or of two, and make the rows those of the files; ``begin`` was committed before.

    Raises:
        StorageFull: no room; the files are what they were.
    """
    with contextlib.ExitStack() as files:
        files.enter_context(storage.publications.replaced(after))
        if second is not None:
            files.enter_context(storage.publications.replaced(second))
        with records.transaction():
            records.settle(after)
            if second is not None:
                records.settle(second)


def change(
    storage: DockLayout,
    records: Records,
    before: Publication | None,
    after: Publication,
    second: Publication | None = None,
    *,
    new_blobs: Iterable[str] = (),
    copied_from: str | None = None,
) -> None:
    """Change one name, or two, completely or not at all; the caller holds the lock.

    Raises:
        StorageFull: no room; nothing was changed.
    """
    names = [after.name] if second is None else [after.name, second.name]
    with undone(storage, records, before, *names, new_blobs=new_blobs):
        with records.transaction():
            begin(records, after, second, copied_from=copied_from)
        replace(storage, records, after, second)


def _doing(first: Publication, second: Publication) -> str:
    return json.dumps(
        {
            "with": first.name,
            "sha256": sha256_bytes(first.to_bytes()),
            "file": base64.b85encode(second.to_bytes()).decode(),
        }
    )


def _finish_second(storage: DockLayout, name: str, doing: str) -> None:
    """Replace the second file of a change whose first file was replaced."""
    if doing == CHANGING:
        return
    asked = json.loads(doing)
    first = storage.publications.read(asked["with"])
    if first is None or sha256_bytes(first.to_bytes()) != asked["sha256"]:
        return
    second = parse(base64.b85decode(asked["file"]), name, Path(name))
    with storage.publications.replaced(second):
        pass


def next_version(
    records: Records, before: Publication | None, *, digest: str, manifest: bytes, supersedes: str | None = None
) -> Version:
    """Return the version that a writer is about to publish under a name."""
    number = 1 if before is None else before.last + 1
    return Version(number, digest, records.next_sequence(), manifest, now(), supersedes)
