"""Health, readiness and metrics, for an operator's tools."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response

from learndock._version import VERSION
from learndock.http.door import DoorRoute
from learndock.http.metrics import Metrics
from learndock.http.principal import ServiceOf
from learndock.http.routes import PREFIX
from learndock.http.schemas import FAILURES, BaseSchema
from learndock.service.upkeep import Upkeep

router = APIRouter(prefix=PREFIX, route_class=DoorRoute, tags=["operating"], responses=FAILURES)


class Health(BaseSchema):
    """The service answers."""

    status: Literal["ok"]
    version: str


class Ready(BaseSchema):
    """The databases answer. ``damaged`` counts the blobs that the last scrub found damaged."""

    status: Literal["ready"]
    damaged: int


@router.get("/health")
async def health() -> Health:
    """Check that the service answers."""
    return Health(status="ok", version=VERSION)


@router.get("/ready")
def ready(request: Request, service: ServiceOf) -> Ready:
    """Check that the service can work; 503 if a database does not answer."""
    service.check()
    upkeep = request.app.state.upkeep
    assert isinstance(upkeep, Upkeep)
    return Ready(status="ready", damaged=len(upkeep.damaged))


@router.get("/metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """Return metrics for Prometheus."""
    found, upkeep = request.app.state.metrics, request.app.state.upkeep
    assert isinstance(found, Metrics)
    assert isinstance(upkeep, Upkeep)
    found.damaged.set(len(upkeep.damaged))
    return Response(found.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
