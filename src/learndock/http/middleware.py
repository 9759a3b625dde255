"""What stands around every request: its id, the rate limit, a deadline for slow readers, the log line, the metrics.

The log has the path, never the query (signed addresses are secret), never a header, never a body.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from learndock.errors import TooLarge, TooManyRequests
from learndock.http import errors
from learndock.http.limits import Buckets, Running, address_of, client_of
from learndock.http.metrics import Metrics
from learndock.settings import Settings

#: So many tokens' worth of requests may come from one address.
TOKENS = 10

log = logging.getLogger("learndock.access")


class Around:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._buckets = Buckets(settings.rate, settings.burst)
        # Tokens that are made up cost nothing: an address has a limit, whatever it shows.
        self._addresses = Buckets(settings.rate * TOKENS, settings.burst * TOKENS)
        self._running = Running(settings.concurrent_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope["learndock.id"] = request_id
        begun, status, sent, replaced = time.perf_counter(), 0, 0, False

        async def sending(message: Message) -> None:
            nonlocal status, sent, replaced
            if replaced:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                if status == 413 and _plain(message):
                    # The framework's own limit of bodies speaks another language than we do.
                    limit = self._settings.max_request
                    error = TooLarge(f"more than the {limit} bytes of a request; upload files through /uploads")
                    status = 0
                    await errors.response(error)(scope, receive, sending)
                    replaced = True
                    return
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            else:
                sent += len(message.get("body", b""))
            # A reader that does not take a piece in this time will not take the rest.
            async with asyncio.timeout(self._settings.request_seconds):
                await send(message)

        self._metrics.running.inc()
        client = client_of(scope)
        try:
            self._addresses.take(address_of(scope))
            self._buckets.take(client)
            self._running.enter(client)
        except TooManyRequests as error:
            self._metrics.refused.inc()
            await errors.response(error)(scope, receive, sending)
        else:
            try:
                await self._app(scope, receive, sending)
            except TimeoutError:
                log.warning("slow reader", extra={"request": request_id})
                raise
            except Exception:
                status = status or 500
                raise
            finally:
                self._running.leave(client)
        finally:
            self._metrics.running.dec()
            seconds = time.perf_counter() - begun
            route = _route(scope)
            self._metrics.requests.labels(scope["method"], route, status).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            if log.isEnabledFor(logging.INFO):
                log.info(
                    "request",
                    extra={
                        "request": request_id,
                        "method": scope["method"],
                        "path": scope["path"],
                        "status": status,
                        "ms": round(seconds * 1000, 1),
                        "bytes": sent,
                        "who": scope.get("learndock.who", ""),
                    },
                )


def _plain(message: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/plain") for name, value in message["headers"])


def _route(scope: Scope) -> str:
    """The route's template: few, whatever is asked for."""
    return str(getattr(scope.get("route"), "path", "none"))
