"""Agentic Resource Discovery (ARD v0.91): agents and ``hf discover`` find learnwares by words.

    GET  /.well-known/ard.json, /.well-known/ai-catalog.json   this registry, as one entry
    POST /search                                               learnwares by the words of a query
    GET  /agents/{identifier}                                  one entry

A search by words looks at names, descriptions, labels and tags. Whether a model fits a task is what ``identify`` says.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from learndock.dock.protocol import Record
from learndock.errors import NotFound, UsageError
from learndock.http.door import DoorRoute
from learndock.http.hub.addresses import base
from learndock.http.principal import Anyone, ServiceOf
from learndock.http.schemas import BaseSchema

router = APIRouter(route_class=DoorRoute, include_in_schema=False)
REGISTRY = "application/ai-registry+json"
LEARNWARE = "application/vnd.learndock.learnware+json"
#: The publisher where the service has no domain name: reserved for private networks.
PRIVATE = "learndock.internal"
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}")
_WORD = re.compile(r"[^\W_]+")
#: Words of questions that say nothing about a model.
_EMPTY = frozenset(
    _WORD.findall("a an and are can do find for from help how in is it me model my of on or the to want with")
)
#: What a learnware says and its format -> its words, and how many learnwares are kept.
_WORDS: dict[tuple[str, str], frozenset[str]] = {}
_REMEMBERED = 200_000
#: Labels of an entry.
_LABELS = 20


class Query(BaseSchema):
    """What is looked for: words, and values that fields of an entry must have."""

    text: str = Field(default="", max_length=2000)
    filter: dict[str, Any] = Field(default_factory=dict, max_length=20)
    context: Any = Field(default=None, alias="@context")


class Search(BaseSchema):
    """A search; ``federation`` is accepted and changes nothing, since no other registry is known here."""

    query: Query
    federation: str = Field(default="auto", pattern="^(auto|referrals|none)$")
    page_size: int = Field(default=10, ge=1, le=100, alias="pageSize")
    page_token: str | None = Field(default=None, pattern=r"^\d{1,9}$", alias="pageToken")


@router.get("/.well-known/ard.json")
@router.get("/.well-known/ai-catalog.json")
def catalog(request: Request, service: ServiceOf) -> dict[str, Any]:
    """Name this registry; the learnwares are found by its search."""
    here = base(request, service.settings)
    entry = {
        "identifier": f"urn:air:{_publisher(here)}:registry",
        "displayName": "learndock",
        "type": REGISTRY,
        "url": here,
        "description": "Trained models, found by words here and by labelled examples with `learndock identify`.",
        "representativeQueries": ["a model for sentiment of reviews", "a LoRA adapter for medical questions"],
    }
    return {"specVersion": "1.0", "host": {"displayName": "learndock"}, "entries": [entry]}


@router.post("/search")
def search(asked: Search, request: Request, who: Anyone, service: ServiceOf) -> dict[str, Any]:
    """Return the learnwares that you may see by how many of the query's words describe them."""
    here, text = base(request, service.settings), asked.query.text
    words = [w for w in dict.fromkeys(_WORD.findall(text.casefold())) if w not in _EMPTY]
    if not words:
        raise UsageError("the query has no words to look for", remedy="name a task, a label or a format")
    found = []
    for record in service.catalogue.records(who):
        known = _described(record)
        share = sum(w in known for w in words) / len(words)
        if share and _passes(record, here, asked.query.filter):
            found.append((-round(100 * share), record.sequence, record))
    found.sort(key=lambda f: f[:2])
    start = int(asked.page_token or 0)
    page = found[start : start + asked.page_size]
    results = [{**_entry(r, here), "score": -score, "source": here} for score, _, r in page]
    for result in results:
        del result["representativeQueries"]  # for indexing, not for showing
    more = {"pageToken": str(start + len(page))} if start + len(page) < len(found) else {}
    return {"results": results, "referrals": [], **more}


@router.get("/agents/{identifier}")
def get_entry(
    identifier: Annotated[str, Path(max_length=400)], request: Request, who: Anyone, service: ServiceOf
) -> dict[str, Any]:
    """Return one entry by its identifier."""
    here = base(request, service.settings)
    parts = identifier.split(":")
    if len(parts) < 4 or parts[:2] != ["urn", "air"]:
        raise UsageError(
            "this is not an identifier", remedy="write urn:air:DOMAIN:learnware:OWNER:NAME", about=identifier
        )
    if len(parts) != 6 or parts[2:4] != [_publisher(here), "learnware"]:
        raise NotFound("there is no such entry here", remedy="search with POST /search", about=identifier)
    return _entry(service.catalogue.record(who, f"{parts[4]}/{parts[5]}"), here)


@router.post("/explore")
def explore() -> Response:
    """Say that facets are not counted here."""
    said = {"code": "usage_error", "message": "facets are not counted here", "remedy": "search with POST /search"}
    return JSONResponse({"error": said}, 501)


# -- inside -----------------------------------------------------------------------------------------------


def _publisher(here: str) -> str:
    host = urlsplit(here).hostname or ""
    return host if _DOMAIN.fullmatch(host) else PRIVATE


def _entry(record: Record, here: str) -> dict[str, Any]:
    manifest = record.manifest
    owner, _, name = record.name.partition("/")
    labels = [str(label) for label in manifest.task.get("labels", ())][:_LABELS]
    kind = str(manifest.task.get("type", ""))
    asked = f"tell apart {', '.join(labels)}" if labels else f"a model for {kind}"
    return {
        "identifier": f"urn:air:{_publisher(here)}:learnware:{owner}:{name}",
        "displayName": record.name,
        "type": LEARNWARE,
        "url": f"{here}/api/v1/learnwares/{record.name}",
        "description": record.description or f"{kind}: {', '.join(labels)}",
        "tags": _tags(record),
        "capabilities": [kind],
        "representativeQueries": [asked, record.description or f"{kind} in the format {manifest.format}"],
        "version": f"v{record.version}",
        "metadata": {
            "format": manifest.format,
            "base": None if manifest.base is None else manifest.base.name,
            "digest": record.digest,
            "deprecated": None if record.deprecated is None else str(record.deprecated),
        },
    }


def _tags(record: Record) -> list[str]:
    manifest = record.manifest
    found = ["learnware", manifest.format, str(manifest.task.get("type", ""))]
    return found + ([f"license:{record.license.lower()}"] if record.license else [])


def _described(record: Record) -> frozenset[str]:
    """The words that describe a learnware: worked out once, because a search reads those of all."""
    key = (record.words, record.manifest.format)
    if key not in _WORDS:
        if len(_WORDS) >= _REMEMBERED:
            _WORDS.clear()
        base_name = "" if record.manifest.base is None else record.manifest.base.name
        found = _WORD.findall(f"{record.words} {' '.join(_tags(record))} {base_name}".casefold())
        _WORDS[key] = frozenset(map(sys.intern, found))
    return _WORDS[key]


def _passes(record: Record, here: str, conditions: dict[str, Any]) -> bool:
    """Whether an entry has, for each field, one of the values.

    Raises:
        UsageError: a field that is not looked at.
    """
    if not conditions:
        return True
    known = {
        "type": [LEARNWARE],
        "tags": _tags(record),
        "capabilities": [str(record.manifest.task.get("type", ""))],
        "publisher": [_publisher(here)],
        "metadata.format": [record.manifest.format],
        "metadata.base": ["" if record.manifest.base is None else record.manifest.base.name],
    }
    for field, wanted in conditions.items():
        if field not in known:
            raise UsageError(f"entries are not filtered by {field[:80]}", remedy=f"use {', '.join(known)}")
        values = wanted if isinstance(wanted, list) else [wanted]
        if not set(map(str, values)) & set(known[field]):
            return False
    return True
