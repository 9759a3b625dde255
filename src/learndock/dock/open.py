"""Opening a dock: a folder, the address of a service, or PostgreSQL with an object store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, overload

from learndock.dock.admission import Admit, admit
from learndock.dock.local import LocalDock
from learndock.dock.protocol import Dock
from learndock.dock.storage.layout import default_folder, is_address, open_layout, refuse_half_address
from learndock.dock.storage.writing import finish_pending

if TYPE_CHECKING:
    from obstore.store import ObjectStore


@overload
def open_dock(path: Path, *, create: bool = True, admit: Admit = admit) -> LocalDock: ...
@overload
def open_dock(path: str | None = None, *, create: bool = True, admit: Admit = admit) -> Dock: ...
def open_dock(path: str | Path | None = None, *, create: bool = True, admit: Admit = admit) -> Dock:
    """Open the dock in the folder ``path``, or at an address ``http://...``.

    A folder that does not exist becomes a new dock unless ``create`` is False. Without ``path`` the dock is the one
    that ``LEARNDOCK_DOCK`` names, or a folder in the user's data. ``admit`` checks each learnware that is added. For
    an address the token is that of ``learndock login``.

    Raises:
        NotFound: there is no dock, and ``create`` is False.
        DockError: the folder holds something else, or a dock of a newer learndock.
        UsageError: ``path`` is ``host:port`` or has another scheme than http; write ``http://host:port``.

    Example:
        >>> dock = learndock.open_dock("my-dock")
        >>> dock
        <LocalDock my-dock: 1 learnware>
        >>> dock.records()
        [<Record me/reviews@...: sklearn, classification>]
    """
    named = os.environ.get("LEARNDOCK_DOCK") if path is None else path
    if isinstance(named, str) and is_address(named):
        from learndock.dock.remote.dock import RemoteDock

        return RemoteDock(named, admit=admit)
    if isinstance(named, str):
        refuse_half_address(named)
    return open_local_dock(default_folder() if path is None else path, create=create, admit=admit)


def open_local_dock(folder: str | Path, *, create: bool = True, admit: Admit = admit) -> LocalDock:
    """Open the dock in ``folder``, never one at an address.

    Raises:
        NotFound, DockError: see ``open_dock``.
    """
    storage = open_layout(Path(folder).expanduser(), create=create)
    finish_pending(storage)
    return LocalDock(storage, admit=admit)


def open_server_dock(
    folder: str | Path, database: str, store: ObjectStore, *, create: bool = True, admit: Admit = admit
) -> LocalDock:
    """Open the dock whose records are in PostgreSQL and whose bytes are in an object store.

    ``folder`` holds what is being written. A service shares the dock's pool of connections, ``storage.engine``.

    Raises:
        NotFound, DockError, Corrupt, Unavailable: see ``open_server_layout``.
    """
    from learndock.dock.storage.postgres import connect, open_server_layout

    storage = open_server_layout(Path(folder), connect(database), store, create=create)
    finish_pending(storage)
    return LocalDock(storage, admit=admit)
