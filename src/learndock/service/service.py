"""The service: the dock, its people and repositories, and what happens when files are committed.

    commit -> are the files safe? -> a new head -> is it a learnware? -> checked and published in the dock

A tree without a manifest is a plain model. So is one whose manifest is refused; the repository's note says why.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from learndock.dock.admission import Admitted, check_card
from learndock.dock.local import LocalDock
from learndock.dock.open import open_local_dock, open_server_dock
from learndock.dock.protocol import Record
from learndock.dock.storage.layout import SERVED, DockLayout
from learndock.dock.storage.postgres import ServerLayout
from learndock.errors import (
    Conflict,
    DockError,
    LearndockError,
    NotFound,
    PackageError,
    SpecError,
    SuspectSpec,
    UsageError,
)
from learndock.files import atomic_write
from learndock.package.front_matter import MAX_CARD_BYTES, decode_card
from learndock.package.manifest import CARD, MANIFEST, Manifest
from learndock.service import views
from learndock.service.announced import Announced, check_count
from learndock.service.audit import note
from learndock.service.cards import Cards
from learndock.service.catalogue import Catalogue
from learndock.service.changes import GIT_FILES, Changes, Commit, Repository, changed, check_file_path
from learndock.service.database import Database, signing_key
from learndock.service.following import LearnwareRepositories
from learndock.service.holdings import Holdings
from learndock.service.inspection import Inspector
from learndock.service.intake import Arrivals, Intake
from learndock.service.moves import Moves
from learndock.service.people import People
from learndock.service.principal import Principal
from learndock.service.receiver import Blob
from learndock.service.referrers import DATABASE
from learndock.service.uploads import Uploads
from learndock.service.versions import Versions, check_learnware, check_named, check_no_more
from learndock.service.xet import XetUploads
from learndock.settings import Settings


@dataclass(frozen=True)
class Committed:
    """A commit, the repository after it, and the published learnware (None for a plain model)."""

    commit: Commit
    repository: Repository
    record: Record | None


@dataclass(frozen=True)
class Published:
    """A published learnware, whether it is new, and whether only its owner may see it."""

    record: Record
    new: bool
    private: bool


class Service:
    """A dock with people; get one from ``open_service``. Safe for threads."""

    def __init__(self, dock: LocalDock, database: Database, settings: Settings) -> None:
        self.dock, self.database, self.settings = dock, database, settings
        self.inspector = Inspector()
        dock.admit = self.inspector.admit
        self.storage: DockLayout = dock.storage
        self.storage.keep_open()
        self.folder = dock.folder
        self.people = People(database, token_days=settings.token_days)
        self.holdings = Holdings(database, self.storage.blobs, settings)
        self.uploads = Uploads(database, self.storage, self.holdings, self.folder / "uploads", settings)
        self.xet = XetUploads(self.uploads, self.holdings, self.storage.blobs, settings)
        self.intake = Intake(database, self.storage, self.holdings, self.uploads.folder, settings)
        self.announced = Announced(settings.max_files)
        self.repositories = LearnwareRepositories(database, self.holdings, self.storage, settings)
        self.catalogue = Catalogue(dock, self.repositories)
        self.versions = Versions(self)
        self.moves = Moves(self)
        self.cards = Cards(database, self.storage.blobs, lambda: self.repositories.changes)
        self.signing_key = signing_key(database)
        views.clear(self.uploads.folder)

    def close(self) -> None:
        """Close the database, and end the process that inspects files."""
        self.inspector.close()
        self.database.close()
        self.storage.close()

    # -- committing ---------------------------------------------------------------------------------------

    def commit(
        self,
        who: Principal,
        name: str,
        changes: Changes,
        *,
        title: str,
        body: str = "",
        parent: str | None = None,
    ) -> Committed:
        """Commit to a repository, and publish the new head where it is a learnware.

        Raises:
            UnsafeModel, ModelError: a file could run code when loaded, or is damaged; nothing was changed.
            any error of ``Repositories.commit``; nothing was changed.
        """
        repository, before = self.repositories.head(who, name)
        # Too many files, and paths that cannot be, before any of them is looked at.
        self.announced.forget(who.token, repository.name)
        after = changed({path: (sha256, 0) for path, sha256 in before.items()}, changes)
        check_count(len(after), self.settings.max_files, repository.name)
        for path in changes.add:
            check_file_path(path)
        self._check_content(who, before, changes)
        if repository.digest is not None:
            self.moves.settle(repository)
            return self._commit_version(who, repository, changes, title=title, body=body, parent=parent)
        commit = self.repositories.commit(who, name, changes, title=title, body=body, parent=parent)
        record, repository = self.publish(repository, commit)
        return Committed(replace(commit, digest=None if record is None else record.digest), repository, record)

    def _commit_version(
        self, who: Principal, repository: Repository, changes: Changes, *, title: str, body: str, parent: str | None
    ) -> Committed:
        """Commit to the repository of a published learnware: the next version, or ``latest`` back at an earlier one.

        The dock publishes first, so that the head is always what it has.

        Raises:
            PackageError, SpecError: the files would not be a learnware any more; nothing was changed.
            Conflict: the head is another than ``parent``, or another commit was first; nothing was changed.
        """
        files = self.repositories.planned(who, repository.name, changes, parent=parent)
        listed = {path: sha256 for path, (sha256, _) in files.items()}
        check_learnware(listed, repository.name)
        manifest = self._manifest(listed[MANIFEST])
        check_no_more(listed, manifest, repository.name)
        record = self._add(repository.name, manifest, listed, after=repository.digest, by=who.name)
        if record.version != record.latest:
            record = self.dock.tag(record.id, "latest")
        card = self._card(manifest, listed)
        if CARD not in listed and self.dock.card(record.name):
            card = b""  # deleted
        if card is not None:  # content that was there: only its card is another
            record = self.dock.edit(record.name, card=decode_card(card), by=who.name)
        self.repositories.mark_changed()
        commit = self.repositories.commit(who, repository.name, changes, title=title, body=body)
        if not self.repositories.confirm(repository, commit, record.digest):
            self.versions.in_step(who, repository.name)
        return Committed(replace(commit, digest=record.digest), self.repositories.get(who, repository.name), record)

    def publish(self, repository: Repository, commit: Commit) -> tuple[Record | None, Repository]:
        """Publish a commit in the dock if its tree is a learnware; its repository says why where it is not.

        Returns what the dock has of the commit, and the repository as it is then. Its note may name another owner's
        public learnware; the note that is kept does not, because that learnware may be private later.

        Raises:
            StorageFull, DockError: the dock cannot take anything now.
        """
        files = {path: entry.sha256 for path, entry in self.repositories.tree(commit).items()}
        record, reason = None, f"no {MANIFEST}: a plain model; a learnware needs a manifest and a specification"
        kept = reason
        if MANIFEST in files:
            try:
                manifest = self._manifest(files[MANIFEST])
                record = self._add(repository.name, manifest, files)
            except (PackageError, SpecError, Conflict, NotFound) as error:
                reason, kept = str(error), str(_without_others(error, repository.owner))
        if record is not None:
            return record, self.repositories.publication(repository, commit, record.digest, None)
        return None, replace(self.repositories.publication(repository, commit, None, kept), note=reason)

    def add(
        self,
        who: Principal,
        source: bytes,
        *,
        private: bool = False,
        after: str | None = None,
        supersedes: str | None = None,
        sent: Mapping[str, memoryview] = MappingProxyType({}),
        card: str | None = None,
    ) -> Published:
        """Publish the learnware whose manifest is ``source``: all of it, or nothing.

        Its files are uploaded, or ``sent`` with the request: path -> bytes. They are looked at before anything is
        stored. It is the next version of its name (see ``Dock.add``), with this ``card``. Its repository is made where
        there is none. With ``private`` only its owner may see it, also where it was public before.

        Raises:
            PackageError, UnsafeModel, SpecError: it may not be stored.
            NotFound: its owner is not ``who``, or a file was not uploaded.
            Conflict: the name is, or was, taken by other content.
            QuotaExceeded: more bytes than its owner may keep.
        """
        who.need("write")
        manifest = Manifest.from_bytes(source)
        self.repositories.check_owner(who, manifest.name)
        if supersedes is not None:
            supersedes = self.versions.superseded(who, supersedes, manifest.name, private=private)
        shown = None if card is None else card.encode("utf-8", "surrogatepass")
        before = self.repositories.standing_of(manifest.name) if private else None
        with self.intake.open(who) as arrived, self._said(arrived.folder, owner=manifest.name.partition("/")[0]):
            files = self._arrived(who, manifest, sent, arrived, shown)
            self.inspector.check_learnware(arrived.folder)
            try:
                repository, made = self._begin(who, manifest, files, private=private)
            except Conflict:  # on PostgreSQL, another request made the repository at this moment: then it is there now
                repository, made = self._begin(who, manifest, files, private=private)
            self.moves.settle(repository)
            with self.storage.read() as records:
                known = manifest.digest in records.digests(repository.name).values()
            try:
                check_named(manifest, repository.name)
                arrived.adopt()
                admitted = Admitted(arrived.folder, manifest, shown)
                record = self.dock.publish(admitted, stored=True, after=after, supersedes=supersedes, by=who.name)
            except BaseException:
                if made:
                    self._forget_empty(who, repository)
                elif before is not None and not before[0] and repository.private:
                    self.repositories.set_private(who, repository.name, False)  # what is refused hides nothing
                raise
        if record.version == record.latest and not self.repositories.commit_published(
            who, repository.name, files, record.digest
        ):
            self.versions.in_step(who, repository.name)
        self.repositories.mark_changed()
        if supersedes is not None and not known:
            with self.database.write() as connection:
                note(connection, who, "learnware.deprecate", f"{supersedes} superseded by {record.reference}")
        return Published(record, not known, repository.private)

    def _arrived(
        self,
        who: Principal,
        manifest: Manifest,
        sent: Mapping[str, memoryview],
        arrived: Arrivals,
        card: bytes | None,
    ) -> dict[str, Blob]:
        """Make the folder of ``arrived`` that of a learnware, and return its blobs, by path; some are not stored yet.

        Raises:
            PackageError: too many files, or other bytes than the manifest says.
            NotFound: a file neither came nor was uploaded.
        """
        listed = {file.path: file for file in manifest.files}
        check_count(len(listed), self.settings.max_files, manifest.name)
        places = views.places(arrived.folder, {MANIFEST: "", **{path: f.sha256 for path, f in listed.items()}})
        content = manifest.to_bytes()
        came = {MANIFEST: arrived.take(len(content), lambda: (content,), path=MANIFEST)}
        if card is not None and CARD not in listed:
            check_card(card)
            came[CARD] = arrived.take(len(card), lambda: (card,), path=CARD)
        for path, source in sent.items():
            blob = came[path] = arrived.take(len(source), lambda source=source: (source,), path=path)  # type: ignore[misc]
            if path not in listed or (blob.sha256, blob.size) != (listed[path].sha256, listed[path].size):
                raise PackageError(f"other bytes than {MANIFEST} says", remedy="send what was packed", about=path)
        others = {place: s for place, s in places.items() if place.relative_to(arrived.folder).as_posix() not in came}
        if others:
            found = self.holdings.find(who, set(others.values()))
            self.storage.blobs.link_all(others)
            came |= {place.relative_to(arrived.folder).as_posix(): found[s] for place, s in others.items()}
        return came

    def _begin(
        self, who: Principal, manifest: Manifest, files: Mapping[str, Blob], *, private: bool
    ) -> tuple[Repository, bool]:
        """Find or make the repository, and keep all files until they are committed, in one transaction.

        Returns the repository, and whether it was made.
        """
        # See ``Uploads._keep``: the lease comes before or after a collection, not in its midst. The dock looks again
        # whether the files are there.
        with self.storage.collection_lock(), self.database.write() as connection:
            repository, made = self.repositories.claim(connection, who, manifest.name, private=private)
            # Before the dock publishes it: what is published and cannot be committed would be neither.
            self.repositories.check_tree(connection, repository, {p: (b.sha256, b.size) for p, b in files.items()})
            self.holdings.lease(connection, who, list(files.values()))
        self.repositories.mark_changed()
        return repository, made

    def delete(self, who: Principal, name: str) -> Repository:
        """Delete a repository and its learnware; a later one of that name is the next version.

        Raises:
            NotFound, Unauthorized, Forbidden: see ``Repositories.get``.
        """
        found = self.repositories.get(who, name, write=True)

        def deletion() -> Repository:
            # First from the dock, whatever it is called there: without its repository what is private would be public.
            self.moves.take_out(found)
            return self.repositories.delete(who, name)

        reserve = self.storage.reserve
        if not reserve.scarce:
            return reserve.spending(deletion)
        # The room is wanted now, and not when the time is over for which uploads are kept.
        kept = self.repositories.blobs(found)
        gone = reserve.spending(deletion)
        reserve.spending(lambda: self._release(who, kept))
        reserve.freed.set()
        return gone

    def _release(self, who: Principal, kept: set[str]) -> None:
        with self.storage.collection_lock(), self.database.write() as connection:
            self.holdings.release(connection, who, kept)

    def is_head(self, who: Principal, name: str, digest: str) -> bool:
        """Return whether the files of the head are the version ``digest``, also where that is not recorded yet."""
        _, files = self.repositories.head(who, name)
        try:
            return MANIFEST in files and self._manifest(files[MANIFEST]).digest == digest
        except PackageError:
            return False

    # -- inside -------------------------------------------------------------------------------------------

    def _add(
        self,
        name: str,
        manifest: Manifest,
        files: Mapping[str, str],
        *,
        after: str | None = None,
        supersedes: str | None = None,
        by: str = "",
    ) -> Record:
        missing = [f.path for f in manifest.files if files.get(f.path) != f.sha256 and f.path != CARD]
        if missing:
            raise PackageError(
                f"missing, or other bytes than {MANIFEST} says", remedy="upload what was packed", about=missing[0]
            )
        if manifest.name != name and (moved := self.versions.with_digest(name, manifest.digest)) is not None:
            return moved  # what was published keeps the name that it had
        check_named(manifest, name)
        listed = {MANIFEST: files[MANIFEST], **{f.path: f.sha256 for f in manifest.files}}
        card = self._card(manifest, files)
        with self._folder(listed, owner=name.partition("/")[0]) as folder:
            self.inspector.check_learnware(folder)
            return self.dock.publish(
                Admitted(folder, manifest, card), stored=True, after=after, supersedes=supersedes, by=by
            )

    def _card(self, manifest: Manifest, files: Mapping[str, str]) -> bytes | None:
        """Return the card among ``files``, if the manifest does not list it as it is there."""
        sha256 = files.get(CARD)
        if sha256 is None or any(f.path == CARD and f.sha256 == sha256 for f in manifest.files):
            return None
        with self.storage.blobs.open(sha256) as stream:
            return stream.read(MAX_CARD_BYTES + 1)

    def _manifest(self, sha256: str) -> Manifest:
        with self.storage.blobs.open(sha256) as stream:
            return Manifest.from_bytes(stream.read())

    def _check_content(self, who: Principal, before: Mapping[str, str], changes: Changes) -> None:
        """Refuse files that could run code when loaded, in plain models as in learnwares."""
        files = {p: sha256 for p, sha256 in before.items() if p not in changes.delete}
        with self.database.read() as connection:
            self.holdings.find_in(connection, who, {b.sha256 for b in changes.add.values()})
        files |= {p: b.sha256 for p, b in changes.add.items()}
        checked = {p: sha256 for p, sha256 in files.items() if p.rpartition("/")[2] not in GIT_FILES}
        if checked and changes.add:
            with self._folder(checked, owner=who.name) as folder:
                self.inspector.check_files(folder)

    @contextlib.contextmanager
    def _folder(self, files: Mapping[str, str], *, owner: str) -> Iterator[Path]:
        """Yield a folder of the files ``path -> SHA-256``; errors of the block show what ``owner`` may see.

        An error may be about a path in the service's own folders, or about a learnware that the gate compared with
        and that ``owner`` may not see.
        """
        with (
            views.folder_of(self.storage.blobs, files, self.uploads.folder) as folder,
            self._said(folder, owner=owner),
        ):
            yield folder

    @contextlib.contextmanager
    def _said(self, folder: Path, *, owner: str) -> Iterator[None]:
        """Let errors of the block about ``folder`` show what ``owner`` may see (see ``_folder``)."""
        try:
            yield
        except LearndockError as error:
            if self.catalogue.hides(error.about, owner):
                raise error.changed(about="another owner's private learnware") from None
            about = error.about
            if Path(about).is_relative_to(folder):
                about = Path(about).relative_to(folder).as_posix()
            raise error.changed(about="" if about == "." else about) from None

    def _forget_empty(self, who: Principal, repository: Repository) -> None:
        with contextlib.suppress(LearndockError):
            found = self.repositories.get(who, repository.name, write=True)
            if found.head is None and found.digest is None:
                self.moves.forget(who, found)


def open_service(settings: Settings, folder: Path | str) -> Service:
    """Open the service of the dock in ``folder``, or where the settings say; makes a new one if there is none.

    Raises:
        UsageError: one of ``database`` and ``objects`` is given without the other.
        DockError: the service's database is missing; only it records what is private.
    """
    dock = open_home(settings, Path(folder), create=True)
    service = Service(dock, open_database(settings, dock), settings)
    dock.storage.referrers = service.repositories.referred
    return service


def open_home(settings: Settings, folder: Path, *, create: bool) -> LocalDock:
    """Open the dock in ``folder``, or in the database and object store of the settings.

    Raises:
        UsageError: one of them is given without the other.
        NotFound: there is no dock, and ``create`` is False.
    """
    if bool(settings.database) != bool(settings.objects):
        raise UsageError(
            "a dock is in a folder, or its records are in --database and its bytes in --objects",
            remedy="give both or neither",
        )
    if not settings.database:
        return open_local_dock(folder, create=create)
    from learndock.dock.storage.s3 import object_store

    store = object_store(
        settings.objects,
        endpoint=settings.objects_endpoint,
        key=settings.objects_key,
        secret=settings.objects_secret,
    )
    return open_server_dock(folder, settings.database, store, create=create)


def open_database(settings: Settings, dock: LocalDock) -> Database:
    """Open the service's own tables, upgraded to the current schema.

    Raises:
        DockError: they are missing although the dock was served before.
    """
    file, mark = dock.folder / DATABASE, dock.folder / SERVED
    if mark.exists() and not settings.database and not file.exists():
        raise DockError(
            "is missing, and only it knows who may see what",
            remedy=f"restore it with `learndock restore`, or remove {mark} to start over with everything public",
            about=file,
        )
    storage = dock.storage
    database = Database(storage.engine if isinstance(storage, ServerLayout) else f"sqlite:///{file.absolute()}")
    database.migrate()
    _mark(dock.storage, mark, "elsewhere" if settings.database else "here")
    return database


def _mark(storage: DockLayout, mark: Path, where: str) -> None:
    source = json.dumps({"format": 1, "database": where}).encode() + b"\n"
    if mark.exists() and mark.read_bytes() == source:
        return
    # All who write it hold the lock: what is unfinished then was left by one who was killed.
    with storage.locked():
        for left in storage.folder.glob(f".{mark.name}.*.part"):
            left.unlink(missing_ok=True)
        with atomic_write(mark) as out:
            out.write(source)


def _without_others(error: LearndockError, owner: str) -> LearndockError:
    """Return the error without the name of another owner's learnware."""
    if isinstance(error, SuspectSpec) and error.about.partition("/")[0].casefold() != owner.casefold():
        return error.changed(about="another owner's learnware")
    return error
