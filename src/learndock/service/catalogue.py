"""What a principal may see of the dock: the filter stands in front of every question, the search by vectors too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from learndock.dock.dock import Dock, Record
from learndock.errors import NotFound
from learndock.search import Identification, identify
from learndock.service.principal import Principal
from learndock.service.repositories import Repositories
from learndock.spec.spec import Spec


@dataclass(frozen=True)
class Filters:
    """What a learnware must be to be looked at; None for whatever it is."""

    format: str | None = None
    task: str | None = None
    license: str | None = None
    base: str | None = None
    owner: str | None = None

    def take(self, record: Record) -> bool:
        """Whether a learnware is such a one."""
        manifest = record.manifest
        return (
            (self.format is None or manifest.format == self.format)
            and (self.task is None or manifest.task.get("type") == self.task)
            and (self.license is None or (manifest.license or "").casefold() == self.license.casefold())
            and (self.base is None or (manifest.base is not None and manifest.base.name == self.base))
            and (self.owner is None or record.name.partition("/")[0].casefold() == self.owner.casefold())
        )


class Catalogue:
    """The dock through the eyes of a principal."""

    def __init__(self, dock: Dock, repositories: Repositories) -> None:
        self._dock, self._repositories = dock, repositories

    def records(self, who: Principal, filters: Filters = Filters()) -> list[Record]:
        """Learnwares that ``who`` may see, in order of addition."""
        standing = self._repositories.standing()
        return [r for r in self._dock.records() if _visible(who, r.name, standing) and filters.take(r)]

    def record(self, who: Principal, which: str) -> Record:
        """The learnware ``owner/name`` or ``owner/name@version``.

        Raises:
            NotFound: there is none that ``who`` may see.
        """
        name = which.partition("@")[0]
        if not _visible(who, name, self._repositories.standing()):
            raise NotFound(f"{name[:200]}: there is no such learnware here; `learndock list` shows what is")
        try:
            return self._dock.get_record(which)
        except NotFound:
            # The dock's own message suggests names that are close, private ones among them.
            raise NotFound(f"{which[:200]}: there is no such learnware here; `learndock list` shows what is") from None

    def identify(self, who: Principal, spec: Spec, *, top: int = 10, filters: Filters = Filters()) -> Identification:
        """Rank what ``who`` may see; nothing of ``spec`` is kept.

        Raises:
            SpaceMismatch, UsageError: see ``search.identify``.
        """
        allowed = {r.id for r in self.records(who, filters)}
        return identify(self._dock, spec, top=top, allowed=allowed)

    def spaces(self, who: Principal) -> dict[str, tuple[str, int]]:
        """Space id -> its name, and how many learnwares that ``who`` may see have a spec in it."""
        found: dict[str, tuple[str, int]] = {}
        for record in self.records(who):
            for entry in record.manifest.specs:
                name, count = found.get(entry.space_id, (entry.space, 0))
                found[entry.space_id] = (name, count + 1)
        return found

    def digest(self, name: str) -> str | None:
        """The version that the dock has of a name, whoever asks."""
        try:
            return self._dock.get_record(name).digest
        except NotFound:
            return None


def _visible(who: Principal, name: str, standing: Mapping[str, tuple[bool, Any]]) -> bool:
    # What the operator added to the folder by hand has no repository; it is for all.
    private, owner = standing.get(name.casefold(), (False, ""))
    return not private or owner in who.owners
