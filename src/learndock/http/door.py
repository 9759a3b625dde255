"""What every route does before its function: the token is looked up first, then the body is read, below a limit.

    DoorRoute: text of the address -> token and its scope -> body, of so many bytes -> JSON -> the route

A request that its token does not permit costs no memory: of its body nothing is read. ``with_limit`` gives a route that
takes more than ``SMALL`` its limit; only requests with a token reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from learndock.errors import UsageError
from learndock.http import bodies
from learndock.http.json_bodies import check_text, read_json
from learndock.http.principal import NEEDS, identified, service_of
from learndock.service.principal import Scope

F = TypeVar("F", bound=Callable[..., Any])
#: JSON of fewer bytes is parsed at once: the way into a thread would take longer.
INLINE = 8_000
_LIMIT = "learndock_body_limit"


def with_limit(most: int) -> Callable[[F], F]:
    """Give a route's function the number of bytes that its body may have with a token."""

    def marked(function: F) -> F:
        setattr(function, _LIMIT, most)
        return function

    return marked


class DoorRoute(APIRoute):
    """A route that looks at the token before it reads any byte of the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handler = super().get_route_handler()
        needs = _needs(self.dependant)
        limit = getattr(self.endpoint, _LIMIT, bodies.SMALL)
        has_body = self.body_field is not None

        async def handle(request: Request) -> Response:
            _check_address(request)
            if needs:
                who = await identified(request)
                for scope in needs:
                    if scope is not None:
                        who.need(scope)
            if request.method in ("GET", "HEAD") and not has_body:  # most requests: nothing to count
                return await handler(request)
            with bodies.budget_of(request):
                return await handler(await _with_body(request, limit) if has_body else request)

        return handle


class _Read(Request):
    """A request whose body was read and parsed already."""

    def __init__(self, request: Request, source: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._source, self._value = source, value

    async def body(self) -> bytes:
        """See Starlette."""
        return self._source

    async def json(self) -> Any:
        """See Starlette."""
        return self._value


async def _with_body(request: Request, limit: int) -> Request:
    source = await bodies.read_all(request, service_of(request).settings, limit=limit)
    value = None
    if source:
        if not _is_json(request.headers.get("content-type", "")):
            raise UsageError("the body is not JSON", remedy="send JSON with Content-Type: application/json")
        value = await parsed(source)
    return _Read(request, source, value)


async def parsed(source: bytes) -> Any:
    """Return the value of a JSON body, large ones from a thread.

    Raises:
        UsageError: see ``read_json``.
    """
    return read_json(source) if len(source) < INLINE else await run_in_threadpool(read_json, source)


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _check_address(request: Request) -> None:
    check_text(request.scope["path"], about="the path")
    if b"%00" in request.scope["query_string"]:
        raise UsageError("contains a NUL character", remedy="remove it", about="the query")


def _needs(dependant: Dependant) -> set[Scope | None]:
    """Return the scopes that the route's token needs; None among them asks for a user, an anonymous one too."""
    own = {NEEDS[dependant.call]} if dependant.call in NEEDS else set()
    return own.union(*map(_needs, dependant.dependencies))
