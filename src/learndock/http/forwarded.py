"""What a proxy says of the client behind it, believed only of proxies that the settings name.

A client may send ``X-Forwarded-For`` itself; each proxy appends the address that it saw. The client is therefore the
last address that is not one of our own proxies.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from learndock.settings import words

_Address = IPv4Address | IPv6Address


class Forwarded:
    """Give a request from a trusted proxy the address and the scheme of its client."""

    def __init__(self, app: ASGIApp, *, trusted: str) -> None:
        self._app = app
        self._trusted = [ip_network(each, strict=False) for each in words(trusted)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and self._is_proxy(_address(_peer(scope))):
            client = self.client_of(_values(scope, b"x-forwarded-for"))
            if client is not None:
                scope["client"] = (str(client), 0)
            for scheme in _values(scope, b"x-forwarded-proto")[-1:]:
                if scheme in ("http", "https"):
                    scope["scheme"] = scheme
        await self._app(scope, receive, send)

    def client_of(self, hops: list[str]) -> _Address | None:
        """Return the last hop that is not a trusted proxy, or None where a hop before it is not an address."""
        for hop in reversed(hops):
            address = _address(hop)
            if address is None or not self._is_proxy(address):
                return address
        return _address(hops[0]) if hops else None

    def _is_proxy(self, address: _Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


def _peer(scope: Scope) -> str:
    client: Any = scope.get("client")
    return client[0] if client else ""


def _values(scope: Scope, header: bytes) -> list[str]:
    """Return the items of a header, in all of its lines."""
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name == header]
    return [item.strip() for line in lines for item in line.split(",") if item.strip()]


def _address(text: str) -> _Address | None:
    """Return an address, which proxies write with a port too; one of IPv4 in IPv6 as IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found in _MAPPED:
        return IPv4Address(found.packed[-4:])
    return found


_MAPPED = IPv6Network("::ffff:0:0/96")
