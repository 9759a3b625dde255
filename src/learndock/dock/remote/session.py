"""HTTP requests to a service under ``/api/v1``; its errors are raised as ours.

A connection is kept between requests, and opened again if the service closed it. Not safe for threads.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import weakref
from collections.abc import Iterator, Mapping
from typing import IO, Any
from urllib.parse import urlsplit

from learndock._version import VERSION
from learndock.dock.remote.credentials import base_url
from learndock.errors import KINDS, LearndockError, ServiceError, Unavailable, UsageError

API = "/api/v1"
SECONDS = 60.0
#: Bytes of a file that are sent per call.
PIECE = 1 << 18
#: Most bytes of a JSON answer.
MAX_JSON = 256 << 20


class Session:
    """Requests to one service, with the user's token."""

    def __init__(self, url: str, *, token: str | None) -> None:
        self.url = base_url(url)
        self._token = token = token.strip() if token else None
        if token and not all("!" <= c <= "~" for c in token):
            raise UsageError(
                "the token contains characters that are not part of any token",
                remedy="copy it again, or `learndock login`",
            )
        parts = urlsplit(self.url)
        self._prefix = parts.path + API
        port = parts.port
        host = parts.hostname or ""
        self._connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(
                host, port, timeout=SECONDS, blocksize=PIECE, context=ssl.create_default_context()
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=SECONDS, blocksize=PIECE)
        )
        # A program that never calls ``close`` leaves no open socket behind.
        weakref.finalize(self, self._connection.close)

    def close(self) -> None:
        """Close the connection; a later request opens it again."""
        self._connection.close()

    def json(self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Any:
        """Send JSON, bytes, a stream or nothing, and return the JSON of the answer; None if it is empty.

        Raises:
            Unavailable: the service cannot be reached.
            LearndockError: what the service says, as the error that it was there.
        """
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes) and not hasattr(body, "read"):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        with self.answer(method, path, body, headers=sent) as answer:
            source = answer.read(MAX_JSON)
        if not source:
            return None
        try:
            return json.loads(source)
        except ValueError:
            raise ServiceError(
                "its answer is not JSON", remedy="check that a learndock service is at this address", about=self.url
            ) from None

    @contextlib.contextmanager
    def answer(
        self, method: str, path: str, body: bytes | IO[bytes] | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and yield the answer to be read; if some of it is left, the connection is closed.

        Raises:
            Unavailable: the service cannot be reached, or went away.
            LearndockError: what the service says.
        """
        sent = {"User-Agent": f"learndock/{VERSION}", **(headers or {})}
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        try:
            found = self._ask(method, self._prefix + path, body, sent)
            if found.status >= 400:
                raise self._error(found)
            yield found
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Unavailable(
                f"cannot be reached ({_why(error)})", remedy="check that the service runs", about=self.url
            ) from None
        finally:
            if self._connection.sock is not None and not _read_up(locals().get("found")):
                self._connection.close()

    def _ask(
        self, method: str, path: str, body: bytes | IO[bytes] | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        kept = self._connection.sock is not None
        try:
            self._connection.request(method, path, body=body, headers=headers)
            return self._connection.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest):
            self._connection.close()
            if not kept or not (body is None or isinstance(body, bytes)):
                raise
        # The service had closed the connection that was kept: try once more on a new one.
        self._connection.request(method, path, body=body, headers=headers)
        return self._connection.getresponse()

    def _error(self, answer: http.client.HTTPResponse) -> LearndockError:
        source = answer.read(1 << 20)
        try:
            said = json.loads(source)["error"]
            kind, message, remedy = KINDS[said["code"]], str(said["message"]), str(said["remedy"])
            seconds = None if said.get("retry_after") is None else float(said["retry_after"])
        except (ValueError, KeyError, TypeError):
            return ServiceError(
                f"unexpected response with status {answer.status}",
                remedy="check the address",
                about=self.url,
            )
        return kind(message, remedy=remedy, retry_after=seconds)


def _read_up(answer: Any) -> bool:
    return isinstance(answer, http.client.HTTPResponse) and answer.isclosed()


def _why(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
