"""Repositories: files under a name, changed by commits. The mutable side of a dock.

Each commit has a complete tree, path by path, of stored blobs. Its id is 40 hexadecimal digits, as hub clients expect.
Every query includes the filter of what the principal may see. What they may not see does not exist for them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, func, insert, or_, select, update

from learndock.dock.storage.layout import DockLayout
from learndock.errors import Conflict, Forbidden, NotFound
from learndock.package.manifest import check_name
from learndock.service.audit import note
from learndock.service.changes import (
    Changes,
    Commit,
    Entry,
    Repository,
    changed,
    check_file_path,
    check_repository_name,
)
from learndock.service.commits import Files, check_tree, commit_of, files_of, insert_commit, to_commit
from learndock.service.database import Database, mark_change
from learndock.service.holdings import Holdings
from learndock.service.principal import Principal
from learndock.service.referrers import referred
from learndock.service.tables import blobs, commits, former_names, owners, repositories, tree
from learndock.settings import Settings

MAIN = "main"
#: The note of an empty repository that was made for a learnware, until that is in it.
BEGUN = "being published"
#: By what repositories are listed: the name, or a time of the table.
Order = Literal["name", "created", "changed"]
#: The repository that has or had a name, if it is public or of ``owners``; made once, because that takes long.
_NAMED = (
    select(repositories, owners.c.name.label("owner_name"))
    .join(owners, owners.c.id == repositories.c.owner)
    .where(
        or_(
            repositories.c.key == bindparam("key"),
            repositories.c.id
            == select(former_names.c.repository).where(former_names.c.key == bindparam("key")).scalar_subquery(),
        ),
        or_(repositories.c.private.is_(False), repositories.c.owner.in_(bindparam("owners", expanding=True))),
    )
)
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


class Repositories:
    """The repositories of a service."""

    def __init__(self, database: Database, holdings: Holdings, storage: DockLayout, settings: Settings) -> None:
        self._database, self._holdings, self._storage, self._settings = database, holdings, storage, settings
        #: Grows with every change of what there is or who may see it, in this process.
        self.changes = 0

    def mark_changed(self) -> None:
        """Count a change, so that answers from memory are not older than it."""
        self.changes += 1

    # -- finding ------------------------------------------------------------------------------------------

    def get(self, who: Principal, name: str, *, write: bool = False) -> Repository:
        """Return the repository ``owner/name``; with ``write`` only if ``who`` may change it.

        Raises:
            NotFound: there is none, or none that ``who`` may see.
            Unauthorized, Forbidden: it may be seen, but not be changed.
        """
        if write:
            who.need("write")
        with self._database.read() as connection:
            return self._get(connection, who, name, write=write)

    def head(self, who: Principal, name: str) -> tuple[Repository, dict[str, str]]:
        """Return a repository that ``who`` may change, and its files, path -> SHA-256.

        Raises:
            NotFound, Unauthorized, Forbidden: see ``get``.
        """
        who.need("write")
        with self._database.read() as connection:
            found = self._get(connection, who, name, write=True)
            return found, {path: sha256 for path, (sha256, _) in files_of(connection, found.head).items()}

    def find(
        self,
        who: Principal,
        *,
        owner: str | None = None,
        search: Sequence[str] = (),
        after: tuple[float, str] | None = None,
        limit: int = 100,
        order: Order = "name",
        up: bool = False,
        more: Sequence[ColumnElement[bool]] = (),
    ) -> list[Repository]:
        """Return the repositories that ``who`` may see, by name or time, the newest first unless ``up``.

        ``after`` is the last time (0 by name) and name of the previous page; ``more`` are conditions on the table.
        """
        asked = self._select().where(self._visible(who), *more).limit(limit)
        if order == "name":
            asked = asked.order_by(repositories.c.key)
        else:
            time_ = repositories.c[order]
            asked = asked.order_by(time_ if up else time_.desc(), repositories.c.key)
        if owner is not None:
            asked = asked.where(owners.c.key == owner.casefold())
        for word in search:
            asked = asked.where(repositories.c.key.contains(word.casefold(), autoescape=True))
        if after is not None:
            last, key = after[0], repositories.c.key > after[1].casefold()
            if order != "name":
                key = or_(time_ > last if up else time_ < last, and_(time_ == last, key))
            asked = asked.where(key)
        with self._database.read() as connection:
            return [_to_repository(row) for row in connection.execute(asked)]

    def resolve(self, repository: Repository, revision: str = MAIN) -> Commit:
        """Return the commit of a revision: ``main``, ``HEAD``, or at least 7 digits of its id.

        Raises:
            NotFound: there is none, or the repository is empty.
        """
        asked = select(commits).where(commits.c.repository == repository.id)
        if revision in (MAIN, "HEAD", f"refs/heads/{MAIN}"):
            asked = asked.order_by(commits.c.sequence.desc()).limit(1)
        elif _COMMIT.fullmatch(revision):
            asked = asked.where(commits.c.id.startswith(revision)).limit(2)
        else:
            raise NotFound(
                f"no revision {revision[:80]!r}",
                remedy=f"there is {MAIN}, and commits by their id",
                about=repository.name,
            )
        with self._database.read() as connection:
            found = connection.execute(asked).all()
        if len(found) != 1:
            raise NotFound(
                f"no revision {revision[:80]!r}",
                remedy=f"there is {MAIN}, and commits by their id",
                about=repository.name,
            )
        return to_commit(found[0])

    def commits(self, repository: Repository, *, before: int | None = None, limit: int = 100) -> list[Commit]:
        """Return commits, newest first."""
        asked = select(commits).where(commits.c.repository == repository.id).order_by(commits.c.sequence.desc())
        if before is not None:
            asked = asked.where(commits.c.sequence < before)
        with self._database.read() as connection:
            return [to_commit(row) for row in connection.execute(asked.limit(limit))]

    def tree(self, commit: Commit) -> dict[str, Entry]:
        """Return the files of a commit, sorted by path."""
        asked = (
            select(tree.c.path, tree.c.sha256, tree.c.size, blobs.c.oid)
            .join(blobs, blobs.c.sha256 == tree.c.sha256)
            .where(tree.c.commit == commit.id)
            .order_by(tree.c.path)
        )
        with self._database.read() as connection:
            return {p: Entry(p, sha256, size, oid) for p, sha256, size, oid in connection.execute(asked)}

    def blobs(self, repository: Repository) -> set[str]:
        """Return the SHA-256 of every file of every commit."""
        asked = (
            select(tree.c.sha256)
            .join(commits, commits.c.id == tree.c.commit)
            .where(commits.c.repository == repository.id)
            .distinct()
        )
        with self._database.read() as connection:
            return set(connection.execute(asked).scalars())

    def file(self, commit: Commit, path: str) -> Entry:
        """Return one file of a commit.

        Raises:
            NotFound: there is none.
        """
        asked = (
            select(tree.c.path, tree.c.sha256, tree.c.size, blobs.c.oid)
            .join(blobs, blobs.c.sha256 == tree.c.sha256)
            .where(tree.c.commit == commit.id, tree.c.path == path)
        )
        with self._database.read() as connection:
            row = connection.execute(asked).one_or_none()
        if row is None:
            raise NotFound(f"no such file at {commit.id[:12]}", about=path[:200])
        return Entry(*row)

    # -- changing -----------------------------------------------------------------------------------------

    def create(self, who: Principal, name: str, *, private: bool = False, begun: bool = False) -> Repository:
        """Make an empty repository; one that is ``begun`` is deleted later if its learnware never comes.

        Raises:
            PackageError: not a name of the form owner/name.
            NotFound: the owner is neither ``who`` nor an organisation of theirs.
            Conflict: the name is taken.
        """
        who.need("write")
        check_repository_name(name)
        with self._database.write() as connection:
            if connection.execute(select(repositories.c.id).where(repositories.c.key == name.casefold())).first():
                self._need_owner(who, name)
                raise Conflict(
                    "there is such a repository already",
                    remedy="choose another name, or commit to it",
                    about=name,
                )
            made = self._create(connection, who, name, private=private, note_=BEGUN if begun else None)
        self.mark_changed()
        return made

    def claim(self, connection: Connection, who: Principal, name: str, *, private: bool) -> tuple[Repository, bool]:
        """Return the repository ``name``, and whether it was made; made ``private`` where that is asked for.

        Raises:
            PackageError: not a name of the form owner/name.
            NotFound, Forbidden: ``who`` is not its owner.
        """
        check_name(name)
        try:
            found = self._get(connection, who, name, write=True)
            if found.name.casefold() != name.casefold():
                raise Conflict(f"it moved to {found.name}", remedy="pack yours under the new name", about=name)
        except NotFound:
            check_repository_name(name)
            return self._create(connection, who, name, private=private, note_=BEGUN), True
        if private and not found.private:
            found = self._set_private(connection, who, found, private)
        return found, False

    def _create(
        self, connection: Connection, who: Principal, name: str, *, private: bool, note_: str | None
    ) -> Repository:
        self._need_owner(who, name)
        # Also where ``who`` may not see to what: a second repository of that name would make every look-up of it fail.
        if connection.execute(select(former_names.c.key).where(former_names.c.key == name.casefold())).first():
            raise Conflict("the name leads to what was moved", remedy="choose another name", about=name)
        owner, _, own = name.partition("/")
        row = connection.execute(select(owners.c.id, owners.c.name).where(owners.c.key == owner.casefold())).one()
        now = time.time()
        connection.execute(
            insert(repositories).values(
                owner=row.id,
                name=own,
                key=name.casefold(),
                private=private,
                created=now,
                changed=now,
                note=note_,
            )
        )
        note(connection, who, "repository.create", f"{row.name}/{own}{' private' if private else ''}")
        mark_change(connection)
        return self._get(connection, who, name)

    def check_owner(self, who: Principal, name: str) -> None:
        """Check that ``who`` may publish under ``name``, for which bytes are about to be sent.

        Raises:
            PackageError: a repository cannot have such a name.
            NotFound: its owner is neither ``who`` nor an organisation of theirs.
        """
        who.need("write")
        check_repository_name(name)
        self._need_owner(who, name)

    def _need_owner(self, who: Principal, name: str) -> None:
        owner = name.partition("/")[0]
        if not who.owns(owner):
            raise NotFound(
                "you are not that user, and belong to no such organisation",
                remedy=f"{who.name} may publish as {who.name}, or as an organisation of theirs",
                about=owner,
            )

    def owned(self, who: Principal) -> dict[str, int]:
        """Return how many learnwares ``who`` and their organisations have here: ``public`` and ``private``."""
        asked = (
            select(repositories.c.private, func.count())
            .where(repositories.c.owner.in_(who.owner_ids), repositories.c.digest.is_not(None))
            .group_by(repositories.c.private)
        )
        with self._database.read() as connection:
            found = {bool(private): int(count) for private, count in connection.execute(asked)}
        return {"public": found.get(False, 0), "private": found.get(True, 0)}

    def set_private(self, who: Principal, name: str, private: bool) -> Repository:
        """Make a repository public or private.

        Raises:
            NotFound, Unauthorized, Forbidden: see ``get``.
        """
        who.need("write")
        with self._database.write() as connection:
            found = self._set_private(connection, who, self._get(connection, who, name, write=True), private)
        self.mark_changed()
        return found

    def _set_private(self, connection: Connection, who: Principal, found: Repository, private: bool) -> Repository:
        connection.execute(
            update(repositories).where(repositories.c.id == found.id).values(private=private, changed=time.time())
        )
        note(connection, who, "repository.privacy", f"{found.name} {'private' if private else 'public'}")
        mark_change(connection)
        return self._get(connection, who, found.name)

    def commit(
        self,
        who: Principal,
        name: str,
        changes: Changes,
        *,
        title: str,
        body: str = "",
        parent: str | None = None,
    ) -> Commit:
        """Commit all of the changes, or none.

        With ``parent`` the changes apply only to that head. A commit that changes nothing returns the head.

        Raises:
            NotFound, Unauthorized, Forbidden: see ``get``; or a file to delete is not there.
            Conflict: the head is another than ``parent``.
            PackageError: a path that is not plain, one that is a file and a folder, or too many files.
            QuotaExceeded: more bytes than the owner may keep.
        """
        who.need("write")
        for path in changes.add:
            check_file_path(path)
        # With the dock's lock held, a concurrent gc sees what the commit refers to, or the commit sees that the
        # blob is gone.
        with self._storage.locked(), self._database.write() as connection:
            repository = self._get(connection, who, name, write=True)
            _need_parent(repository, parent)
            self._holdings.find_in(connection, who, {blob.sha256 for blob in changes.add.values()})
            made = self._commit(connection, who, repository, changes, title=title, body=body)
        self.mark_changed()
        return made

    def planned(self, who: Principal, name: str, changes: Changes, *, parent: str | None) -> dict[str, tuple[str, int]]:
        """Return the files, path -> (SHA-256, size), that a commit would make the head.

        Raises:
            any error of ``commit``.
        """
        with self._database.read() as connection:
            repository = self._get(connection, who, name, write=True)
            _need_parent(repository, parent)
            self._holdings.find_in(connection, who, {blob.sha256 for blob in changes.add.values()})
            files = changed(files_of(connection, repository.head), changes)
            self.check_tree(connection, repository, files)
            return files

    def _commit(
        self, connection: Connection, who: Principal, repository: Repository, changes: Changes, *, title: str,
        body: str = "", checked: bool = False,
    ) -> Commit:  # fmt: skip
        before = files_of(connection, repository.head)
        files = changed(before, changes)
        if files == before and repository.head is not None:
            return commit_of(connection, repository.head)
        if not checked:
            self.check_tree(connection, repository, files)
        made = insert_commit(connection, repository, who, files, title=title, body=body)
        note(connection, who, "repository.commit", f"{repository.name} {made.id}")
        return made

    def delete(self, who: Principal, name: str) -> Repository:
        """Delete a repository and its commits; the caller has removed its learnware from the dock.

        Raises:
            NotFound, Unauthorized, Forbidden: see ``get``.
        """
        who.need("write")
        with self._database.write() as connection:
            found = self._get(connection, who, name, write=True)
            connection.execute(delete(repositories).where(repositories.c.id == found.id))
            note(connection, who, "repository.delete", found.name)
            mark_change(connection)
        self.mark_changed()
        return found

    def publication(self, repository: Repository, commit: Commit, digest: str | None, reason: str | None) -> Repository:
        """Record what became of a commit: the digest of the learnware, or the reason why there is none.

        Returns the repository as it is afterwards.
        """
        with self._database.write() as connection:
            self._set_publication(connection, repository, commit, digest, reason)
            row = connection.execute(self._select().where(repositories.c.id == repository.id)).one_or_none()
        self.mark_changed()
        return repository if row is None else _to_repository(row)

    def _set_publication(
        self, connection: Connection, repository: Repository, commit: Commit, digest: str | None, reason: str | None
    ) -> None:
        connection.execute(update(commits).where(commits.c.id == commit.id).values(digest=digest))
        values: dict[str, Any] = {"note": reason}
        if digest is not None:
            values["digest"] = digest
        connection.execute(update(repositories).where(repositories.c.id == repository.id).values(**values))

    # -- what others ask ----------------------------------------------------------------------------------

    def standing(self) -> dict[str, tuple[bool, str]]:
        """Return {key: (private, owner's key)} of every name that a repository has or had; a key is without case."""
        asked = select(repositories.c.key, repositories.c.private, owners.c.key).join(
            owners, owners.c.id == repositories.c.owner
        )
        before = (
            select(former_names.c.key, repositories.c.private, owners.c.key)
            .join(repositories, repositories.c.id == former_names.c.repository)
            .join(owners, owners.c.id == repositories.c.owner)
        )
        with self._database.read() as connection:
            return {key: (private, owner) for key, private, owner in connection.execute(asked.union_all(before))}

    def standing_of(self, name: str) -> tuple[bool, str] | None:
        """Return (private, owner's key) of the repository ``name``, whatever its case; None where there is none.

        A name that a repository had before has the same, so that a learnware is hidden while it is moved.
        """
        former = select(former_names.c.repository).where(former_names.c.key == name.casefold()).scalar_subquery()
        asked = (
            select(repositories.c.private, owners.c.key)
            .join(owners, owners.c.id == repositories.c.owner)
            .where(or_(repositories.c.key == name.casefold(), repositories.c.id == former))
        )
        with self._database.read() as connection:
            row = connection.execute(asked).one_or_none()
        return None if row is None else (row[0], row[1])

    def change(self) -> int:
        """Return a number that differs after every change, by any process, of what there is or who may see it."""
        return self._database.change()

    def referred(self) -> set[str]:
        """Return the SHA-256 of every blob that a commit or a lease keeps (see ``DockLayout.referrers``)."""
        return referred(self._database)

    # -- inside -------------------------------------------------------------------------------------------

    def _select(self) -> Any:
        return select(repositories, owners.c.name.label("owner_name")).join(
            owners, owners.c.id == repositories.c.owner
        )  # fmt: skip

    def _visible(self, who: Principal) -> ColumnElement[bool]:
        return or_(repositories.c.private.is_(False), repositories.c.owner.in_(who.owner_ids))

    def _get(self, connection: Connection, who: Principal, name: str, *, write: bool = False) -> Repository:
        row = connection.execute(_NAMED, {"key": name.casefold(), "owners": list(who.owner_ids)}).one_or_none()
        if row is None:
            raise NotFound(
                "there is no such learnware or repository here",
                remedy="`learndock list` shows what is there",
                about=name[:200],
            )
        found = _to_repository(row)
        if write and not who.owns(found.owner):
            raise Forbidden(f"it is not yours to change; its owner is {found.owner}", about=found.name)
        return found

    def owned_in(self, connection: Connection, who: Principal, name: str) -> Repository:
        """See ``get`` with ``write``, in the caller's transaction."""
        who.need("write")
        return self._get(connection, who, name, write=True)

    def check_tree(self, connection: Connection, repository: Repository, files: Files) -> None:
        """See ``commits.check_tree``."""
        check_tree(connection, repository, files, holdings=self._holdings, settings=self._settings)


def _need_parent(repository: Repository, parent: str | None) -> None:
    if parent is not None and repository.head is not None and not repository.head.startswith(parent):
        raise Conflict(
            f"its head is {repository.head[:12]}, not {parent[:12]}",
            remedy="look at what changed, then commit on top of that",
            about=repository.name,
        )


def _to_repository(row: Row[Any]) -> Repository:
    name = f"{row.owner_name}/{row.name}"
    return Repository(row.id, name, row.private, row.created, row.changed, row.head, row.digest, row.note)
