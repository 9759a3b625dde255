"""Who may what with hub clients: every route of their protocol by every kind of credential."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from learndock.http.hub import download, lfs, listing, refs, upload, xet
from learndock.service.people import digest
from learndock.service.tables import tokens
from tests.support.docking import make_learnware
from tests.support.serving import Site, served

ID = "/api/models/{owner}/{name}"
XET = "/api/xet/{space}"
OBJECT = {"oid": "ab" * 32, "size": 3}
#: Route -> what its token must reach: "" for whoever (but no token that does not hold), None where none is looked at;
#: its body; and the status for the owner of the private repository that is asked for.
ROUTES: dict[tuple[str, str], tuple[str | None, Any, int]] = {
    ("GET", "/api/models"): ("", None, 200),
    ("GET", "/api/models/{name}"): (None, None, 404),
    ("GET", ID): ("", None, 200),
    ("GET", f"{ID}/revision/{{revision}}"): ("", None, 200),
    ("GET", f"{ID}/tree/{{rest}}"): ("", None, 200),
    ("POST", f"{ID}/paths-info/{{revision}}"): ("", {"paths": ["config.json"]}, 200),
    ("GET", f"{ID}/refs"): ("", None, 200),
    ("POST", f"{ID}/tag/{{revision}}"): ("write", {"tag": "v1"}, 409),
    ("DELETE", f"{ID}/tag/{{tag}}"): ("write", None, 404),
    ("GET", f"{ID}/commits/{{revision}}"): ("", None, 200),
    ("GET", "/{name}/resolve/{rest}"): (None, None, 404),
    ("HEAD", "/{name}/resolve/{rest}"): (None, None, 404),
    ("GET", "/{owner}/{name}/resolve/{rest}"): ("", None, 200),
    ("HEAD", "/{owner}/{name}/resolve/{rest}"): ("", None, 200),
    ("GET", "/api/whoami-v2"): ("read", None, 200),
    ("POST", "/api/repos/create"): ("write", {"name": "ada/mine"}, 409),
    ("POST", "/api/repos/move"): ("write", {"fromRepo": "ada/mine", "toRepo": "ada/mine"}, 200),
    ("DELETE", "/api/repos/delete"): ("write", {"name": "ada/mine"}, 200),
    ("PUT", f"{ID}/settings"): ("write", {"private": True}, 200),
    ("POST", "/api/validate-yaml"): ("", {"content": "x"}, 200),
    ("POST", f"{ID}/preupload/{{revision}}"): ("write", {"files": []}, 200),
    ("POST", f"{ID}/commit/{{revision}}"): ("write", b'{"key": "header", "value": {}}\n', 200),
    ("POST", "/{owner}/{name}.git/info/lfs/objects/batch"): ("write", {"objects": [OBJECT]}, 200),
    ("POST", "/{owner}/{name}.git/info/lfs/verify"): ("write", OBJECT, 404),
    # Signed addresses (see ``test_hub``), and what holds for all.
    ("PUT", "/api/lfs/{upload}"): (None, b"x", 400),
    ("POST", "/api/lfs/{upload}"): (None, None, 400),
    ("GET", f"{ID}/xet-write-token/{{revision}}"): ("write", None, 200),
    ("GET", f"{ID}/xet-read-token/{{revision}}"): ("read", None, 400),
    # With a token of their own (see ``test_xet``).
    ("POST", f"{XET}/v1/xorbs/default/{{xorb}}"): (None, b"x", 401),
    ("HEAD", f"{XET}/v1/xorbs/default/{{xorb}}"): (None, None, 401),
    ("GET", f"{XET}/v1/chunks/{{prefix}}/{{chunk}}"): (None, None, 401),
    ("GET", f"{XET}/refused/{{why}}"): (None, None, 413),
    ("POST", f"{XET}/shards"): (None, b"x", 401),
    ("POST", f"{XET}/v1/shards"): (None, b"x", 401),
    ("POST", f"{XET}/v2/shards"): (None, b"x", 401),
}
#: Asked for last: nothing is there any more.
LAST = ("DELETE", "/api/repos/delete")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("hub-access")
    with served(place / "dock") as site:
        ada = site.token("ada")
        assert site.publish(make_learnware(place / "mine", "ada/mine"), ada, private=True).status == 201
        yield site


def ask(site: Site, route: tuple[str, str], token: str | None) -> Any:
    method, path = route
    rest = "main" if "/tree/" in path else "main/config.json"
    values = {"owner": "ada", "name": "mine", "revision": "main", "rest": rest, "upload": "0" * 32, "space": "0" * 16}
    xet = {"xorb": "0" * 64, "chunk": "0" * 64, "prefix": "default-merkledb", "why": "x"}
    for name, value in {**values, **xet}.items():
        path = path.replace("{" + name + "}", value)
    return site.ask(method, path, ROUTES[route][1], token=token)


def refused(answer: Any, *statuses: int) -> None:
    assert answer.status in statuses, answer
    assert "x-error-message" in answer.headers
    if answer.body:
        assert set(answer.body) >= {"error", "code", "message", "remedy"}


def test_every_route_has_its_line() -> None:
    found = {
        (method, route.path.replace(":path}", "}"))
        for part in (upload, lfs, xet, listing, refs, download)
        for route in part.router.routes
        for method in route.methods
    }
    assert found == set(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_who_may_not(site: Site, route: tuple[str, str]) -> None:
    needs, _, status = ROUTES[route]
    if needs is None:
        assert ask(site, route, None).status == ask(site, route, "ldk_nonsense").status == status
        return
    refused(ask(site, route, "ldk_nonsense"), 401)
    expired = str(site.service.people.make_token(site.principal("ada"), name="old", scope="write").secret)
    with site.service.database.write() as connection:
        connection.execute(
            update(tokens).where(tokens.c.hash == digest(expired)).values(expires=time.time() - 1)
        )  # fmt: skip
    refused(ask(site, route, expired), 401)
    of_ada = "{owner}" in route[1] or (isinstance(ROUTES[route][1], dict) and "name" in ROUTES[route][1])
    if needs:
        refused(ask(site, route, None), 401)
    elif of_ada:
        refused(ask(site, route, None), 404)
    if needs == "write":
        refused(ask(site, route, site.token("ada", "read")), 403)
    if of_ada:
        answer = ask(site, route, site.token("bob"))
        refused(answer, 404)
        assert answer.headers["x-error-code"] == "RepoNotFound"


@pytest.mark.parametrize("route", sorted(ROUTES, key=lambda r: r == LAST), ids=" ".join)
def test_who_may(site: Site, route: tuple[str, str]) -> None:
    assert ask(site, route, site.token("ada")).status == ROUTES[route][2]


def test_a_path_is_a_path(site: Site, tmp_path: Path) -> None:
    """Paths that lead out, by every way of writing them: there is no such file, and nothing else happens."""
    site.publish(make_learnware(tmp_path / "open", "ada/open"), site.token("ada"))
    for path in ("../../../dock.json", "..%2f..%2fdock.json", "%2e%2e/%2e%2e/service.sqlite", "/etc/passwd",
                 "learnware.json/x", "%ff", "x" * 900, ".git/config"):  # fmt: skip
        answer = site.get(f"/ada/open/resolve/main/{path}")
        assert (answer.status, answer.headers.get("x-error-code")) == (404, "EntryNotFound"), path
    for revision in ("%2e%2e", "refs%2fpr%2f1", "' OR 1", "%25", "0" * 41, "0" * 6):
        answer = site.get(f"/api/models/ada/open/revision/{revision}".replace(" ", "%20"))
        assert (answer.status, answer.headers.get("x-error-code")) == (404, "RevisionNotFound"), revision
