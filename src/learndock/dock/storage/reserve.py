"""Room that is kept back on the disk, so that deletions and gc work where the disk is full.

    reserve     8 MB of the dock's folder; a service makes it, and makes it again when there is room

Deleting needs room itself: for the record of what was removed, and for the databases' logs.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from learndock.errors import StorageFull

NAME = "reserve"
SIZE = 8 << 20
#: Bytes beside it with less of which the disk is called full.
LEAST = 1 << 20
T = TypeVar("T")


class Reserve:
    """The reserve in a folder. Safe for threads."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / NAME
        self._lock = threading.Lock()
        #: Set where something was deleted for the sake of room, which gc should free soon.
        self.freed = threading.Event()

    @property
    def there(self) -> bool:
        """Whether the room is kept back now."""
        with contextlib.suppress(OSError):
            return self._file.stat().st_size == SIZE
        return False

    @property
    def room(self) -> int:
        """Bytes that are free on the disk beside the reserve; 0 where the system does not say."""
        try:
            found = os.statvfs(self._file.parent)
        except OSError:
            return 0
        return found.f_bavail * found.f_frsize

    @property
    def scarce(self) -> bool:
        """Whether less than 64 MB, or than a twentieth of the disk, is free."""
        try:
            found = os.statvfs(self._file.parent)
        except OSError:
            return False
        return found.f_bavail * found.f_frsize < max(64 << 20, found.f_blocks * found.f_frsize // 20)

    def keep(self) -> bool:
        """Keep the room back, if it is not and there is some; returns whether it is kept."""
        with self._lock:
            if self.there:
                return True
            try:
                handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
                try:
                    os.posix_fallocate(handle, 0, SIZE)
                finally:
                    os.close(handle)
            except OSError:
                self._file.unlink(missing_ok=True)
                return False
            return True

    def spending(self, deletion: Callable[[], T]) -> T:
        """Do ``deletion``; where the disk is full, once more with the room that was kept back.

        Raises:
            StorageFull: there is no room even then.
        """
        try:
            return deletion()
        except StorageFull:
            if not self.there:
                raise
        with self._lock:
            self._file.unlink(missing_ok=True)
        try:
            return deletion()
        finally:
            self.keep()
