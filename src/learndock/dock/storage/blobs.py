"""Blobs: the bytes of files, each under the name of its own SHA-256.

A blob never changes. Equal files of many learnwares (a tokenizer, a license) are kept once. ``BlobStore`` is the
protocol; ``DiskBlobs`` keeps them in a folder, ``s3.ObjectBlobs`` in an object store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Protocol

from learndock.errors import Corrupt, NotFound
from learndock.files import CHUNK, sha256_file, storage_errors, sync_all, sync_folder

_SHA256 = re.compile(r"[0-9a-f]{64}")


class BlobStore(Protocol):
    """Where a dock keeps the bytes of files; ``place`` is what an operator calls it."""

    place: str

    def check(self) -> None:
        """Check that the store answers.

        Raises:
            DockError, Unavailable: it does not.
        """
        ...

    def put(self, stream: IO[bytes], *, sha256: str, size: int) -> bool:
        """Store the bytes of a stream durably, and return whether the blob is new.

        An intact blob of this name stays; a damaged one is replaced.

        Raises:
            Corrupt: the stream is not ``size`` bytes with this SHA-256; nothing was stored.
            StorageFull: no room; nothing was stored.
        """
        ...

    def sound(self, sha256: str, size: int) -> bool:
        """Return whether the blob is durably there and its ``size`` bytes hash to its name; reads all of them."""
        ...

    def adopt(self, path: Path, *, sha256: str, size: int) -> None:
        """Move the file ``path``, which the caller has hashed, durably into the store.

        Raises:
            StorageFull: no room; nothing was stored, and the file is still there.
            StorageFailed: the disk reported an error; nothing was stored, and the file may be gone.
        """
        ...

    def adopt_all(self, files: Mapping[str, Path]) -> None:
        """Move the files, by the SHA-256 that the caller found in each, durably into the store, many at once.

        Raises:
            StorageFull: no room; some may be stored, and the others are still there.
        """
        ...

    def open(self, sha256: str) -> IO[bytes]:
        """Return a seekable stream of the blob's bytes as they are stored; they are not checked.

        Raises:
            NotFound: there is no such blob.
        """
        ...

    def link(self, sha256: str, path: Path) -> None:
        """Make ``path`` a file with the blob's bytes, shared where the store allows; it must not be written to.

        Raises:
            NotFound: there is no such blob.
            StorageFull: no room.
        """
        ...

    def link_all(self, files: Mapping[Path, str]) -> None:
        """Make each path of ``files`` a file with the bytes of its blob (see ``link``).

        Raises:
            NotFound: one of the blobs is not there.
            StorageFull: no room.
        """
        ...

    def missing(self, sha256s: Iterable[str]) -> set[str]:
        """Return which of the blobs are not there, without reading any."""
        ...

    def has(self, sha256: str, *, durable: bool = False) -> bool:
        """Return whether the blob is there, without reading it; with ``durable`` it also survives a power cut."""
        ...

    def delete(self, sha256: str) -> None:
        """Delete the blob, if there is one."""
        ...

    def digests(self) -> Iterator[str]:
        """Yield the SHA-256 of every blob, sorted."""
        ...


def copy_checked(
    stream: IO[bytes],
    out: IO[bytes] | None,
    *,
    sha256: str,
    size: int,
    where: str,
    each: Callable[[], None] | None = None,
) -> None:
    """Copy ``stream`` to ``out``, or only read it, and check its length and hash.

    Stops one piece after ``size``, however long the stream is. ``each`` is called after every piece.

    Raises:
        Corrupt: the bytes are others; ``out`` must be thrown away.
    """
    hasher = hashlib.sha256()
    passed = 0
    while piece := stream.read(CHUNK):
        hasher.update(piece)
        passed += len(piece)
        if passed > size:
            raise Corrupt(f"more bytes than the {size} of its manifest", about=where)
        if out is not None:
            out.write(piece)
        if each is not None:
            each()
    if passed != size:
        raise Corrupt(f"{passed} bytes, its manifest says {size}", about=where)
    if hasher.hexdigest() != sha256:
        raise Corrupt(f"its SHA-256 is {hasher.hexdigest()[:12]}..., its manifest says {sha256[:12]}...", about=where)


class DiskBlobs:
    """Blobs as files ``root/ab/abcd...``; unfinished ones are in ``staging``, on the same file system.

    The bytes are synced before the file gets its name and the folder after, so that a blob that survives a power cut
    has all of its bytes.
    """

    place = "the folder of the blobs"

    def __init__(self, root: Path, staging: Path) -> None:
        self._root = root
        self._staging = staging

    def _file(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise NotFound(f"{sha256[:80]!r} is not a SHA-256")
        return self._root / sha256[:2] / sha256

    def check(self) -> None:
        """See ``BlobStore.check``."""
        with storage_errors(self._root):
            next(self._root.iterdir(), None)

    def put(self, stream: IO[bytes], *, sha256: str, size: int) -> bool:
        """See ``BlobStore.put``."""
        file = self._file(sha256)
        there = file.is_file()
        if self.sound(sha256, size):
            return False
        with storage_errors(file):
            handle, name = tempfile.mkstemp(dir=self._staging, prefix="blob-")
            try:
                with os.fdopen(handle, "wb") as out:
                    source = getattr(stream, "name", file)
                    copy_checked(stream, out, sha256=sha256, size=size, where=str(source))
                    out.flush()
                    os.fsync(out.fileno())
                Path(name).chmod(0o444)
                self._make_room(file.parent)
                Path(name).replace(file)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    Path(name).unlink()
                raise
            self._sync_name(file, new=not there)
        return not there

    def sound(self, sha256: str, size: int) -> bool:
        """See ``BlobStore.sound``."""
        file = self._file(sha256)
        with contextlib.suppress(FileNotFoundError):
            return file.stat().st_size == size and sha256_file(file) == sha256 and self.has(sha256, durable=True)
        return False

    def _sync_name(self, file: Path, *, new: bool) -> None:
        """Make the name of a blob durable; where that fails, a new one goes, since syncing again would say it held."""
        try:
            sync_folder(file.parent)
        except OSError:
            if new:
                file.unlink(missing_ok=True)
            raise

    def _make_room(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            sync_folder(self._root)

    def adopt(self, path: Path, *, sha256: str, size: int) -> None:
        """See ``BlobStore.adopt``. The file must be on the same file system."""
        file = self._file(sha256)
        there = file.is_file()
        with storage_errors(file):
            try:
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
            except OSError:  # syncing again would succeed, without what the system could not write and forgot
                path.unlink(missing_ok=True)
                raise
            path.chmod(0o444)
            self._make_room(file.parent)
            path.replace(file)
            self._sync_name(file, new=not there)

    def adopt_all(self, files: Mapping[str, Path]) -> None:
        """See ``BlobStore.adopt_all``: the bytes of all are synced before any gets its name, each folder once after."""
        targets = {self._file(sha256): path for sha256, path in files.items()}
        with storage_errors(self._root):
            sync_all(targets.values())
            folders = {file.parent for file in targets}
            new = [folder for folder in folders if not folder.is_dir()]
            for folder in new:
                folder.mkdir(exist_ok=True)
            if new:
                sync_folder(self._root)
            for file, path in targets.items():
                path.chmod(0o444)
                path.replace(file)
            sync_all(folders)

    def link(self, sha256: str, path: Path) -> None:
        """See ``BlobStore.link``."""
        try:
            path.hardlink_to(self._file(sha256))
        except FileNotFoundError:
            raise NotFound(f"no blob {sha256}", about=self._root) from None

    def link_all(self, files: Mapping[Path, str]) -> None:
        """See ``BlobStore.link_all``."""
        for path, sha256 in files.items():
            self.link(sha256, path)

    def missing(self, sha256s: Iterable[str]) -> set[str]:
        """See ``BlobStore.missing``."""
        return {sha256 for sha256 in sha256s if not self.has(sha256)}

    def open(self, sha256: str) -> IO[bytes]:
        """See ``BlobStore.open``."""
        try:
            return self._file(sha256).open("rb")
        except FileNotFoundError:
            raise NotFound(f"no blob {sha256}", about=self._root) from None

    def has(self, sha256: str, *, durable: bool = False) -> bool:
        """See ``BlobStore.has``."""
        file = self._file(sha256)
        there = file.is_file()
        if there and durable:  # a writer may have been killed before it synced the name
            sync_folder(file.parent)
        return there

    def delete(self, sha256: str) -> None:
        """See ``BlobStore.delete``."""
        with contextlib.suppress(FileNotFoundError):
            self._file(sha256).unlink()

    def digests(self) -> Iterator[str]:
        """See ``BlobStore.digests``."""
        for folder in sorted(p for p in self._root.iterdir() if p.is_dir()):
            yield from sorted(p.name for p in folder.iterdir() if _SHA256.fullmatch(p.name))
