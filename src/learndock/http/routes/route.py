"""Route: a prompt's domain or a task's spec in, one learnware's name out; nothing of the question is kept or logged.

Specs are kept ready in memory, so the answer takes under a millisecond at 10,000 learnwares. Prompts themselves are
read here only if the operator allows it (``route_space``).
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field, ValidationError

from learndock.errors import Forbidden, UsageError
from learndock.http import bodies
from learndock.http.door import DoorRoute, parsed
from learndock.http.limits import client_of
from learndock.http.principal import Anyone, ServiceOf
from learndock.http.routes import PREFIX
from learndock.http.routes.identify import DeprecationSchema
from learndock.http.routes.learnwares import json_response
from learndock.http.schemas import FAILURES, BaseSchema
from learndock.search.filters import Filters
from learndock.search.route import Route
from learndock.service.principal import Principal
from learndock.service.service import Service
from learndock.spec.domain import Domain, make_domain
from learndock.spec.spec import Spec

router = APIRouter(route_class=DoorRoute, tags=["identify"], responses=FAILURES)
#: Prompts of one question.
PROMPTS = 64


class Question(BaseSchema):
    """Either ``space`` and ``domain`` (of ``inputs`` inputs, made by the client), or ``prompts``."""

    space: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    domain: list[float] | None = Field(default=None, min_length=1, max_length=8192)
    inputs: int = Field(default=1, ge=1, le=1_000_000)
    prompts: list[str] | None = Field(default=None, min_length=1, max_length=PROMPTS)


class NearSchema(BaseSchema):
    """A learnware near the question; ``similarity`` is the cosine of the domains."""

    id: str
    name: str
    score: float
    similarity: float
    reliability: float
    version: int
    latest: int
    deprecated: DeprecationSchema | None


class RouteSchema(BaseSchema):
    """Where to send it; see ``Route`` of the library. ``seconds`` is what the comparison took."""

    name: str | None
    id: str | None
    fits: bool | None
    sure: bool
    by: str
    expected: float | None
    inputs: int
    searched: int
    nearest: list[NearSchema]
    reason: str | None
    seconds: float


_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": Question.model_json_schema()},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}


@router.post(f"{PREFIX}/route", response_model=RouteSchema, openapi_extra={"requestBody": _BODY})
async def route(
    request: Request,
    who: Anyone,
    service: ServiceOf,
    top: Annotated[int, Query(ge=1, le=100)] = 5,
    format: Annotated[str | None, Query(max_length=64)] = None,  # noqa: A002 - the field's name
    task: Annotated[str | None, Query(max_length=64)] = None,
    license: Annotated[str | None, Query(max_length=64)] = None,  # noqa: A002 - the field's name
    base: Annotated[str | None, Query(max_length=200)] = None,
    owner: Annotated[str | None, Query(max_length=96)] = None,
) -> Response:
    """Name the learnware for prompts or a task: by a domain or prompts (JSON), or by a spec (the bytes of its file)."""
    source = await bodies.read_all(request, service.settings, limit=bodies.LARGE)
    filters = Filters(format=format, task=task, license=license, base=base, owner=owner)
    if not request.headers.get("content-type", "").startswith("application/json"):
        return json_response(await run_in_threadpool(_by_spec, service, who, source, top, filters))
    asked = _question(await parsed(source))
    if asked.prompts is None:
        return json_response(await run_in_threadpool(_answer, service, who, _domain(asked), top, filters))
    _need_helper(service)
    async with request.app.state.identifying.turn(client_of(request.scope)):
        return json_response(await run_in_threadpool(_by_prompts, service, who, asked.prompts, top, filters))


def _question(source: Any) -> Question:
    """Return the question that a JSON value is.

    Raises:
        UsageError: it is not one.
    """
    try:
        found = Question.model_validate(source)
    except ValidationError as error:
        raise UsageError(f"the question cannot be read ({error.errors()[0]['msg']})", remedy=_FORM) from None
    if (found.prompts is None) == (found.domain is None) or (found.domain is None) != (found.space is None):
        raise UsageError("the question names neither prompts nor a space with a domain, or both", remedy=_FORM)
    return found


_FORM = 'send {"space": ID, "domain": [...], "inputs": N}, {"prompts": [...]}, or the bytes of a spec file'


def _domain(asked: Question) -> Domain:
    assert asked.space is not None
    with np.errstate(over="ignore"):  # what does not fit is infinite, and refused
        return Domain(asked.space, np.asarray(asked.domain, np.float32), asked.inputs)


def _need_helper(service: Service) -> None:
    """Check that the operator lets this service read prompts.

    Raises:
        Forbidden: they do not.
    """
    if not service.settings.route_space:
        raise Forbidden(
            "this service does not read prompts",
            remedy="send a domain, as `learndock.route` does; the operator can allow prompts with --route-space",
        )


def _by_prompts(service: Service, who: Principal, prompts: list[str], top: int, filters: Filters) -> RouteSchema:
    return _answer(service, who, make_domain(prompts, space=service.settings.route_space), top, filters)


def _by_spec(service: Service, who: Principal, source: bytes, top: int, filters: Filters) -> RouteSchema:
    from learndock.spec.file import check_shape, spec_from_bytes

    spec = check_shape(spec_from_bytes(source, where="the spec"), where="the spec")
    return _answer(service, who, spec, top, filters)


def _answer(service: Service, who: Principal, asked: Domain | Spec, top: int, filters: Filters) -> RouteSchema:
    if service.catalogue.due:
        service.catalogue.look()
    begun = time.perf_counter()
    found: Route = service.catalogue.route(who, asked, top=top, filters=filters)
    fields: dict[str, Any] = {**found.to_dict(), "seconds": time.perf_counter() - begun}
    return RouteSchema.model_validate(fields)
