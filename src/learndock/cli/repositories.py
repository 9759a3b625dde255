"""What only a service knows of learnwares: since when they are there, and who may see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from learndock.cli.show import moment

if TYPE_CHECKING:
    from learndock.dock import Dock
    from learndock.dock.remote.dock import RemoteDock

PAGE = 1000


@dataclass(frozen=True)
class Repository:
    """A name at a service; ``created`` is ISO 8601 in UTC."""

    name: str
    private: bool
    created: str


def repositories(dock: Dock, name: str | None = None) -> dict[str, Repository]:
    """The repositories that you may see, or the one of ``name``; none for a dock in a folder."""
    from learndock.dock.remote.dock import RemoteDock

    if not isinstance(dock, RemoteDock):
        return {}
    if name is not None:
        return {name: found} if (found := _one(dock, name)) is not None else {}
    listed: dict[str, Repository] = {}
    after: str | None = ""
    while after is not None:
        query = {"limit": PAGE, **({"after": after} if after else {})}
        page = dock.session.json("GET", f"/repositories?{urlencode(query)}")
        listed |= {r["name"]: _repository(r) for r in page["repositories"]}
        after = page["next"]
    return listed


def set_private(dock: RemoteDock, name: str, private: bool) -> Repository:
    """Say who may see a learnware: its owner alone, or everyone.

    Raises:
        ServiceError: the service says that it is otherwise.
        Forbidden, Unauthorized: your token may not.
    """
    from learndock.errors import ServiceError

    found = _repository(dock.session.json("PATCH", f"/repositories/{quote(name)}", {"private": private}))
    if found.private is not private:
        raise ServiceError("did not change who may see it", remedy="ask the operator of the service", about=name)
    return found


def _one(dock: RemoteDock, name: str) -> Repository | None:
    from learndock.errors import NotFound

    try:
        return _repository(dock.session.json("GET", f"/repositories/{quote(name)}"))
    except NotFound:  # published in the dock's folder by hand
        return None


def _repository(found: Any) -> Repository:
    return Repository(str(found["name"]), found["private"] is True, moment(float(found["created"])))
