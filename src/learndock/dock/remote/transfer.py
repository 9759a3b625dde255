"""Uploads and downloads that resume after a connection breaks."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from learndock.dock.remote.session import Session
from learndock.errors import Conflict, Corrupt, LearndockError, TooManyRequests, TooSlow, Unavailable
from learndock.package.manifest import File

#: Attempts without progress, and the seconds before the second one; each later one waits twice as long.
ATTEMPTS, PAUSE = 5, 0.2
#: Attempts per file in all.
BREAKS = 1000
#: How often another process may be found sending the same bytes.
BUSY = 3
Count = Callable[[int], None]
#: Bytes of files that travel in the request that publishes; a service takes 8 MiB, with the manifest.
INLINE = 1 << 20


class Download(io.RawIOBase):
    """A stream of a file of ``size`` bytes at ``path``; if the connection breaks, the rest is requested.

    Nothing is checked here: what comes may be anything, see ``blobs.copy_checked``.
    """

    def __init__(self, session: Session, path: str, size: int) -> None:
        self._session, self._path, self._size = session, path, size
        self._at = self._failed = self._breaks = 0
        self._open = contextlib.ExitStack()
        self._answer: http.client.HTTPResponse | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes; none at the end.

        Raises:
            Unavailable: the service does not answer any more.
            NotFound: the file is gone.
        """
        while True:
            try:
                answer = self._answer or self._ask()
                piece = answer.read(size if size >= 0 else self._size - self._at + 1)
            except (OSError, http.client.HTTPException, Unavailable, TooManyRequests) as error:
                self._broken(error)
                continue
            if piece:
                self._at += len(piece)
                self._failed = 0
                return piece
            if self._at >= self._size:
                return b""
            self._broken(Unavailable("broke off", remedy="check that the service runs", about=self._session.url))

    def close(self) -> None:
        """Close the connection."""
        self._open.close()
        super().close()

    def _ask(self) -> http.client.HTTPResponse:
        headers = {"Range": f"bytes={self._at}-"} if self._at else {}
        self._answer = self._open.enter_context(self._session.answer("GET", self._path, headers=headers))
        if self._at and self._answer.status != 206:
            raise Corrupt(
                "the service did not resume an interrupted download", remedy="get the learnware again", about=self._path
            )
        left = self._size - self._at
        if self._answer.length not in (None, left):
            raise Corrupt(
                f"the service announces {self._answer.length} bytes, the manifest says {left}",
                remedy="tell the operator of the dock",
                about=self._path,
            )
        return self._answer

    def _broken(self, error: Exception) -> None:
        self._answer = None
        with contextlib.suppress(LearndockError):
            self._open.close()
        self._failed, self._breaks = self._failed + 1, self._breaks + 1
        pause(self._failed if self._breaks < BREAKS else ATTEMPTS, error)


class _Rest(io.RawIOBase):
    """The rest of a file that is uploaded; ``count`` is called with the number of bytes that are sent."""

    def __init__(self, stream: Any, count: Count) -> None:
        self._stream, self._count = stream, count

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        piece = bytes(self._stream.read(size))
        self._count(len(piece))
        return piece


def upload(session: Session, place: Path, file: File, count: Count, *, name: str) -> None:
    """Upload a file, unless the service has it from this user; bytes that arrived earlier are not sent again.

    ``name`` is the learnware that it is for: the service refuses before the bytes are sent if you may not publish it.

    ``count`` is called with the number of further bytes that have arrived; it is negative if some were lost.

    Raises:
        QuotaExceeded, TooLarge, Unauthorized, Forbidden, NotFound, PackageError: the service refuses it.
        Unavailable: the service does not answer any more.
    """
    asked = urlencode({"sha256": file.sha256, "size": file.size})
    begun = _patient(lambda: session.json("GET", f"/uploads?{asked}"))["uploads"]
    now = begun[0] if begun else _begin(session, file, name)
    there = failed = busy = 0
    while not now["stored"]:
        at = int(now["offset"])
        count(at - there)
        if at > there:
            failed = busy = 0
        there = at
        try:
            now = _send(session, place, file, now["id"], at, count)
            there = int(now["offset"])
            continue
        except (Unavailable, TooSlow, TooManyRequests) as error:
            broken: LearndockError = error
        except Conflict as error:
            broken, busy = error, busy + 1
        failed += 1
        pause(failed, broken)
        # Another process of the same user sends the same bytes: start an upload of our own.
        now = _begin(session, file, name) if busy == BUSY else _look(session, now["id"], broken)
    count(file.size - there)


def small_files(files: Iterable[File]) -> list[File]:
    """Return the files that travel in the request that publishes: the smallest, up to ``INLINE`` bytes in all."""
    found: list[File] = []
    total = 0
    for file in sorted(files, key=lambda f: f.size):
        total += file.size
        if total > INLINE:
            break
        found.append(file)
    return found


def publish_inline(session: Session, folder: Path, files: Sequence[File], asked: Mapping[str, Any]) -> Any:
    """Publish a learnware with ``files`` in the request: a line of JSON, then their bytes; the others are uploaded.

    Raises:
        NotFound, UsageError: the service is older than this request, or refuses it.
        LearndockError: what the service says.
    """
    line = json.dumps({**asked, "files": [file.path for file in files]}).encode()
    body = b"".join((line, b"\n", *((folder / file.path).read_bytes() for file in files)))
    headers = {"Content-Type": "application/octet-stream"}
    return _patient(lambda: session.json("POST", "/learnwares/inline", body, headers=headers))


def _send(session: Session, place: Path, file: File, upload_id: str, at: int, count: Count) -> Any:
    passed = 0

    def sent(size: int) -> None:
        nonlocal passed
        passed += size
        count(size)

    headers = {
        "Upload-Offset": str(at),
        "Content-Length": str(file.size - at),
        "Content-Type": "application/octet-stream",
    }
    try:
        with place.open("rb") as stream:
            stream.seek(at)
            return session.json("PATCH", f"/uploads/{upload_id}", _Rest(stream, sent), headers=headers)
    except LearndockError:
        count(-passed)  # the service will say how much of it arrived
        raise


def pause(failed: int, error: Exception) -> None:
    """Wait before the next attempt.

    Raises:
        LearndockError: that was the last one.
    """
    if failed >= ATTEMPTS:
        if isinstance(error, LearndockError):
            raise error
        raise Unavailable(
            f"the connection broke off ({type(error).__name__})", remedy="check that the service runs"
        ) from None
    time.sleep(PAUSE * 2 ** (failed - 1))


def _begin(session: Session, file: File, name: str) -> Any:
    path = f"/uploads?{urlencode({'name': name})}"
    return _patient(lambda: session.json("POST", path, {"sha256": file.sha256, "size": file.size}))


def _look(session: Session, upload_id: str, error: LearndockError) -> Any:
    return _patient(lambda: session.json("GET", f"/uploads/{upload_id}"), error)


def _patient(ask: Callable[[], Any], first: LearndockError | None = None) -> Any:
    """Ask again until there is an answer; if there is none, raise ``first`` or the last error."""
    failed = 0
    while True:
        try:
            return ask()
        except (Unavailable, TooManyRequests) as error:
            failed += 1
            pause(failed, first or error)
