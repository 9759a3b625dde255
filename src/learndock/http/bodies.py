"""Request bodies: small ones are read completely, below a limit; large ones are passed on in pieces."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Protocol

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from learndock.errors import TooLarge, TooSlow, Unavailable
from learndock.http.limits import BodyBudget, counted_as
from learndock.http.principal import known_principal
from learndock.settings import Settings

#: What is handed to the disk at once: large enough that the way into a thread costs nothing beside it.
PIECE = 1 << 20
#: A client is given this long before its rate is looked at.
GRACE_SECONDS = 10.0
#: Bytes of a body that is read into memory: without a token, and on most routes with one too; a task spec has 16 kB.
SMALL = 64_000
#: With a token, on routes that take manifests, lists of files, or a specification with all its parameters.
LARGE = 8 << 20
_HELD = "learndock.held"


async def pieces(request: Request, settings: Settings) -> AsyncIterator[bytes]:
    """Yield the body in pieces as it arrives.

    Raises:
        TooSlow: nothing arrived for too long, or too little on average.
        ClientDisconnect: the client went away.
    """
    begun, received = time.monotonic(), 0
    stream = request.stream().__aiter__()
    while True:
        try:
            async with asyncio.timeout(settings.request_seconds):
                piece = await stream.__anext__()
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise TooSlow(
                f"nothing came for {settings.request_seconds:g} seconds", remedy="send again from where it broke off"
            ) from None
        received += len(piece)
        passed = time.monotonic() - begun
        if passed > GRACE_SECONDS and received < passed * settings.min_upload_rate:
            raise TooSlow(
                f"slower than {settings.min_upload_rate} bytes a second", remedy="send again from where it broke off"
            )
        yield piece


async def read_all(request: Request, settings: Settings, *, limit: int = SMALL) -> bytes:
    """Return a body that fits into memory; its bytes are counted until the request ends.

    ``limit`` is for requests with a token; without one, ``SMALL`` is the most.

    Raises:
        TooLarge: it has more bytes than ``limit``.
        TooSlow: see ``pieces``.
        Unavailable: the bodies of all requests together take more memory than the setting allows.
    """
    who = known_principal(request)
    allowed = min(limit, settings.max_request, limit if who is not None and who.known else SMALL)
    remedy = "send less at once" if allowed == limit else f"with a token it may have {limit}; see `learndock login`"
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > allowed:
        raise TooLarge(f"{announced} bytes, and this request may have {allowed}", remedy=remedy)
    held: _Held | None = request.scope.get(_HELD)
    found = bytearray()
    async for piece in pieces(request, settings):
        if len(found) + len(piece) > allowed:
            raise TooLarge(f"more than the {allowed} bytes that this request may have", remedy=remedy)
        if held is not None:
            held.add(len(piece))
        found += piece
    return bytes(found)


class _Held:
    """The bytes of one request that are counted."""

    def __init__(self, budget: BodyBudget, client: str) -> None:
        self._budget, self._client, self.count = budget, client, 0

    def add(self, count: int) -> None:
        self._budget.take(self._client, count)
        self.count += count

    def try_add(self, count: int) -> bool:
        try:
            self.add(count)
        except Unavailable:
            return False
        return True

    def release(self) -> None:
        self._budget.give_back(self._client, self.count)
        self.count = 0


@contextlib.contextmanager
def budget_of(request: Request) -> Iterator[None]:
    """Count the bytes that ``read_all`` reads in the block, until its end."""
    state = request.app.state
    held = request.scope[_HELD] = _Held(state.bodies, counted_as(request.scope, state.verified))
    try:
        yield
    finally:
        held.release()


class Taker(Protocol):
    """Takes a body in pieces: a ``Receiver``, which writes them, or what reads them as a format."""

    @property
    def received(self) -> int:
        """The bytes that came."""
        ...

    def write(self, piece: bytearray) -> None:
        """Take the next bytes."""
        ...


async def receive(request: Request, settings: Settings, receiver: Taker) -> int:
    """Pass the body to ``receiver``; bytes that arrived before a client left are kept. Returns their number."""
    with contextlib.suppress(ClientDisconnect):
        await pass_on(request, settings, receiver.write)
    return receiver.received


async def pass_on(request: Request, settings: Settings, write: Callable[[bytearray], object]) -> None:
    """Give the body to ``write`` in pieces, also what arrived before an error.

    A piece is as large as ``PIECE`` if the budget of all bodies has room for it, and smaller otherwise: what passes
    through is never refused for want of memory.

    Raises:
        TooSlow, ClientDisconnect: see ``pieces``.
    """
    held: _Held | None = request.scope.get(_HELD)
    waiting = bytearray()
    try:
        async for piece in pieces(request, settings):
            waiting += piece
            if len(waiting) >= PIECE or (held is not None and not held.try_add(len(piece))):
                full, waiting = waiting, bytearray()
                await run_in_threadpool(write, full)
                if held is not None:
                    held.release()
    finally:
        if waiting:
            await run_in_threadpool(write, waiting)
