"""The versions of a learnware at a service: tags, removal, and a repository that is kept in step with the dock.

The dock decides. Its repository follows: ``main`` has the files of the version tagged ``latest``, every published
version has a commit, and no commit has the files of a version that was removed.

    dock changed -> in_step: missing commits, then the head -> audit

A process that is killed between the two leaves the repository behind; ``Upkeep.reconcile`` brings it in step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from learndock.dock.local import LocalDock
from learndock.dock.protocol import Record, Removed
from learndock.dock.storage.names import Edit
from learndock.errors import NotFound, PackageError, Unavailable, UsageError
from learndock.files import sha256_bytes
from learndock.package.manifest import CARD, MANIFEST, Manifest
from learndock.service.audit import note
from learndock.service.catalogue import Catalogue
from learndock.service.changes import GIT_FILES, Commit, Repository
from learndock.service.database import Database
from learndock.service.following import LearnwareRepositories
from learndock.service.holdings import Holdings
from learndock.service.principal import Principal
from learndock.service.receiver import Blob
from learndock.service.repositories import MAIN
from learndock.service.uploads import Uploads

if TYPE_CHECKING:
    from learndock.service.service import Service

#: How often the dock may change while a repository is brought in step.
ATTEMPTS = 20


class Versions:
    """The versions of the learnwares of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._dock: LocalDock = service.dock
        self._database: Database = service.database
        self._repositories: LearnwareRepositories = service.repositories
        self._holdings: Holdings = service.holdings
        self._uploads: Uploads = service.uploads
        self._catalogue: Catalogue = service.catalogue

    # -- reading ------------------------------------------------------------------------------------------

    def all(self, who: Principal, name: str) -> list[Record]:
        """Return the published versions of ``owner/name``, by number.

        Raises:
            NotFound: there is none that ``who`` may see.
        """
        found = self._dock.versions(self._catalogue.current(who, name).name)
        return [self._catalogue.shown(who, record) for record in found]

    def refs(self, repository: Repository) -> dict[str, str]:
        """Return tag -> commit: ``v1`` and so on, and the owner's own tags; none where it is no learnware."""
        newest = self._repositories.published(repository)
        return {
            tag: newest[record.digest]
            for record in self._of(repository.name)
            if record.digest in newest
            for tag in (f"v{record.version}", *record.tags)
        }

    def resolve(self, repository: Repository, revision: str = MAIN) -> Commit:
        """Return the commit of a revision: ``main``, at least 7 digits of a commit's id, or a tag such as ``v2``.

        Raises:
            NotFound: there is none, or the repository is empty.
        """
        try:
            return self._repositories.resolve(repository, revision)
        except NotFound:
            commit = self.refs(repository).get(revision.removeprefix("refs/tags/"))
            if commit is None:
                raise
        return self._repositories.resolve(repository, commit)

    # -- changing -----------------------------------------------------------------------------------------

    def tag(self, who: Principal, which: str, tag: str) -> Record:
        """Tag the version ``which``; a tag that another version has moves, also ``latest``.

        Raises:
            UsageError: not a tag.
            NotFound: there is no such version that ``who`` may see.
            Unauthorized, Forbidden: it is not theirs to change.
        """
        name = self._owned(who, which).name
        record = self._dock.tag(_at(name, which), tag)
        self._changed(who, name, "learnware.tag", f"{record.reference} {tag}")
        return record

    def untag(self, who: Principal, name: str, tag: str) -> Record:
        """Remove a tag, and return the version that had it.

        Raises:
            UsageError: the tag is ``latest``.
            NotFound, Unauthorized, Forbidden: see ``tag``.
        """
        name = self._owned(who, name).name
        record = self._dock.untag(name, tag)
        self._changed(who, name, "learnware.untag", f"{record.reference} {tag}")
        return record

    def card(self, who: Principal, name: str) -> str:
        """Return the present card, or "" where there is none.

        Raises:
            NotFound: there is no such learnware that ``who`` may see.
        """
        return self._dock.card(self._catalogue.current(who, name).name)

    def edit(self, who: Principal, name: str, edit: Edit) -> Record:
        """Edit the card; the repository gets a commit with it.

        Raises:
            PackageError: see ``Dock.edit``.
            QuotaExceeded: its owner may not keep so many bytes more; nothing was changed.
            NotFound, Unauthorized, Forbidden: see ``tag``.
        """
        repository = self._owned(who, name)
        name = repository.name
        # Before the dock has the card: it keeps every card, and the repository could not follow.
        source = edit.applied(self._dock.card(name)).encode("utf-8", "surrogatepass")
        with self._database.read() as connection:
            self._repositories.check_tree(connection, repository, {CARD: (sha256_bytes(source), len(source))})
        record = self._dock.edit(
            name,
            card=edit.card,
            license=edit.license,
            description=edit.description,
            tags=edit.tags,
            untag=edit.untag,
            by=who.name,
        )
        self._changed(who, name, "learnware.edit", name)
        return record

    def deprecate(
        self, who: Principal, name: str, *, use: str | None = None, because: str = "", undo: bool = False
    ) -> Record:
        """Say that a learnware should not be used any more, or take that back.

        Raises:
            NotFound: also where ``who`` may not see ``use``.
            UsageError: see ``Dock.deprecate``.
            Unauthorized, Forbidden: see ``tag``.
        """
        name = self._owned(who, name).name
        other = None if use is None else self._catalogue.current(who, use).name
        if other is not None and self._catalogue.is_private(other) and not self._catalogue.is_private(name):
            raise UsageError("is private, and would be named to all", remedy="make it public first", about=other)
        record = self._dock.deprecate(name, use=other, because=because, undo=undo, by=who.name)
        self._changed(who, name, "learnware.deprecate", f"{name} {'undone' if undo else record.deprecated}")
        return record

    def superseded(self, who: Principal, old: str, new: str, *, private: bool) -> str:
        """Return the present name of ``old``, which ``new`` may supersede; ``private`` is whether ``new`` is hidden.

        Raises:
            UsageError: ``new`` is hidden, and ``old``, which would name it, is not.
            NotFound, Unauthorized, Forbidden: see ``tag``.
        """
        found = self._repositories.get(who, old, write=True)
        if not found.private and (private or (self._repositories.standing_of(new) or (False, ""))[0]):
            raise UsageError(
                "is private, and would be named to all",
                remedy=f"make it public, or make {found.name} private first",
                about=new,
            )
        return found.name

    def remove(self, who: Principal, which: str) -> Removed:
        """Remove one version, with its commits; with the last one the repository goes too.

        Raises:
            NotFound, Unauthorized, Forbidden: see ``tag``.
        """
        repository = self._owned(who, which)
        removed = self._dock.remove(_at(repository.name, which))
        if removed.remaining:
            self._changed(who, repository.name, "learnware.remove", removed.record.reference)
        else:
            self._repositories.delete(who, repository.name)
        return removed

    def in_step(self, who: Principal, name: str) -> None:
        """Give the repository the commits that the dock's versions ask for; does nothing where it has them.

        Raises:
            NotFound: there is no such repository.
            Unavailable: the dock changes too quickly.
        """
        for _ in range(ATTEMPTS):
            repository = self._repositories.get(who, name, write=True)
            wanted = self._of(repository.name)
            if not wanted:
                return
            there = self._repositories.published(repository)
            latest = next(r for r in wanted if r.version == r.latest)
            missing = [r for r in wanted if r.digest not in there and r is not latest] + [latest]
            trees = {r.digest: self._files(who, r) for r in missing}
            if self._repositories.follow(who, name, wanted, trees):
                return
        raise Unavailable("its versions change too quickly", remedy="try again in a moment", about=name)

    def with_digest(self, name: str, digest: str) -> Record | None:
        """Return the version of a name with this digest, or None."""
        return next((r for r in self._of(name) if r.digest == digest), None)

    # -- inside -------------------------------------------------------------------------------------------

    def _of(self, name: str) -> list[Record]:
        try:
            return self._dock.versions(name)
        except NotFound:
            return []

    def _owned(self, who: Principal, which: str) -> Repository:
        repository = self._repositories.get(who, which.partition("@")[0], write=True)
        if repository.digest is None:
            raise NotFound("is not a learnware yet", remedy="push one, or see `learndock list`", about=repository.name)
        self._service.moves.settle(repository)
        return repository

    def _changed(self, who: Principal, name: str, action: str, what: str) -> None:
        self._repositories.mark_changed()
        self.in_step(who, name)
        with self._database.write() as connection:
            note(connection, who, action, what)

    def _files(self, who: Principal, record: Record) -> Mapping[str, Blob]:
        files = {f.path: self._holdings.known(f.sha256) for f in record.manifest.files}
        files[MANIFEST] = self._uploads.put(who, record.manifest.to_bytes())
        if card := self._dock.card(record.name):
            files[CARD] = self._uploads.put(who, card.encode("utf-8"))
        else:  # emptied since, though the manifest lists it
            files.pop(CARD, None)
        return files


def _at(name: str, which: str) -> str:
    _, at, reference = which.partition("@")
    return f"{name}{at}{reference}"


def check_named(manifest: Manifest, name: str) -> None:
    """Check that a learnware was packed under ``name``.

    Raises:
        PackageError: it was not.
    """
    if manifest.name != name:
        raise PackageError(f"{MANIFEST} names {manifest.name}, this is {name}", remedy="pack it under this name")


def check_learnware(files: Iterable[str], name: str) -> None:
    """Check that files at these paths may be a learnware.

    Raises:
        PackageError: there is no manifest among them.
    """
    if MANIFEST not in files:
        raise PackageError(
            f"without {MANIFEST} it would not be a learnware any more",
            remedy="push a folder made by `learndock pack`, or use another repository",
            about=name,
        )


def check_no_more(files: Iterable[str], manifest: Manifest, name: str) -> None:
    """Check that ``learndock get`` would write all files of the commit; git's own files are no part of a learnware.

    Raises:
        PackageError: one is not in the manifest.
    """
    known = {MANIFEST, CARD, *(f.path for f in manifest.files)}
    for path in sorted({*files} - known):
        if path.rpartition("/")[2] not in GIT_FILES:
            raise PackageError(
                f"is not in {MANIFEST} of {name}, so `learndock get` would not write it",
                remedy="pack the folder again with it, or push it to another repository",
                about=path,
            )
