"""Verify that stored bytes, records on disk and database still agree."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from learndock.dock.gate import hubs
from learndock.dock.protocol import Problem
from learndock.dock.storage import lookup
from learndock.dock.storage.blobs import copy_checked
from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.publications import Publication, Version
from learndock.dock.storage.records import Known, Records, Row, SpecRow
from learndock.dock.storage.specs import spec_rows
from learndock.dock.storage.writing import writing
from learndock.errors import Corrupt, DockError, NotFound, SpecError
from learndock.package.formats import Progress
from learndock.package.manifest import CARD, File, Manifest

REBUILD = "run `learndock rebuild`"
ADD_AGAIN = "`learndock add` the learnware again, which repairs it"


@dataclass(frozen=True, eq=False)
class _Version:
    """One published version on disk, and its row and specs in the database."""

    version: Version
    manifest: Manifest
    row: Row | None
    specs: list[SpecRow]


@dataclass(frozen=True, eq=False)
class _Name:
    """The state of one name on disk and in the database; ``damage`` says why the one on disk cannot be read."""

    name: str
    publication: Publication | None
    damage: str
    known: Known | None
    versions: list[_Version]


def verify(storage: DockLayout, which: str | None = None, *, progress: Progress | None = None) -> list[Problem]:
    """Hash the blobs of one learnware, or of all, again, and compare files, records and database.

    Writers wait while the lists are read, not while the bytes are hashed. Progress is in bytes.

    Raises:
        NotFound: there is no such learnware.
    """
    with writing(storage) as records:
        problems = [Problem("error", str(storage.database), f"{text}; {REBUILD}") for text in records.problems()]
        known = [_look(storage, records, name) for name in _names(storage, records, which)]
        orphans = _orphans(storage, known) if which is None else []
    for each in known:
        problems += _compare(each)
    problems += _blobs(storage, [(e.name, v.version.number, v.manifest) for e in known for v in e.versions], progress)
    for each in known:
        problems += _card(storage, each)
    for each in known:
        problems += _specs(storage, each)
    if which is None:
        problems += _hubs(storage)
    return problems + [Problem("info", sha256, "a blob that belongs to no learnware") for sha256 in orphans]


def _names(storage: DockLayout, records: Records, which: str | None) -> list[str]:
    if which is not None:
        return [lookup.find(records, which).name]
    return sorted({*storage.publications.names(), *records.every_name()})


def _look(storage: DockLayout, records: Records, name: str) -> _Name:
    publication, damage, versions = None, "", []
    try:
        publication = storage.publications.read(name)
        if publication is not None:
            for version in publication.published_versions():
                manifest, number = storage.publications.manifest(publication, version), version.number
                versions.append(_Version(version, manifest, records.row(name, number), records.specs(name, number)))
    except Corrupt as error:
        damage = str(error)
    return _Name(name, publication, damage, records.known(name), versions)


def _orphans(storage: DockLayout, known: list[_Name]) -> list[str]:
    if any(each.damage for each in known):
        return []  # a damaged record may need any of them
    needed = {f.sha256 for each in known for v in each.versions for f in v.manifest.files}
    needed |= {sha256 for each in known if each.publication is not None for sha256 in each.publication.cards()}
    try:
        needed |= storage.referred()
    except DockError:
        return []  # only its service knows which blobs it needs
    return [sha256 for sha256 in storage.blobs.digests() if sha256 not in needed]


def _compare(each: _Name) -> Iterator[Problem]:
    if each.damage:
        yield Problem("error", each.name, each.damage)
        return
    on_disk = None if each.publication is None else Known.of(each.publication)
    same = each.known == on_disk and all(
        v.row is not None and v.row.manifest == v.version.manifest for v in each.versions
    )
    if not same:
        yield Problem("error", each.name, f"the database and the record on disk disagree; {REBUILD}")


def _blobs(
    storage: DockLayout, manifests: list[tuple[str, int, Manifest]], progress: Progress | None
) -> Iterator[Problem]:
    total = sum(f.size for *_, m in manifests for f in m.files)
    done = 0
    sound: dict[str, str] = {}
    for name, number, manifest in manifests:
        for file in manifest.files:
            if file.sha256 not in sound:
                sound[file.sha256] = _blob_damage(storage, file)
            if sound[file.sha256] and _still_published(storage, name, number):
                yield Problem("error", f"{name}: {file.path}", f"{sound[file.sha256]}; {ADD_AGAIN}")
            done += file.size
            if progress is not None:
                progress(done, total)


def _card(storage: DockLayout, each: _Name) -> Iterator[Problem]:
    card = None if each.publication is None else each.publication.card
    if card is not None:
        damage = _blob_damage(storage, File(path=CARD, size=card.size, sha256=card.sha256))
        if damage:
            yield Problem("error", f"{each.name}: {CARD}", f"{damage}; `learndock edit --card` gives it another card")


def _blob_damage(storage: DockLayout, file: File) -> str:
    try:
        with storage.errors(), storage.blobs.open(file.sha256) as stream:
            copy_checked(stream, None, sha256=file.sha256, size=file.size, where=f"blob {file.sha256[:12]}")
    except NotFound:
        return f"blob {file.sha256[:12]} is missing"
    except Corrupt as error:
        return str(error)
    return ""


def _still_published(storage: DockLayout, name: str, number: int) -> bool:
    # It may have been removed, and its blobs deleted, while others were hashed.
    publication = storage.publications.read(name)
    version = None if publication is None else publication.version(number)
    return version is not None and version.published


def _specs(storage: DockLayout, each: _Name) -> Iterator[Problem]:
    for version in each.versions:
        if version.row is None:
            continue
        try:
            truth = spec_rows(lambda file: storage.blobs.open(file.sha256), version.manifest)
        except SpecError as error:
            yield Problem("error", each.name, str(error))
            continue
        except Corrupt:
            continue  # already reported as a problem of the blob
        if len(truth) != len(version.specs) or not all(map(_equal, truth, version.specs)):
            yield Problem("error", each.name, f"the database's specs are not those of its files; {REBUILD}")


def _hubs(storage: DockLayout) -> Iterator[Problem]:
    # Other checks report a damaged database
    with contextlib.suppress(Corrupt), storage.read() as records:
        for space_id in records.spaces():
            for name, found in hubs(space_id, records):
                yield Problem("warning", name, f"{found.describe()}; remove it, unless you vouch for it")


def _equal(one: SpecRow, other: SpecRow) -> bool:
    return (
        (one.space_id, one.space, one.sha256, one.reliability)
        == (other.space_id, other.space, other.sha256, other.reliability)
        and np.array_equal(one.domain, other.domain)
        and np.array_equal(one.behaviour, other.behaviour)
    )
