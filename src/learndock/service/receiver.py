"""Receive bytes: write them to a file and hash them as they arrive."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from learndock.errors import TooLarge
from learndock.files import storage_errors


@dataclass(frozen=True)
class Blob:
    """Stored bytes: SHA-256, size, and ``oid``, the SHA-1 that git gives them."""

    sha256: str
    size: int
    oid: str


class Hashes:
    """The SHA-256 of bytes, and the SHA-1 of their git blob, which includes their number."""

    def __init__(self, size: int) -> None:
        self._sha256 = hashlib.sha256()
        self._oid = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        self.passed = 0

    def update(self, piece: bytes | memoryview) -> None:
        """Hash the next bytes."""
        self._sha256.update(piece)
        self._oid.update(piece)
        self.passed += len(piece)

    def blob(self) -> Blob:
        """Return the hashes and the size of the bytes so far."""
        return Blob(self._sha256.hexdigest(), self.passed, self._oid.hexdigest())


def blob_of(content: bytes) -> Blob:
    """Return what ``content`` is stored as."""
    hashes = Hashes(len(content))
    hashes.update(content)
    return hashes.blob()


class Receiver:
    """Takes the bytes of one request; a context manager that syncs the file at its end, also after an error.

    ``size`` is how many bytes may still come. Not safe for threads: one writes at a time.
    """

    def __init__(self, path: Path, *, offset: int, size: int, hashes: Hashes | None) -> None:
        self._path, self._room, self._hashes = path, size, hashes
        self.part = hashlib.sha256()
        self.received = 0
        with storage_errors(path):
            # Bytes that are all there cannot be written any more where their receiver was killed while storing them.
            with contextlib.suppress(FileNotFoundError):
                path.chmod(0o600)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.lseek(self._file, offset, os.SEEK_SET)

    def __enter__(self) -> Receiver:
        return self

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Write the next bytes.

        Raises:
            TooLarge: more than was announced; they were not kept.
            StorageFull: no room.
        """
        if self.received + len(piece) > self._room:
            raise TooLarge(f"more bytes than the {self._room} that were announced", remedy="begin a new upload")
        view = memoryview(piece)
        with storage_errors(self._path):
            left = view
            while left:
                left = left[os.write(self._file, left) :]
        # Only bytes that are in the file count: the next request goes on from its length.
        if self._hashes is not None:
            self._hashes.update(view)
        self.part.update(view)
        self.received += len(piece)

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            with storage_errors(self._path):
                try:
                    os.fsync(self._file)
                except OSError:
                    # The system reports it once and forgets what it could not write, so that syncing again would
                    # succeed without it: these bytes have to come again.
                    self._path.unlink(missing_ok=True)
                    raise
        finally:
            os.close(self._file)
