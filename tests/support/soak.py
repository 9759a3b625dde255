"""What the everyday run takes a sample of: ``make soak`` sets ``LEARNDOCK_SOAK`` and takes all."""

from __future__ import annotations

import os

SOAK = "LEARNDOCK_SOAK" in os.environ


def examples(full: int) -> int:
    """How many examples hypothesis draws: ``full`` in a soak, a quarter of them every day."""
    return full if SOAK else max(10, full // 4)
