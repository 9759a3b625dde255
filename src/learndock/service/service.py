"""The service as one thing: the dock, the people, the repositories, and what happens when files are committed.

    commit -> are the files safe? -> a new head -> is it a learnware? -> checked and published in the dock

A tree without a manifest stays a plain model. One with a manifest that may not be stored stays one too, and the
repository says why.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert, select

from learndock.dock.local import LocalDock
from learndock.dock.open import open_local_dock, open_server_dock
from learndock.dock.protocol import Record
from learndock.dock.storage.layout import SERVED, DockLayout
from learndock.errors import (
    Conflict,
    DockError,
    LearndockError,
    NotFound,
    PackageError,
    SpecError,
    Unavailable,
    UsageError,
)
from learndock.files import atomic_write
from learndock.package.manifest import MANIFEST, Manifest
from learndock.service import views
from learndock.service.catalogue import Catalogue
from learndock.service.database import Database
from learndock.service.inspection import Inspector
from learndock.service.people import People
from learndock.service.principal import Principal
from learndock.service.receiver import Blob
from learndock.service.referrers import DATABASE
from learndock.service.repositories import GIT_FILES, Changes, Commit, Repositories, Repository, check_file_path
from learndock.service.tables import secrets as secrets_table
from learndock.service.uploads import Uploads
from learndock.settings import Settings


@dataclass(frozen=True)
class Committed:
    """A commit, the repository as it is after it, and what the dock has of it (None for a plain model)."""

    commit: Commit
    repository: Repository
    record: Record | None


class Service:
    """A dock with people; get one from ``open_service``. Safe for threads."""

    def __init__(self, dock: LocalDock, database: Database, settings: Settings) -> None:
        self.dock, self.database, self.settings = dock, database, settings
        self.inspector = Inspector()
        dock.admit = self.inspector.admit
        self.storage: DockLayout = dock.storage
        self.folder = dock.folder
        self.people = People(database, token_days=settings.token_days)
        self.uploads = Uploads(database, self.storage, self.folder / "uploads", settings)
        self.repositories = Repositories(database, self.uploads, self.storage, settings)
        self.catalogue = Catalogue(dock, self.repositories)
        self.signing_key = _signing_key(database)
        views.clear(self.uploads.folder)

    def close(self) -> None:
        """Let go of the database, and of the process that looks at files."""
        self.inspector.close()
        self.database.close()

    def check(self) -> None:
        """See that both databases answer.

        Raises:
            Unavailable: one does not.
        """
        with self.database.read() as connection:
            connection.execute(select(1))
        try:
            len(self.dock)
        except DockError as error:
            raise Unavailable(
                f"the dock does not answer ({type(error).__name__})", remedy="look at the service's log"
            ) from None

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
            whatever ``Repositories.commit`` raises; nothing was changed.
        """
        repository = self.repositories.get(who, name, write=True)
        for path in changes.add:
            check_file_path(path)
        self._check_content(who, repository, changes)
        commit = self.repositories.commit(who, name, changes, title=title, body=body, parent=parent)
        record = self.publish(repository, commit)
        return Committed(commit, self.repositories.get(who, name), record)

    def publish(self, repository: Repository, commit: Commit) -> Record | None:
        """Publish a commit in the dock if its tree is a learnware; its repository says why where it is not.

        Raises:
            StorageFull, DockError: the dock cannot take anything now.
        """
        files = {path: entry.sha256 for path, entry in self.repositories.tree(commit).items()}
        record, reason = None, f"no {MANIFEST}: a plain model; a learnware needs a manifest and a specification"
        if MANIFEST in files:
            try:
                manifest = self._manifest(files[MANIFEST])
                record = self._add(repository.name, manifest, files)
            except (PackageError, SpecError, Conflict, NotFound) as error:
                reason = self._without_paths(str(error))
        self.repositories.publication(
            repository, commit, None if record is None else record.digest, None if record is not None else reason
        )
        return record

    def add(self, who: Principal, source: bytes, *, private: bool | None = None) -> tuple[Record, bool]:
        """Publish the learnware whose manifest is ``source`` and whose files are uploaded: all of it, or nothing.

        Its repository is made where there is none (``private`` as said, public by default). Returns the record, and
        whether it is new.

        Raises:
            PackageError, UnsafeModel, SpecError: it may not be stored.
            NotFound: its owner is not ``who``, or a file was not uploaded.
            Conflict: the name stands, or stood, for other content.
        """
        who.need("write")
        manifest = Manifest.from_bytes(source)
        files = {f.path: self.uploads.blob(who, f.sha256) for f in manifest.files}
        made = False
        try:
            repository = self.repositories.get(who, manifest.name, write=True)
        except NotFound:
            with contextlib.suppress(Conflict):  # another request for the same name was first
                self.repositories.create(who, manifest.name, private=bool(private), begun=True)
                made = True
            repository = self.repositories.get(who, manifest.name, write=True)
        new = repository.digest != manifest.digest
        try:
            record = self._add(repository.name, manifest, {p: b.sha256 for p, b in files.items()})
        except BaseException:
            if made:
                self._forget_empty(who, repository)
            raise
        self.commit_published(who, repository, record, files)
        return record, new

    def commit_published(
        self,
        who: Principal,
        repository: Repository,
        record: Record,
        files: Mapping[str, Blob],
        *,
        trusted: bool = False,
    ) -> None:
        """Let the head of a repository be what the dock has of it, and nothing else.

        Raises:
            whatever ``Repositories.commit`` raises.
        """
        add = {**files, MANIFEST: self.uploads.put(who, record.manifest.to_bytes())}
        before = self.repositories.tree(self.repositories.resolve(repository)) if repository.head else {}
        changes = Changes(add=add, delete=[p for p in before if p not in add])
        title = f"Publish {record.digest[:12]}"
        commit = self.repositories.commit(who, repository.name, changes, title=title, trusted=trusted)
        self.repositories.publication(repository, commit, record.digest, None)

    def delete(self, who: Principal, name: str) -> Repository:
        """Take a repository away, its learnware out of the dock; the name never stands for other content again.

        Raises:
            NotFound, Unauthorized, Forbidden: see ``Repositories.get``.
        """
        found = self.repositories.get(who, name, write=True)
        # First from the dock: a private learnware whose repository is gone would belong to nobody.
        with contextlib.suppress(NotFound):
            self.dock.remove(found.name)
        return self.repositories.delete(who, name)

    # -- inside -------------------------------------------------------------------------------------------

    def _add(self, name: str, manifest: Manifest, files: Mapping[str, str]) -> Record:
        if manifest.name != name:
            raise PackageError(f"{MANIFEST} names {manifest.name}, this is {name}", remedy="pack it under this name")
        missing = [f.path for f in manifest.files if files.get(f.path) != f.sha256]
        if missing:
            raise PackageError(
                f"missing, or other bytes than {MANIFEST} says", remedy="upload what was packed", about=missing[0]
            )
        listed = {f.path: f.sha256 for f in manifest.files}
        with self._folder(listed) as folder:
            (folder / MANIFEST).write_bytes(manifest.to_bytes())
            try:
                return self.dock.add(folder)
            except LearndockError as error:
                # Where the dock compares a newcomer with what is there, it may name what others must not know of.
                raise type(error)(self.catalogue.told_to(name.partition("/")[0], str(error))) from None

    def _manifest(self, sha256: str) -> Manifest:
        with self.storage.blobs.open(sha256) as stream:
            return Manifest.from_bytes(stream.read())

    def _check_content(self, who: Principal, repository: Repository, changes: Changes) -> None:
        """No commit holds what could run: the same list that learnwares are held to, for plain models too."""
        before = self.repositories.tree(self.repositories.resolve(repository)) if repository.head else {}
        files = {p: e.sha256 for p, e in before.items() if p not in changes.delete}
        files |= {p: self.uploads.blob(who, b.sha256).sha256 for p, b in changes.add.items()}
        checked = {p: sha256 for p, sha256 in files.items() if not _of_git(p)}
        if not checked or not changes.add:
            return
        try:
            with self._folder(checked) as folder:
                self.inspector.check_files(folder)
        except LearndockError as error:
            raise type(error)(self._without_paths(str(error))) from None

    @contextlib.contextmanager
    def _folder(self, files: Mapping[str, str]) -> Iterator[Path]:
        with views.folder_of(self.storage.blobs, files, self.uploads.folder) as folder:
            try:
                yield folder
            except LearndockError as error:
                # Where the service keeps its files is nobody's business.
                raise type(error)(str(error).replace(f"{folder}/", "").replace(str(folder), "it")) from None

    def _without_paths(self, message: str) -> str:
        return message.replace(f"{self.folder}/", "").replace(str(self.folder), "the dock")

    def _forget_empty(self, who: Principal, repository: Repository) -> None:
        with contextlib.suppress(LearndockError):
            found = self.repositories.get(who, repository.name, write=True)
            if found.head is None and found.digest is None and self.catalogue.digest(found.name) is None:
                self.repositories.delete(who, found.name)


def open_service(settings: Settings, folder: Path | str) -> Service:
    """Open the service whose dock lies in ``folder``, or where the settings say; made where there is nothing yet.

    Raises:
        UsageError: one of ``database`` and ``objects`` is given without the other.
        DockError: the service was here before, and its database is gone: without it, nobody knows what is private.
    """
    dock = open_home(settings, Path(folder), create=True)
    service = Service(dock, open_database(settings, dock), settings)
    dock.storage.referrers = service.repositories.referred
    return service


def open_home(settings: Settings, folder: Path, *, create: bool) -> LocalDock:
    """The dock in ``folder``, or in the database and the object store that the settings name.

    Raises:
        UsageError: one of them is given without the other.
        NotFound: there is no dock, and none is to be made.
    """
    if bool(settings.database) != bool(settings.objects):
        raise UsageError(
            "a dock lies in a folder, or its records in --database and its bytes in --objects",
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
    """The service's own tables, brought to their present form.

    Raises:
        DockError: the service was here before, and its database is gone.
    """
    file, mark = dock.folder / DATABASE, dock.folder / SERVED
    if mark.exists() and not settings.database and not file.exists():
        raise DockError(
            "is missing, and only it knows who may see what",
            remedy=f"restore it with `learndock restore`, or remove {mark} to begin anew with everything public",
            about=file,
        )
    database = Database(settings.database or f"sqlite:///{file.absolute()}")
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


def _of_git(path: str) -> bool:
    return path.rpartition("/")[2] in GIT_FILES


def _signing_key(database: Database) -> bytes:
    with database.write() as connection:
        found = connection.execute(
            select(secrets_table.c.value).where(secrets_table.c.name == "signing")
        ).scalar_one_or_none()
        if found is None:
            found = secrets.token_bytes(32)
            connection.execute(insert(secrets_table).values(name="signing", value=found))
        return bytes(found)
