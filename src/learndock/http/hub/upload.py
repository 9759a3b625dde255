"""Uploading with hub clients: whoami, repositories, how to send each file, and the commit."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from learndock.errors import Conflict, NotFound, UsageError
from learndock.http import bodies
from learndock.http.door import with_limit
from learndock.http.hub import addresses
from learndock.http.hub.download import Name, Owner, Rest
from learndock.http.hub.failures import HubRoute, Missing, body_of, header_text, missing
from learndock.http.hub.ndjson import Line, Spool
from learndock.http.hub.snapshot import EMPTY, LARGE, etag, find, is_large
from learndock.http.principal import Anyone, Reader, ServiceOf, Writer
from learndock.http.routes.uploads import ANY
from learndock.service.changes import Changes
from learndock.service.left_out import is_training_state, said_of_left_out
from learndock.service.metadata import front_matter
from learndock.service.principal import Principal
from learndock.service.receiver import Blob
from learndock.service.repositories import MAIN
from learndock.service.service import Committed, Service

router = APIRouter(route_class=HubRoute, include_in_schema=False)


class _Asked(BaseModel):
    """A body of a hub client; fields that mean nothing here are ignored."""

    model_config = ConfigDict(extra="ignore")


class _Creation(_Asked):
    name: str = Field(max_length=200)
    organization: str | None = Field(default=None, max_length=96)
    type: str | None = None
    private: bool | None = None
    visibility: str | None = None


class _Deletion(_Asked):
    name: str = Field(max_length=200)
    organization: str | None = Field(default=None, max_length=96)
    type: str | None = None


class _Move(_Asked):
    fromRepo: str = Field(max_length=200)  # noqa: N815  # as the client calls it
    toRepo: str = Field(max_length=200)  # noqa: N815
    type: str | None = None


class _Settings(_Asked):
    private: bool | None = None
    visibility: str | None = None


class _File(_Asked):
    path: str = Field(max_length=1024)
    size: int = Field(ge=0, le=1 << 62)


class _Preupload(_Asked):
    files: Annotated[list[_File], Field(max_length=10_000)]


@router.get("/api/whoami-v2")
def whoami(who: Reader, service: ServiceOf) -> dict[str, Any]:
    """Say whose token it is, and their organisations."""
    return {
        "type": "user",
        "id": str(who.id),
        "name": who.name,
        "fullname": who.name,
        "orgs": [{"type": "org", "name": name, "roleInOrg": role} for name, role in service.people.organisations(who)],
        "auth": {
            "type": "access_token",
            "accessToken": {"displayName": str(who.token), "role": "read" if who.scope == "read" else "write"},
        },
    }


@router.post("/api/repos/create")
def create(asked: _Creation, request: Request, who: Writer, service: ServiceOf) -> Response:
    """Make a repository; if there is one, the answer says where."""
    _only_models(asked.type)
    name = _named(asked.name, asked.organization, who)
    private = bool(asked.private) or asked.visibility in ("private", "protected")
    try:
        found = service.repositories.create(who, name, private=private).name
    except Conflict as error:
        # The address is derived from the request, so it reveals nothing about a private repository.
        answer = body_of(error) | {"url": f"{addresses.base(request, service.settings)}/{name}"}
        return JSONResponse(answer, 409, {"X-Error-Message": "there is such a repository already"})
    except NotFound as error:
        raise Missing(error.message, "RepoNotFound", remedy=error.remedy, about=error.about) from None
    return JSONResponse({"url": f"{addresses.base(request, service.settings)}/{found}", "name": found, "id": found})


@router.post("/api/repos/move")
def move(asked: _Move, request: Request, who: Writer, service: ServiceOf) -> dict[str, Any]:
    """Give a repository and its learnware another name or owner; the old name leads to the new one."""
    _only_models(asked.type)
    with missing("RepoNotFound"):
        found = service.moves.move(who, asked.fromRepo, asked.toRepo)
    return {"url": f"{addresses.base(request, service.settings)}/{found.name}"}


@router.delete("/api/repos/delete")
def delete(asked: _Deletion, who: Writer, service: ServiceOf) -> dict[str, Any]:
    """Delete a repository and its learnware."""
    _only_models(asked.type)
    with missing("RepoNotFound"):
        service.delete(who, _named(asked.name, asked.organization, who))
    return {}


@router.put("/api/models/{owner}/{name}/settings")
def settings(owner: Owner, name: Name, asked: _Settings, who: Writer, service: ServiceOf) -> dict[str, Any]:
    """Make a repository public or private."""
    private = asked.private if asked.visibility is None else asked.visibility != "public"
    if private is None:
        raise UsageError("only a repository's visibility can be set here", remedy="send private or visibility")
    with missing("RepoNotFound"):
        found = service.repositories.set_private(who, f"{owner}/{name}", private)
    return {"private": found.private}


@router.post("/api/validate-yaml")
async def validate_yaml(request: Request, who: Anyone, service: ServiceOf) -> Response:
    """Say whether the front matter of a card can be read; newer clients send the card as JSON, older ones as a form."""
    source = await bodies.read_all(request, service.settings, limit=bodies.LARGE)
    return await run_in_threadpool(_validated, source, request.headers.get("content-type", ""))


@router.post("/api/models/{owner}/{name}/preupload/{revision:path}")
@with_limit(bodies.LARGE)
def preupload(
    owner: Owner, name: Name, revision: Rest, asked: _Preupload, request: Request, who: Writer, service: ServiceOf
) -> Response:
    """Say how to send each file: small ones in the commit, large ones as LFS objects before it, some not at all."""
    _check_branch(request, revision)
    with missing("RepoNotFound"):
        repository = service.repositories.get(who, f"{owner}/{name}", write=True)
    entries = find(service, who, f"{owner}/{name}").entries
    wanted = [f.path for f in asked.files if not is_training_state(f.path)]
    service.announced.check(who.token, f"{owner}/{name}", entries, wanted)
    files = [
        {
            "path": f.path,
            "uploadMode": "lfs" if is_large(f.size) else "regular",
            "shouldIgnore": is_training_state(f.path),
            "oid": etag(entries[f.path]) if f.path in entries else None,
        }
        for f in asked.files
    ]
    answer = JSONResponse({"files": files})
    left_out = [str(f["path"]) for f in files if f["shouldIgnore"]]
    if left_out:
        service.cards.leave_out(repository, left_out)
        answer.headers["X-HF-Warning"] = header_text(f"learndock-left-out; {said_of_left_out(left_out)}")
    return answer


@router.post("/api/models/{owner}/{name}/commit/{revision:path}", max_body_size=ANY)
async def commit(
    owner: Owner, name: Name, revision: Rest, request: Request, who: Writer, service: ServiceOf
) -> dict[str, Any]:
    """Commit all changes or none. If the files are a learnware, it is published."""
    _check_branch(request, revision)

    def room() -> int:
        with missing("RepoNotFound"):
            service.repositories.get(who, f"{owner}/{name}", write=True)
        return service.holdings.room(who)

    # What the owner may still keep, in base64, and the lines around it.
    limit = await run_in_threadpool(room) * 4 // 3 + service.settings.max_request
    with Spool(service.uploads.folder, limit=limit) as spool:
        await bodies.pass_on(request, service.settings, spool.write)
        done = await run_in_threadpool(_commit, service, who, f"{owner}/{name}", spool)
    root = addresses.base(request, service.settings)
    return {
        "success": True,
        "commitOid": done.commit.id,
        "commitUrl": f"{root}/{done.repository.name}/commit/{done.commit.id}",
        "hookOutput": "",
        "learndock": {
            "digest": None if done.record is None else done.record.digest,
            "note": done.repository.note,
            "left_out": await run_in_threadpool(service.cards.left_out, done.repository),
        },
    }


# -- inside -----------------------------------------------------------------------------------------------


def _validated(source: bytes, kind: str) -> Response:
    try:
        content = json.loads(source)["content"] if kind.startswith("application/json") else _of_form(source)
        front_matter(content.encode())
    except (KeyError, TypeError, AttributeError, RecursionError, UnicodeError, json.JSONDecodeError):
        return JSONResponse({"errors": [{"message": "the request has no content"}], "warnings": []}, 400)
    except ValueError as error:
        return JSONResponse({"errors": [{"message": f"README.md: {error}"}], "warnings": []}, 400)
    return JSONResponse({"errors": [], "warnings": []})


def _of_form(source: bytes) -> str:
    return parse_qs(source.decode(), max_num_fields=20)["content"][0]


def _only_models(kind: str | None) -> None:
    if kind not in (None, "model"):
        raise UsageError("this dock keeps models only", remedy="leave the repository's type out", about=kind[:20])


def _named(name: str, organization: str | None, who: Principal) -> str:
    return name if "/" in name else f"{organization or who.name}/{name}"


def _check_branch(request: Request, revision: str) -> None:
    if revision not in (MAIN, f"refs/heads/{MAIN}"):
        raise Missing("there is one branch here", "RevisionNotFound", remedy=f"commit to {MAIN}", about=revision[:80])
    if request.query_params.get("create_pr"):
        raise UsageError("there are no pull requests here", remedy=f"commit to {MAIN}")


def _commit(service: Service, who: Principal, name: str, spool: Spool) -> Committed:
    header: dict[str, Any] = {}
    add: dict[str, Blob] = {}
    large: dict[str, str] = {}
    delete: list[str] = []
    folders: list[str] = []
    with service.intake.open(who) as arrived, spool.lines(limit=4 * service.settings.max_files + 1) as lines:
        for line in lines:
            if line.key == "header":
                header = line.value
            elif line.key == "file":
                if line.size > LARGE:
                    raise UsageError(
                        f"{line.size} bytes",
                        remedy=f"send files above {LARGE} bytes as LFS objects",
                        about=_path(line)[:200],
                    )
                add[_path(line)] = arrived.take(line.size, line.pieces)
            elif line.key == "lfsFile":
                large[_path(line)] = str(line.value.get("oid", ""))
            elif line.key == "deletedFile":
                delete.append(_path(line))
            elif line.key == "deletedFolder":
                folders.append(_path(line).rstrip("/"))
            else:
                raise UsageError(f"{line.key[:40]!r} is not a known change", remedy="send files and deletions")
        arrived.keep()
    found = service.holdings.find(who, set(large.values()))
    add |= {path: found[sha256] for path, sha256 in large.items()}
    parent = header.get("parentCommit")
    changes = Changes(add=add, delete=[p for p in delete if p not in add], delete_folders=folders)
    return service.commit(
        who,
        name,
        changes,
        title=str(header.get("summary") or "Upload"),
        body=str(header.get("description") or ""),
        parent=str(parent) if parent and parent != EMPTY else None,
    )


def _path(line: Line) -> str:
    found = line.value.get("path")
    if not isinstance(found, str) or not found:
        raise UsageError(f"a line {line.key!r} without a path")
    return found
