"""How errors become answers: one JSON shape with the status of ``errors.STATUS``.

    {"error": {"code": "not_found", "message": ..., "remedy": ..., "retry_after": seconds, where waiting helps}}

The code is the error's class in snake case. The reason of a failure of the service (5xx) is in its log, under the
request's id; the client gets only the id.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from learndock.errors import (
    Forbidden,
    LearndockError,
    NotFound,
    SpecError,
    StorageFailed,
    StorageFull,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UsageError,
    WeightsMissing,
    code_of,
    http_status,
)
from learndock.files import of_storage
from learndock.http import unknown
from learndock.http.logs import Logged

log = logging.getLogger("learndock.http")

#: What to try where an error has no remedy of its own.
REMEDIES: dict[type[LearndockError], str] = {
    LearndockError: "look at the message, change what it names, and try again",
    SpecError: "make the specification again with `learndock spec`",
    Unauthorized: "get a token with `learndock login`",
    Forbidden: "use a token that may do this",
    NotFound: "look at what there is with `learndock list`",
    StorageFull: "tell the operator; what is stored can still be read",
    StorageFailed: "tell the operator",
    Unavailable: "try again in a moment",
    TooManyRequests: "wait as long as Retry-After says",
}
#: 5xx errors whose reason the client gets: it reveals nothing about the service.
_TOLD = (Unavailable, WeightsMissing)
#: What the client gets of failures that name the service's own files and stores.
_STORAGE: dict[type[LearndockError], tuple[str, str]] = {
    StorageFull: (
        "the service has no room for this; nothing was changed",
        "delete what is not needed any more (that works), or tell the operator",
    ),
    StorageFailed: (
        "the service could not store this; nothing was acknowledged",
        "try again later, and tell its operator the request's id {request}",
    ),
}
#: Seconds after which to try again, where an error does not say.
_AGAIN = {429: 1, 503: 2}
#: The client closed the connection before its request was complete.
CLIENT_GONE = 499
_STATUS_CODES = {404: NotFound, 405: UsageError, 401: Unauthorized, 403: Forbidden, 413: TooLarge}


def for_clients(error: LearndockError) -> LearndockError:
    """Return an error without the places of the service's own files, which have absolute paths."""
    if not Path(error.about).is_absolute():
        return error
    return error.changed(about="a file of the service" if "{about}" in error.message else "")


def body_of(error: LearndockError) -> dict[str, Any]:
    """Return the JSON of an error: its code, what happened, what to try, and when."""
    error = for_clients(error)
    remedy = error.remedy or next(REMEDIES[kind] for kind in type(error).__mro__ if kind in REMEDIES)
    found = {"code": code_of(type(error)), "message": error.what, "remedy": remedy}
    return {"error": found if error.retry_after is None else {**found, "retry_after": error.retry_after}}


def response(error: LearndockError, *, request: str = "") -> JSONResponse:
    """Return the response for an error."""
    status = http_status(error)
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in _AGAIN or error.retry_after is not None:
        headers["Retry-After"] = str(round(error.retry_after or _AGAIN.get(status, 1)))
    if isinstance(error, Unavailable) and "{about}" in error.message:  # where the store is, and what it said
        error = error.changed(about="the log of the service says why")
    if type(error) in _STORAGE:
        message, remedy = _STORAGE[type(error)]
        error = type(error)(message, remedy=remedy.format(request=request))
    elif status >= 500 and not isinstance(error, _TOLD):
        # Only the operator, in the log, sees what happened and to what.
        remedy = f"tell its operator the request's id {request}"
        error = type(error)("the service could not do this", remedy=remedy)
    return JSONResponse(body_of(error), status, headers)


def translate(error: Exception) -> LearndockError:
    """Return our error for one that a library raised."""
    if isinstance(error, LearndockError):
        return error
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        place = ".".join(str(p) for p in first.get("loc", ())) or "request"
        return UsageError(
            f"{first.get('msg', 'cannot be read')}", remedy="/api/v1/openapi.json describes what is asked", about=place
        )
    if isinstance(error, HTTPException):
        kind = _STATUS_CODES.get(error.status_code, UsageError)
        return kind(str(error.detail), remedy="/api/v1/openapi.json describes the routes")
    found = of_storage(error, "a file of the service") if isinstance(error, OSError) else None
    return found or LearndockError(f"{error}", about=type(error).__name__)


def install(app: FastAPI) -> None:
    """Give every error of ``app`` this shape."""

    async def handle(request: Request, error: Exception) -> Response:
        request_id = str(request.scope.get("learndock.id", ""))
        found = translate(error)
        if isinstance(error, HTTPException) and error.status_code == 404:  # ours are `NotFound`
            return unknown.answer(request, body_of(found))
        answer = response(found, request=request_id)
        if isinstance(error, HTTPException):
            answer.status_code = error.status_code
            answer.headers.update(error.headers or {})
        # What may be sent again was refused on purpose: it has its line among the requests.
        if answer.status_code >= 500 and found.retry_after is None and not isinstance(error, Logged):
            log.error("failed", extra={"request": request_id, "error": repr(error)}, exc_info=error)
        return answer

    async def gone(_: Request, __: Exception) -> Response:
        # Its client reads it no more: the status is for the log and the metrics, as nginx has it.
        return Response(status_code=CLIENT_GONE)

    app.add_exception_handler(ClientDisconnect, gone)
    for kind in (LearndockError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, handle)
