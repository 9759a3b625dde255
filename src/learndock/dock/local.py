"""A dock on this machine: in a folder, or with its records in PostgreSQL and its bytes in an object store."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from learndock.dock.admission import Admit, Admitted, admit
from learndock.dock.candidates import candidates
from learndock.dock.protocol import GcResult, Problem, Record, Removed, records_table
from learndock.dock.storage import lookup, names
from learndock.dock.storage.export import export
from learndock.dock.storage.gc import gc
from learndock.dock.storage.layout import DockLayout
from learndock.dock.storage.publications import Event
from learndock.dock.storage.publish import publish
from learndock.dock.storage.rebuild import rebuild
from learndock.dock.storage.records import Records, Row
from learndock.dock.storage.specs import stored_spec
from learndock.dock.storage.verify import verify
from learndock.dock.summary import Summary, has_words
from learndock.errors import Corrupt, NotFound, PackageError, SpaceMismatch, UsageError
from learndock.package.deprecation import Deprecation
from learndock.package.formats import Progress
from learndock.package.front_matter import SILENT, FrontMatter
from learndock.package.manifest import Manifest
from learndock.search.answer import Answers, Identification, Match, answerable
from learndock.search.filters import EVERY, Filters
from learndock.search.route import Near, Route, route
from learndock.search.table import SpecTable
from learndock.spec.domain import Domain
from learndock.spec.spec import Spec, difference

_Found = TypeVar("_Found", Match, Near)


class LocalDock:
    """A ``Dock`` on this machine; get one from ``open_dock``. Safe for threads and processes: one writes
    at a time, all read.

    ``storage`` is where it keeps its records and bytes. ``admit`` checks each folder that is added; a service replaces
    it by one that does the same in another process.
    """

    def __init__(self, storage: DockLayout, *, admit: Admit = admit) -> None:
        self.storage = storage
        self.admit = admit

    @property
    def folder(self) -> Path:
        """The dock's folder; a server-backed dock keeps only unfinished things there."""
        return self.storage.folder

    def __len__(self) -> int:
        with self.storage.read() as records:
            return records.count()

    def __repr__(self) -> str:
        count = len(self)
        return f"<LocalDock {self.folder}: {count} learnware{'' if count == 1 else 's'}>"

    def _repr_html_(self) -> str:
        return records_table(self.records(), str(self.folder))

    def add(
        self,
        folder: str | Path,
        *,
        after: str | None = None,
        supersedes: str | None = None,
        vouched: bool = False,
        progress: Progress | None = None,
    ) -> Record:
        """See ``Dock.add``; with ``vouched`` the gate admits specs that copy another's or are hubs (see ``gate``)."""
        admitted = self.admit(Path(folder))
        return self.publish(admitted, after=after, supersedes=supersedes, vouched=vouched, progress=progress)

    def publish(
        self,
        admitted: Admitted,
        *,
        after: str | None = None,
        supersedes: str | None = None,
        vouched: bool = False,
        progress: Progress | None = None,
        stored: bool = False,
        by: str = "",
    ) -> Record:
        """Publish a learnware that was admitted; with ``stored`` its files are in the blob store already.

        ``by`` is who publishes it, for the history.

        Raises:
            PackageError, SpecError, SuspectSpec, Conflict, NotFound, StorageFull: see ``Dock.add``.
        """
        row = publish(
            self.storage,
            admitted,
            vouched=vouched,
            progress=progress,
            stored=stored,
            after=after,
            supersedes=supersedes,
            by=by,
        )
        return _record(row, admitted.manifest)

    def records(self, *, known: Mapping[str, Record] = MappingProxyType({}), every: bool = False) -> list[Record]:
        """See ``Dock.records``; with ``every``, all published versions. Those of ``known``, by id, are not parsed."""
        with self.storage.read() as records:
            rows = records.rows(every=every)
        return [_record_again(row, known.get(f"{row.name}@{row.digest}")) for row in rows]

    def summaries(self, text: str = "", *, filters: Filters = EVERY) -> list[Summary]:
        """See ``Dock.summaries``."""
        return [Summary.of(r) for r in self.records() if r.passes(filters) and has_words(r, text)]

    def get_record(self, which: str) -> Record:
        """See ``Dock.get_record``; the error suggests similar names."""
        with self.storage.read() as records:
            return _record(lookup.find(records, which))

    def versions(self, name: str) -> list[Record]:
        """See ``Dock.versions``."""
        with self.storage.read() as records:
            return [_record(row) for row in records.versions(lookup.find(records, name).name)]

    def tag(self, which: str, tag: str) -> Record:
        """See ``Dock.tag``.

        Raises:
            UsageError, NotFound: see ``Dock.tag``.
            StorageFull: no room; nothing was changed.
        """
        return _record(names.tag(self.storage, which, tag))

    def untag(self, which: str, tag: str) -> Record:
        """See ``Dock.untag``.

        Raises:
            UsageError, NotFound: see ``Dock.untag``.
            StorageFull: no room; nothing was changed.
        """
        return _record(names.untag(self.storage, which, tag))

    def edit(
        self,
        which: str,
        *,
        card: str | None = None,
        license: str | None = None,  # noqa: A002 - the card's word
        description: str | None = None,
        tags: Sequence[str] = (),
        untag: Sequence[str] = (),
        by: str = "",
    ) -> Record:
        """See ``Dock.edit``; ``by`` is who edits, for the history.

        Raises:
            NotFound, PackageError: see ``Dock.edit``.
            StorageFull: no room; nothing was changed.
        """
        asked = names.Edit(card, license, description, tuple(tags), tuple(untag))
        return _record(names.edit(self.storage, which, asked, by=by))

    def card(self, which: str) -> str:
        """See ``Dock.card``."""
        with self.storage.read() as records:
            return names.card_text(self.storage, records, lookup.find(records, which).name)

    def history(self, which: str) -> list[Event]:
        """Return what was changed about a name and not about a version, in order: cards, deprecations, moves.

        Raises:
            NotFound: there is no such learnware.
        """
        with self.storage.read() as records:
            found = self.storage.publications.read(lookup.find(records, which).name)
        return [] if found is None else list(found.history)

    def deprecate(
        self, which: str, *, use: str | None = None, because: str = "", undo: bool = False, by: str = ""
    ) -> Record:
        """See ``Dock.deprecate``; ``by`` is who says so, for the history.

        Raises:
            NotFound, UsageError: see ``Dock.deprecate``.
            StorageFull: no room; nothing was changed.
        """
        return _record(names.deprecate(self.storage, which, use=use, because=because, undo=undo, by=by))

    def move(self, old: str, new: str, *, by: str = "") -> Record:
        """See ``Dock.move``; ``by`` is who moves it, for the history.

        Raises:
            NotFound, Conflict, PackageError: see ``Dock.move``.
            UsageError: the dock is served.
            StorageFull: no room; nothing was changed.
        """
        if self.storage.served:  # its repository would stay behind, and only that knows who may see it
            raise UsageError(
                "a learnware of a served dock is moved by the service",
                remedy="use `learndock move` with the service's address",
                about=old,
            )
        return _record(names.move(self.storage, old, new, by=by))

    def remove(self, which: str) -> Removed:
        """See ``Dock.remove``; the files stay until ``gc``.

        Raises:
            NotFound: there is no such learnware.
            StorageFull: no room for the new record; nothing was changed.
        """
        row, remaining = names.remove(self.storage, which)
        return Removed(_record(row), tuple(map(_record, remaining)))

    def get(self, which: str, out: str | Path, *, progress: Progress | None = None) -> Path:
        """See ``Dock.get``."""
        return export(self.storage, which, Path(out), progress=progress)

    def verify(self, which: str | None = None, *, progress: Progress | None = None) -> list[Problem]:
        """Hash the files of one learnware, or of all, again; compare records and database. Progress is in bytes.

        Raises:
            NotFound: there is no such learnware.
        """
        return verify(self.storage, which, progress=progress)

    def rebuild(self, *, progress: Progress | None = None) -> int:
        """Rebuild the database from the files; returns the number of learnwares. Progress is in names.

        Raises:
            Corrupt: a record or a spec on disk is damaged; the database is as it was.
            StorageFull: no room; the database is as it was.
        """
        return rebuild(self.storage, progress=progress)

    def gc(self) -> GcResult:
        """Delete unreferenced files: blobs of removed versions, and the leftovers of interrupted commands.

        Raises:
            Corrupt: a record on disk is damaged; nothing was deleted.
            DockError: the dock is served, and ``storage.referrers`` is not set; nothing was deleted.
        """
        return self.storage.reserve.spending(lambda: gc(self.storage))

    def spaces(self) -> dict[str, tuple[str, int]]:
        """See ``Dock.spaces``."""
        with self.storage.read() as records:
            return records.spaces()

    def spec(self, which: str, space_id: str) -> Spec:
        """See ``Dock.spec``."""
        record = self.get_record(which)
        entry, file = record.spec_file(space_id)
        return stored_spec(self.storage.blobs, record.manifest, entry, file)

    def vectors(self, space_id: str, *, names: Sequence[str] | None = None, every: bool = False) -> SpecTable:
        """Return the specs of a space, all or those of the learnwares ``names``, in order of addition.

        Each name has the spec of its candidate (see ``candidates``), or with ``every`` those of all versions that
        may be one.

        Raises:
            Corrupt: the database is damaged.
        """
        with self.storage.read() as records:
            ids, domain, behaviour, reliability = records.table(space_id, names, every=every)
        return SpecTable(ids, domain, behaviour, reliability)

    def identify(
        self,
        spec: Spec,
        *,
        top: int = 10,
        filters: Filters = EVERY,
        allowed: Collection[str] | None = None,
        seed: int = 0,
    ) -> Identification:
        """See ``Dock.identify``; the ids ``allowed`` limit further which learnwares are ranked."""
        if filters.empty:
            table = self.vectors(spec.space_id)
        else:
            table = self.vectors(spec.space_id, every=True)
            passing = {r.id for r in candidates(self.records(every=True), spec.space_id, filters)}
            allowed = passing if allowed is None else passing & set(allowed)
        rows = None if allowed is None else table.rows_of(allowed)
        found = table.identify(spec, rows, top=top, seed=seed)
        if not len(table):
            self.refuse_other_space(spec, self.records())
        rows_of = self._rows(found.matches)
        found = replace(found, matches=tuple(_standing(match, rows_of.get(match.id)) for match in found.matches))
        return answerable(found, spec, top, lambda match: _answers(rows_of.get(match.id)))

    def route(self, asked: Domain | Spec, *, top: int = 5, filters: Filters = EVERY) -> Route:
        """See ``Dock.route``. Reads the specs of the space each time; a service keeps them ready."""
        table, rows = self.vectors(asked.space_id, every=not filters.empty), None
        if not filters.empty:
            rows = table.rows_of(r.id for r in candidates(self.records(every=True), asked.space_id, filters))
        name = self.spaces().get(asked.space_id, ("", 0))[0]
        found = route(table, asked, rows, space=name, top=top)
        rows_of = self._rows(found.nearest)
        return replace(found, nearest=tuple(_standing(n, rows_of.get(n.id)) for n in found.nearest))

    def refuse_other_space(self, spec: Spec, records: Iterable[Record]) -> None:
        """Say what differs where ``records`` have specs, but none in the space of ``spec``.

        Raises:
            SpaceMismatch
        """
        for record in records:
            for entry in record.manifest.specs:
                if entry.space_id == spec.space_id:
                    return
                what = "; ".join(difference(spec.space, self.spec(record.id, entry.space_id).space))
                raise SpaceMismatch(
                    "no learnware of this dock has a spec of this task's space: "
                    f"for one, {record.name} differs in {what}",
                    remedy="make the task's spec with the dock's space and recipe",
                )

    def _rows(self, matches: Sequence[Match | Near]) -> dict[str, Row | None]:
        with self.storage.read() as records:
            return {match.id: _row(records, match.id) for match in matches}


def _answers(row: Row | None) -> Answers:
    return Answers() if row is None else Answers.of(_task(row))


def _standing(found: _Found, row: Row | None) -> _Found:
    if row is None:
        return found
    return replace(found, version=row.number, latest=row.latest, deprecated=_deprecated(_about(row)))


def _task(row: Row) -> dict[str, Any]:
    """The task in a manifest; parsing all of 200 manifests would take longer than the search."""
    try:
        return dict(json.loads(row.manifest)["task"])
    except (ValueError, KeyError, TypeError):
        raise Corrupt(
            "its manifest in the database is damaged", remedy="run `learndock rebuild`", about=row.name
        ) from None


def _row(records: Records, which: str) -> Row | None:
    try:
        return lookup.find(records, which)
    except NotFound:  # it was removed in the meantime
        return None


def _record(row: Row, manifest: Manifest | None = None) -> Record:
    """Return the record of a row, whose manifest may be known already."""
    if manifest is None:
        try:
            manifest = Manifest.from_bytes(row.manifest, where=row.name)
        except PackageError as error:
            raise Corrupt(error.message, remedy="run `learndock rebuild`", about=error.about) from None
    about = _about(row)
    card = about.get("card")
    return Record(
        row.name,
        row.digest,
        manifest,
        row.sequence,
        version=row.number,
        latest=row.latest,
        tags=tuple(sorted(tag for tag, number in about.get("tags", {}).items() if number == row.number)),
        published_at=row.published_at,
        supersedes=row.supersedes,
        deprecated=_deprecated(about),
        said=SILENT if card is None else FrontMatter.from_dict(card["said"]),
        former=tuple(about.get("former", ())),
    )


def _deprecated(about: Mapping[str, Any]) -> Deprecation | None:
    found = about.get("deprecated")
    return None if found is None else Deprecation.from_dict(found)


def _record_again(row: Row, known: Record | None) -> Record:
    """Return the record of a row: ``known``, if it is the same, with what it has computed of itself."""
    record = _record(row, None if known is None else known.manifest)
    return known if known is not None and known == record else record


def _about(row: Row) -> dict[str, Any]:
    if row.about == "{}":
        return {}
    try:
        return dict(json.loads(row.about))
    except (ValueError, TypeError):
        raise Corrupt("its row in the database is damaged", remedy="run `learndock rebuild`", about=row.name) from None
