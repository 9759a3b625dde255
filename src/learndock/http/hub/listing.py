"""Models as hub clients list and describe them: found by name, tags and task, in pages.

A condition or property that a dock knows nothing of is refused: a list with everything in it would be taken for the
answer.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from learndock.errors import UsageError
from learndock.http.hub.addresses import base
from learndock.http.hub.failures import HubRoute
from learndock.http.hub.snapshot import time_text
from learndock.http.principal import Anyone, ServiceOf
from learndock.search.filters import Filters
from learndock.service.cards import has_all
from learndock.service.changes import Repository
from learndock.service.metadata import Metadata
from learndock.service.principal import Principal
from learndock.service.repositories import Order
from learndock.service.service import Service

router = APIRouter(route_class=HubRoute, include_in_schema=False)

#: What lists can be asked for that a dock knows nothing of -> why.
UNKNOWN = {
    "emissions_thresholds": "cards are not searched for emissions",
    "inference": "nothing is run here",
    "inference_provider": "nothing is run here",
    "num_parameters": "parameters are not counted here",
}
_KNOWN = frozenset(
    {"author", "search", "filter", "pipeline_tag", "library", "language", "tags", "gated", "apps", "sort", "direction",
     "limit", "cursor", "full", "config", "cardData", "expand"}
)  # fmt: skip
_SORTS: dict[str, Order] = {"createdAt": "created", "lastModified": "changed"}
#: App -> the tag of the models that it runs.
APPS = {"llama.cpp": "gguf", "ollama": "gguf", "lmstudio": "gguf", "jan": "gguf"}
#: Properties that ``expand`` gives, alone. The others of these clients are refused.
PROPERTIES = frozenset(
    {"author", "cardData", "config", "createdAt", "disabled", "downloads", "gated", "lastModified", "library_name",
     "likes", "model-index", "pipeline_tag", "private", "sha", "siblings", "tags", "xetEnabled"}
)  # fmt: skip
_Words = Annotated[list[str] | None, Query(max_length=50)]


@router.get("/api/models")
def list_models(
    request: Request,
    who: Anyone,
    service: ServiceOf,
    author: Annotated[str | None, Query(max_length=96)] = None,
    search: _Words = None,
    filter: _Words = None,  # noqa: A002 - the clients' word
    library: _Words = None,
    language: _Words = None,
    tags: _Words = None,
    apps: _Words = None,
    pipeline_tag: Annotated[str | None, Query(max_length=200)] = None,
    gated: bool | None = None,
    sort: Annotated[str | None, Query(max_length=40)] = None,
    direction: Annotated[int, Query(ge=-1, le=1)] = -1,
    expand: _Words = None,
    full: bool = False,
    config: bool = False,
    cardData: bool = False,
    cursor: Annotated[str | None, Query(max_length=300)] = None,
    limit: Annotated[int, Query(ge=0)] = 100,
) -> Response:
    """List repositories, and learnwares of the dock that have none: by name, or newest first."""
    _check_known(request)
    wanted = properties_of(expand)
    shown = "full" if full else "short"
    if gated or not limit:
        return JSONResponse([])  # nothing is gated here
    size = min(limit, 1000)
    order = _order(sort)
    told = [*(filter or ()), *(library or ()), *(language or ()), *(tags or ()), *_of_apps(apps or ())]
    words = [w for w in search or () if w]
    found = _page(
        service, who, author=author, words=words, tags=told, pipeline=pipeline_tag, order=order,
        up=order != "name" and direction == 1, cursor=cursor, limit=size + 1,
    )  # fmt: skip
    known = _cards(service, [r for r, _ in found[:size]])
    listed: list[dict[str, Any]] = []
    for repository, card in found[:size]:
        model = basics(repository, card or known[repository.id])
        model["sha"] = repository.head
        if not (cardData or full or wanted):
            del model["cardData"], model["model-index"]
        if not (config or wanted):
            del model["config"]
        if (shown == "full" and not wanted) or "siblings" in wanted:
            paths = _paths(service, who, repository)
            model["siblings"] = [{"rfilename": p} for p in paths]
        listed.append(only(model, wanted))
    answer = JSONResponse(listed)
    if len(found) > size:
        pairs = [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"]
        link_next(answer, request, [*pairs, ("cursor", _cursor(found[size - 1][0], order))])
    return answer


def basics(repository: Repository, card: Metadata) -> dict[str, Any]:
    """Return what lists and descriptions of one model have in common."""
    return {
        "_id": hashlib.sha256(repository.name.encode()).hexdigest()[:24],
        "id": repository.name,
        "modelId": repository.name,
        "author": repository.owner,
        "private": repository.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "createdAt": time_text(repository.created),
        "lastModified": time_text(repository.changed),
        "tags": list(card.tags),
        **({} if card.library is None else {"library_name": card.library}),
        **({} if card.pipeline is None else {"pipeline_tag": card.pipeline}),
        "cardData": {k: v for k, v in card.data.items() if k != "model-index"},
        "model-index": card.data.get("model-index"),
        "config": card.config,
        "xetEnabled": False,  # clients before 1.0 ask first, and send plain large files then
    }


def only(model: dict[str, Any], wanted: frozenset[str]) -> dict[str, Any]:
    """Return the ``wanted`` properties of a model, and its id; all where none is asked for."""
    return {k: v for k, v in model.items() if k in wanted or k in ("_id", "id", "modelId")} if wanted else model


def properties_of(expand: Iterable[str] | None) -> frozenset[str]:
    """Return the properties that a request asks for.

    Raises:
        UsageError: a dock does not know one of them.
    """
    wanted = frozenset(expand or ())
    for name in sorted(wanted - PROPERTIES):
        raise UsageError(
            f"expand: a dock does not know {name[:40]!r} of a model", remedy=f"ask for {', '.join(sorted(PROPERTIES))}"
        )
    return wanted


def link_next(answer: Response, request: Request, query: Iterable[tuple[str, Any]]) -> None:
    """Say in ``answer`` where its next page is."""
    service: Service = request.app.state.service
    path = quote(request.url.path, safe="/")
    address = f"{base(request, service.settings)}{path}?{urlencode(list(query))}"
    answer.headers["Link"] = f'<{address}>; rel="next"'


# -- inside -----------------------------------------------------------------------------------------------


def _check_known(request: Request) -> None:
    for name in request.query_params:
        if name not in _KNOWN:
            reason = UNKNOWN.get(name, "there is no such condition here")
            raise UsageError(
                f"models cannot be listed by {name[:40]!r}: {reason}",
                remedy="use author, search, filter, pipeline_tag, library, language, tags, apps or gated",
            )


def _order(sort: str | None) -> Order:
    if sort is None:
        return "name"
    if sort not in _SORTS:
        raise UsageError(
            f"models cannot be sorted by {sort!r}: a dock counts no downloads, likes or trends",
            remedy="sort by created_at or last_modified",
        )
    return _SORTS[sort]


def _of_apps(apps: Iterable[str]) -> list[str]:
    for app in apps:
        if app not in APPS:
            raise UsageError(
                f"a dock cannot tell which models run with {app[:40]!r}",
                remedy=f"it can for {', '.join(APPS)}; filter by library or tag otherwise",
            )
    return [APPS[app] for app in apps]


def _cards(service: Service, found: list[Repository]) -> dict[int, Metadata]:
    return service.cards.of([r for r in found if r.id])


def _page(
    service: Service,
    who: Principal,
    *,
    author: str | None,
    words: list[str],
    tags: list[str],
    pipeline: str | None,
    order: Order,
    up: bool,
    cursor: str | None,
    limit: int,
) -> list[tuple[Repository, Metadata | None]]:
    """Return the models of one page in order; the metadata of those that have no repository come with them."""
    after = None if cursor is None else _after(cursor, order)
    conditions = service.cards.conditions(tags, pipeline) if tags or pipeline is not None else []
    found: list[tuple[Repository, Metadata | None]] = [
        (r, None)
        for r in service.repositories.find(
            who, owner=author, search=words, after=after, limit=limit, order=order, up=up, more=conditions
        )
    ]
    known = service.repositories.standing()
    for record in service.catalogue.records(who, Filters(owner=author)):
        key = record.name.casefold()
        if key in known or not all(w.casefold() in key for w in words):
            continue
        card = service.cards.of_record(record)
        alone = Repository(0, record.name, False, 0.0, 0.0, None, record.digest, None)
        if has_all(card, tags, pipeline) and _is_after(alone, after, order, up=up):
            found.append((alone, card))
    return sorted(found, key=lambda pair: _place(pair[0], order, up=up))[:limit]


def _place(repository: Repository, order: Order, *, up: bool) -> tuple[float, str]:
    value = 0.0 if order == "name" else getattr(repository, order)
    return (value if up else -value, repository.name.casefold())


def _is_after(repository: Repository, after: tuple[float, str] | None, order: Order, *, up: bool) -> bool:
    if after is None:
        return True
    value, key = after
    return _place(repository, order, up=up) > (value if up else -value, key)


def _cursor(repository: Repository, order: Order) -> str:
    return repository.name if order == "name" else f"{getattr(repository, order)!r} {repository.name}"


def _after(cursor: str, order: Order) -> tuple[float, str]:
    if order == "name":
        return 0.0, cursor.casefold()
    value, _, name = cursor.partition(" ")
    with contextlib.suppress(ValueError):
        return float(value), name.casefold()
    raise UsageError("the cursor is not one of this list", remedy="follow the Link of the page before")


def _paths(service: Service, who: Principal, repository: Repository) -> list[str]:
    from learndock.http.hub.snapshot import find

    return list(find(service, who, repository.name).entries)
