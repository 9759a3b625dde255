"""The user behind a request, by its token, as a dependency of routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from learndock.errors import Unauthorized
from learndock.service.principal import NOBODY, Principal
from learndock.service.service import Service

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
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None
) -> Principal:
    """Return the user whose token came with the request, or an anonymous principal.

    Raises:
        Unauthorized: the header is not a token, or the token is unknown, expired or revoked.
    """
    if credentials is None:
        if request.headers.get("authorization"):
            raise Unauthorized("the Authorization header is not of the form `Bearer TOKEN`", remedy="send it so")
        return NOBODY
    found = await run_in_threadpool(service_of(request).people.principal, credentials.credentials)
    request.scope["learndock.who"] = found.name
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
