"""Repositories: files under a name that change by commits."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from learndock.http.bodies import LARGE
from learndock.http.door import DoorRoute, with_limit
from learndock.http.files import blob_response
from learndock.http.principal import Anyone, ServiceOf, Writer
from learndock.http.routes import PREFIX
from learndock.http.routes.learnwares import Name, Owner
from learndock.http.schemas import FAILURES, BaseSchema, CommitSchema, FileSchema, RepositorySchema
from learndock.service.changes import Changes, Entry
from learndock.service.principal import Principal
from learndock.service.service import Service

router = APIRouter(prefix=PREFIX, route_class=DoorRoute, tags=["repositories"], responses=FAILURES)
Revision = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]


class RepositoryPage(BaseSchema):
    """Repositories by name; ``next`` is the ``after`` of the next page, or null."""

    repositories: list[RepositorySchema]
    next: str | None


class Creation(BaseSchema):
    """A repository to make."""

    name: str = Field(max_length=200)
    private: bool = False


class Privacy(BaseSchema):
    """Whether only the owner may see it."""

    private: bool


class Move(BaseSchema):
    """The new name, ``owner/name``."""

    to: str = Field(max_length=200)


class CommitRequest(BaseSchema):
    """What a commit changes: ``add`` is path -> SHA-256 of an uploaded file, ``delete`` is a list of paths."""

    title: str = Field(max_length=500)
    body: str = Field(default="", max_length=20_000)
    parent: str | None = Field(default=None, pattern=r"^[0-9a-f]{7,40}$")
    add: dict[str, str] = Field(default_factory=dict, max_length=10_000)
    delete: list[str] = Field(default_factory=list, max_length=10_000)


class CommittedSchema(BaseSchema):
    """A commit, and the repository after it."""

    commit: CommitSchema
    repository: RepositorySchema


class Commits(BaseSchema):
    """Commits, newest first."""

    commits: list[CommitSchema]


class Tree(BaseSchema):
    """The files of a commit."""

    commit: str
    files: list[FileSchema]


@router.get("/repositories")
def list_repositories(
    who: Anyone,
    service: ServiceOf,
    owner: Annotated[str | None, Query(max_length=96)] = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> RepositoryPage:
    """List the repositories that you may see."""
    place = None if after is None else (0.0, after)
    words = [search] if search else []
    found = service.repositories.find(who, owner=owner, search=words, after=place, limit=limit + 1)
    page = found[:limit]
    return RepositoryPage(
        repositories=[RepositorySchema.of(r) for r in page], next=page[-1].name if len(found) > limit else None
    )


@router.post("/repositories", status_code=201)
def create_repository(asked: Creation, who: Writer, service: ServiceOf) -> RepositorySchema:
    """Make an empty repository."""
    return RepositorySchema.of(service.repositories.create(who, asked.name, private=asked.private))


@router.get("/repositories/{owner}/{name}")
def get_repository(owner: Owner, name: Name, who: Anyone, service: ServiceOf) -> RepositorySchema:
    """Return one repository."""
    return RepositorySchema.of(service.repositories.get(who, f"{owner}/{name}"))


@router.patch("/repositories/{owner}/{name}")
def set_privacy(owner: Owner, name: Name, asked: Privacy, who: Writer, service: ServiceOf) -> RepositorySchema:
    """Make a repository public or private."""
    found = service.storage.reserve.spending(
        lambda: service.repositories.set_private(who, f"{owner}/{name}", asked.private)
    )
    return RepositorySchema.of(found)


@router.post("/repositories/{owner}/{name}/move")
def move_repository(owner: Owner, name: Name, asked: Move, who: Writer, service: ServiceOf) -> RepositorySchema:
    """Give a repository and its learnware another name or owner; the old name leads to the new one."""
    return RepositorySchema.of(service.moves.move(who, f"{owner}/{name}", asked.to))


@router.delete("/repositories/{owner}/{name}", status_code=204)
def delete_repository(owner: Owner, name: Name, who: Writer, service: ServiceOf) -> None:
    """Delete a repository and its learnware; a later one of that name is the next version."""
    service.delete(who, f"{owner}/{name}")


@router.post("/repositories/{owner}/{name}/commits", status_code=201)
@with_limit(LARGE)
def commit(owner: Owner, name: Name, asked: CommitRequest, who: Writer, service: ServiceOf) -> CommittedSchema:
    """Commit all changes or none. If the files are a learnware, it is published."""
    blobs = service.holdings.find(who, set(asked.add.values()))
    add = {path: blobs[sha256] for path, sha256 in asked.add.items()}
    done = service.commit(
        who,
        f"{owner}/{name}",
        Changes(add=add, delete=asked.delete),
        title=asked.title,
        body=asked.body,
        parent=asked.parent,
    )
    return CommittedSchema(commit=CommitSchema.of(done.commit), repository=RepositorySchema.of(done.repository))


@router.get("/repositories/{owner}/{name}/commits")
def list_commits(
    owner: Owner, name: Name, who: Anyone, service: ServiceOf, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Commits:
    """Commits, newest first."""
    repository = service.repositories.get(who, f"{owner}/{name}")
    return Commits(commits=[CommitSchema.of(c) for c in service.repositories.commits(repository, limit=limit)])


@router.get("/repositories/{owner}/{name}/tree/{revision}")
def get_tree(owner: Owner, name: Name, revision: Revision, who: Anyone, service: ServiceOf) -> Tree:
    """List the files of a commit: ``main``, at least 7 digits of its id, or a tag of the learnware such as ``v2``."""
    repository = service.repositories.get(who, f"{owner}/{name}")
    found = service.versions.resolve(repository, revision)
    return Tree(commit=found.id, files=[FileSchema.of(e) for e in service.repositories.tree(found).values()])


@router.get("/repositories/{owner}/{name}/files/{revision}/{path:path}", response_class=Response)
async def get_repository_file(
    owner: Owner,
    name: Name,
    revision: Revision,
    path: Annotated[str, Path(min_length=1, max_length=512)],
    request: Request,
    who: Anyone,
    service: ServiceOf,
) -> Response:
    """Download one file of a commit; Range is supported."""
    found = await run_in_threadpool(_file, service, who, f"{owner}/{name}", revision, path)
    return await blob_response(request, service.storage.blobs, found.sha256, found.size, etag=found.sha256)


def _file(service: Service, who: Principal, name: str, revision: str, path: str) -> Entry:
    repository = service.repositories.get(who, name)
    return service.repositories.file(service.versions.resolve(repository, revision), path)
