"""The files that clients announce before they send bytes: too many are refused then, not after an hour of sending.

Hub clients announce a folder in several requests, so what was announced is remembered for a while, in memory: another
process of the service, or a later commit, still counts the files that are committed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from learndock.errors import PackageError

#: Seconds for which announced paths count towards the next announcement.
REMEMBERED = 60.0


def check_count(files: int, most: int, name: str) -> None:
    """Check the number of files of the repository or learnware ``name``.

    Raises:
        PackageError: more than ``most``.
    """
    if files > most:
        raise PackageError(
            f"{files} files, and this service takes at most {most} in one repository or learnware",
            remedy="send the model's own folder, without caches and checkpoints, or ask the operator to raise "
            "--max-files (at most 1000)",
            about=name,
        )


class Announced:
    """Paths announced lately, by the token that announced them and the repository; safe for threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._paths: dict[tuple[int | None, str], tuple[float, set[str]]] = {}

    def check(self, token: int | None, name: str, there: Iterable[str], paths: Iterable[str]) -> None:
        """Count ``paths`` with those ``there`` and those that ``token`` announced for the repository a moment ago.

        Raises:
            PackageError: more than a repository may have.
        """
        now, key = time.monotonic(), (token, name.casefold())
        with self._lock:
            self._paths = {k: (at, p) for k, (at, p) in self._paths.items() if now - at < REMEMBERED}
            announced = self._paths.get(key, (now, set()))[1] | set(paths)
            count = len(announced | set(there))
            if count > self._most:
                self._paths.pop(key, None)
            else:
                self._paths[key] = (now, announced)
        check_count(count, self._most, name)

    def forget(self, token: int | None, name: str) -> None:
        """Forget what was announced: it is committed now."""
        with self._lock:
            self._paths.pop((token, name.casefold()), None)
