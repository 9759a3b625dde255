"""The application: all routes over one service."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from learndock._version import VERSION
from learndock.http import errors
from learndock.http.routes import identify, learnwares, people, repositories, uploads
from learndock.service.service import Service

PREFIX = "/api/v1"
ABOUT = """A dock for models: find the trained model that fits your task without sharing your data.

Errors have one shape: `{"error": {"code", "message", "remedy"}}`. What you may not see is not found (404).
"""


def create_app(service: Service) -> FastAPI:
    """The ASGI application of ``service``."""
    app = FastAPI(
        title="learndock",
        version=VERSION,
        description=ABOUT,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    errors.install(app)
    api = APIRouter(prefix=PREFIX)
    for part in (learnwares, repositories, uploads, identify, people):
        api.include_router(part.router)
    app.include_router(api)
    return app


__all__ = ["PREFIX", "ASGIApp", "Receive", "Scope", "Send", "create_app"]
