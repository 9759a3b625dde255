"""The application: all routes over one service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from learndock._version import VERSION
from learndock.http import errors
from learndock.http.around import Around
from learndock.http.hub import router as hub
from learndock.http.metrics import Metrics
from learndock.http.routes import identify, learnwares, operate, people, repositories, uploads
from learndock.service.service import Service
from learndock.service.upkeep import Upkeep

PREFIX = "/api/v1"
ABOUT = """A dock for models: find the trained model that fits your task without sharing your data.

Errors have one shape: `{"error": {"code", "message", "remedy"}}`. What you may not see is not found (404).
"""


def around(app: FastAPI) -> ASGIApp:
    """The application with what stands around every request, the framework's own answers too."""
    return Around(app, settings=app.state.service.settings, metrics=app.state.metrics)


def create_app(service: Service) -> FastAPI:
    """The ASGI application of ``service``."""
    upkeep = Upkeep(service)

    @contextlib.asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        chores = threading.Thread(target=upkeep.run, args=(stop,), daemon=True)
        chores.start()
        app.state.identifying = asyncio.Semaphore(os.cpu_count() or 1)
        yield
        stop.set()
        chores.join(timeout=10)

    app = FastAPI(
        title="learndock",
        version=VERSION,
        description=ABOUT,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=living,
        max_body_size=service.settings.max_request,
    )
    app.state.service, app.state.metrics, app.state.upkeep = service, Metrics(), upkeep
    errors.install(app)
    api = APIRouter(prefix=PREFIX)
    for part in (learnwares, repositories, uploads, identify, people, operate):
        api.include_router(part.router)
    app.include_router(api)
    app.include_router(hub)
    return app
