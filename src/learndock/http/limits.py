"""How fast, and how many at once: a bucket for each token, or for each address where there is none."""

from __future__ import annotations

import time
from collections import OrderedDict

from learndock.errors import TooManyRequests

#: Clients remembered at once; the one that was away longest is forgotten first, with a full bucket.
REMEMBERED = 20_000


class Buckets:
    """Token buckets of ``burst`` requests that fill at ``rate`` a second; 0 for no limit."""

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
            error = TooManyRequests(
                f"more than {self._rate:g} requests a second; wait as long as Retry-After says, then go on"
            )
            error.retry_after = max(1, round((1 - left) / self._rate))  # type: ignore[attr-defined]
            raise error
