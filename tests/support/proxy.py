"""Somebody in the middle: a proxy on loopback that hears everything, and changes what comes back as a test says."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Heard:
    """A request as it was sent."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def holds(self, text: bytes) -> bool:
        """Whether ``text`` stands anywhere in it."""
        head = "\n".join([self.path, *(f"{k}: {v}" for k, v in self.headers)]).encode()
        return text in head or text in self.body


@dataclass(frozen=True)
class Told:
    """An answer; ``cut`` is how many bytes of its body come before the connection breaks."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    cut: int | None = None

    def with_body(self, body: bytes) -> Told:
        """Another body, with the length that it has."""
        headers = [(k, v) for k, v in self.headers if k.lower() != "content-length"]
        return replace(self, body=body, headers=(*headers, ("Content-Length", str(len(body)))))


@dataclass
class Proxy:
    """A running proxy; ``change`` may be set at any time."""

    url: str
    change: Callable[[Heard, Told], Told]
    heard: list[Heard] = field(default_factory=list)


@contextlib.contextmanager
def proxy(target: str, change: Callable[[Heard, Told], Told] = lambda _, told: told) -> Iterator[Proxy]:
    """A proxy in front of ``target`` until the block ends."""
    parts = urlsplit(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                body = b"".join(iter(self._chunk, b""))
            heard = Heard(self.command, self.path, tuple(self.headers.items()), body)
            found.heard.append(heard)
            passed = {k: v for k, v in heard.headers if k.lower() not in ("host", "transfer-encoding", "connection")}
            connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
            try:
                connection.request(self.command, self.path, body=body, headers={**passed, "Host": self._host()})
                answer = connection.getresponse()
                told = Told(answer.status, tuple(answer.getheaders()), answer.read())
            finally:
                connection.close()
            self._tell(found.change(heard, told))

        def _host(self) -> str:
            return str(self.headers["Host"])

        def _chunk(self) -> bytes:
            size = int(self.rfile.readline().split(b";")[0], 16)
            chunk = self.rfile.read(size)
            self.rfile.readline()
            return chunk

        def _tell(self, told: Told) -> None:
            self.send_response_only(told.status)
            for name, value in told.headers:
                if name.lower() not in ("connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(told.body[: told.cut])
            if told.cut is not None:
                self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Proxy(f"http://127.0.0.1:{server.server_address[1]}", change)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
