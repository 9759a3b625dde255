"""Health, readiness and metrics, for an operator's tools."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response

from learndock._version import VERSION
from learndock.errors import Unavailable
from learndock.http.door import DoorRoute
from learndock.http.metrics import Metrics
from learndock.http.principal import ServiceOf
from learndock.http.readiness import AGAIN, Readiness
from learndock.http.routes import PREFIX
from learndock.http.schemas import FAILURES, BaseSchema
from learndock.service.upkeep import Upkeep

router = APIRouter(prefix=PREFIX, route_class=DoorRoute, tags=["operating"], responses=FAILURES)


class Health(BaseSchema):
    """The service answers."""

    status: Literal["ok"]
    version: str


class Ready(BaseSchema):
    """Questions are answered. ``damaged`` counts the blobs that the last scrub found damaged.

    If ``full`` is true, nothing can be added, and ``problems`` says why; reading and deleting work.
    """

    status: Literal["ready"]
    damaged: int
    full: bool
    problems: list[str]


@router.get("/health")
async def health() -> Health:
    """Check that the service answers."""
    return Health(status="ok", version=VERSION)


@router.get("/ready")
async def ready(request: Request) -> Ready:
    """Check that questions are answered; 503 while the service starts, or if a database or the store is away."""
    upkeep = request.app.state.upkeep
    assert isinstance(upkeep, Upkeep)
    found = await _readiness(request).ask()
    if not found.answers:
        raise Unavailable(f"not ready: {'; '.join(found.problems)}", remedy="try again in a moment", retry_after=AGAIN)
    return Ready(status="ready", damaged=len(upkeep.damaged), full=found.full, problems=list(found.problems))


@router.get("/metrics", response_class=Response)
async def metrics(request: Request, service: ServiceOf) -> Response:
    """Return metrics for Prometheus."""
    found, upkeep = request.app.state.metrics, request.app.state.upkeep
    assert isinstance(found, Metrics)
    assert isinstance(upkeep, Upkeep)
    found.damaged.set(len(upkeep.damaged))
    found.follow(found.scrubbed, upkeep.scrubbed)
    found.follow(found.collected, upkeep.collected)
    found.learnwares.set(service.catalogue.size)
    try:
        condition = await _readiness(request).ask()
    except Unavailable:
        found.ready.set(0)
    else:
        found.ready.set(condition.answers)
        found.full.set(condition.full)
        found.free.set(condition.free)
    return Response(found.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _readiness(request: Request) -> Readiness:
    found = request.app.state.readiness
    assert isinstance(found, Readiness)
    return found
