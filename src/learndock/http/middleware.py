"""What every request passes before the routes, as a stack of ASGI middleware, each with one task:

    Forwarded -> RequestLog -> Cors -> RateLimits -> BodyLimitErrors -> WriteDeadline -> the application

The log has the path, never the query (signed addresses are secret), never a header, never a body.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from learndock.errors import LearndockError, TooLarge, TooManyRequests
from learndock.http import errors
from learndock.http.cors import Cors
from learndock.http.forwarded import Forwarded
from learndock.http.limits import (
    ConcurrencyLimit,
    RateLimiter,
    VerifiedClients,
    address_of,
    authorization_of,
    client_of,
    counted_as,
)
from learndock.http.logs import Logged
from learndock.http.metrics import Metrics
from learndock.http.principal import look_up
from learndock.service.service import Service

#: An address may send as many requests as this many tokens may.
TOKENS_PER_ADDRESS = 10

log = logging.getLogger("learndock.access")


def stack(app: ASGIApp, *, service: Service, metrics: Metrics, verified: VerifiedClients) -> ASGIApp:
    """Return ``app`` inside all of this module's middleware."""
    settings = service.settings
    app = WriteDeadline(app, seconds=settings.request_seconds)
    app = BodyLimitErrors(app, limit=settings.max_request)
    app = RateLimits(app, service=service, metrics=metrics, verified=verified)
    if settings.cors:
        app = Cors(app, allowed=settings.cors)
    app = RequestLog(app, metrics=metrics)
    return Forwarded(app, trusted=settings.trusted_proxies) if settings.trusted_proxies else app


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
        begun, status, sent, ended = time.perf_counter(), 0, 0, False

        async def counted(message: Message) -> None:
            nonlocal status, sent, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            else:
                sent += len(message.get("body", b""))
                ended = not message.get("more_body", False)
            await send(message)

        self._metrics.running.inc()
        try:
            await self._app(scope, receive, counted)
        except Exception:
            # An error that was answered is in the log already; the server would write its trace a second time.
            if not ended:
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
    """Refuse a client that sends too many requests per second, or too many at once.

    A request counts for its token if that is known to be valid, otherwise for its address, and always for the address,
    which may have ``TOKENS_PER_ADDRESS`` times as many.
    """

    def __init__(self, app: ASGIApp, *, service: Service, metrics: Metrics, verified: VerifiedClients) -> None:
        self._app, self._metrics, self._verified = app, metrics, verified
        self._people, settings = service.people, service.settings
        self._clients = RateLimiter(settings.rate, settings.burst)
        self._addresses = RateLimiter(settings.rate * TOKENS_PER_ADDRESS, settings.burst * TOKENS_PER_ADDRESS)
        self._at_once = ConcurrencyLimit(settings.concurrent_requests)
        self._at_once_by_address = ConcurrencyLimit(settings.concurrent_requests * TOKENS_PER_ADDRESS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with contextlib.ExitStack() as counted:
            try:
                await self._count(scope, counted)
            except TooManyRequests as error:
                self._metrics.refused.inc()
                await errors.response(error)(scope, receive, send)
                return
            await self._app(scope, receive, send)

    async def _count(self, scope: Scope, counted: contextlib.ExitStack) -> None:
        address = address_of(scope)
        self._addresses.take(address)
        self._at_once_by_address.enter(address)
        counted.callback(self._at_once_by_address.leave, address)
        if authorization_of(scope) and client_of(scope) not in self._verified:
            with contextlib.suppress(LearndockError):  # the route refuses it, where it asks for a user
                await look_up(scope, self._people, self._verified)
        client = counted_as(scope, self._verified)
        self._clients.take(client)
        self._at_once.enter(client)
        counted.callback(self._at_once.leave, client)


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
            try:
                async with asyncio.timeout(self._seconds):
                    await send(message)
            except TimeoutError:
                log.warning("slow reader", extra={"request": scope.get("learndock.id", "")})
                raise SlowReader from None

        await self._app(scope, receive, sending)


class SlowReader(Logged):
    """A reader did not take the next piece of an answer in time."""


def _plain(message: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/plain") for name, value in message["headers"])


def _route(scope: Scope) -> str:
    """Return the route's template, not the path: it keeps the number of metric labels small."""
    return str(getattr(scope.get("route"), "path", "none"))
