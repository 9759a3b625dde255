"""Pages of other origins may read what is public, where the setting ``cors`` names them.

A browser lends a page its place in the network, so a page on the internet could read a dock that only an office can
reach: nothing is allowed by default. Only GET and HEAD are, and never with a token: a private model is read by none.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from learndock.settings import words

#: What clients in browsers read of an answer, transformers.js among them.
EXPOSED = (
    "ETag, Content-Length, Content-Range, Accept-Ranges, Link, Retry-After, X-Repo-Commit, X-Linked-ETag, "
    "X-Linked-Size, X-Error-Code, X-Error-Message, X-Request-Id"
)
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "Range, If-Range, If-None-Match, Content-Type",
    "Access-Control-Max-Age": "86400",
}


class Cors:
    """Allow pages of the origins in ``allowed`` ("*" for all) to read what needs no token."""

    def __init__(self, app: ASGIApp, *, allowed: str) -> None:
        self._app, self._allowed = app, frozenset(words(allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        granted = self._granted(headers)
        asked = headers.get("access-control-request-method")
        if scope["method"] == "OPTIONS" and asked is not None:
            allowed = {**granted, **_PREFLIGHT} if "Access-Control-Allow-Origin" in granted else granted
            await Response(status_code=204, headers=allowed)(scope, receive, send)
            return
        if scope["method"] not in ("GET", "HEAD"):
            granted = {}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(granted)
            await send(message)

        await self._app(scope, receive, sending)

    def _granted(self, headers: Headers) -> dict[str, str]:
        """Return the headers by which a browser hands the answer to the page."""
        vary = {} if "*" in self._allowed else {"Vary": "Origin"}
        origin = headers.get("origin")
        if origin is None or "authorization" in headers or not self._allowed & {"*", origin.lower()}:
            return vary
        shown = "*" if "*" in self._allowed else origin
        return {**vary, "Access-Control-Allow-Origin": shown, "Access-Control-Expose-Headers": EXPOSED}
