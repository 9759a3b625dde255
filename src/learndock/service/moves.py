"""Another name, or another owner, for a repository and the learnware in it.

    repository renamed, its old name leads to it -> dock moves the learnware -> audit

Until the dock has moved the learnware, its old name has the privacy of the repository (``Repositories.standing``), so
there is no moment at which others see what is private. A process that is killed between the two leaves the learnware
under its old name; ``finish``, which ``Upkeep.reconcile`` calls first, moves it, or else ``settle``, before the next
change. A repository goes only when the dock has nothing under any name of it: without one, what is private is public.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, insert, select, update

from learndock.dock.storage import names
from learndock.dock.storage.layout import DockLayout
from learndock.errors import Conflict, LearndockError, NotFound
from learndock.service.audit import note
from learndock.service.changes import Repository
from learndock.service.commits import files_of
from learndock.service.database import Database, mark_change
from learndock.service.following import LearnwareRepositories
from learndock.service.principal import Principal
from learndock.service.tables import former_names, owners, repositories

if TYPE_CHECKING:
    from learndock.service.service import Service

#: The former names of repositories that there are, and what they are called now.
_FORMER = (
    select(
        former_names.c.repository,
        former_names.c.name.label("former"),
        repositories.c.name.label("own"),
        owners.c.name.label("owner"),
    )
    .join(repositories, repositories.c.id == former_names.c.repository)
    .join(owners, owners.c.id == repositories.c.owner)
)

log = logging.getLogger("learndock.upkeep")


class Moves:
    """Moves of a service's repositories."""

    def __init__(self, service: Service) -> None:
        self._database: Database = service.database
        self._storage: DockLayout = service.storage
        self._repositories: LearnwareRepositories = service.repositories

    def move(self, who: Principal, old: str, new: str) -> Repository:
        """Give a repository and its learnware the name ``new``; the old one leads to it from then on.

        Raises:
            NotFound: there is no such repository that ``who`` may see, or the new owner is not ``who`` nor an
                organisation of theirs.
            Unauthorized, Forbidden: it is not theirs to change.
            PackageError: a repository cannot have such a name.
            Conflict: the new name is, or was, another's.
            QuotaExceeded: more bytes than the new owner may keep.
        """
        found = self._repositories.get(who, old, write=True)
        self._repositories.check_owner(who, new)
        self.settle(found)
        if new == found.name:
            return found
        self._need_unused(found.name, new)
        with self._database.write() as connection:
            # Asked again where nobody can change it beside.
            found = self._repositories.owned_in(connection, who, found.name)
            led = self._rename(connection, who, found, new)
            note(connection, who, "repository.move", f"{found.name} to {new}")
        self._repositories.mark_changed()
        try:
            self._follow(found.name, new, who.name)
        except BaseException:
            with contextlib.suppress(LearndockError):  # it stays begun then, and the first error is the one to raise
                self._back(who, new, found.name, led=led)
            raise
        self._repositories.mark_changed()
        return self._repositories.get(who, new)

    def _back(self, who: Principal, new: str, old: str, *, led: bool) -> None:
        """Give a repository its old name back, if the dock did not move its learnware.

        ``led`` is whether the new name had led to it before.
        """
        with self._storage.locked(), self._database.write() as connection:
            # The file of the new name decides: an error may also mean that the dock's answer was lost.
            published = self._storage.publications.read(new)
            if published is not None and published.moved_to is None:
                return
            self._rename(connection, who, self._repositories.owned_in(connection, who, new), old)
            if not led:
                connection.execute(delete(former_names).where(former_names.c.key == new.casefold()))
            note(connection, who, "repository.move", f"{new} to {old}: the dock refused")
        self._repositories.mark_changed()

    def finish(self) -> int:
        """Move the learnwares whose repositories have moved, and return how many those were."""
        with self._database.read() as connection:
            rows = connection.execute(_FORMER).all()
        done = 0
        for _, old, own, owner in rows:
            try:
                done += self._follow(old, f"{owner}/{own}", owner)
            except LearndockError as error:
                log.error("cannot be moved", extra={"error": f"{old}: {error}"})
        if done:
            self._repositories.mark_changed()
        return done

    def settle(self, repository: Repository) -> None:
        """Finish the move of a repository, where one was begun, before it is changed.

        Raises:
            any error of ``Dock.move``; nothing was changed.
        """
        for old in self.former(repository.id):
            if self._follow(old, repository.name, repository.owner):
                self._repositories.mark_changed()

    def former(self, repository: int) -> list[str]:
        """Return the names that a repository had before."""
        asked = select(former_names.c.name).where(former_names.c.repository == repository)
        with self._database.read() as connection:
            return list(connection.execute(asked).scalars())

    def take_out(self, repository: Repository) -> None:
        """Remove the learnware of a repository from the dock, also where it is under a former name still."""
        for called in (repository.name, *self.former(repository.id)):
            with contextlib.suppress(NotFound):
                names.remove(self._storage, called)

    def begun(self) -> set[int]:
        """Return the ids of the repositories whose learnwares the dock has under a former name."""
        with self._database.read() as connection:
            rows = connection.execute(_FORMER).all()
        with self._storage.read() as records:
            return {row.repository for row in rows if records.row(row.former) is not None}

    def forget(self, who: Principal, repository: Repository) -> bool:
        """Delete the repository of a removed learnware; returns False where the dock has it, under whatever name."""
        with self._storage.locked():  # so that the dock moves nothing between the look and the deletion
            called = [repository.name, *self.former(repository.id)]
            with self._storage.read() as records:
                if any(records.row(name) is not None for name in called):
                    return False
            self._repositories.delete(who, repository.name)
            return True

    def _is_called(self, old: str, new: str) -> bool:
        with self._database.read() as connection:
            rows = connection.execute(_FORMER.where(former_names.c.key == old.casefold())).all()
        return any(f"{row.owner}/{row.own}" == new for row in rows)

    def _follow(self, old: str, new: str, by: str) -> bool:
        """Move the learnware in the dock, if it is still under its old name; returns whether it was."""
        with self._storage.read() as records:
            if records.row(old) is None:
                return False
        try:
            names.move(self._storage, old, new, by=by, wanted=lambda: self._is_called(old, new))
        except NotFound:  # removed since
            return False
        return True

    def _need_unused(self, old: str, new: str) -> None:
        published = self._storage.publications.read(new)
        if published is not None and published.moved_to != old:
            raise Conflict("the name is taken, or was", remedy="choose one that was never used", about=new)

    def _rename(self, connection: Connection, who: Principal, found: Repository, new: str) -> bool:
        """Rename a repository; returns whether the name had led to it."""
        key = new.casefold()
        if connection.execute(select(repositories.c.id).where(repositories.c.key == key)).first():
            raise Conflict("the name is taken", remedy="choose another", about=new)
        leads = connection.execute(select(former_names.c.repository).where(former_names.c.key == key)).scalar()
        if leads not in (None, found.id):
            raise Conflict("the name leads to what was moved", remedy="choose another", about=new)
        connection.execute(delete(former_names).where(former_names.c.key == key))
        owner, _, own = new.partition("/")
        row = connection.execute(select(owners.c.id).where(owners.c.key == owner.casefold())).one()
        connection.execute(
            update(repositories).where(repositories.c.id == found.id).values(owner=row.id, name=own, key=key)
        )
        connection.execute(insert(former_names).values(key=found.name.casefold(), name=found.name, repository=found.id))
        mark_change(connection)
        # The bytes are the new owner's from here on: what they keep must be within their quota.
        moved = self._repositories.owned_in(connection, who, new)
        self._repositories.check_tree(connection, moved, files_of(connection, moved.head))
        return leads is not None
