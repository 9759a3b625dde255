"""HTTP/1.1 with what uvicorn lacks: a limit and a deadline for the head of a request, and our error shape.

A client that sends its head byte by byte occupies one connection until the deadline.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 << 10


class _HeadTooLarge(Exception):
    """The head of a request has more than ``MAX_HEAD`` bytes."""


def protocol_with(head_seconds: float) -> type[HttpToolsProtocol]:
    """Return the protocol that requires a complete head within ``head_seconds``."""

    class Protocol(HttpToolsProtocol):
        _head_bytes = 0
        #: Bytes of the head that the parser has read; ``_head_bytes`` are those that came, a body's among them.
        _parsed = 0
        _in_head = True
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._in_head:
                if self._timer is None:  # the next request of a connection that was kept
                    self._await_head()
                self._head_bytes += len(data)
            super().data_received(data)
            if self._in_head and self._head_bytes > MAX_HEAD and not self.transport.is_closing():
                self._refuse_head()

        def on_message_begin(self) -> None:
            self._parsed = 0
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value) + 4)
            super().on_header(name, value)

        def _count(self, length: int) -> None:
            self._parsed += length
            if self._parsed > MAX_HEAD:
                raise _HeadTooLarge  # the parser stops, and asks for `send_400_response`

        def on_headers_complete(self) -> None:
            self._in_head = False
            self._stop_timer()
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            super().on_message_complete()
            self._in_head, self._head_bytes = True, 0

        def send_400_response(self, msg: str) -> None:
            if self._parsed > MAX_HEAD:
                self._refuse_head()
            else:
                self._refuse(400, "usage_error", msg.rstrip("."), "send valid HTTP/1.1")

        def _refuse_head(self) -> None:
            self._refuse(431, "too_large", f"a head of more than {MAX_HEAD} bytes", "send fewer or shorter headers")

        def _await_head(self) -> None:
            self._timer = self.loop.call_later(head_seconds, self._late)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _late(self) -> None:
            self._timer = None
            if self._head_bytes:
                self._refuse(
                    408, "too_slow", f"the head was not complete within {head_seconds:g} seconds", "send it at once"
                )
            else:
                self.transport.close()

        def _refuse(self, status: int, code: str, message: str, remedy: str) -> None:
            body = json.dumps({"error": {"code": code, "message": message, "remedy": remedy}}).encode()
            head = f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            self.transport.close()

    _: Any = Protocol
    return Protocol
