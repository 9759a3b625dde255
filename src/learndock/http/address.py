"""The address that a server listens on, as its own machine and others see it."""

from __future__ import annotations

import ipaddress

#: Hosts that mean every address of a machine -> what a client on that machine uses instead.
EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def reachable(host: str) -> str:
    """Return the host by which this machine reaches a server that listens at ``host``, as a part of a URL."""
    host = EVERY_ADDRESS.get(host, host)
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine reach a server that listens at ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
