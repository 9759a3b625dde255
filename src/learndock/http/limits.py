"""Limits per token, or per address without one: request rate, concurrent requests, bytes in memory, fair queueing.

A token that the service has not yet found valid counts as its address: an invented token gives no client more.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from typing import Any

from starlette.types import Scope

from learndock.errors import TooManyRequests, Unavailable
from learndock.http.memory import Trimmer

#: Clients with a bucket in memory; the longest idle is dropped first, and its bucket is full by then.
REMEMBERED = 20_000


class RateLimiter:
    """One token bucket per client: ``burst`` requests, refilled at ``rate`` per second; 0 for no limit."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(max(burst, 1))
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Count a request of ``client``.

        Raises:
            TooManyRequests: its bucket is empty; ``retry_after`` says for how many seconds.
        """
        if self._rate <= 0:
            return
        now = time.monotonic()
        left, since = self._left.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        self._left[client] = (max(left - 1, 0) if left >= 1 else left, now)
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        if left < 1:
            raise TooManyRequests(
                f"more than {self._rate:g} requests per second",
                remedy="wait as long as Retry-After says, then go on",
                retry_after=max(1, round((1 - left) / self._rate)),
            )


class ConcurrencyLimit:
    """At most ``limit`` concurrent requests per client; 0 for no limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: Counter[str] = Counter()

    def enter(self, client: str) -> None:
        """Count the start of a request of ``client``.

        Raises:
            TooManyRequests: so many of them are being answered already.
        """
        if self._limit and self._running[client] >= self._limit:
            raise TooManyRequests(
                f"more than {self._limit} requests at once", remedy="wait until one of them is answered", retry_after=1
            )
        self._running[client] += 1

    def leave(self, client: str) -> None:
        """Count the end of an admitted request."""
        self._running[client] -= 1
        if self._running[client] <= 0:
            del self._running[client]


class VerifiedClients:
    """Clients whose token was valid when it was last looked up; the longest idle is forgotten first.

    It decides only what a request is counted by, never what it may do.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, client: str) -> bool:
        return client in self._known

    def add(self, client: str) -> None:
        """Remember a client."""
        self._known[client] = None
        self._known.move_to_end(client)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def discard(self, client: str) -> None:
        """Forget a client."""
        self._known.pop(client, None)


class BodyBudget:
    """Counts the bytes of all request bodies in memory: at most ``most``, and of one client a quarter of that.

    A client may always hold one body of ``largest`` bytes. What does not fit is refused, not queued: a request that
    waits would keep its own bytes in memory too.
    """

    def __init__(self, most: int, *, largest: int) -> None:
        self._most, self._share = most, max(most // 4, min(most, largest))
        self._all, self._trimmer = 0, Trimmer()
        self._own: Counter[str] = Counter()

    def take(self, client: str, count: int) -> None:
        """Count ``count`` bytes more of ``client``.

        Raises:
            Unavailable: they do not fit now; the client should try again in a second.
        """
        if self._all + count > self._most or self._own[client] + count > self._share:
            raise Unavailable(
                "too many bytes of requests are being received", remedy="send it again in a moment", retry_after=1
            )
        self._all += count
        self._own[client] += count

    def give_back(self, client: str, count: int) -> None:
        """Count ``count`` bytes of ``client`` less."""
        self._all -= count
        self._trimmer.freed(count, left=self._all)
        self._own[client] -= count
        if self._own[client] <= 0:
            del self._own[client]


class FairQueue:
    """A queue for expensive requests, ``places`` at a time, in which a client has at most ``places`` entries.

    However many requests one client sends, another waits for at most ``places`` of each other client.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._all = asyncio.Semaphore(places)
        self._own: dict[str, asyncio.Semaphore] = {}
        self._there: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a place, and free it at the end of the block."""
        own = self._own.setdefault(client, asyncio.Semaphore(self._places))
        self._there[client] += 1
        try:
            async with own, self._all:
                yield
        finally:
            self._there[client] -= 1
            if not self._there[client]:
                del self._there[client], self._own[client]


def client_of(scope: Scope) -> str:
    """Return an id of the client before anything is looked up: by its token, or by its address without one."""
    header = authorization_of(scope)
    return hashlib.sha256(header).hexdigest() if header else address_of(scope)


def counted_as(scope: Scope, verified: VerifiedClients) -> str:
    """Return the id that a request counts as: its token's if that is known to be valid, its address otherwise."""
    client = client_of(scope)
    return client if client in verified else address_of(scope)


def authorization_of(scope: Scope) -> bytes:
    """Return the first Authorization header, empty where there is none."""
    return next((value for name, value in scope["headers"] if name == b"authorization"), b"")


def address_of(scope: Scope) -> str:
    """Return the address that a request comes from."""
    client: Any = scope.get("client")
    return client[0] if client else ""
