"""What every request passes before the routes, as a stack of ASGI middleware, each with one task:

    RequestLog -> RateLimits -> BodyLimitErrors -> WriteDeadline -> the application

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
from learndock.http.limits import ConcurrencyLimit, RateLimiter, address_of, client_of
from learndock.http.metrics import Metrics
from learndock.settings import Settings

#: An address may send as many requests as this many tokens may.
TOKENS_PER_ADDRESS = 10

log = logging.getLogger("learndock.access")


def stack(app: ASGIApp, *, settings: Settings, metrics: Metrics) -> ASGIApp:
    """Return ``app`` inside all of this module's middleware."""
    app = WriteDeadline(app, seconds=settings.request_seconds)
    app = BodyLimitErrors(app, limit=settings.max_request)
    app = RateLimits(app, settings=settings, metrics=metrics)
    return RequestLog(app, metrics=metrics)


class RequestLog:
    """Give each request an id, and write its log line and its metrics when it ends."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope["learndock.id"] = request_id
        begun, status, sent = time.perf_counter(), 0, 0

        async def counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        self._metrics.running.inc()
        try:
            await self._app(scope, receive, counted)
        except Exception:
            status = status or 500
            raise
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


class RateLimits:
    """Refuse a client that sends too many requests per second, or too many at once."""

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._clients = RateLimiter(settings.rate, settings.burst)
        # Invented tokens cost nothing, so an address has a limit whatever tokens it shows.
        self._addresses = RateLimiter(settings.rate * TOKENS_PER_ADDRESS, settings.burst * TOKENS_PER_ADDRESS)
        self._concurrency = ConcurrencyLimit(settings.concurrent_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = client_of(scope)
        try:
            self._addresses.take(address_of(scope))
            self._clients.take(client)
            self._concurrency.enter(client)
        except TooManyRequests as error:
            self._metrics.refused.inc()
            await errors.response(error)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._concurrency.leave(client)


class BodyLimitErrors:
    """Give the framework's own 413, which is plain text, the shape of our errors."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        replaced = False

        async def sending(message: Message) -> None:
            nonlocal replaced
            if replaced:
                return
            if message["type"] == "http.response.start" and message["status"] == 413 and _plain(message):
                replaced = True
                error = TooLarge(
                    f"more than the {self._limit} bytes of a request", remedy="upload files through /uploads"
                )
                await errors.response(error)(scope, receive, send)
                return
            await send(message)

        await self._app(scope, receive, sending)


class WriteDeadline:
    """End an answer whose reader does not take the next piece within ``seconds``: it will not take the rest."""

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def sending(message: Message) -> None:
            async with asyncio.timeout(self._seconds):
                await send(message)

        try:
            await self._app(scope, receive, sending)
        except TimeoutError:
            log.warning("slow reader", extra={"request": scope.get("learndock.id", "")})
            raise


def _plain(message: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/plain") for name, value in message["headers"])


def _route(scope: Scope) -> str:
    """Return the route's template, not the path: it keeps the number of metric labels small."""
    return str(getattr(scope.get("route"), "path", "none"))
