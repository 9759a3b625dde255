"""Memory that bodies took, given back to the system: the allocator keeps what is freed among other objects."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time

#: Bytes of bodies after which it is worth the time.
WORTH = 4 << 20
#: Seconds between two times: other threads wait some milliseconds for the allocator.
SECONDS = 10.0


class Trimmer:
    """Gives freed memory back, in a thread, once many bytes of bodies are gone."""

    def __init__(self) -> None:
        self._due, self._last = 0, 0.0

    def freed(self, count: int, *, left: int) -> None:
        """Count bytes that were freed; ``left`` are still held."""
        self._due += count
        if self._due < WORTH or left > WORTH or time.monotonic() - self._last < SECONDS:
            return
        self._due, self._last = 0, time.monotonic()
        # Soon, not now: the bytes are freed when the request ends.
        later = threading.Timer(0.5, trim)
        later.daemon = True
        later.start()


def trim() -> None:
    """Give freed memory back, where the allocator can (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
