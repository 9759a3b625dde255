"""The user behind a request, by its token, as a dependency of routes.

A token is looked up in the database at every request, so that one that was revoked, in another process too, is refused
at once. That takes 0.3 ms, 0.75 ms with the way into a thread; a cache would need a question to the database too, to
know that it is still right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope

from learndock.errors import Unauthorized
from learndock.http.limits import VerifiedClients, authorization_of, client_of
from learndock.service.people import People
from learndock.service.principal import NOBODY, Principal
from learndock.service.principal import Scope as TokenScope
from learndock.service.service import Service

_KEY = "learndock.principal"
_bearer = HTTPBearer(auto_error=False, description="A token of `learndock login`.")


async def service(request: Request) -> Service:
    """Return the service of the application (async, because FastAPI runs plain functions in threads)."""
    return service_of(request)


def service_of(request: Request) -> Service:
    """Return the service of the application."""
    found = request.app.state.service
    assert isinstance(found, Service)
    return found


async def principal(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None
) -> Principal:
    """Return the user whose token came with the request, or an anonymous principal (see ``identified``)."""
    return await identified(request)


async def identified(request: Request) -> Principal:
    """Return the user whose token came with the request, or an anonymous principal; looks it up once.

    Raises:
        Unauthorized: the header is not a token, or the token is unknown, expired or revoked.
    """
    return await look_up(request.scope, service_of(request).people, request.app.state.verified)


def known_principal(request: Request) -> Principal | None:
    """Return the user of a request whose token was looked up already."""
    found: Principal | None = request.scope.get(_KEY)
    return found


async def look_up(scope: Scope, people: People, verified: VerifiedClients) -> Principal:
    """See ``identified``; before there is a request, for what counts requests."""
    found: Principal | None = scope.get(_KEY)
    if found is None:
        found = await _look_up(scope, people, verified)
        scope[_KEY], scope["learndock.who"] = found, found.name
    return found


async def _look_up(scope: Scope, people: People, verified: VerifiedClients) -> Principal:
    header = authorization_of(scope).decode("latin-1")
    if not header:
        return NOBODY
    kind, _, token = header.partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise Unauthorized("the Authorization header is not of the form `Bearer TOKEN`", remedy="send it so")
    client = client_of(scope)
    try:
        found = await run_in_threadpool(people.principal, token.strip())
    except Unauthorized:
        verified.discard(client)
        raise
    verified.add(client)
    return found


async def reader(who: Annotated[Principal, Depends(principal)]) -> Principal:
    """Require a token."""
    who.need("read")
    return who


async def writer(who: Annotated[Principal, Depends(principal)]) -> Principal:
    """Require a token that may write."""
    who.need("write")
    return who


async def admin(who: Annotated[Principal, Depends(principal)]) -> Principal:
    """Require a token of scope admin."""
    who.need("admin")
    return who


ServiceOf = Annotated[Service, Depends(service)]
#: Anonymous clients too.
Anyone = Annotated[Principal, Depends(principal)]
Reader = Annotated[Principal, Depends(reader)]
Writer = Annotated[Principal, Depends(writer)]
Admin = Annotated[Principal, Depends(admin)]
#: Dependency -> the scope that it requires; None where an anonymous client passes too.
NEEDS: dict[Callable[..., Any] | None, TokenScope | None] = {
    principal: None,
    reader: "read",
    writer: "write",
    admin: "admin",
}
