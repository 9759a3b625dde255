"""Downloading with hub clients: models and trees as JSON, files by HEAD and GET."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from learndock.errors import UsageError
from learndock.http import bodies
from learndock.http.door import parsed
from learndock.http.files import blob_response
from learndock.http.hub.failures import HubRoute, Missing, missing
from learndock.http.hub.listing import basics, link_next, only, properties_of
from learndock.http.hub.snapshot import Snapshot, described, etag, find, find_file, time_text
from learndock.http.principal import Anyone, ServiceOf
from learndock.service.changes import Repository
from learndock.service.metadata import Metadata
from learndock.service.service import Service

router = APIRouter(route_class=HubRoute, include_in_schema=False)
Owner = Annotated[str, Path(max_length=96)]
Name = Annotated[str, Path(max_length=96)]
Rest = Annotated[str, Path(max_length=1024)]
Expand = Annotated[list[str] | None, Query(max_length=50)]
#: Entries of a page of a tree, as clients expect them.
PAGE, EXPANDED_PAGE = 1000, 50
#: Paths that one request may ask about, and bytes of one in a form, where a byte may take three.
MAX_PATHS, MAX_FIELD = 10_000, 4096


@router.get("/api/models/{name}")
def get_model_without_owner(name: Name) -> Response:
    """Refuse a name without an owner."""
    raise Missing("no such model here", "RepoNotFound", remedy="names have the form owner/name", about=name)


@router.get("/api/models/{owner}/{name}")
def get_model(
    owner: Owner, name: Name, who: Anyone, service: ServiceOf, blobs: bool = False, expand: Expand = None
) -> dict[str, Any]:
    """Describe a repository at its head."""
    return _model(service, find(service, who, f"{owner}/{name}"), blobs=blobs, expand=expand)


@router.get("/api/models/{owner}/{name}/revision/{revision:path}")
def get_model_at(
    owner: Owner,
    name: Name,
    revision: Rest,
    who: Anyone,
    service: ServiceOf,
    blobs: bool = False,
    expand: Expand = None,
) -> dict[str, Any]:
    """Describe a repository at a revision."""
    return _model(service, find(service, who, f"{owner}/{name}", revision), blobs=blobs, expand=expand)


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
        link_next(answer, request, {**asked, "cursor": page[size - 1]["path"]}.items())
    return answer


@router.post("/api/models/{owner}/{name}/paths-info/{revision:path}")
async def get_paths(owner: Owner, name: Name, revision: Rest, request: Request, who: Anyone, service: ServiceOf) -> Any:
    """Describe some paths; missing ones are left out."""
    paths = await _paths(request, service)
    snapshot = await run_in_threadpool(find, service, who, f"{owner}/{name}", revision)
    known = {e["path"]: e for e in _all(snapshot)}
    return [known[p] for p in paths if p in known]


@router.get("/api/models/{owner}/{name}/commits/{revision:path}")
def get_commits(owner: Owner, name: Name, revision: Rest, who: Anyone, service: ServiceOf) -> list[dict[str, Any]]:
    """List the latest hundred commits up to a revision, newest first."""
    with missing("RepoNotFound"):
        repository = service.repositories.get(who, f"{owner}/{name}")
    if repository.head is None:
        return []
    with missing("RevisionNotFound"):
        last = service.versions.resolve(repository, revision)
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


def _model(service: Service, snapshot: Snapshot, *, blobs: bool, expand: list[str] | None) -> dict[str, Any]:
    wanted = properties_of(expand)
    files: list[dict[str, Any]] = [{"rfilename": p} for p in snapshot.entries]
    if blobs:
        for file, entry in zip(files, snapshot.entries.values(), strict=True):
            known = described(entry)
            file |= {"size": entry.size, "blobId": known["oid"]}
            if "lfs" in known:
                lfs = known["lfs"]
                file["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
    repository, card = snapshot.repository, Metadata()
    if repository is not None:
        card = service.cards.of([repository])[repository.id]
    elif snapshot.record is not None:
        card = service.cards.of_record(snapshot.record)
    shown = repository or Repository(0, snapshot.name, snapshot.private, 0.0, 0.0, None, None, None)
    model = basics(shown, card) | {"sha": snapshot.commit, "siblings": files}
    told = {
        "digest": None if snapshot.record is None else snapshot.record.digest,
        "note": snapshot.note,
        "card": card.problem,
        "left_out": [] if repository is None else service.cards.left_out(repository),
    }
    return only(model, wanted) if wanted else model | {"learndock": told}


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


def _of_form(source: bytes) -> list[str]:
    """Return the paths of a form.

    Raises:
        ValueError: it has too many fields, one that is longer than any path, or is not UTF-8.
    """
    if any(len(field) > MAX_FIELD for field in source.split(b"&", MAX_PATHS)):
        raise ValueError("a field is too long")
    return parse_qs(source.decode(), max_num_fields=MAX_PATHS).get("paths", [])


async def _paths(request: Request, service: Service) -> list[str]:
    """Return the paths of a form or of JSON: clients send either."""
    source = await bodies.read_all(request, service.settings, limit=bodies.LARGE)
    found: Any
    if request.headers.get("content-type", "").startswith("application/json"):
        body = await parsed(source)
        found = body.get("paths") if isinstance(body, dict) else None
    else:
        try:
            found = await run_in_threadpool(_of_form, source)
        except ValueError:
            raise UsageError("the body names no paths", remedy="send paths=... for each") from None
    if not isinstance(found, list) or not all(isinstance(p, str) for p in found):
        raise UsageError("paths is not a list of strings", remedy="send paths=... for each")
    if len(found) > MAX_PATHS:
        raise UsageError(f"more than {MAX_PATHS:,} paths", remedy="ask for fewer at once")
    return found
