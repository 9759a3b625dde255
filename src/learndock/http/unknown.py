"""The root, and every address that no route has: what this is, and what to do. Text for people, JSON for programs.

What a path says of a model is answered alike whether there is such a model or not.
"""

from __future__ import annotations

import html
import re

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from learndock._version import VERSION
from learndock.http.hub.addresses import base
from learndock.http.principal import service_of
from learndock.http.routes import PREFIX

router = APIRouter()
_SEEMS_A_MODEL = re.compile(
    r"/([A-Za-z0-9._-]{1,96}/[A-Za-z0-9._-]{1,96}?)(\.git(?:/.*)?)?(?:/(?:tree|blob|commit|discussions).*|/)?"
)
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>learndock</title>
<h1>learndock</h1>
<p>{about}</p>
<ul>{lines}</ul>
"""


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def welcome(request: Request) -> Response:
    """Say what this is, and how to use it."""
    address = base(request, service_of(request).settings)
    about = "A dock for models: find the trained model that fits your task without sharing your data."
    uses = {
        "find": f"learndock identify examples.csv --dock {address}",
        "list": f"learndock list --dock {address}",
        "download": f"HF_ENDPOINT={address} hf download OWNER/NAME",
        "api": f"{address}{PREFIX}/openapi.json",
    }
    if not _wants_page(request):
        return JSONResponse({"name": "learndock", "version": VERSION, "about": about, **uses})
    return HTMLResponse(_page(about, [f"{what}: <code>{html.escape(how)}</code>" for what, how in uses.items()]))


def answer(request: Request, told: dict[str, dict[str, str]]) -> Response:
    """Return the 404 of an address that no route has; ``told`` is the JSON of its error, whose remedy is replaced."""
    message, remedy = reason(request.scope["path"], base(request, service_of(request).settings))
    headers = {"Cache-Control": "no-store"}
    if _wants_page(request):
        return HTMLResponse(_page(f"{html.escape(message)}.", [html.escape(remedy)]), 404, headers)
    return JSONResponse({"error": {**told["error"], "message": message, "remedy": remedy}}, 404, headers)


def reason(path: str, address: str) -> tuple[str, str]:
    """Return what a path asks for that is not here, and what to do instead."""
    first = path.strip("/").partition("/")[0]
    download = f"HF_ENDPOINT={address} hf download "
    if first in ("datasets", "spaces", "kernels", "buckets"):
        return f"this dock keeps models only, no {first}", "keep them elsewhere, and name them in the model's card"
    found = None if first == "api" else _SEEMS_A_MODEL.fullmatch(path)
    if found is not None and found[2]:
        return "git does not clone from a dock", f"download with `{download}{found[1]}`"
    if found is not None:
        show = f"learndock show {found[1]} --dock {address}"
        return "a dock has no pages of models", f"see it with `{show}`, download it with `{download}{found[1]}`"
    return "this dock has nothing at this address", f"{address}{PREFIX}/openapi.json describes the routes"


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _page(about: str, lines: list[str]) -> str:
    return _PAGE.format(about=about, lines="".join(f"<li>{line}</li>" for line in lines))
