"""The address that a server prints when it listens on all addresses of its machine."""

from __future__ import annotations

#: Hosts that mean every address of a machine -> what a client on that machine uses instead.
EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def reachable(host: str) -> str:
    """Return the host by which this machine reaches a server that listens at ``host``, as a part of a URL."""
    host = EVERY_ADDRESS.get(host, host)
    return f"[{host}]" if ":" in host else host
