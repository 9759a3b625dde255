"""Identify: a task spec in, ranked learnwares out; nothing of the spec is kept or logged."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from learndock.http import bodies
from learndock.http.door import DoorRoute
from learndock.http.limits import client_of
from learndock.http.principal import Anyone, ServiceOf
from learndock.http.routes import PREFIX
from learndock.http.routes.learnwares import asked
from learndock.http.schemas import FAILURES, BaseSchema
from learndock.search.filters import Filters
from learndock.service.principal import Principal
from learndock.service.service import Service

router = APIRouter(prefix=PREFIX, route_class=DoorRoute, tags=["identify"], responses=FAILURES)


class DeprecationSchema(BaseSchema):
    """Why a learnware should not be used any more, and the one to ``use`` instead, where there is one."""

    use: str | None
    because: str
    time: str
    by: str


class MatchSchema(BaseSchema):
    """One learnware, compared with the task (see ``Match`` of the library).

    ``can_answer`` and ``missing`` need the labels of the task. A client that keeps them to itself, as the library does,
    works both out from ``task_type``, ``classes`` and ``labels`` (the first 50).
    """

    id: str
    name: str
    score: float
    domain: float
    behaviour: float
    reliability: float
    consensus: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    ranked_by: float
    task_type: str
    classes: int
    labels: list[str]
    can_answer: bool
    missing: list[str]
    version: int
    latest: int
    deprecated: DeprecationSchema | None


class IdentificationSchema(BaseSchema):
    """The ranking. If ``fits`` is false, no learnware fits; ``closest`` are the nearest ones, not a recommendation."""

    fits: bool
    p_value_any: float | None
    searched: int
    reason: str | None
    matches: list[MatchSchema]
    closest: list[MatchSchema]


class SpaceSchema(BaseSchema):
    """A space, and how many learnwares that you may see have a spec in it."""

    id: str
    name: str
    learnwares: int


class Spaces(BaseSchema):
    """The spaces of this dock."""

    spaces: list[SpaceSchema]


@router.post(
    "/identify",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def identify(
    request: Request,
    who: Anyone,
    service: ServiceOf,
    top: Annotated[int, Query(ge=1, le=1000)] = 10,
    format: Annotated[str | None, Query(max_length=64)] = None,  # noqa: A002 - the field's name
    task: Annotated[str | None, Query(max_length=64)] = None,
    license: Annotated[str | None, Query(max_length=64)] = None,  # noqa: A002 - the field's name
    base: Annotated[str | None, Query(max_length=200)] = None,
    owner: Annotated[str | None, Query(max_length=96)] = None,
    seed: Annotated[int, Query(ge=0, lt=1 << 63, description="Random seed of the permutation tests.")] = 0,
) -> IdentificationSchema:
    """Rank the learnwares that you may see for a task's specification, sent as the bytes of its file."""
    source = await bodies.read_all(request, service.settings, limit=bodies.LARGE)
    filters = Filters(format=format, task=task, license=license, base=base, owner=owner)
    # One per core at a time: more would only make every request wait longer.
    async with request.app.state.identifying.turn(client_of(request.scope)):
        return await run_in_threadpool(_identify, service, who, source, top, filters, seed)


@router.get("/spaces")
async def list_spaces(who: Anyone, service: ServiceOf) -> Spaces:
    """List the spaces of the learnwares that you may see."""
    found = await asked(service, service.catalogue.spaces, who)
    return Spaces(spaces=[SpaceSchema(id=i, name=name, learnwares=n) for i, (name, n) in found.items()])


def _identify(
    service: Service, who: Principal, source: bytes, top: int, filters: Filters, seed: int
) -> IdentificationSchema:
    from learndock.spec.file import check_shape, spec_from_bytes

    if service.catalogue.due:
        service.catalogue.look()
    spec = check_shape(spec_from_bytes(source, where="the task spec"), where="the task spec")
    found = service.catalogue.identify(who, spec, top=top, filters=filters, seed=seed)
    return IdentificationSchema.model_validate(found.to_dict())
