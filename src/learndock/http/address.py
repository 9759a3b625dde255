"""The address that a server tells people, where it listens at one that nobody can ask for."""

from __future__ import annotations

#: Hosts that stand for every address of a machine, and what a client on it asks for instead.
EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def reachable(host: str) -> str:
    """Return the host by which this machine reaches a server that listens at ``host``, as a part of a URL."""
    host = EVERY_ADDRESS.get(host, host)
    return f"[{host}]" if ":" in host else host
