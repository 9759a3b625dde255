"""What a principal may see of the dock: every query is filtered by it, the search too.

A snapshot of the dock is kept in memory. It is renewed when the dock or the repositories change: at once for changes of
this process, within a second for those of another. ``Catalogue.current`` answers from the databases themselves: bytes
are handed out by it, so that what was made private or deleted elsewhere stays there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from learndock.dock.candidates import candidates
from learndock.dock.local import LocalDock
from learndock.dock.protocol import Record
from learndock.dock.storage.lookup import SEE_LIST, moved_to
from learndock.errors import LearndockError, NotFound, UsageError
from learndock.search.answer import Answers, Identification, Match, answerable
from learndock.search.filters import EVERY, Filters
from learndock.search.route import Near, Route, route
from learndock.search.table import Rows, SpecTable
from learndock.service.principal import Principal
from learndock.service.repositories import Repositories
from learndock.spec.domain import Domain
from learndock.spec.spec import Spec

log = logging.getLogger("learndock.catalogue")
#: Seconds between two checks for changes of other processes, and the age at which questions wait for one.
SECONDS, OLD = 0.25, 0.75
#: Sets of rows that a snapshot keeps for filters that were asked before.
KEPT = 64

_Found = TypeVar("_Found", Match, Near)


@dataclass(frozen=True, eq=False)
class _Snapshot:
    """The dock at one moment: all records by case-folded name; the private ones by case-folded owner."""

    change: tuple[int, ...]
    records: dict[str, Record]
    public: tuple[Record, ...]
    private: dict[str, tuple[Record, ...]]
    #: Case-folded name, a former one too -> case-folded owner of what is private.
    hidden: dict[str, str]
    #: Name -> its published versions, where it has several.
    versions: dict[str, list[Record]] = field(default_factory=dict)
    spaces: dict[str, SpecTable] = field(default_factory=dict)
    #: Rows of the public records in each space.
    rows: dict[str, Rows] = field(default_factory=dict)
    #: Rows of what passes filters, by space, filters and owners of private ones.
    filtered: dict[tuple[str, Filters, frozenset[str]], Rows] = field(default_factory=dict)

    def known(self) -> dict[str, Record]:
        """Return every version by its id."""
        latest = {r.id: r for r in self.records.values()}
        return latest | {r.id: r for versions in self.versions.values() for r in versions}

    def visible(self, who: Principal, filters: Filters = EVERY) -> list[Record]:
        """Return the learnwares that ``who`` may see and that pass ``filters``, in order of addition."""
        own = [r for owner in who.owners for r in self.private.get(owner, ())]
        every = sorted((*self.public, *own), key=lambda r: (r.sequence, r.name)) if own else list(self.public)
        if self.pointing:
            every = [self.shown(who, r) if r.name in self.pointing else r for r in every]
        return every if filters.empty else [r for r in every if r.passes(filters)]

    @cached_property
    def pointing(self) -> frozenset[str]:
        """The names of learnwares whose latest version names one that is private."""
        nobody = frozenset[str]()
        return frozenset(n.name for n in self.records.values() if _without(n, self._hides(nobody)) is not n)

    def shown(self, who: Principal, record: Record) -> Record:
        """Return a record without the names of others that ``who`` may not see."""
        return _without(record, self._hides(who.owners))

    def _hides(self, owners: frozenset[str]) -> Callable[[str], bool]:
        return lambda name: self.hidden.get(name.casefold()) not in (None, *owners)

    def version(self, which: str) -> Record:
        """Return the version with the id ``which``."""
        record = self.records[which.partition("@")[0].casefold()]
        return next((r for r in self.versions.get(record.name, ()) if r.id == which), record)

    def candidates(self, records: Iterable[Record], space_id: str, filters: Filters = EVERY) -> list[Record]:
        """Return which version of each of ``records`` is ranked (see ``dock.candidates``)."""
        every = (version for r in records for version in self.versions.get(r.name, (r,)))
        return candidates(every, space_id, filters)


class Catalogue:
    """The dock as a principal sees it. Safe for threads."""

    def __init__(self, dock: LocalDock, repositories: Repositories) -> None:
        self._dock, self._repositories = dock, repositories
        self._lock, self._loading = threading.Lock(), threading.Lock()
        #: Whether the snapshot and the tables of all spaces were read once, so that questions are answered quickly.
        self.drawn = False
        self._snapshot: _Snapshot | None = None
        self._seen, self._looked = -1, 0.0

    @property
    def size(self) -> int:
        """The number of learnwares in the snapshot, private ones too."""
        return 0 if self._snapshot is None else len(self._snapshot.records)

    def prepare(self, stop: threading.Event) -> None:
        """Read the snapshot and the tables of all spaces, so that the first questions do not wait for them.

        Tries again, until ``stop`` is set, if a database does not answer.
        """
        while not stop.is_set():
            try:
                snapshot = self._now()
                for space_id in {s.space_id for r in snapshot.records.values() for s in r.manifest.specs}:
                    self._space(snapshot, space_id)
                self.drawn = True
                return
            except (LearndockError, OSError) as error:
                log.error("cannot read the catalogue; it will be tried again", extra={"error": str(error)})
                stop.wait(1)

    def records(self, who: Principal, filters: Filters = EVERY) -> list[Record]:
        """Return the learnwares that ``who`` may see and that pass ``filters``, in order of addition."""
        return self._now().visible(who, filters)

    def record(self, who: Principal, which: str) -> Record:
        """The learnware ``owner/name``, or ``owner/name@`` and at least 6 digits of its version.

        Raises:
            NotFound: there is none that ``who`` may see.
        """
        name, _, version = which.partition("@")
        snapshot = self._now()
        record = snapshot.records.get(name.casefold())
        # The dock's own error suggests similar names, private ones too; this one names none.
        if record is None or record.name != name or not record.digest.startswith(version.lower()):
            raise _not_here(which)
        owner = snapshot.hidden.get(name.casefold())
        if owner is not None and owner not in who.owners:
            raise _not_here(which)
        return snapshot.shown(who, record)

    def current(self, who: Principal, which: str) -> Record:
        """Return the learnware ``which`` if ``who`` may see it now, asked of the databases and not of the snapshot.

        Raises:
            NotFound: there is none that ``who`` may see.
        """
        # Asked first whether it is there: where it is not, the dock's own error searches all names for similar ones.
        # Both are asked in either case, so that a private name is refused as fast as one that is not there.
        name = which.partition("@")[0]
        hidden, published = self._hidden_from(who, self._repositories.standing_of(name)), self._published(name)
        if hidden or not published:
            raise _not_here(which)
        try:
            record = self._dock.get_record(which)
            standing = self._repositories.standing_of(record.name)
            if standing is None:
                # What the operator added to the folder has no repository. What is being deleted has none either,
                # but its removal from the dock came first.
                again = self._dock.get_record(which)
                if (again.id, again.sequence) != (record.id, record.sequence):
                    raise _not_here(which)
        except (NotFound, UsageError):
            raise _not_here(which) from None
        if self._hidden_from(who, standing):
            raise _not_here(which)
        return self.shown(who, record)

    def shown(self, who: Principal, record: Record) -> Record:
        """Return a record without the names of others that ``who`` may not see now: in whose favour it is deprecated.

        What a name led to when its owner said so may have become private since.
        """
        return _without(record, lambda name: self._hidden_from(who, self._repositories.standing_of(name)))

    @staticmethod
    def _hidden_from(who: Principal, standing: tuple[bool, str] | None) -> bool:
        return standing is not None and standing[0] and standing[1] not in who.owners

    def identify(
        self, who: Principal, spec: Spec, *, top: int = 10, filters: Filters = EVERY, seed: int = 0
    ) -> Identification:
        """Rank the learnwares that ``who`` may see; nothing of ``spec`` is kept.

        Raises:
            SpaceMismatch: they may see specs, but none of this space; the message says what differs.
            UsageError: see ``Dock.identify``.
        """
        snapshot = self._now()
        table = self._space(snapshot, spec.space_id)
        rows = self._rows(snapshot, table, who, spec.space_id, filters)
        found = table.identify(spec, rows, top=top, seed=seed)
        if not len(rows) and filters.empty:
            self._dock.refuse_other_space(spec, snapshot.visible(who))
        matches = (_standing(m, snapshot.shown(who, snapshot.version(m.id))) for m in found.matches)
        found = replace(found, matches=tuple(matches))
        return answerable(found, spec, top, lambda m: Answers.of(snapshot.version(m.id).manifest.task))

    def route(self, who: Principal, asked: Domain | Spec, *, top: int = 5, filters: Filters = EVERY) -> Route:
        """Name the learnware, of those that ``who`` may see, for ``asked``; nothing of it is kept."""
        snapshot = self._now()
        table = self._space(snapshot, asked.space_id)
        rows = self._rows(snapshot, table, who, asked.space_id, filters)
        name = ""
        if len(rows):
            specs = snapshot.version(table.parts(rows[:1])[0][0]).manifest.specs
            name = next((s.space for s in specs if s.space_id == asked.space_id), "")
        found = route(table, asked, rows, space=name, top=top)
        near = (_standing(n, snapshot.shown(who, snapshot.version(n.id))) for n in found.nearest)
        return replace(found, nearest=tuple(near))

    def spaces(self, who: Principal) -> dict[str, tuple[str, int]]:
        """Return space id -> its name, and how many learnwares that ``who`` may see have a spec in it."""
        found: dict[str, tuple[str, int]] = {}
        for record in self.records(who):
            for entry in record.manifest.specs:
                name, count = found.get(entry.space_id, (entry.space, 0))
                found[entry.space_id] = (name, count + 1)
        return found

    def is_private(self, name: str) -> bool:
        """Return whether only its owner may see the learnware ``name``."""
        return name.casefold() in self._now().hidden

    def hides(self, name: str, owner: str) -> bool:
        """Return whether ``name`` is a private learnware of another than ``owner``."""
        snapshot, key = self._now(), name.casefold()
        return key in snapshot.records and snapshot.hidden.get(key) not in (None, owner.casefold())

    def digest(self, name: str) -> str | None:
        """Return the digest that the dock has of a name, visible or not."""
        try:
            return self._dock.get_record(name).digest
        except NotFound:
            return None

    @property
    def fresh(self) -> bool:
        """Whether the snapshot has all changes of this process and was checked for those of others in the last second.

        Queries are then answered from memory.
        """
        return (
            self._snapshot is not None
            and self._seen == self._repositories.changes
            and time.monotonic() - self._looked < OLD
        )

    @property
    def due(self) -> bool:
        """Whether it is time to check for changes of other processes, and no thread is doing so."""
        return time.monotonic() - self._looked >= SECONDS and not self._lock.locked()

    def look(self) -> None:
        """Check for changes of other processes; return at once if another thread is doing so."""
        if self._lock.acquire(blocking=False):
            try:
                self._renew()
            finally:
                self._lock.release()

    def _published(self, name: str) -> bool:
        with self._dock.storage.read() as records:
            return records.row(name) is not None or moved_to(records, name) is not None

    # -- the snapshot -------------------------------------------------------------------------------------

    def _now(self) -> _Snapshot:
        if not self.fresh:
            with self._lock:
                if not self.fresh:
                    self._renew()
        assert self._snapshot is not None
        return self._snapshot

    def _renew(self) -> None:
        """Renew the snapshot; the caller holds the lock."""
        looked, seen = time.monotonic(), self._repositories.changes
        change = self._change()
        if self._snapshot is None or seen != self._seen or change != self._snapshot.change:
            self._snapshot = self._renewed(self._snapshot, change)
            # Drawing a large dock takes longer than the snapshot may be old: it is as old as its end.
            looked = max(looked, time.monotonic() - SECONDS)
        self._seen, self._looked = seen, looked

    def _change(self) -> tuple[int, ...]:
        """Return what differs after every change of the dock or of the repositories, by any process."""
        number = self._repositories.change()
        with self._dock.storage.read() as records:
            return (number, *records.change())

    def _renewed(self, before: _Snapshot | None, change: tuple[int, ...]) -> _Snapshot:
        known = {} if before is None else before.known()
        standing = self._repositories.standing()
        every = self._dock.records(known=known, every=True)
        found = [r for r in every if r.version == r.latest]
        if self._repositories.change() != change[0]:
            # A repository that was made since is one of those that hide; one that is gone since hid.
            standing |= self._repositories.standing()
        public: list[Record] = []
        private: dict[str, list[Record]] = {}
        for record in found:
            # What the operator added to the folder has no repository, and is public.
            hidden, owner = standing.get(record.name.casefold(), (False, ""))
            if hidden:
                private.setdefault(owner, []).append(record)
            else:
                public.append(record)
        snapshot = _Snapshot(
            change,
            {r.name.casefold(): r for r in found},
            tuple(public),
            {owner: tuple(own) for owner, own in private.items()},
            {key: owner for key, (hidden, owner) in standing.items() if hidden},
            _several(every),
        )
        if before is not None:
            for space_id, table in before.spaces.items():
                snapshot.spaces[space_id] = self._updated(table, space_id, every)
                snapshot.rows[space_id] = self._public_rows(snapshot, space_id, snapshot.spaces[space_id])
        return snapshot

    def _updated(self, table: SpecTable, space_id: str, every: Iterable[Record]) -> SpecTable:
        may = (r for r in every if r.version <= r.latest)
        there = {r.id: r.name for r in may if any(s.space_id == space_id for s in r.manifest.specs)}
        new = {name for which, name in there.items() if which not in table.rows}
        # All versions of a name that has a new one are read again.
        gone = [which for which in table.rows if there.get(which) is None or there[which] in new]
        if gone:
            table = table.without(gone)
        if new:
            more = self._dock.vectors(space_id, names=sorted(new), every=True)
            if len(more):
                table = table.added(more)
        return table

    def _public_rows(self, snapshot: _Snapshot, space_id: str, table: SpecTable) -> Rows:
        return table.rows_of(r.id for r in snapshot.candidates(snapshot.public, space_id))

    def _rows(self, snapshot: _Snapshot, table: SpecTable, who: Principal, space_id: str, filters: Filters) -> Rows:
        """Rows of the learnwares that ``who`` may see and that pass ``filters``; the last ``KEPT`` sets are kept."""
        own = frozenset(owner for owner in who.owners if owner in snapshot.private)
        if filters.empty and not own and space_id in snapshot.rows:
            return snapshot.rows[space_id]
        key = (space_id, filters, own)
        rows = snapshot.filtered.get(key)
        if rows is None:
            ranked = snapshot.candidates(snapshot.visible(who), space_id, filters)
            rows = table.rows_of(r.id for r in ranked)
            if len(snapshot.filtered) >= KEPT:
                snapshot.filtered.clear()
            snapshot.filtered[key] = rows
        return rows

    def _space(self, snapshot: _Snapshot, space_id: str) -> SpecTable:
        found = snapshot.spaces.get(space_id)
        if found is not None:
            return found
        # Not under the lock: reading 100,000 specs takes half a minute, in which the snapshot must not become old.
        with self._loading:
            if space_id not in snapshot.spaces:
                table = self._dock.vectors(space_id, every=True)
                if not len(table):
                    return table  # questions about spaces that no spec is of must not fill the memory
                with self._lock:
                    self._enter(snapshot, space_id, table)
                    if self._snapshot is not None and self._snapshot is not snapshot:
                        self._enter(self._snapshot, space_id, table)
            return snapshot.spaces[space_id]

    def _enter(self, snapshot: _Snapshot, space_id: str, table: SpecTable) -> None:
        """Make a table, read a moment before or after, part of ``snapshot``."""
        table = self._updated(table, space_id, snapshot.known().values())
        snapshot.rows[space_id] = self._public_rows(snapshot, space_id, table)
        snapshot.spaces[space_id] = table


def _several(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Return name -> its versions, by number, where there are several."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.name, []).append(record)
    return {name: sorted(r, key=lambda v: v.version) for name, r in found.items() if len(r) > 1}


def _standing(found: _Found, record: Record) -> _Found:
    return replace(found, version=record.version, latest=record.latest, deprecated=record.deprecated)


def _without(record: Record, hides: Callable[[str], bool]) -> Record:
    """Return a record without the names that ``hides`` hides; the record itself where it has none."""
    if record.supersedes is not None and hides(record.supersedes):
        record = replace(record, supersedes=None)
    deprecated = record.deprecated
    if deprecated is not None and deprecated.use is not None and hides(deprecated.use):
        record = replace(record, deprecated=replace(deprecated, use=None))
    return record


def _not_here(which: str) -> NotFound:
    return NotFound("there is no such learnware here", remedy=SEE_LIST, about=which[:200])
