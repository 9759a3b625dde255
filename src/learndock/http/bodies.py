"""Request bodies: small ones are read completely, below a limit; large ones are passed on in pieces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from learndock.errors import TooLarge, TooSlow
from learndock.service.receiver import Receiver
from learndock.settings import Settings

#: What is handed to the disk at once: large enough that the way into a thread costs nothing beside it.
PIECE = 1 << 20
#: A client is given this long before its rate is looked at.
GRACE_SECONDS = 10.0


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


async def read_all(request: Request, settings: Settings, *, limit: int | None = None) -> bytes:
    """Return a small body.

    Raises:
        TooLarge: it has more bytes than ``limit``, by default the setting's.
        TooSlow: see ``pieces``.
    """
    limit = settings.max_request if limit is None else limit
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise TooLarge(f"{announced} bytes, and this request may have {limit}", remedy="upload files through /uploads")
    found = bytearray()
    async for piece in pieces(request, settings):
        found += piece
        if len(found) > limit:
            raise TooLarge(
                f"more than the {limit} bytes that this request may have", remedy="upload files through /uploads"
            )
    return bytes(found)


async def receive(request: Request, settings: Settings, receiver: Receiver) -> int:
    """Pass the body to ``receiver``; bytes that arrived before a client left are kept. Returns their number."""
    waiting = bytearray()
    try:
        async for piece in pieces(request, settings):
            waiting += piece
            if len(waiting) >= PIECE:
                full, waiting = waiting, bytearray()
                await run_in_threadpool(receiver.write, full)
    except ClientDisconnect:
        pass
    finally:
        if waiting:
            await run_in_threadpool(receiver.write, waiting)
    return receiver.received
