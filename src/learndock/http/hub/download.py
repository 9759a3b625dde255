"""Downloading with hub clients: models and trees as JSON, files by HEAD and GET."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from learndock.errors import UsageError
from learndock.http import bodies
from learndock.http.door import parsed
from learndock.http.files import blob_response
from learndock.http.hub.addresses import base
from learndock.http.hub.failures import HubRoute, Missing, missing
from learndock.http.hub.snapshot import Snapshot, described, etag, find, find_file, time_text
from learndock.http.principal import Anyone, ServiceOf
from learndock.package.manifest import MANIFEST
from learndock.search.filters import Filters
from learndock.service.changes import Repository
from learndock.service.principal import Principal
from learndock.service.repositories import MAIN
from learndock.service.service import Service

router = APIRouter(route_class=HubRoute, include_in_schema=False)
Owner = Annotated[str, Path(max_length=96)]
Name = Annotated[str, Path(max_length=96)]
Rest = Annotated[str, Path(max_length=1024)]
#: Entries of a page of a tree, as clients expect them.
PAGE, EXPANDED_PAGE = 1000, 50
#: Paths that one request may ask about.
MAX_PATHS = 10_000


@router.get("/api/models")
def list_models(
    request: Request,
    who: Anyone,
    service: ServiceOf,
    author: Annotated[str | None, Query(max_length=96)] = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """List repositories by name, and learnwares of the dock that have none."""
    repositories = service.repositories.find(who, owner=author, search=search, after=cursor, limit=limit + 1)
    alone = _without_repository(service, who, author=author, search=search, after=cursor)
    found = sorted([*repositories, *alone], key=lambda r: r.name.casefold())[: limit + 1]
    answer = JSONResponse([_listed(r) for r in found[:limit]])
    if len(found) > limit:
        asked = {k: v for k, v in (("author", author), ("search", search)) if v is not None}
        _link_next(answer, request, {**asked, "limit": limit, "cursor": found[limit - 1].name})
    return answer


@router.get("/api/models/{name}")
def get_model_without_owner(name: Name) -> Response:
    """Refuse a name without an owner."""
    raise Missing("no such model here", "RepoNotFound", remedy="names have the form owner/name", about=name)


@router.get("/api/models/{owner}/{name}")
def get_model(owner: Owner, name: Name, who: Anyone, service: ServiceOf, blobs: bool = False) -> dict[str, Any]:
    """Describe a repository at its head."""
    return _model(find(service, who, f"{owner}/{name}"), blobs=blobs)


@router.get("/api/models/{owner}/{name}/revision/{revision:path}")
def get_model_at(
    owner: Owner, name: Name, revision: Rest, who: Anyone, service: ServiceOf, blobs: bool = False
) -> dict[str, Any]:
    """Describe a repository at a revision."""
    return _model(find(service, who, f"{owner}/{name}", revision), blobs=blobs)


@router.get("/api/models/{owner}/{name}/tree/{rest:path}")
def get_tree(
    owner: Owner,
    name: Name,
    rest: Rest,
    request: Request,
    who: Anyone,
    service: ServiceOf,
    recursive: bool = False,
    expand: bool = False,
    cursor: Annotated[str, Query(max_length=512)] = "",
    limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
) -> Response:
    """List the files of a folder, or of all folders, in pages."""
    revision, folder = split_revision(rest)
    entries = _below(find(service, who, f"{owner}/{name}", revision), folder, recursive=recursive)
    size = min(limit, EXPANDED_PAGE) if expand else limit
    page = [e for e in entries if e["path"] > cursor]
    answer = JSONResponse(page[:size])
    if len(page) > size:
        asked: dict[str, Any] = {"recursive": str(recursive).lower(), "expand": str(expand).lower(), "limit": limit}
        _link_next(answer, request, {**asked, "cursor": page[size - 1]["path"]})
    return answer


@router.post("/api/models/{owner}/{name}/paths-info/{revision:path}")
async def get_paths(owner: Owner, name: Name, revision: Rest, request: Request, who: Anyone, service: ServiceOf) -> Any:
    """Describe some paths; missing ones are left out."""
    paths = await _paths(request, service)
    snapshot = await run_in_threadpool(find, service, who, f"{owner}/{name}", revision)
    known = {e["path"]: e for e in _all(snapshot)}
    return [known[p] for p in paths if p in known]


@router.get("/api/models/{owner}/{name}/refs")
def get_refs(owner: Owner, name: Name, who: Anyone, service: ServiceOf) -> dict[str, Any]:
    """List the branches: there is one."""
    head = find(service, who, f"{owner}/{name}").commit
    branch = {"name": MAIN, "ref": f"refs/heads/{MAIN}", "targetCommit": head}
    return {"branches": [branch], "converts": [], "tags": [], "pullRequests": []}


@router.get("/api/models/{owner}/{name}/commits/{revision:path}")
def get_commits(owner: Owner, name: Name, revision: Rest, who: Anyone, service: ServiceOf) -> list[dict[str, Any]]:
    """List the latest hundred commits up to a revision, newest first."""
    with missing("RepoNotFound"):
        repository = service.repositories.get(who, f"{owner}/{name}")
    if repository.head is None:
        return []
    with missing("RevisionNotFound"):
        last = service.repositories.resolve(repository, revision)
    found = service.repositories.commits(repository, before=last.sequence + 1)
    return [
        {
            "id": c.id,
            "title": c.title,
            "message": c.body,
            "authors": [{"user": c.author}],
            "date": time_text(c.created),
        }
        for c in found
    ]


@router.api_route("/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
def get_file_without_owner(name: Name, rest: Rest) -> Response:
    """Refuse a name without an owner."""
    raise Missing("no such model here", "RepoNotFound", remedy="names have the form owner/name", about=name)


@router.api_route("/{owner}/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
async def get_file(owner: Owner, name: Name, rest: Rest, request: Request, who: Anyone, service: ServiceOf) -> Response:
    """Send one file; clients resume with Range."""
    revision, path = split_revision(rest)
    commit, entry, content = await run_in_threadpool(find_file, service, who, f"{owner}/{name}", revision, path)
    headers = {"X-Repo-Commit": commit}
    if content is not None:
        headers |= {"ETag": f'"{entry.oid}"', "Content-Type": "application/json"}
        return Response(content, headers=headers)
    return await blob_response(
        request, service.storage.blobs, entry.sha256, entry.size, etag=etag(entry), headers=headers
    )


def split_revision(rest: str) -> tuple[str, str]:
    """Split ``revision/path``; a revision ``refs/...`` has two slashes."""
    parts = rest.split("/")
    count = 3 if parts[0] == "refs" else 1
    return "/".join(parts[:count]), "/".join(parts[count:])


# -- inside -----------------------------------------------------------------------------------------------


def _model(snapshot: Snapshot, *, blobs: bool) -> dict[str, Any]:
    files: list[dict[str, Any]] = [{"rfilename": p} for p in snapshot.entries]
    if blobs:
        for file, entry in zip(files, snapshot.entries.values(), strict=True):
            known = described(entry)
            file |= {"size": entry.size, "blobId": known["oid"]}
            if "lfs" in known:
                lfs = known["lfs"]
                file["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
    return {
        "_id": hashlib.sha256(snapshot.name.encode()).hexdigest()[:24],
        "id": snapshot.name,
        "modelId": snapshot.name,
        "author": snapshot.name.partition("/")[0],
        "sha": snapshot.commit,
        "private": snapshot.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "createdAt": time_text(snapshot.created),
        "lastModified": time_text(snapshot.changed),
        "tags": _tags(snapshot),
        "siblings": files,
        "learndock": {
            "digest": None if snapshot.record is None else snapshot.record.digest,
            "note": snapshot.note,
        },
    }


def _without_repository(
    service: Service, who: Principal, *, author: str | None, search: str | None, after: str | None
) -> list[Repository]:
    known = service.repositories.standing()
    return [
        Repository(0, r.name, False, 0.0, 0.0, None, r.digest, None)
        for r in service.catalogue.records(who, Filters(owner=author))
        if (key := r.name.casefold()) not in known
        and (not search or search.casefold() in key)
        and (after is None or key > after.casefold())
    ]


def _listed(repository: Repository) -> dict[str, Any]:
    return {
        "_id": hashlib.sha256(repository.name.encode()).hexdigest()[:24],
        "id": repository.name,
        "modelId": repository.name,
        "private": repository.private,
        "downloads": 0,
        "likes": 0,
        "createdAt": time_text(repository.created),
        "lastModified": time_text(repository.changed),
        "tags": ["learnware"] if repository.digest is not None else [],
    }


def _tags(snapshot: Snapshot) -> list[str]:
    if snapshot.record is None or MANIFEST not in snapshot.entries:
        return []
    manifest = snapshot.record.manifest
    found = ["learnware", manifest.format, manifest.task_schema.type]
    return found + ([f"license:{manifest.license.lower()}"] if manifest.license else [])


def _all(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return files and folders by path."""
    found = [described(e) for e in snapshot.entries.values()]
    below: dict[str, list[str]] = {}
    for path, entry in snapshot.entries.items():
        parts = path.split("/")
        for i in range(1, len(parts)):
            below.setdefault("/".join(parts[:i]), []).append(f"{path} {entry.sha256}")
    found += [
        {
            "type": "directory",
            "oid": hashlib.sha1("\n".join(files).encode(), usedforsecurity=False).hexdigest(),
            "size": 0,
            "path": folder,
        }
        for folder, files in below.items()
    ]
    return sorted(found, key=lambda e: str(e["path"]))


def _below(snapshot: Snapshot, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    prefix = f"{folder}/" if folder else ""
    found = [e for e in _all(snapshot) if e["path"].startswith(prefix)]
    if folder and not found:
        raise Missing(
            f"no folder {folder[:200]} at {snapshot.commit[:12]}",
            "EntryNotFound",
            snapshot.commit,
            about=snapshot.name,
        )
    return found if recursive else [e for e in found if "/" not in e["path"][len(prefix) :]]


async def _paths(request: Request, service: Service) -> list[str]:
    """Return the paths of a form or of JSON: clients send either."""
    source = await bodies.read_all(request, service.settings, limit=bodies.LARGE)
    found: Any
    if request.headers.get("content-type", "").startswith("application/json"):
        body = await parsed(source)
        found = body.get("paths") if isinstance(body, dict) else None
    else:
        try:
            found = parse_qs(source.decode(), max_num_fields=MAX_PATHS).get("paths", [])
        except ValueError:
            raise UsageError("the body names no paths", remedy="send paths=... for each") from None
    if not isinstance(found, list) or not all(isinstance(p, str) for p in found):
        raise UsageError("paths is not a list of strings", remedy="send paths=... for each")
    if len(found) > MAX_PATHS:
        raise UsageError(f"more than {MAX_PATHS:,} paths", remedy="ask for fewer at once")
    return found


def _link_next(answer: Response, request: Request, query: dict[str, Any]) -> None:
    service: Service = request.app.state.service
    path = quote(request.url.path, safe="/")
    answer.headers["Link"] = f'<{base(request, service.settings)}{path}?{urlencode(query)}>; rel="next"'
