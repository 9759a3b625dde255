"""Who may what: every route of the description by every kind of credential, tenants apart, queries without trace."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from learndock.package.manifest import Manifest
from learndock.service.people import digest
from learndock.service.tables import tokens
from learndock.spec.file import spec_to_bytes
from tests.support.docking import make_learnware, make_spec
from tests.support.serving import Site, served

API = "/api/v1"
SPEC = spec_to_bytes(make_spec(np.random.default_rng(3), kind="task"))
SHA = "ab" * 32
UPLOAD = "0" * 32

#: Route -> what its token must reach: None for nobody's, "" for whoever (but no token that does not hold).
NEEDS: dict[tuple[str, str], str | None] = {
    ("GET", "/health"): None,
    ("GET", "/ready"): None,
    ("GET", "/metrics"): None,
    ("POST", "/tokens/exchange"): None,
    ("GET", "/learnwares"): "",
    ("POST", "/learnwares"): "write",
    ("POST", "/learnwares/inline"): "write",
    ("GET", "/learnwares/{owner}/{name}"): "",
    ("GET", "/learnwares/{owner}/{name}/versions"): "",
    ("DELETE", "/learnwares/{owner}/{name}"): "write",
    ("DELETE", "/learnwares/{owner}/{name}/versions/{version}"): "write",
    ("PUT", "/learnwares/{owner}/{name}/tags/{tag}"): "write",
    ("GET", "/learnwares/{owner}/{name}/card"): "",
    ("PATCH", "/learnwares/{owner}/{name}"): "write",
    ("PUT", "/learnwares/{owner}/{name}/deprecation"): "write",
    ("DELETE", "/learnwares/{owner}/{name}/deprecation"): "write",
    ("DELETE", "/learnwares/{owner}/{name}/tags/{tag}"): "write",
    ("GET", "/learnwares/{owner}/{name}/files/{path}"): "",
    ("GET", "/learnwares/{owner}/{name}/specs/{space_id}"): "",
    ("GET", "/repositories"): "",
    ("POST", "/repositories"): "write",
    ("GET", "/repositories/{owner}/{name}"): "",
    ("PATCH", "/repositories/{owner}/{name}"): "write",
    ("DELETE", "/repositories/{owner}/{name}"): "write",
    ("POST", "/repositories/{owner}/{name}/move"): "write",
    ("GET", "/repositories/{owner}/{name}/commits"): "",
    ("POST", "/repositories/{owner}/{name}/commits"): "write",
    ("GET", "/repositories/{owner}/{name}/tree/{revision}"): "",
    ("GET", "/repositories/{owner}/{name}/files/{revision}/{path}"): "",
    ("GET", "/uploads"): "write",
    ("POST", "/uploads"): "write",
    ("GET", "/uploads/{upload}"): "write",
    ("PATCH", "/uploads/{upload}"): "write",
    ("DELETE", "/uploads/{upload}"): "write",
    ("PUT", "/uploads/{upload}/parts/{number}"): "write",
    ("POST", "/uploads/{upload}/complete"): "write",
    ("POST", "/identify"): "",
    ("POST", "/route"): "",
    ("GET", "/spaces"): "",
    ("GET", "/whoami"): "",
    ("GET", "/tokens"): "read",
    ("POST", "/tokens"): "write",
    ("DELETE", "/tokens/{token}"): "write",
    ("GET", "/users"): "operator",
    ("POST", "/users"): "operator",
    ("POST", "/users/{name}/invite"): "operator",
    ("DELETE", "/users/{name}"): "operator",
    ("PUT", "/users/{name}/quota"): "operator",
    ("POST", "/organisations"): "admin",
    ("GET", "/organisations/{name}/members"): "read",
    ("PUT", "/organisations/{name}/members/{member}"): "admin",
    ("GET", "/audit"): "operator",
}
#: What addresses somebody's things: asked for by another tenant it is not there.
OWNED = {route for route in NEEDS if "{owner}" in route[1] or "{upload}" in route[1]} | {
    ("DELETE", "/tokens/{token}"), ("GET", "/organisations/{name}/members"),
    ("PUT", "/organisations/{name}/members/{member}"), ("POST", "/learnwares"), ("POST", "/repositories"),
    ("POST", "/learnwares/inline"),
}  # fmt: skip
BODIES: dict[tuple[str, str], Any] = {
    ("PATCH", "/learnwares/{owner}/{name}"): {"license": "MIT"},
    ("PUT", "/learnwares/{owner}/{name}/deprecation"): {"because": "x"},
    ("PUT", "/learnwares/{owner}/{name}/tags/{tag}"): {"version": "v1"},
    ("POST", "/tokens/exchange"): {"link": "no such link", "name": "x"},
    ("POST", "/repositories"): {"name": "ada/new"},
    ("PATCH", "/repositories/{owner}/{name}"): {"private": False},
    ("POST", "/repositories/{owner}/{name}/move"): {"to": "ada/elsewhere"},
    ("POST", "/repositories/{owner}/{name}/commits"): {"title": "x", "add": {"README.md": SHA}},
    ("POST", "/uploads"): {"sha256": SHA, "size": 3},
    ("PATCH", "/uploads/{upload}"): b"abc",
    ("PUT", "/uploads/{upload}/parts/{number}"): b"abc",
    ("POST", "/identify"): SPEC,
    ("POST", "/tokens"): {"name": "x"},
    ("POST", "/users"): {"name": "carl"},
    ("PUT", "/users/{name}/quota"): {"quota": 5},
    ("POST", "/organisations"): {"name": "guild"},
    ("PUT", "/organisations/{name}/members/{member}"): {"role": "admin"},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("access")
    with served(place / "dock") as site:
        ada = site.token("ada", "admin")
        folder = make_learnware(place / "mine", "ada/mine")
        assert site.publish(folder, ada, private=True).status == 201
        assert site.post(f"{API}/organisations", {"name": "lab"}, token=ada).status == 201
        manifest = site.get(f"{API}/learnwares/ada/mine", token=ada).body["manifest"]
        BODIES["POST", "/learnwares"] = {"manifest": {**manifest, "name": "ada/other"}}
        line = json.dumps({"manifest": {**manifest, "name": "ada/other"}, "files": []})
        BODIES["POST", "/learnwares/inline"] = line.encode() + b"\n"
        yield site


@pytest.fixture(scope="module")
def upload(site: Site) -> str:
    """The id of an upload that ada began."""
    begun = site.post(f"{API}/uploads", {"sha256": SHA, "size": 3}, token=site.token("ada", "admin"))
    return str(begun.body["id"])


def routes(site: Site) -> set[tuple[str, str]]:
    paths = site.get(f"{API}/openapi.json").body["paths"]
    return {
        (method.upper(), path.removeprefix(API))
        for path, methods in paths.items()
        for method in methods
        if path.startswith(API)
    }


def ask(site: Site, upload: str, route: tuple[str, str], token: str | None) -> Any:
    method, path = route
    mine = site.service.people.tokens(site.principal("ada", "admin"))[0].id
    for name, value in {
        "owner": "ada", "path": "config.json", "space_id": SHA, "revision": "main", "upload": upload,
        "number": 1, "token": mine, "member": "bob", "version": "v1", "tag": "stable",
    }.items():  # fmt: skip
        path = path.replace("{" + name + "}", str(value))
    path = path.replace("{name}", "lab" if "organisations" in path else "mine" if "ada/" in path else "ada")
    path += f"?sha256={SHA}&size=3" if (method, path) == ("GET", "/uploads") else ""
    return site.ask(method, API + path, BODIES.get(route), token=token, headers={"Upload-Offset": "0"})


def test_every_route_has_its_line(site: Site) -> None:
    assert routes(site) == set(NEEDS)


def refused(answer: Any, status: int) -> None:
    assert answer.status == status, answer
    assert set(answer.body) == {"error"}
    assert set(answer.body["error"]) == {"code", "message", "remedy"}
    assert all(answer.body["error"].values())


def unchanged(site: Site, upload: str) -> None:
    """Nothing of ada's changed."""
    ada = site.token("ada", "admin")
    assert site.get(f"{API}/repositories/ada/mine", token=ada).body["private"] is True
    assert site.get(f"{API}/organisations/lab/members", token=ada).body["members"] == [{"name": "ada", "role": "admin"}]
    assert site.get(f"{API}/uploads/{upload}", token=ada).body["offset"] == 0
    assert [r.name for r in site.service.dock.records()] == ["ada/mine"]


@pytest.mark.parametrize("route", NEEDS, ids=" ".join)
def test_what_does_not_reach_is_refused(site: Site, upload: str, route: tuple[str, str]) -> None:
    needs = NEEDS[route]
    bob, expired = site.token("bob", "admin"), site.token("bob", "write")
    people = site.service.people
    gone = people.make_token(people.principal(bob), name="gone", scope="admin")
    with site.service.database.write() as connection:
        connection.execute(update(tokens).where(tokens.c.hash == digest(str(gone.secret))).values(expires=time.time()))
    if needs is not None:
        for bad in ("no token at all", "ldk_" + "x" * 43, str(gone.secret)):
            refused(ask(site, upload, route, bad), 401)
    if needs:
        refused(ask(site, upload, route, None), 401)
        smaller = {"write": "read", "admin": "write", "operator": "write"}.get(needs)
        if smaller:
            refused(ask(site, upload, route, site.token("bob", smaller)), 403)  # type: ignore[arg-type]
    if needs == "operator":
        refused(ask(site, upload, route, bob), 403)
    if route in OWNED:
        for other in (bob, expired) if needs in ("write", "") else (bob,):
            refused(ask(site, upload, route, other), 404)
        if needs == "":
            refused(ask(site, upload, route, None), 404)
    unchanged(site, upload)


def test_what_others_hide_changes_no_answer(tmp_path: Path) -> None:
    with served(tmp_path / "dock") as site:
        ada, bob = site.token("ada"), site.token("bob")
        for i in range(4):
            assert site.publish(make_learnware(tmp_path / f"a{i}", f"ada/a{i}"), ada, private=i == 0).status == 201

        def seen(token: str | None) -> list[Any]:
            paths = ["learnwares", "repositories", "spaces", "learnwares/bob/b0", "learnwares/bob/nothing"]
            found = [site.get(f"{API}/{path}", token=token).body for path in paths]
            found[-2] = str(found[-2]).replace("b0", "nothing")
            found[-1] = str(found[-1])
            return [*found, site.post(f"{API}/identify", SPEC, token=token).body]

        before = [seen(None), seen(ada)]
        assert before[0][-2] == before[0][-3], "what is hidden and what is not there read alike"
        assert (before[0][-1]["searched"], before[1][-1]["searched"]) == (3, 4)
        for i in range(3):
            assert site.publish(make_learnware(tmp_path / f"b{i}", f"bob/b{i}"), bob, private=True).status == 201
        assert [seen(None), seen(ada)] == before
        assert site.post(f"{API}/identify", SPEC, token=bob).body["searched"] == 6
        shown = site.ask("PATCH", f"{API}/repositories/bob/b0", {"private": False}, token=bob)
        assert shown.body["private"] is False
        assert site.post(f"{API}/identify", SPEC).body["searched"] == 4


def test_bytes_of_others_are_not_had_by_their_hash(site: Site) -> None:
    """Who knows the SHA-256 of a private file must send it all the same, and learns nothing from that."""
    ada, bob = site.token("ada", "admin"), site.token("bob")
    manifest = site.get(f"{API}/learnwares/ada/mine", token=ada).body["manifest"]
    file = next(f for f in manifest["files"] if f["path"] == "model.safetensors")
    asked = {"sha256": file["sha256"], "size": file["size"]}
    assert site.post(f"{API}/uploads", asked, token=bob).body["stored"] is False
    assert site.post(f"{API}/uploads", asked, token=ada).body["stored"] is True
    site.post(f"{API}/repositories", {"name": "bob/mine"}, token=bob)
    stolen = {"title": "x", "add": {"model.safetensors": file["sha256"]}}
    refused(site.post(f"{API}/repositories/bob/mine/commits", stolen, token=bob), 404)


def test_a_query_leaves_no_trace(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    canary = "canary-4711-feather"
    spec = make_spec(np.random.default_rng(9), kind="task")
    spec = replace(spec, schema={**spec.schema, "descriptions": [canary, "good"]}, settings={"note": canary})
    source = spec_to_bytes(spec)
    numbers = spec.behaviour.astype(np.float16).tobytes()[:32], spec.behaviour.astype(np.float32).tobytes()[:32]
    assert numbers[0] in source
    with caplog.at_level(logging.DEBUG):
        assert site.post(f"{API}/identify?top=3", source).status == 200
        assert site.post(f"{API}/identify", source[:-5]).status == 422
        assert site.post(f"{API}/identify", source, token=site.token("bob")).status == 200
    looked = 0
    for file in site.service.folder.rglob("*"):
        if file.is_file():
            content, looked = file.read_bytes(), looked + 1
            assert canary.encode() not in content
            assert not any(n in content for n in numbers)
    assert looked > 5
    said = caplog.text + str([vars(r) for r in caplog.records])
    assert canary not in said
    assert site.token("bob") not in said


def test_tokens_are_kept_as_hashes_only(site: Site) -> None:
    kept = b"".join(p.read_bytes() for p in site.service.folder.glob("service.sqlite*"))
    for token in site._tokens.values():
        assert token.encode() not in kept
        assert digest(token).encode() in kept


def test_what_is_changed_is_written_down(site: Site) -> None:
    ada = site.token("ada", "admin")
    for path, body in (("repositories", {"name": "ada/noted"}), ("tokens", {"name": "noted"})):
        assert site.post(f"{API}/{path}", body, token=ada).status == 201
    assert site.ask("DELETE", f"{API}/repositories/ada/noted", token=ada).status == 204
    found = site.get(f"{API}/audit?limit=3", token=site.operator()).body["entries"]
    assert [(e["who"], e["action"]) for e in found] == [
        ("ada", "repository.delete"), ("ada", "token.make"), ("ada", "repository.create"),
    ]  # fmt: skip
    assert "ldk_" not in str(site.get(f"{API}/audit", token=site.operator()).body)


def test_a_revoked_token_is_nobody_at_once(site: Site) -> None:
    ada = site.token("ada", "admin")
    made = site.post(f"{API}/tokens", {"name": "short", "scope": "write", "days": 1}, token=ada).body
    assert site.get(f"{API}/whoami", token=made["token"]).body["scope"] == "write"
    assert site.ask("DELETE", f"{API}/tokens/{made['id']}", token=ada).status == 204
    refused(site.get(f"{API}/whoami", token=made["token"]), 401)


def test_publishing_again_with_private_hides_what_was_public(site: Site, tmp_path: Path) -> None:
    token, folder = site.token("max"), make_learnware(tmp_path / "mine", "max/mine")
    shown = [
        (answer.status, answer.body["private"], site.get(f"{API}/learnwares/max/mine").status)
        for answer in (site.publish(folder, token, private=private) for private in (False, True, False))
    ]
    # What is private stays so when it is sent again: only PATCH shows it to all.
    assert shown == [(201, False, 200), (200, True, 404), (200, True, 404)]
    assert [r["private"] for r in site.get(f"{API}/learnwares?owner=max", token=token).body["learnwares"]] == [True]
    other = site.publish(make_learnware(tmp_path / "other", "max/mine", seed=1), token)
    assert (other.status, other.body["private"]) == (201, True), "its next version is private too"
    public = make_learnware(tmp_path / "public", "max/public")
    assert site.publish(public, token).status == 201
    manifest = Manifest.from_folder(make_learnware(tmp_path / "new", "max/public", seed=1))
    for file in manifest.files:
        site.upload((tmp_path / "new" / file.path).read_bytes(), token)
    asked = {"manifest": manifest.model_dump(mode="json"), "private": True, "after": "v7"}
    refused(site.post(f"{API}/learnwares", asked, token=token), 409)
    assert site.get(f"{API}/learnwares/max/public").status == 200, "a publication that is refused hides nothing"


def test_a_token_makes_others_up_to_itself_and_none_that_outlives_it(site: Site) -> None:
    writer = site.token("eve", "write")
    (own,) = site.get(f"{API}/tokens", token=writer).body["tokens"]
    made = site.post(f"{API}/tokens", {"name": "hub", "scope": "write", "days": 1000}, token=writer)
    assert (made.status, made.body["scope"]) == (201, "write")
    assert made.body["expires"] <= own["expires"]
    short = site.post(f"{API}/tokens", {"name": "short", "scope": "read", "days": 1}, token=writer).body
    assert short["expires"] < own["expires"]
    refused(site.post(f"{API}/tokens", {"name": "more", "scope": "admin"}, token=writer), 403)
    refused(site.post(f"{API}/tokens", {"name": "any", "scope": "read"}, token=short["token"]), 403)
    boss = site.token("eve", "admin")
    lasting = site.post(f"{API}/tokens", {"name": "lasting", "scope": "write", "days": 1000}, token=boss).body
    assert lasting["expires"] > own["expires"]
    mine = {t["scope"]: t["id"] for t in site.get(f"{API}/tokens", token=boss).body["tokens"]}
    refused(site.ask("DELETE", f"{API}/tokens/{mine['admin']}", token=writer), 404)
    refused(site.ask("DELETE", f"{API}/tokens/{made.body['id']}", token=short["token"]), 403)
    assert site.ask("DELETE", f"{API}/tokens/{made.body['id']}", token=writer).status == 204


def test_organisations_share_what_is_theirs(site: Site, tmp_path: Path) -> None:
    ada, eve = site.token("ada", "admin"), site.token("eve")
    made = site.publish(make_learnware(tmp_path / "shared", "lab/shared"), ada, private=True)
    assert made.status == 201, made
    refused(site.get(f"{API}/learnwares/lab/shared", token=eve), 404)
    joined = site.ask("PUT", f"{API}/organisations/lab/members/eve", {"role": "member"}, token=ada)
    assert joined.status == 204
    assert site.get(f"{API}/learnwares/lab/shared", token=eve).status == 200
    refused(site.ask("PUT", f"{API}/organisations/lab/members/ada", {"role": "member"}, token=ada), 409)
    assert site.ask("DELETE", f"{API}/learnwares/lab/shared", token=eve).status == 204
    assert site.ask("PUT", f"{API}/organisations/lab/members/eve", {"role": None}, token=ada).status == 204
    refused(site.get(f"{API}/organisations/lab/members", token=eve), 404)


@pytest.mark.parametrize("name", ["api", "Datasets", "models"])
def test_nobody_is_called_as_addresses_begin(site: Site, name: str) -> None:
    for path in ("users", "organisations"):
        answer = site.post(f"{API}/{path}", {"name": name}, token=site.operator())
        assert answer.status == 400
        assert "choose another name" in answer.body["error"]["message"] + answer.body["error"]["remedy"]
