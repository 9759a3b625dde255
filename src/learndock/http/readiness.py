"""Readiness, in a thread of its own: asked of while all others are busy, it does not wait for them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from learndock.errors import Unavailable
from learndock.service.condition import Condition, Examination
from learndock.service.service import Service

#: Seconds after which what does not answer is not ready, and after which to ask again.
PATIENCE, AGAIN = 5.0, 2.0


class Readiness:
    """The condition of a service, for as many as ask at once."""

    def __init__(self, service: Service) -> None:
        self._examination = Examination(service)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ready")
        self._running: asyncio.Future[Condition] | None = None

    async def ask(self) -> Condition:
        """Return the condition; those who ask while it is being looked at share the answer.

        Raises:
            Unavailable: something does not answer within ``PATIENCE``; the message says what.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().run_in_executor(self._thread, self._examination.look)
        try:
            return await asyncio.wait_for(asyncio.shield(self._running), PATIENCE)
        except TimeoutError:
            raise Unavailable(
                f"not ready: no answer within {PATIENCE:g} s from {self._examination.step}",
                remedy="try again in a moment",
                retry_after=AGAIN,
            ) from None

    def close(self) -> None:
        """End the thread when it has done what it is doing."""
        self._thread.shutdown(wait=False, cancel_futures=True)
