"""What hub clients can ask for and a dock does not have: each question is refused with what to do instead.

Without these routes a client shows a bare 404, and its user looks for a mistake in the name.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from learndock.errors import UsageError
from learndock.http.hub.download import Name, Owner
from learndock.http.hub.failures import HubRoute, Missing
from learndock.http.hub.snapshot import find
from learndock.http.principal import Anyone, ServiceOf, Writer
from learndock.service.repositories import MAIN

router = APIRouter(route_class=HubRoute, include_in_schema=False)

_EVERY = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_ELSEWHERE = "keep them elsewhere, and name them in the model's card"
#: First part of an address -> what the dock does not have, and what to do.
NOT_HERE: dict[str, tuple[str, str]] = {
    "buckets": ("this dock keeps models only, no buckets", "upload to a model's repository"),
    "collections": ("there are no collections here", "give the models a common tag in their cards, and filter by it"),
    "daily_papers": ("there are no papers here", "name them in the model's card"),
    "datasets": ("this dock keeps models only, no data sets", _ELSEWHERE),
    "datasets-tags-by-type": ("this dock keeps models only, no data sets", _ELSEWHERE),
    "inference-proxy": ("nothing is run here", "download the model and run it"),
    "jobs": ("nothing is run here", "download the model and run it"),
    "kernels": ("this dock keeps models only, no kernels", "use models that need none"),
    "models-tags-by-type": ("there is no list of all tags", "list models and look at their tags"),
    "organizations": ("there are no profiles here", "list models by author"),
    "papers": ("there are no papers here", "name them in the model's card"),
    "resolve-cache": ("there is no such cache here", "download from the model's repository"),
    "scheduled-jobs": ("nothing is run here", "download the model and run it"),
    "settings": ("there are no settings of people and no webhooks here", "list your models by author"),
    "spaces": ("this dock keeps models only, no apps", "run the app elsewhere, with HF_ENDPOINT set to this dock"),
    "users": ("there are no profiles here", "list models by author"),
}
#: What follows a model's name -> what the dock does not have, and what to do.
NOT_OF_A_MODEL: dict[str, tuple[str, str]] = {
    "branch": (f"there is one branch here, {MAIN}", f"commit to {MAIN}"),
    "discussions": ("there are no discussions and no pull requests here", f"write to the owner, or commit to {MAIN}"),
    "duplicate": ("a dock makes no copies of a model", "download it, then upload it under your name"),
    "lfs-files": ("large files are not listed or deleted apart from commits", "delete the file in a commit"),
    "like": ("there are no likes here", "nothing needs them"),
    "likers": ("there are no likes here", "nothing needs them"),
    "resource-group": ("there are no resource groups here", "make the model private, or give it to an organisation"),
    "super-squash": ("history is kept here", "delete the model's repository to be rid of its history"),
    "user-access-request": ("there are no requests for access here", "make the model public or private"),
}


@router.get("/api/models/{owner}/{name}/auth-check")
def auth_check(owner: Owner, name: Name, who: Anyone, service: ServiceOf) -> dict[str, Any]:
    """Say whether the model may be read."""
    find(service, who, f"{owner}/{name}")
    return {"status": "ok"}


@router.get("/api/models/{owner}/{name}/auth-check/write")
def auth_check_write(owner: Owner, name: Name, who: Writer, service: ServiceOf) -> dict[str, Any]:
    """Say whether the model may be changed."""
    find(service, who, f"{owner}/{name}")
    service.repositories.get(who, f"{owner}/{name}", write=True)
    return {"status": "ok"}


def _add_kind(kind: str, message: str, remedy: str) -> None:
    def refuse() -> None:
        raise UsageError(message, remedy=remedy)

    def refuse_one(owner: Owner, name: Name) -> None:
        # One that is named is reported as missing, so that the client raises the error for that.
        raise Missing(message, "RepoNotFound", remedy=remedy, about=f"{owner}/{name}")

    if kind in ("datasets", "spaces", "kernels", "buckets"):
        router.add_api_route(f"/api/{kind}/{{owner}}/{{name}}", refuse_one, methods=_EVERY)
        router.add_api_route(f"/api/{kind}/{{owner}}/{{name}}/{{rest:path}}", refuse_one, methods=_EVERY)
        router.add_api_route(f"/{kind}/{{owner}}/{{name}}/{{rest:path}}", refuse_one, methods=[*_EVERY, "HEAD"])
    router.add_api_route(f"/api/{kind}", refuse, methods=_EVERY)
    router.add_api_route(f"/api/{kind}/{{rest:path}}", refuse, methods=_EVERY)


def _add_part(part: str, message: str, remedy: str) -> None:
    def refuse(owner: Owner, name: Name, who: Anyone, service: ServiceOf) -> None:
        find(service, who, f"{owner}/{name}")
        raise UsageError(message, remedy=remedy, about=f"{owner}/{name}")

    router.add_api_route(f"/api/models/{{owner}}/{{name}}/{part}", refuse, methods=_EVERY)
    router.add_api_route(f"/api/models/{{owner}}/{{name}}/{part}/{{rest:path}}", refuse, methods=_EVERY)


for _kind, _told in NOT_HERE.items():
    _add_kind(_kind, *_told)
for _part, _told in NOT_OF_A_MODEL.items():
    _add_part(_part, *_told)
