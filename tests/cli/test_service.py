"""The command line at a service: logging in, people, publishing many, and who may see what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.docking import make_learnware
from tests.support.terminal import learndock

pytest.importorskip("fastapi", reason="serves a dock")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A service of an empty dock; commands mean it, as ann."""
    from tests.support.serving import served

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with served(tmp_path / "dock") as site:
        monkeypatch.setenv("LEARNDOCK_DOCK", site.url)
        monkeypatch.setenv("LEARNDOCK_TOKEN", site.token("ann", "admin"))
        yield site


def names(*arguments: str, **_: Any) -> list[str]:
    return [r["name"] for r in learndock("list", *arguments, "--json").json["learnwares"]]


def test_add_many_private_and_vouch(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = tmp_path / "many"
    folders = [make_learnware(many / f"n{i}", f"ann/n{i}", seed=i) for i in range(4)]
    added = learndock("add", folders[0], folders[1], "--json").json["learnwares"]
    assert [r["name"] for r in added] == ["ann/n0", "ann/n1"]
    assert learndock("add", "--from", many).code == 0
    assert names() == [f"ann/n{i}" for i in range(4)]
    again = learndock("add", "--from", many)
    assert again.code == 0
    assert "0 added, 4 there, 0 failed" in again.out

    # one that fails does not stop the others; the same command goes on where it ended
    make_learnware(tmp_path / "bobs", "bob/other")
    (tmp_path / "broken").mkdir()
    later = make_learnware(tmp_path / "later", "ann/later", seed=9)
    listing = tmp_path / "list.txt"
    listing.write_text("# all of them\nmany/n1\nbroken\n\nbobs\nlater\n")
    partly = learndock("add", "--from", listing, "--json")
    assert partly.code != 0
    said = json.loads(partly.out)
    assert [r["name"] for r in said["learnwares"]] == ["ann/n1", "ann/later"]
    assert [Path(f["folder"]).name for f in said["failed"]] == ["broken", "bobs"]
    assert said["failed"][1]["error"] == "Forbidden"
    assert "1 there, 2 failed" in learndock("add", tmp_path / "broken", tmp_path / "bobs", later).out
    assert learndock("remove", "ann/later").code == 0

    nothing = learndock("add", "--from", folders[0])
    assert (nothing.code, "holds no learnware" in nothing.complaint) == (2, True)

    # ann/n0 is public: adding it again with --private makes it private, and nobody else sees it
    monkeypatch.setenv("LEARNDOCK_TOKEN", site.token("bob"))
    assert "ann/n0" in names()
    monkeypatch.setenv("LEARNDOCK_TOKEN", site.token("ann", "admin"))
    assert learndock("add", folders[0], "--private").out.splitlines()[0].endswith("(private)")
    assert learndock("add", folders[0], "--json").json["learnwares"][0]["private"] is True, "and it stays so"
    listed = {r["name"]: r for r in learndock("list", "--json").json["learnwares"]}
    assert (listed["ann/n0"]["private"], listed["ann/n1"]["private"]) == (True, False)
    assert listed["ann/n0"]["created"].endswith("+00:00")
    assert "owner" in learndock("list").out
    monkeypatch.setenv("LEARNDOCK_TOKEN", site.token("bob"))
    assert "ann/n0" not in names()

    for flag in ("--vouch", "--private"):
        dock = site.url if flag == "--vouch" else str(tmp_path / "folder")
        refused = learndock("add", folders[1], flag, "--dock", dock)
        assert (refused.code, "operator" in refused.complaint or "private" in refused.complaint) == (2, True)


def test_add_private_is_one_step(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.proxy import Heard, Told, proxy

    shown = make_learnware(tmp_path / "shown", "ann/shown")
    assert learndock("add", shown).code == 0
    seen: list[list[str]] = []

    def look(_: Heard, told: Told) -> Told:
        """What everybody sees after each request."""
        seen.append([r["name"] for r in site.get("/api/v1/learnwares").body["learnwares"]])
        return told

    with proxy(site.url, look) as between:
        monkeypatch.setenv("LEARNDOCK_DOCK", between.url)
        for folder in (make_learnware(tmp_path / "new", "ann/new"), shown):
            assert learndock("add", folder, "--private").code == 0
        assert {h.method for h in between.heard} == {"GET", "POST"}
        assert not [h.path for h in between.heard if "repositories" in h.path]
    assert all("ann/new" not in names for names in seen)
    assert seen[-1] == []
    monkeypatch.setenv("LEARNDOCK_DOCK", site.url)
    owned = learndock("whoami", "--json").json["learnwares"]
    assert owned == {"public": 0, "private": 2}
    assert "0 that all see, 2 private" in learndock("whoami").out
    assert learndock("visibility", "ann/shown", "--public").code == 0
    assert [r["private"] for r in learndock("list", "--json").json["learnwares"]] == [False, True]
    assert learndock("show", "ann/new", "--json").json["private"] is True


def test_a_name_that_is_not_yours_is_refused_before_anything_is_sent(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.proxy import proxy

    folder = make_learnware(tmp_path / "lw", "bob/one")
    with proxy(site.url) as between:
        monkeypatch.setenv("LEARNDOCK_DOCK", between.url)
        refused = learndock("add", folder)
        assert (refused.code, "you may publish as ann" in refused.complaint) == (42, True)
        monkeypatch.delenv("LEARNDOCK_TOKEN")
        assert learndock("add", folder).code == 41
        assert {h.path for h in between.heard} == {"/api/v1/whoami"}


def test_an_empty_service_is_not_called_an_empty_dock(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEARNDOCK_TOKEN")
    said = learndock("list").out
    assert "that you may see" in said
    assert "learndock whoami" in said


def test_list_filters_sorts_and_limits_and_search_finds_words(site: Any, tmp_path: Path) -> None:
    for name, numbers in (("ann/b", 10), ("ann/c", 3_000), ("ann/a", 500)):
        assert learndock("add", make_learnware(tmp_path / name[-1], name, numbers=numbers)).code == 0
    assert names() == ["ann/b", "ann/c", "ann/a"]
    assert names("--sort", "name") == ["ann/a", "ann/b", "ann/c"]
    assert names("--sort", "size", "--limit", "2") == ["ann/c", "ann/a"]
    assert names("--owner", "bob") == names("--license", "GPL") == names("--format", "onnx") == []
    assert names("--owner", "ann", "--license", "mit", "--task-type", "classification", "--text", "C") == ["ann/c"]
    found = learndock("search", "ann", "GOOD", "--json").json
    assert (found["found"], found["of"]) == (3, 3)  # a label is called good
    assert "None of the 3 learnwares" in learndock("search", "ann", "nosuch").out
    assert learndock("list", "--limit", "1").out.endswith("1 of 3; --limit shows more.\n")


def test_login_whoami_and_visibility(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNDOCK_TOKEN", site.operator())
    link = learndock("user", "add", "zoe", "--json").json["link"]
    monkeypatch.delenv("LEARNDOCK_TOKEN")
    nobody = learndock("whoami", "--json").json
    assert (nobody["kind"], nobody["known"]) == ("service", False)
    assert "not logged in" in learndock("whoami").out

    address, _, secret = link.partition("#link=")
    for wrong in (["--token", "t", "--scope", "read"], ["--token", "t", "--days", "3"], []):
        assert learndock("login", address, *wrong).code == 2
    done = learndock("login", address, "--link", secret, "--scope", "admin", "--days", "3", "--json").json
    assert done == {"url": site.url, "name": "zoe", "scope": "admin"}
    who = learndock("whoami", "--dock", site.url, "--json").json
    assert (who["name"], who["scope"], who["operator"]) == ("zoe", "admin", False)
    assert "you are zoe" in learndock("whoami").out

    assert learndock("add", make_learnware(tmp_path / "lw", "zoe/one")).code == 0
    assert learndock("visibility", "zoe/one", "--json").json == {"name": "zoe/one", "private": False}
    assert "private: only zoe" in learndock("visibility", "zoe/one", "--private").out
    assert learndock("visibility", "zoe/one", "--dock", site.url, "--json").json["private"] is True
    assert "seen by  owner" in learndock("show", "zoe/one").out
    assert learndock("visibility", "zoe/nosuch").code == 31
    folder = learndock("visibility", "zoe/one", "--dock", str(tmp_path / "folder"))
    assert (folder.code, "a dock in a folder" in folder.complaint) == (2, True)

    assert learndock("logout", site.url, "--json").json == {"url": site.url}
    assert learndock("whoami", "--json").json["known"] is False
    at_home = learndock("whoami", "--dock", str(tmp_path / "folder"), "--json").json
    assert (at_home["kind"], at_home["known"]) == ("folder", None)


def test_people(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at, folder = ("--dock", site.url), ("--dock", str(tmp_path / "folder"))
    monkeypatch.setenv("LEARNDOCK_TOKEN", site.operator())
    assert "#link=" in learndock("user", "add", "eve", "--operator", *at, "--json").json["link"]
    assert "#link=" in learndock("user", "invite", "eve", *at, "--json").json["link"]
    users = {u["name"]: u for u in learndock("user", "list", *at, "--json").json["users"]}
    assert (users["eve"]["operator"], users["ann"]["operator"]) == (True, False)
    assert learndock("user", "quota", "ann", "5MB", *at, "--json").json["quota"] == 5_000_000
    assert learndock("user", "quota", "ann", "default", "--json").json["quota"] is None
    assert "such as 50GB" in learndock("user", "quota", "ann", "much").complaint
    assert learndock("user", "remove", "eve", *at, "--json").json == {"removed": "eve"}

    monkeypatch.setenv("LEARNDOCK_TOKEN", site.token("ann", "admin"))
    made = learndock("token", "make", "ci", "--scope", "write", "--days", "3", *at, "--json").json
    listed = {t["name"]: t for t in learndock("token", "list", *at, "--json").json["tokens"]}
    assert listed["ci"]["scope"] == "write"
    days = learndock("token", "make", "longer", "--days", "30", "--json").json["expires"]
    assert days > made["expires"]  # ISO 8601 in UTC sorts as text
    assert learndock("token", "revoke", str(made["id"]), *at, "--json").json == {"revoked": made["id"]}
    assert "ci" not in learndock("token", "list").out

    assert learndock("organisation", "make", "lab", *at, "--json").code == 0
    site.token("bob")
    given = learndock("organisation", "member", "lab", "bob", "--role", "admin", *at, "--json").json
    assert given == {"organisation": "lab", "member": "bob", "role": "admin"}
    members = learndock("organisation", "members", "lab", *at, "--json").json
    assert {m["name"]: m["role"] for m in members["members"]} == {"ann": "admin", "bob": "admin"}
    assert learndock("organisation", "member", "lab", "bob", "--role", "none", "--json").json["role"] is None

    for command in (["token", "list"], ["user", "list"], ["organisation", "members", "lab"]):
        refused = learndock(*command, *folder)
        assert (refused.code, "has no users" in refused.complaint) == (2, True)


@pytest.mark.parametrize(
    ("place", "word"),
    [("127.0.0.1:7080", "did you mean http://127.0.0.1:7080"), ("dock:80/x", "http://dock:80/x"),
     ("ftp://x/y", "http://host:port"), ("postgresql://a/b", "learndock serve")],
)  # fmt: skip
def test_an_address_without_its_scheme_makes_no_folder(
    place: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    learnware = make_learnware(tmp_path / "lw", "ann/one")
    for given in (["--dock", place], []):
        if not given:
            monkeypatch.setenv("LEARNDOCK_DOCK", place)
        refused = learndock("add", learnware, *given)
        assert (refused.code, word in refused.complaint) == (2, True)
    assert [p.name for p in tmp_path.iterdir()] == ["lw"]


def test_lists_are_objects_and_times_are_iso(site: Any) -> None:
    for command in (["list"], ["search", "x"], ["token", "list"], ["spaces"]):
        assert isinstance(json.loads(learndock(*command, "--json").out), dict)
    (first, *_) = learndock("token", "list", "--json").json["tokens"]
    assert first["created"][10] == "T"
