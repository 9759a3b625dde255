"""Who is asking: the token of a request, as a dependency of routes."""

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
    """The service behind the application (not a plain function: those are run in threads)."""
    return service_of(request)


def service_of(request: Request) -> Service:
    """The service behind the application."""
    found = request.app.state.service
    assert isinstance(found, Service)
    return found


async def principal(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None
) -> Principal:
    """The one whose token came with the request, or nobody.

    Raises:
        Unauthorized: something came that is no token, or one that does not hold.
    """
    if credentials is None:
        if request.headers.get("authorization"):
            raise Unauthorized("the Authorization header is not of the form `Bearer TOKEN`", remedy="send it so")
        return NOBODY
    found = await run_in_threadpool(service_of(request).people.principal, credentials.credentials)
    request.scope["learndock.who"] = found.name
    return found


async def reader(who: Annotated[Principal, Depends(principal)]) -> Principal:
    """Somebody known."""
    who.need("read")
    return who


async def writer(who: Annotated[Principal, Depends(principal)]) -> Principal:
    """Somebody whose token may write."""
    who.need("write")
    return who


async def admin(who: Annotated[Principal, Depends(principal)]) -> Principal:
    """Somebody whose token may administer."""
    who.need("admin")
    return who


ServiceOf = Annotated[Service, Depends(service)]
#: Whoever: nobody too.
Anyone = Annotated[Principal, Depends(principal)]
Reader = Annotated[Principal, Depends(reader)]
Writer = Annotated[Principal, Depends(writer)]
Admin = Annotated[Principal, Depends(admin)]
