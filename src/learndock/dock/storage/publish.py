"""Publish and remove: the only two operations that change what readers see.

    hash and stage files | name blobs -> row 'publishing' and specs -> replace the name's file -> row 'published'
                         |               row 'removing'             -> replace the name's file -> row gone, tombstone
            no lock held | the writer's lock held

Replacing the name's file (``publications``) decides. A writer that fails undoes its changes. One that is killed leaves
a row whose state says what it was doing; the next writer finishes or drops it, according to that file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from learndock.dock.admission import Admitted
from learndock.dock.gate import Newcomer, check_canonical, check_newcomer
from learndock.dock.storage import lookup
from learndock.dock.storage.blobs import copy_checked
from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.publications import Publication
from learndock.dock.storage.records import Records, Row, SpecRow, Tombstone
from learndock.dock.storage.specs import spec_rows
from learndock.errors import Conflict, Corrupt, LearndockError, PackageError, StorageFull
from learndock.files import storage_errors
from learndock.package.formats import Progress
from learndock.package.manifest import File, Manifest


@contextlib.contextmanager
def writing(storage: DockLayout) -> Iterator[Records]:
    """Yield the records for writing, with the lock held and earlier writers' work finished."""
    with storage.locked(), storage.write() as records:
        reconcile(storage, records)
        yield records


def reconcile(storage: DockLayout, records: Records) -> None:
    """Finish or drop what killed writers left, according to the files on disk; the caller holds the lock."""
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


class _Collected(Exception):
    """A blob that was there when the files were hashed is gone: ``gc`` deleted it since."""


def publish(
    storage: DockLayout,
    admitted: Admitted,
    *,
    vouched: bool = False,
    progress: Progress | None = None,
    stored: bool = False,
) -> Row:
    """Store an admitted learnware and return its row; the same content may be there already.

    All bytes are read and hashed before the writer's lock is taken, so that other writers wait only for renames and
    rows. With ``stored`` the files came in through ``BlobStore.adopt``, whose caller hashed them, and are not read.
    With ``vouched`` the operator vouches for the specs, so the gate admits copies and hubs. Progress is in bytes.

    Raises:
        SuspectSpec: the gate refuses a spec; nothing was changed.
        Conflict: the name is, or was, taken by other content.
        PackageError: the folder changed since it was admitted, or a file is not stored.
        StorageFull: no room; nothing was changed.
    """
    manifest = admitted.manifest
    _refuse_early(storage, manifest)
    specs = _specs(admitted)
    if stored:
        try:
            return _publish(storage, manifest, specs, {}, vouched=vouched)
        except _Collected as error:
            raise PackageError(
                "the bytes of {about} are not stored", remedy="upload it again", about=str(error)
            ) from None
    with storage.workspace() as place:
        staged: dict[str, Path] = {}
        while True:
            with storage.errors():
                _stage(storage, admitted, place, staged, progress)
            try:
                return _publish(storage, manifest, specs, staged, vouched=vouched)
            except _Collected:
                continue


def _publish(
    storage: DockLayout, manifest: Manifest, specs: list[SpecRow], staged: Mapping[str, Path], *, vouched: bool
) -> Row:
    source, digest = manifest.to_bytes(), manifest.digest
    with writing(storage) as records:
        before = _agreed(storage, records, manifest.name)
        _refuse_other_content(manifest.name, digest, before)
        _need_files(storage, manifest, staged)
        new_blobs: list[str] = []
        if before is not None and before.published:
            # The same content: blobs that were damaged since are replaced.
            _adopt(storage, manifest, staged, new_blobs)
            return Row(manifest.name, digest, "published", before.sequence, source)
        row = Row(manifest.name, digest, "publishing", records.next_sequence(), source)
        try:
            _pass_gate(records, manifest.name, specs, vouched=vouched)
            _adopt(storage, manifest, staged, new_blobs)
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
    """Take a learnware out of the dock; its name stays reserved for its content. Its blobs stay until ``gc``.

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
    """Return the state of ``name`` on which disk and database agree.

    Raises:
        Corrupt: they disagree; overwriting either would lose something.
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


def _refuse_early(storage: DockLayout, manifest: Manifest) -> None:
    """Refuse other content under a published name before its files are read; this is checked again under the lock."""
    publication = storage.publications.read(manifest.name)
    with storage.read() as records:
        row = records.row(manifest.name)
    if row is not None and publication is not None and row.digest == publication.digest:
        _refuse_other_content(manifest.name, manifest.digest, publication)


def _refuse_other_content(name: str, digest: str, before: Publication | None) -> None:
    if before is None or before.digest == digest:
        return
    if before.published:
        raise Conflict(
            f"the dock has this name with other content (digest {before.digest[:12]}, yours is {digest[:12]})",
            remedy="published content never changes, so pack yours under another name",
            about=name,
        )
    raise Conflict(
        f"this name was removed and is reserved for its content (digest {before.digest[:12]}, yours is {digest[:12]})",
        remedy="pack yours under another name; the removed content may be added again",
        about=name,
    )


def _specs(admitted: Admitted) -> list[SpecRow]:
    try:
        return spec_rows(lambda file: _opened(admitted.folder / file.path), admitted.manifest)
    except Corrupt as error:
        raise _changed(error) from None


def _changed(error: Corrupt) -> PackageError:
    return PackageError(
        f"{error.message}; the folder changed while it was being added",
        remedy="pack it again, and do not change it while it is added",
        about=error.about,
    )


def _stage(
    storage: DockLayout, admitted: Admitted, place: Path, staged: dict[str, Path], progress: Progress | None
) -> None:
    """Hash every file; copy those durably to ``place`` whose blob is missing or damaged."""
    total = sum(f.size for f in admitted.manifest.files)
    done = 0
    for file in admitted.manifest.files:
        if file.sha256 not in staged and not storage.blobs.sound(file.sha256, file.size):
            staged[file.sha256] = _copied(admitted.folder / file.path, file, place / file.sha256)
        done += file.size
        if progress is not None:
            progress(done, total)


def _copied(path: Path, file: File, target: Path) -> Path:
    with _opened(path) as stream, storage_errors(target), target.open("wb") as out:
        try:
            copy_checked(stream, out, sha256=file.sha256, size=file.size, where=str(path))
        except Corrupt as error:
            raise _changed(error) from None
        out.flush()
        os.fsync(out.fileno())
    return target


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise PackageError(
            f"cannot be read ({error.strerror})", remedy="see that the file is there and readable", about=path
        ) from None


def _need_files(storage: DockLayout, manifest: Manifest, staged: Mapping[str, Path]) -> None:
    for file in manifest.files:
        if file.sha256 not in staged and not storage.blobs.has(file.sha256, durable=True):
            raise _Collected(file.path)


def _adopt(storage: DockLayout, manifest: Manifest, staged: Mapping[str, Path], new: list[str]) -> None:
    """Move staged files into the blob store; ``new`` gets the blobs that were not there before."""
    sizes = {f.sha256: f.size for f in manifest.files}
    for sha256, path in staged.items():
        if not storage.blobs.has(sha256):
            new.append(sha256)
        storage.blobs.adopt(path, sha256=sha256, size=sizes[sha256])


def _undo_publish(
    storage: DockLayout, records: Records, name: str, before: Publication | None, new_blobs: list[str]
) -> None:
    # The first error is the one to raise. What cannot be undone now, as on a full disk, does no harm: the row's state
    # says what was going on, and the next writer finishes or drops it.
    with contextlib.suppress(OSError, LearndockError, sqlite3.Error), storage.errors():
        if storage.publications.read(name) != before:
            return  # it could not be put back, and must not refer to blobs that are not there
        for sha256 in new_blobs:
            storage.blobs.delete(sha256)
        with records.transaction():
            records.forget(name)


def _undo_remove(storage: DockLayout, records: Records, before: Publication) -> None:
    with contextlib.suppress(OSError, LearndockError, sqlite3.Error), storage.errors():
        if storage.publications.read(before.name) == before:
            with records.transaction():
                records.publish(before.name)
