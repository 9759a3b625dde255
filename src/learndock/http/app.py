"""The application: all routes over one service."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.types import ASGIApp

from learndock._version import VERSION
from learndock.http import errors, unknown
from learndock.http.bodies import LARGE
from learndock.http.hub import discovery, download, gguf, lfs, listing, refs, unsupported, upload, xet
from learndock.http.limits import BodyBudget, FairQueue, VerifiedClients
from learndock.http.metrics import Metrics
from learndock.http.middleware import stack
from learndock.http.readiness import Readiness
from learndock.http.routes import PREFIX, identify, learnwares, operate, people, repositories, route, uploads
from learndock.service.service import Service
from learndock.service.upkeep import Upkeep

#: Their order matters where a path matches two routes: those under /api come before those of files.
PARTS = (
    learnwares, repositories, uploads, identify, route, people, operate,
    upload, lfs, xet, gguf, discovery, unsupported, listing, refs, download,
    unknown,
)  # fmt: skip
ABOUT = """A dock for models: find the trained model that fits your task without sharing your data.

Errors have one shape: `{"error": {"code", "message", "remedy"}}`. What you may not see is reported as not found (404).
"""


def with_middleware(app: FastAPI) -> ASGIApp:
    """Return the application inside its middleware, which sees the framework's own answers too."""
    state = app.state
    return stack(app, service=state.service, metrics=state.metrics, verified=state.verified)


def create_app(service: Service) -> FastAPI:
    """Return the ASGI application of ``service``."""
    upkeep = Upkeep(service)

    @contextlib.asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        chores = threading.Thread(target=upkeep.run, args=(stop,), daemon=True)
        chores.start()
        threading.Thread(target=service.catalogue.prepare, args=(stop,), daemon=True).start()
        app.state.identifying = FairQueue(os.cpu_count() or 1)
        yield
        stop.set()
        app.state.readiness.close()
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
    app.state.verified = VerifiedClients()
    app.state.bodies = BodyBudget(service.settings.body_memory, largest=LARGE)
    app.state.readiness = Readiness(service)
    errors.install(app)
    # Not `include_router`: it makes every route a second time, and looks through each router at every request
    app.router.routes.extend(route for part in PARTS for route in part.router.routes)
    return app
