"""Publishing and removing: the only two things that change what readers see.

    put blobs -> row 'publishing' and specs -> replace the name's file -> row 'published'
                 row 'removing'             -> replace the name's file -> row gone, tombstone

The replacement of the name's file (``shelf``) is the moment that counts. A writer that fails undoes what it
did; one that is killed leaves a row with a note of its intent, and the next writer finishes or forgets it by
looking at that file.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from learndock.dock.admission import Admitted
from learndock.dock.gate import Newcomer, check_canonical, check_newcomer
from learndock.dock.storage import lookup
from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.publications import Publication
from learndock.dock.storage.records import Records, Row, SpecRow, Tombstone
from learndock.dock.storage.specs import spec_rows
from learndock.errors import Conflict, Corrupt, LearndockError, PackageError, StorageFull
from learndock.package.formats import Progress
from learndock.package.manifest import File


@contextlib.contextmanager
def writing(storage: DockLayout) -> Iterator[Records]:
    """The records, with the lock held and nothing left unfinished."""
    with storage.locked(), storage.write() as records:
        reconcile(storage, records)
        yield records


def reconcile(storage: DockLayout, records: Records) -> None:
    """Finish or forget what killed writers left, by what the disk says; the caller holds the lock."""
    for row in records.pending():
        publication = storage.publications.read(row.name)
        there = publication is not None and publication.published and publication.digest == row.digest
        with records.transaction():
            if row.state == "publishing" and not there:
                records.forget(row.name)
            elif row.state == "removing" and publication is not None and not publication.published:
                records.bury(Tombstone(row.name, publication.digest, publication.sequence))
            else:
                records.publish(row.name)


def finish_pending(storage: DockLayout) -> None:
    """Finish or forget what a killed writer left, and bring an older database to its present form.

    Waits only for an outdated database. Readers do without: a damaged database or a full disk must not keep anyone
    from reading or rebuilding.
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


def publish(storage: DockLayout, admitted: Admitted, *, vouched: bool = False, progress: Progress | None = None) -> Row:
    """Store an admitted learnware; returns its row, also where the same content is there already.

    ``vouched``: whoever keeps the dock answers for its specs, so the gate lets copies and hubs in.

    Raises:
        SuspectSpec: the gate does not let one of its specs in; nothing was changed.
        Conflict: the name stands, or stood, for other content.
        PackageError: the folder changed since it was admitted.
        StorageFull: no room; nothing was changed.
    """
    manifest = admitted.manifest
    source, digest = manifest.to_bytes(), manifest.digest
    with writing(storage) as records:
        before = _agreed(storage, records, manifest.name)
        _refuse_other_content(manifest.name, digest, before)
        if before is not None and before.published:
            # The same again. Putting the files once more mends a blob that was damaged since.
            _put_files(storage, admitted, [], progress)
            return Row(manifest.name, digest, "published", before.sequence, source)
        row = Row(manifest.name, digest, "publishing", records.next_sequence(), source)
        new_blobs: list[str] = []
        try:
            _put_files(storage, admitted, new_blobs, progress)
            specs = spec_rows(storage.blobs, manifest)
            _pass_gate(records, manifest.name, specs, vouched=vouched)
            with records.transaction():
                records.insert(row, manifest, specs)
            with (
                storage.publications.replaced(Publication(row.name, row.sequence, digest, source)),
                records.transaction(),
            ):
                records.publish(row.name)
        except BaseException:
            _undo_publish(storage, records, row.name, before, new_blobs)
            raise
        return row


def _pass_gate(records: Records, name: str, specs: list[SpecRow], *, vouched: bool) -> None:
    for spec in specs:
        newcomer = Newcomer(name, spec.space_id, spec.domain, spec.behaviour)
        check_canonical(newcomer)
        if not vouched:
            check_newcomer(newcomer, records)


def remove(storage: DockLayout, which: str) -> Row:
    """Take a learnware out of the dock; its name keeps a tombstone. Its blobs go with ``collect``.

    Raises:
        NotFound: there is no such learnware.
        StorageFull: no room for the tombstone; nothing was changed.
    """
    with writing(storage) as records:
        row = lookup.find(records, which)
        before = _agreed(storage, records, row.name)
        if before is None:
            raise _disagreement(row.name)
        try:
            with records.transaction():
                records.set_state(row.name, "removing")
            with storage.publications.replaced(before.removed()), records.transaction():
                records.bury(Tombstone(row.name, before.digest, before.sequence))
        except BaseException:
            _undo_remove(storage, records, before)
            raise
        return row


def _agreed(storage: DockLayout, records: Records, name: str) -> Publication | None:
    """What disk and database say of ``name``, where they agree.

    Raises:
        Corrupt: they do not; overwriting either would lose something.
    """
    publication = storage.publications.read(name)
    row, tombstone = records.row(name), records.tombstone(name)
    known = row or tombstone
    if (publication is None) != (known is None):
        raise _disagreement(name)
    if publication is not None and known is not None:
        same = publication.digest == known.digest and publication.sequence == known.sequence
        if not same or publication.published != (row is not None):
            raise _disagreement(name)
    return publication


def _disagreement(name: str) -> Corrupt:
    return Corrupt("the database and the files on disk disagree", remedy="run `learndock rebuild`", about=name)


def _refuse_other_content(name: str, digest: str, before: Publication | None) -> None:
    if before is None or before.digest == digest:
        return
    if before.published:
        raise Conflict(
            f"the dock has this name with other content (version {before.digest[:12]}, yours is {digest[:12]})",
            remedy="versions never change, so pack yours under another name",
            about=name,
        )
    raise Conflict(
        f"this name was removed and keeps a tombstone for version {before.digest[:12]}; yours is "
        f"{digest[:12]}, so pack it under another name (the removed content itself may be added again)",
        about=name,
    )


def _put_files(storage: DockLayout, admitted: Admitted, new: list[str], progress: Progress | None) -> None:
    total = sum(f.size for f in admitted.manifest.files)
    done = 0
    for file in admitted.manifest.files:
        if _put_file(storage, admitted.folder / file.path, file):
            new.append(file.sha256)
        done += file.size
        if progress is not None:
            progress(done, total)


def _put_file(storage: DockLayout, path: Path, file: File) -> bool:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise PackageError(f"cannot be read ({error.strerror})", about=path) from None
    with stream:
        try:
            return storage.blobs.put(stream, sha256=file.sha256, size=file.size)
        except Corrupt as error:
            raise PackageError(f"{error}; the folder changed while it was being added") from None


def _undo_publish(
    storage: DockLayout, records: Records, name: str, before: Publication | None, new_blobs: list[str]
) -> None:
    # The error that brought us here is the one to tell. What cannot be undone now, as on a full disk, is in
    # order still: the note of intent stands, and the next writer finishes or forgets it.
    with contextlib.suppress(OSError, LearndockError, sqlite3.Error):
        if storage.publications.read(name) != before:
            return  # it could not be put back, and must not stand for blobs that are not there
        for sha256 in new_blobs:
            storage.blobs.delete(sha256)
        with records.transaction():
            records.forget(name)


def _undo_remove(storage: DockLayout, records: Records, before: Publication) -> None:
    with contextlib.suppress(OSError, LearndockError, sqlite3.Error):
        if storage.publications.read(before.name) == before:
            with records.transaction():
                records.publish(before.name)
