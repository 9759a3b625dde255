"""Publish: the steps by which a new version of a name becomes visible (see ``writing``).

    hash and stage files | decide what the version is -> gate -> name blobs -> rows pending -> file -> rows
            no lock held | the writer's lock held

Each step is a function of its own, so that several learnwares can share the rows' transactions.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from learndock.dock.admission import Admitted, check_card
from learndock.dock.gate import Newcomer, check_canonical, check_newcomer
from learndock.dock.storage import lookup
from learndock.dock.storage.blobs import copy_checked
from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.publications import CardFile, Event, Publication
from learndock.dock.storage.records import Records, Row, SpecRow
from learndock.dock.storage.specs import spec_rows
from learndock.dock.storage.writing import agreed, begin, next_version, now, replace, undone, writing
from learndock.errors import Conflict, Corrupt, PackageError
from learndock.files import sha256_bytes, storage_errors
from learndock.package.deprecation import Deprecation
from learndock.package.formats import Progress
from learndock.package.front_matter import SILENT
from learndock.package.manifest import CARD, File, Manifest


class _Collected(Exception):
    """A blob that was there when the files were hashed is gone: ``gc`` deleted it since."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A learnware whose specs are read and whose files are hashed; ``staged`` are those whose blobs are missing.

    ``after`` is the reference of the version that must be ``latest``, ``supersedes`` the name of the learnware that
    this one replaces. With ``vouched`` the gate admits copies and hubs. ``card`` becomes the present one; ``by`` is who
    publishes, where the dock knows.
    """

    manifest: Manifest
    specs: list[SpecRow]
    staged: Mapping[str, Path] = field(default_factory=dict)
    vouched: bool = False
    after: str | None = None
    supersedes: str | None = None
    card: bytes | None = None
    by: str = ""


@dataclass(frozen=True, eq=False)
class Decided:
    """What publishing does: the state of the name before and after, and of the superseded one afterwards."""

    before: Publication | None
    after: Publication
    superseded: Publication | None = None


def publish(
    storage: DockLayout,
    admitted: Admitted,
    *,
    vouched: bool = False,
    progress: Progress | None = None,
    stored: bool = False,
    after: str | None = None,
    supersedes: str | None = None,
    by: str = "",
) -> Row:
    """Store an admitted learnware as the next version of its name, and return its row.

    Where a version of the name has the same content, that version is returned, and nothing changes.

    All bytes are read and hashed before the writer's lock is taken, so that other writers wait only for renames and
    rows. With ``stored`` the files came in through ``BlobStore.adopt``, whose caller hashed them, and are not read.
    With ``vouched`` the operator vouches for the specs, so the gate admits copies and hubs. Progress is in bytes.

    Raises:
        SuspectSpec: the gate refuses a spec; nothing was changed.
        Conflict: the version tagged ``latest`` is not ``after``; nothing was changed.
        NotFound: there is no learnware ``supersedes``; nothing was changed.
        PackageError: the folder changed since it was admitted, or a file is not stored.
        StorageFull: no room; nothing was changed.
    """
    manifest = admitted.manifest
    _refuse_early(storage, manifest, after)
    prepared = Prepared(manifest, _specs(admitted), {}, vouched, after, supersedes, admitted.card, by)
    if stored:
        try:
            return _publish(storage, prepared)
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
                return _publish(storage, dataclasses.replace(prepared, staged=staged))
            except _Collected:
                continue


def _publish(storage: DockLayout, prepared: Prepared) -> Row:
    new_blobs: list[str] = []
    with writing(storage) as records:
        decided = decide(storage, records, prepared)
        need_files(storage, prepared)
        if decided.before is decided.after:
            # The same content: blobs that were damaged since are replaced.
            adopt(storage, prepared, new_blobs)
            return _row(decided.after, prepared.manifest.digest)
        with undone(storage, records, decided.before, prepared.manifest.name, new_blobs=new_blobs):
            pass_gate(records, prepared)
            adopt(storage, prepared, new_blobs)
            put_card(storage, prepared.card, new_blobs)
            with records.transaction():
                begin(records, decided.after, decided.superseded, prepared.specs)
            replace(storage, records, decided.after, decided.superseded)
        return _row(decided.after, prepared.manifest.digest)


def _row(publication: Publication, digest: str) -> Row:
    version = publication.with_content(digest)
    assert version is not None
    return Row.of(publication, version)


def decide(storage: DockLayout, records: Records, prepared: Prepared) -> Decided:
    """Decide what publishing changes; ``before`` is ``after`` where the content is there. The caller holds the lock.

    Raises:
        Conflict: the version tagged ``latest`` is not ``prepared.after``.
        NotFound: there is no learnware ``prepared.supersedes``.
        Corrupt: the files and the database disagree.
    """
    manifest = prepared.manifest
    before = agreed(storage, records, manifest.name)
    if before is not None and before.moved_to is not None:
        return _decide_moved(storage, records, before, manifest)
    if before is not None and before.with_content(manifest.digest) is not None:
        return Decided(before, before)
    _refuse_other_latest(manifest.name, before, prepared.after)
    version = next_version(
        records, before, digest=manifest.digest, manifest=manifest.to_bytes(), supersedes=prepared.supersedes
    )
    after = Publication.first(manifest.name, version) if before is None else before.with_version(version)
    listed = next((file for file in manifest.files if file.path == CARD), None)
    if prepared.card is not None:
        after = with_card(after, prepared.card, Event(now(), prepared.by, "card", sha256_bytes(prepared.card)))
    elif listed is not None and before is not None:  # as learndock 0.1.0 packed: its license is the manifest's
        event = Event(now(), prepared.by, "card", listed.sha256)
        after = after.with_card(CardFile(listed.sha256, listed.size), SILENT, event)
    return Decided(before, after, _superseded(storage, records, after, prepared.supersedes, prepared.by))


def _decide_moved(storage: DockLayout, records: Records, before: Publication, manifest: Manifest) -> Decided:
    found = agreed(storage, records, lookup.find(records, before.name).name)
    if found is None or found.with_content(manifest.digest) is None:
        raise Conflict(
            f"the learnware moved to {before.moved_to}", remedy="pack it under its new name", about=before.name
        )
    return Decided(found, found)


def with_card(publication: Publication, source: bytes, *events: Event) -> Publication:
    """Return the state of a name with the card ``source``; the same card changes nothing."""
    sha256 = sha256_bytes(source)
    if publication.card is not None and publication.card.sha256 == sha256:
        return publication
    return publication.with_card(CardFile(sha256, len(source)), check_card(source), *events)


def put_card(storage: DockLayout, source: bytes | None, new: list[str]) -> None:
    """Store a card, unless it is there; ``new`` gets its blob if it was not there before."""
    if source is None:
        return
    sha256 = sha256_bytes(source)
    if not storage.blobs.has(sha256, durable=True):
        if not storage.blobs.has(sha256):
            new.append(sha256)
        storage.blobs.put(io.BytesIO(source), sha256=sha256, size=len(source))


def _superseded(
    storage: DockLayout, records: Records, after: Publication, name: str | None, by: str
) -> Publication | None:
    if name is None:
        return None
    if name == after.name:
        raise Conflict("cannot supersede itself", remedy="its new version follows the earlier ones", about=name)
    found = agreed(storage, records, lookup.find(records, name).name)
    assert found is not None
    deprecation = Deprecation(use=after.name, because="superseded", time=now(), by=by)
    return found.with_deprecation(deprecation, Event(deprecation.time, by, "deprecate", str(deprecation)))


def pass_gate(records: Records, prepared: Prepared) -> None:
    """Check the specs of a learnware against those of the dock.

    Raises:
        SuspectSpec: the gate refuses one.
    """
    for spec in prepared.specs:
        newcomer = Newcomer(prepared.manifest.name, spec.space_id, spec.domain, spec.behaviour)
        check_canonical(newcomer)
        if not prepared.vouched:
            check_newcomer(newcomer, records)


def _refuse_early(storage: DockLayout, manifest: Manifest, after: str | None) -> None:
    """Refuse a version that does not follow ``after`` before files are read; this is checked again under the lock."""
    if after is None:
        return
    before = storage.publications.read(manifest.name)
    if before is None or before.with_content(manifest.digest) is None:
        _refuse_other_latest(manifest.name, before, after)


def _refuse_other_latest(name: str, before: Publication | None, after: str | None) -> None:
    if after is None:
        return
    current = None if before is None else before.current
    if before is None or current is None:
        raise Conflict(f"has no version yet, so none follows {after}", remedy="add it without --after", about=name)
    if lookup.number_of(before, after) != current.number:
        raise Conflict(
            f"its latest version is v{current.number} (digest {current.digest[:12]}), not {after}",
            remedy=f"see what changed since, then add yours after v{current.number}",
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
    card = admitted.card
    if card is not None and not storage.blobs.sound(sha256_bytes(card), len(card)):
        staged[sha256_bytes(card)] = place / sha256_bytes(card)
        with storage_errors(place), staged[sha256_bytes(card)].open("wb") as out:
            out.write(card)
            out.flush()
            os.fsync(out.fileno())


def _copied(path: Path, file: File, target: Path) -> Path:
    with _opened(path) as stream, storage_errors(target), target.open("wb") as out:
        try:
            copy_checked(stream, out, sha256=file.sha256, size=file.size, where=str(path))
        except Corrupt as error:
            if file.path == CARD:
                raise PackageError(
                    "was edited, but its manifest lists it", remedy="pack the model again", about=path
                ) from None
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


def need_files(storage: DockLayout, prepared: Prepared) -> None:
    """Check that every file is staged or stored; the caller holds the lock."""
    for file in prepared.manifest.files:
        if file.sha256 not in prepared.staged and not storage.blobs.has(file.sha256, durable=True):
            raise _Collected(file.path)


def adopt(storage: DockLayout, prepared: Prepared, new: list[str]) -> None:
    """Move staged files into the blob store; ``new`` gets the blobs that were not there before."""
    sizes = {f.sha256: f.size for f in prepared.manifest.files}
    if prepared.card is not None:
        sizes[sha256_bytes(prepared.card)] = len(prepared.card)
    for sha256, path in prepared.staged.items():
        if not storage.blobs.has(sha256):
            new.append(sha256)
        storage.blobs.adopt(path, sha256=sha256, size=sizes[sha256])
