"""Branches and tags as hub clients see them: one branch, and the tags of a learnware's versions.

main       the version tagged latest
v1, v2     its versions, by number
others     the owner's own tags, which create_tag and delete_tag set and remove
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from learndock.errors import Conflict, UsageError
from learndock.http.hub.download import Name, Owner, Rest
from learndock.http.hub.failures import HubRoute, Missing, missing
from learndock.http.hub.snapshot import find
from learndock.http.principal import Anyone, ServiceOf, Writer
from learndock.service.changes import Repository
from learndock.service.principal import Principal
from learndock.service.repositories import MAIN
from learndock.service.service import Service

router = APIRouter(route_class=HubRoute, include_in_schema=False)
Tag = Annotated[str, Path(max_length=200)]


class _Tagging(BaseModel):
    """The body of create_tag; its message is not kept."""

    model_config = ConfigDict(extra="ignore")
    tag: str = Field(max_length=200)


@router.get("/api/models/{owner}/{name}/refs")
def get_refs(owner: Owner, name: Name, who: Anyone, service: ServiceOf) -> dict[str, Any]:
    """List the branch, and the tags of the versions."""
    snapshot = find(service, who, f"{owner}/{name}")
    branch = {"name": MAIN, "ref": f"refs/heads/{MAIN}", "targetCommit": snapshot.commit}
    known = {} if snapshot.repository is None else service.versions.refs(snapshot.repository)
    tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": commit} for tag, commit in sorted(known.items())]
    return {"branches": [branch], "converts": [], "tags": tags, "pullRequests": []}


@router.post("/api/models/{owner}/{name}/tag/{revision:path}")
def create_tag(
    owner: Owner, name: Name, revision: Rest, asked: _Tagging, who: Writer, service: ServiceOf
) -> dict[str, Any]:
    """Tag the version that a revision is."""
    repository = _learnware(service, who, f"{owner}/{name}")
    with missing("RevisionNotFound"):
        commit = service.versions.resolve(repository, revision)
    if commit.digest is None:
        raise UsageError(
            f"commit {commit.id[:12]} is not a version of the learnware",
            remedy=f"tag {MAIN} or a version such as v1",
            about=repository.name,
        )
    if asked.tag in service.versions.refs(repository):
        raise Conflict("there is such a tag", remedy="delete it first, or choose another", about=asked.tag[:80])
    service.versions.tag(who, f"{repository.name}@{commit.digest}", asked.tag)
    return {"name": asked.tag, "targetCommit": commit.id}


@router.delete("/api/models/{owner}/{name}/tag/{tag:path}")
def delete_tag(owner: Owner, name: Name, tag: Tag, who: Writer, service: ServiceOf) -> dict[str, Any]:
    """Remove a tag from the version that has it."""
    repository = _learnware(service, who, f"{owner}/{name}")
    if tag not in service.versions.refs(repository):
        raise Missing("there is no such tag", "RevisionNotFound", remedy="list its refs", about=tag[:80])
    service.versions.untag(who, repository.name, tag)
    return {}


def _learnware(service: Service, who: Principal, name: str) -> Repository:
    with missing("RepoNotFound"):
        repository = service.repositories.get(who, name, write=True)
    if repository.digest is None:
        raise UsageError(
            "tags are for versions of a learnware, and this is a plain model",
            remedy="name a commit by its id",
            about=repository.name,
        )
    return repository
