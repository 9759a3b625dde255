"""Blobs and publications in an S3-compatible store, with the guarantees of ``blobs`` and ``publications`` on disk.

    PREFIX/dock.json
    PREFIX/blobs/ab/abcd...
    PREFIX/learnwares/OWNER/NAME.json

An object appears complete or not at all, and is durable when put returns; the store checks the SHA-256 of what arrives.
Bytes are hashed in a file of the local staging folder before they are sent.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from learndock.dock.storage.blobs import copy_checked
from learndock.dock.storage.publications import Publication, Publications, damaged
from learndock.errors import (
    Corrupt,
    DockError,
    MissingExtra,
    NotFound,
    PackageError,
    StorageFull,
    Unavailable,
    UsageError,
)
from learndock.files import CHUNK, storage_errors
from learndock.package.manifest import check_name

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Larger files go up in parts of this size, so that 50 GB stay below the 10,000 parts that S3 allows.
PART = 16 << 20
#: The key that stands for the credentials of the machine's role.
ROLE = "role"
#: Variables by which the store's client finds credentials without asking the cloud's own address.
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
#: Requests for small objects that are under way at the same time.
AT_ONCE = 16
#: Seconds after which a request to a store that did not answer is worth sending again.
AGAIN = 5.0
#: Bytes that are read ahead.
AHEAD = 4 << 20


def object_store(url: str, *, endpoint: str = "", key: str = "", secret: str = "") -> ObjectStore:
    """Return the store ``s3://bucket/prefix``; without ``key`` the credentials come from the environment.

    With the key ``ROLE`` the store's client asks the cloud for those of the machine, at an address of its network that
    does not answer elsewhere. It never does so unasked.

    Raises:
        UsageError: not such a URL, or there are no credentials.
        MissingExtra: the extra ``server`` is not installed.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise UsageError("is not an object store", remedy="write s3://bucket/prefix", about=url)
    if not key and not any(os.environ.get(name) for name in _CREDENTIALS):
        raise UsageError(
            "no key for the object store",
            remedy="set --objects-key and --objects-secret, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; where the "
            f"machine has a role in its cloud, --objects-key {ROLE}",
            about=url,
        )
    try:
        from obstore.store import S3Store
    except ImportError:
        raise MissingExtra("an S3-compatible store needs obstore", remedy='pip install "learndock[server]"') from None
    given: dict[str, Any] = {"checksum_algorithm": "SHA256"}
    if key and key != ROLE:
        given |= {"access_key_id": key, "secret_access_key": secret}
    if endpoint:
        given |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
        given.setdefault("region", os.environ.get("AWS_REGION", "us-east-1"))
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        client_options={"allow_http": endpoint.startswith("http:"), "timeout": "60s", "connect_timeout": "5s"},
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
        **given,
    )


@contextlib.contextmanager
def object_errors(what: str) -> Iterator[None]:
    """Translate the store's errors into ours; ``FileNotFoundError`` passes.

    Raises:
        StorageFull: it has no room, or a quota is reached.
        Unavailable: it does not answer, or says that it is busy.
        DockError: it refuses.
    """
    from obstore.exceptions import BaseError, GenericError

    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        # What follows is the library's own structures, for those who debug it.
        text = " ".join(str(error).partition("Debug source:")[0].split())
        if re.search(r"\b507\b|QuotaExceeded|InsufficientStorage|no space|EntityTooLarge", text, re.IGNORECASE):
            raise StorageFull("the object store has no room", remedy="free some and try again", about=what) from None
        if isinstance(error, GenericError):  # of the connection, a time that was over, or an answer of 5xx
            raise Unavailable(
                "the object store does not answer ({about})",
                remedy="try again in a moment; its operator checks that it runs, and the setting objects_endpoint",
                about=f"{what}: {text[:400]}",
                retry_after=AGAIN,
            ) from None
        raise DockError(
            f"the object store did not answer as it should ({text[:400]})",
            remedy="check the settings objects, objects_endpoint, objects_key and objects_secret, or try again",
            about=what,
        ) from None


class ObjectBlobs:
    """Blobs in an object store; ``staging`` is a local folder for bytes that are being sent."""

    place = "the object store"

    def __init__(self, store: ObjectStore, staging: Path) -> None:
        self._store, self._staging = store, staging

    def check(self) -> None:
        """See ``BlobStore.check``."""
        self._size("0" * 64)

    def _path(self, sha256: str) -> str:
        if not _SHA256.fullmatch(sha256):
            raise NotFound(f"{sha256[:80]!r} is not a SHA-256")
        return f"blobs/{sha256[:2]}/{sha256}"

    def put(self, stream: IO[bytes], *, sha256: str, size: int) -> bool:
        """See ``BlobStore.put``."""
        there = self.has(sha256)
        if there and self.sound(sha256, size):
            return False
        with storage_errors(self._staging):
            handle, name = tempfile.mkstemp(dir=self._staging, prefix="blob-")
            try:
                with os.fdopen(handle, "wb") as out:
                    source = getattr(stream, "name", sha256)
                    copy_checked(stream, out, sha256=sha256, size=size, where=str(source))
                self._send(Path(name), sha256)
            finally:
                Path(name).unlink(missing_ok=True)
        return not there

    def adopt(self, path: Path, *, sha256: str, size: int) -> None:
        """See ``BlobStore.adopt``."""
        self._send(path, sha256)
        path.unlink()

    def adopt_all(self, files: Mapping[str, Path]) -> None:
        """See ``BlobStore.adopt_all``: a request waits for the store, so many are under way at once."""
        _at_once(self._send, files.values(), files)
        for path in files.values():
            path.unlink()

    def _send(self, path: Path, sha256: str) -> None:
        import obstore

        with object_errors(f"blob {sha256[:12]}"):
            obstore.put(self._store, self._path(sha256), path, chunk_size=PART, max_concurrency=4)

    def sound(self, sha256: str, size: int) -> bool:
        """See ``BlobStore.sound``."""
        try:
            with self.open(sha256) as stream:
                copy_checked(stream, None, sha256=sha256, size=size, where=sha256)
        except (Corrupt, NotFound):
            return False
        return True

    def open(self, sha256: str) -> IO[bytes]:
        """See ``BlobStore.open``."""
        size = self._size(sha256)
        if size is None:
            raise NotFound(f"no blob {sha256} in the object store")
        return io.BufferedReader(_Object(self._store, self._path(sha256), size), AHEAD)

    def link(self, sha256: str, path: Path) -> None:
        """See ``BlobStore.link``; here it is a copy."""
        with self.open(sha256) as stream, storage_errors(path), path.open("wb") as out:
            while piece := stream.read(CHUNK):
                out.write(piece)

    def link_all(self, files: Mapping[Path, str]) -> None:
        """See ``BlobStore.link_all``."""
        _at_once(self.link, files.values(), files)

    def missing(self, sha256s: Iterable[str]) -> set[str]:
        """See ``BlobStore.missing``."""
        wanted = list(sha256s)
        return {sha256 for sha256, there in zip(wanted, _at_once(self.has, wanted), strict=True) if not there}

    def has(self, sha256: str, *, durable: bool = False) -> bool:
        """See ``BlobStore.has``."""
        return self._size(sha256) is not None

    def _size(self, sha256: str) -> int | None:
        import obstore

        path = self._path(sha256)
        try:
            with object_errors(f"blob {sha256[:12]}"):
                return int(obstore.head(self._store, path)["size"])
        except FileNotFoundError:
            return None

    def delete(self, sha256: str) -> None:
        """See ``BlobStore.delete``."""
        import obstore

        with contextlib.suppress(FileNotFoundError), object_errors(f"blob {sha256[:12]}"):
            obstore.delete(self._store, self._path(sha256))

    def digests(self) -> Iterator[str]:
        """See ``BlobStore.digests``."""
        found = (path.rpartition("/")[2] for path in _listed(self._store, "blobs/"))
        yield from sorted(name for name in found if _SHA256.fullmatch(name))


def _at_once(do: Callable[..., T], *values: Iterable[Any]) -> list[T]:
    """Call ``do`` for each of ``values`` in threads; raises what one of the calls raised."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="objects") as pool:
        return list(pool.map(do, *values))


class _Object(io.RawIOBase):
    """A stored object as a seekable file; every read is a request, so it needs a buffer."""

    def __init__(self, store: ObjectStore, path: str, size: int) -> None:
        self._store, self._path, self._size, self._at = store, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        found = self._piece(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def readall(self) -> bytes:
        # The inherited method reads 8 kB at a time.
        return b"".join(iter(lambda: bytes(self._piece(AHEAD)), b""))

    def _piece(self, length: int) -> memoryview:
        import obstore

        length = min(length, self._size - self._at)
        if length <= 0:
            return memoryview(b"")
        try:
            with object_errors(self._path):
                found = memoryview(obstore.get_range(self._store, self._path, start=self._at, length=length))
        except FileNotFoundError:
            raise DockError("was deleted while it was read", remedy="ask again", about=self._path) from None
        self._at += len(found)
        return found


class ObjectPublications(Publications):
    """``Publications`` as objects."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(Path("learnwares"))
        self._store = store

    def _object(self, name: str) -> str:
        owner, _, own = check_name(name).partition("/")
        return f"learnwares/{owner}/{own}.json"

    def _read_bytes(self, name: str) -> bytes | None:
        import obstore

        try:
            with object_errors(name):
                return bytes(obstore.get(self._store, self._object(name)).bytes())
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def replaced(self, publication: Publication) -> Iterator[None]:
        """See ``Publications.replaced``."""
        import obstore

        path = self._object(publication.name)
        before = self._read_bytes(publication.name)
        try:
            with object_errors(publication.name):
                obstore.put(self._store, path, publication.to_bytes())
            yield
        except BaseException:
            with object_errors(publication.name):
                if before is not None:
                    obstore.put(self._store, path, before)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        obstore.delete(self._store, path)
            raise

    def names(self) -> Iterator[str]:
        """See ``Publications.names``."""
        for path in sorted(_listed(self._store, "learnwares/")):
            found = PurePosixPath(path)
            name = f"{found.parent.name}/{found.name.removesuffix('.json')}"
            try:
                yield check_name(name)
            except PackageError as error:
                raise damaged(Path(path), error.what) from None

    def empty(self) -> bool:
        """See ``Publications.empty``."""
        return next(_listed(self._store, "learnwares/"), None) is None

    def leftovers(self) -> Iterator[Path]:
        """See ``Publications.leftovers``: an object is complete or absent."""
        return iter(())


def _listed(store: ObjectStore, prefix: str) -> Iterator[str]:
    import obstore

    with object_errors(prefix):
        for found in obstore.list(store, prefix, chunk_size=1000):
            yield from (entry["path"] for entry in found)
