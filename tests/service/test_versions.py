"""A learnware's versions at a service: the repository follows the dock, also after a kill; changes are logged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from learndock.dock.remote.dock import RemoteDock
from learndock.errors import Conflict, Forbidden, NotFound, QuotaExceeded, Unauthorized, UsageError
from learndock.package.manifest import MANIFEST, Manifest
from learndock.search import Filters
from learndock.service.audit import entries
from learndock.service.upkeep import Upkeep
from learndock.spec.file import spec_to_bytes
from tests.support.docking import make_learnware, make_spec
from tests.support.hub_clients import hashes
from tests.support.serving import BACKENDS, Site, served_by

API = "/api/v1"
NAME = "ada/good"


@pytest.fixture(params=BACKENDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with served_by(request.param, tmp_path / "dock") as site:
        yield site


def content(folder: Path, seed: int, name: str = NAME) -> Path:
    return make_learnware(folder / f"{name.replace('/', '-')}-{seed}", name, seed=seed)


def main(site: Site, revision: str = "main", name: str = NAME) -> dict[str, str]:
    """Path -> SHA-256 of what the repository has at a revision."""
    answer = site.get(f"{API}/repositories/{name}/tree/{revision}", token=site.token("ada"))
    assert answer.status == 200, answer
    return {f["path"]: f["sha256"] for f in answer.body["files"]}


def in_step(site: Site, tmp_path: Path, name: str = NAME) -> None:
    """What `get` writes and what the repository has is the same, for the name and for each version."""
    dock = RemoteDock(site.url, token=site.token("ada"))
    for i, which in enumerate([name, *(r.reference for r in dock.versions(name))]):
        got = dock.get(which, tmp_path / f"got-{i}")
        revision = which.partition("@")[2] or "main"
        assert main(site, revision, name) == hashes(got), which
        for path in got.rglob("*"):
            path.chmod(0o700)


def commit(site: Site, folder: Path, *, leave: tuple[str, ...] = (), who: str = "ada") -> tuple[int, str]:
    """Push a folder as one commit; (status, the code or the digest)."""
    token = site.token(who)
    add = {
        str(p.relative_to(folder)): site.upload(p.read_bytes(), token)
        for p in folder.rglob("*")
        if p.is_file() and p.name not in leave
    }
    answer = site.post(
        f"{API}/repositories/{NAME}/commits", {"title": "x", "add": add, "delete": list(leave)}, token=token
    )
    return answer.status, answer.body["commit"]["digest"] if answer.status == 201 else answer.body["error"]["code"]


def test_the_repository_follows_the_versions(site: Site, tmp_path: Path) -> None:
    dock = RemoteDock(site.url, token=site.token("ada"))
    first, second = (content(tmp_path, seed) for seed in (1, 2))
    one = dock.add(first)
    with pytest.raises(Conflict, match="v1"):
        dock.add(second, after="v2")
    two = dock.add(second, after="v1")
    assert (two.version, dock.add(first).version) == (2, 1)
    in_step(site, tmp_path / "a")

    dock.tag(one.id, "stable")
    assert site.service.versions.refs(site.service.repositories.get(site.principal("ada"), NAME)).keys() == {
        "v1", "v2", "stable"
    }  # fmt: skip
    assert main(site, "stable") == main(site, "v1") != main(site)
    dock.tag(one.id, "latest")
    assert dock.get_record(NAME).version == 1
    assert main(site) == main(site, "v1")
    in_step(site, tmp_path / "b")
    assert dock.untag(NAME, "stable").tags == ()

    left = dock.remove(f"{NAME}@v1")
    assert [r.version for r in left.remaining] == [2]
    gone = Manifest.from_folder(first)
    told = site.get(f"{API}/repositories/{NAME}/commits", token=site.token("ada")).body["commits"]
    assert {c["digest"] for c in told} == {two.digest}, "no commit gives the bytes of what was removed"
    assert site.get(f"{API}/learnwares/{NAME}/files/config.json?digest={gone.digest}").status == 404
    in_step(site, tmp_path / "c")
    assert dock.remove(f"{NAME}@v2").remaining == ()
    with pytest.raises(NotFound):
        dock.versions(NAME)
    assert dock.add(first).version == 3
    said = [(e.action, e.what) for e in entries(site.service.database, site.service.people.principal(site.operator()))]
    for wanted in (
        ("learnware.tag", f"{NAME}@v1 stable"), ("learnware.tag", f"{NAME}@v1 latest"),
        ("learnware.untag", f"{NAME}@v1 stable"), ("learnware.remove", f"{NAME}@v1"), ("repository.delete", NAME),
    ):  # fmt: skip
        assert wanted in said


def test_a_commit_publishes_the_next_version_or_is_refused(site: Site, tmp_path: Path) -> None:
    dock = RemoteDock(site.url, token=site.token("ada"))
    first, second = (content(tmp_path, seed) for seed in (1, 2))
    one = dock.add(first)
    two = Manifest.from_folder(second).digest
    assert commit(site, second) == (201, two)
    assert [r.version for r in dock.versions(NAME)] == [1, 2]
    in_step(site, tmp_path / "a")
    assert commit(site, first) == (201, one.digest), "known content: latest moves back"
    assert (dock.get_record(NAME).version, len(dock.versions(NAME))) == (1, 2)
    in_step(site, tmp_path / "b")

    before = main(site)
    (second / "config.json").write_text("{}")
    assert commit(site, second, leave=(MANIFEST,)) == (422, "package_error"), "no learnware any more"
    assert commit(site, second) == (422, "package_error"), "other bytes than its manifest says"
    assert main(site) == before
    assert [r.version for r in dock.versions(NAME)] == [1, 2]


def test_the_card_is_edited_beside_the_content(site: Site, tmp_path: Path) -> None:
    dock = RemoteDock(site.url, token=site.token("ada"))
    folder = tmp_path / "lw"
    make_learnware(folder, NAME)
    manifest = Manifest.from_folder(folder)
    bare = manifest.model_copy(update={"files": tuple(f for f in manifest.files if f.path != "README.md")})
    (folder / MANIFEST).write_bytes(bare.to_bytes())
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Good\n")
    one = dock.add(folder)
    assert one.license == "mit"
    assert dock.card(NAME) == (folder / "README.md").read_text()
    in_step(site, tmp_path / "a")

    edited = dock.edit(NAME, license="apache-2.0", description="Knows good from bad", tags=["mood"])
    assert (edited.digest, edited.license, edited.description) == (one.digest, "apache-2.0", "Knows good from bad")
    assert edited == site.service.dock.get_record(NAME)
    assert [s.license for s in dock.summaries("mood", filters=Filters(license="Apache-2.0"))] == ["apache-2.0"]
    assert "license: apache-2.0" in dock.card(NAME)
    in_step(site, tmp_path / "b")

    card = site.upload(b"---\nlicense: bsd\n---\nPushed.\n", site.token("ada"))
    asked = {"title": "card", "add": {"README.md": card}}
    answer = site.post(f"{API}/repositories/{NAME}/commits", asked, token=site.token("ada"))
    assert (answer.status, answer.body["commit"]["digest"]) == (201, one.digest)
    assert (dock.get_record(NAME).license, len(dock.versions(NAME))) == ("bsd", 1)
    in_step(site, tmp_path / "c")
    broken = site.upload(b"---\nlicense: [\n---\n", site.token("ada"))
    answer = site.post(f"{API}/repositories/{NAME}/commits", {"title": "x", "add": {"README.md": broken}},
                       token=site.token("ada"))  # fmt: skip
    assert answer.status == 422
    in_step(site, tmp_path / "d")
    site.service.dock.edit(NAME, card="As after a kill.\n")
    assert Upkeep(site.service).reconcile() == 1
    in_step(site, tmp_path / "e")
    said = [(e.action, e.what) for e in entries(site.service.database, site.service.people.principal(site.operator()))]
    assert ("learnware.edit", NAME) in said


def test_deprecation_is_told(site: Site, tmp_path: Path) -> None:
    dock, bob = (RemoteDock(site.url, token=site.token(who)) for who in ("ada", "bob"))
    dock.add(content(tmp_path, 1))
    bob.add(content(tmp_path, 1, "bob/new"))
    bob.add(content(tmp_path, 1, "bob/hidden"), private=True)
    with pytest.raises(NotFound):
        dock.deprecate(NAME, use="bob/hidden")
    with pytest.raises(UsageError, match="named to all"):
        bob.deprecate("bob/new", use="bob/hidden")
    record = dock.deprecate(NAME, use="bob/new", because="it is better")
    assert record.deprecated is not None
    assert (record.deprecated.use, record.deprecated.because, record.deprecated.by) == (
        "bob/new", "it is better", "ada"
    )  # fmt: skip
    task = make_spec(np.random.default_rng(3), kind="task")
    found = {m.name: m for m in RemoteDock(site.url).identify(task).matches}
    assert found[NAME].deprecated == record.deprecated
    assert found["bob/new"].deprecated is None
    assert dock.deprecate(NAME, undo=True).deprecated is None


def test_a_learnware_moves_with_its_repository(site: Site, tmp_path: Path) -> None:
    dock = RemoteDock(site.url, token=site.token("ada"))
    first = dock.add(content(tmp_path, 1))
    second = dock.add(content(tmp_path, 2))
    bob = RemoteDock(site.url, token=site.token("bob"))
    bob.add(content(tmp_path, 9, "bob/his"))
    for taken in ("ada/good", "bob/his", "bob/free"):
        if taken != NAME:
            with pytest.raises((Conflict, NotFound)):
                dock.move(NAME, taken)
    for who in (bob, RemoteDock(site.url), RemoteDock(site.url, token=site.token("ada", "read"))):
        with pytest.raises((Forbidden, Unauthorized)):
            who.move(NAME, "bob/good")
    moved = dock.move(NAME, "ada/better")
    assert (moved.name, moved.digest, moved.version) == ("ada/better", second.digest, 2)
    assert [r.digest for r in dock.versions("ada/better")] == [first.digest, second.digest]
    assert RemoteDock(site.url).get_record(NAME) == RemoteDock(site.url).get_record("ada/better")
    assert [r.name for r in dock.records() if r.name.startswith("ada/")] == ["ada/better"]
    in_step(site, tmp_path, "ada/better")
    assert main(site, name=NAME) == main(site, name="ada/better"), "the old name leads to the new one"
    with pytest.raises(Conflict):
        dock.add(content(tmp_path, 3))
    assert site.post(f"{API}/repositories", {"name": NAME}, token=site.token("ada")).status == 409
    assert ("repository.move", f"{NAME} to ada/better") in [
        (e.action, e.what) for e in entries(site.service.database, site.service.people.principal(site.operator()))
    ]
    assert Upkeep(site.service).reconcile() == 0
    back = dock.move("ada/better", NAME)
    assert (back.name, back.digest) == (NAME, second.digest)
    in_step(site, tmp_path / "back", NAME)


def test_what_is_private_stays_so_while_it_moves(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the process ends between the two steps, and the next one finishes."""
    dock = RemoteDock(site.url, token=site.token("ada"))
    dock.add(content(tmp_path, 1), private=True)
    site.post(f"{API}/repositories", {"name": "ada/plain", "private": True}, token=site.token("ada"))
    assert site.post(f"{API}/repositories/ada/plain/move", {"to": "ada/bare"}, token=site.token("ada")).status == 200
    assert site.get(f"{API}/repositories/ada/plain", token=site.token("ada")).body["name"] == "ada/bare"
    stranger = RemoteDock(site.url)

    def unseen() -> None:
        assert stranger.records() == []
        for name in (NAME, "ada/moved", "ada/plain", "ada/bare"):
            assert site.get(f"{API}/learnwares/{name}").status == 404
            assert site.get(f"{API}/repositories/{name}").status == 404
            assert site.get(f"/api/models/{name}").status == 404

    # The service ends here: nothing after it happens, not even what an exception would do.
    who, moves = site.principal("ada"), site.service.moves
    with monkeypatch.context() as patch:
        patch.setattr(moves, "_follow", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(moves, "_back", lambda *_, **__: unseen())
        with pytest.raises(KeyboardInterrupt):
            moves.move(who, NAME, "ada/moved")
    unseen()
    assert Upkeep(site.service).reconcile() == 1
    unseen()
    assert dock.get_record(NAME).name == "ada/moved"
    assert [r.name for r in dock.records()] == ["ada/moved"]
    assert Upkeep(site.service).reconcile() == 0
    with pytest.raises(UsageError, match="by the service"):
        site.service.dock.move("ada/moved", "ada/other")


def test_the_hubs_client_moves(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    dock = RemoteDock(site.url, token=site.token("ada"))
    dock.add(content(tmp_path, 1))
    api = hub.HfApi(endpoint=site.url, token=site.token("ada"))
    api.move_repo(NAME, "ada/better")
    assert api.model_info(NAME).id == "ada/better"
    got = hub.snapshot_download(NAME, endpoint=site.url, token=site.token("ada"), local_dir=tmp_path / "hub")
    there = {k: v for k, v in hashes(Path(got)).items() if not k.startswith(".cache")}
    assert there == hashes(dock.get(NAME, tmp_path / "get"))
    api.upload_file(path_or_fileobj=b"---\nlicense: mit\n---\n# New\n", path_in_repo="README.md", repo_id=NAME)
    record = dock.get_record("ada/better")
    assert (record.version, record.license) == (1, "mit"), "a card is edited under the new name too"


def test_a_push_of_files_that_get_would_not_write_is_refused(site: Site, tmp_path: Path) -> None:
    RemoteDock(site.url, token=site.token("ada")).add(content(tmp_path, 1))
    before = main(site)
    for path, status in (("extra.txt", 422), (".gitattributes", 201)):
        token = site.token("ada")
        asked = {"title": "x", "add": {path: site.upload(b"more", token)}}
        answer = site.post(f"{API}/repositories/{NAME}/commits", asked, token=token)
        assert answer.status == status, answer
        assert (status == 201) == (main(site) != before)


def test_superseding_needs_both_names(site: Site, tmp_path: Path) -> None:
    dock = RemoteDock(site.url, token=site.token("ada"))
    bob = RemoteDock(site.url, token=site.token("bob"))
    bob.add(content(tmp_path, 1, "bob/his"))
    dock.add(content(tmp_path, 1, "ada/old"))
    with pytest.raises(Forbidden):
        dock.add(content(tmp_path, 2), supersedes="bob/his")
    assert dock.add(content(tmp_path, 3), supersedes="ada/old").supersedes == "ada/old"
    deprecated = dock.get_record("ada/old").deprecated
    assert deprecated is not None
    assert deprecated.use == NAME
    assert bob.get_record("bob/his").deprecated is None
    # ... and a service asked by another client refuses it too
    manifest = Manifest.from_folder(content(tmp_path, 4))
    asked = {"manifest": manifest.model_dump(mode="json"), "supersedes": "bob/his"}
    assert site.post(f"{API}/learnwares", asked, token=site.token("ada")).status == 403


@pytest.mark.parametrize("how", ["anonymous", "other", "read"])
def test_versions_of_others_are_not_changed(site: Site, tmp_path: Path, how: str) -> None:
    RemoteDock(site.url, token=site.token("ada")).add(content(tmp_path, 1))
    token = {"anonymous": None, "other": site.token("bob"), "read": site.token("ada", "read")}[how]
    status = {"anonymous": 401, "other": 403, "read": 403}[how]
    for method, path, body in (
        ("PUT", "tags/stable", {"version": "v1"}),
        ("PUT", "tags/latest", {"version": "v1"}),
        ("DELETE", "tags/stable", None),
        ("DELETE", "versions/v1", None),
        ("PUT", "deprecation", {"because": "x"}),
        ("DELETE", "deprecation", None),
        ("PATCH", "", {"license": "mit"}),
    ):
        path = path or "."
        address = f"{API}/learnwares/{NAME}/{path}".removesuffix("/.")
        assert site.ask(method, address, body, token=token).status == status, path
    assert site.get(f"{API}/learnwares/{NAME}/versions").body["versions"][0]["tags"] == []


def test_what_a_killed_process_left_is_brought_in_step(site: Site, tmp_path: Path) -> None:
    """As after a kill between the dock and the repository: the dock was changed, and nothing else."""
    dock, service = RemoteDock(site.url, token=site.token("ada")), site.service
    records = [dock.add(content(tmp_path, seed)) for seed in (1, 2, 3)]
    upkeep = Upkeep(service)
    assert upkeep.reconcile() == 0
    service.dock.tag(f"{NAME}@v1", "latest")
    assert upkeep.reconcile() == 1
    in_step(site, tmp_path / "a")
    service.dock.remove(f"{NAME}@v1")
    assert upkeep.reconcile() == 1
    in_step(site, tmp_path / "b")
    digests = {c["digest"] for c in site.get(f"{API}/repositories/{NAME}/commits").body["commits"]}
    assert digests == {r.digest for r in records[1:]}
    service.dock.add(content(tmp_path, 4))
    assert upkeep.reconcile() == 1
    assert dock.get_record(NAME).version == 4
    in_step(site, tmp_path / "c")
    assert upkeep.reconcile() == 0


def test_private_versions_are_for_their_owner(site: Site, tmp_path: Path) -> None:
    dock, anyone = RemoteDock(site.url, token=site.token("ada")), RemoteDock(site.url)
    dock.add(content(tmp_path, 1))
    assert dock.add(content(tmp_path, 2), private=True).private is True
    assert [r.private for r in dock.versions(NAME)] == [True, True]
    for which in (NAME, f"{NAME}@v1", f"{NAME}@v2"):
        with pytest.raises(NotFound):
            anyone.get_record(which)
    with pytest.raises(NotFound):
        anyone.versions(NAME)


def test_a_former_name_tells_its_owner_nothing_of_what_another_hides(site: Site, tmp_path: Path) -> None:
    people = site.service.people
    people.add_organisation(people.principal(site.operator()), "team")
    bob, carol = site.token("bob"), site.token("carol")
    for member in ("bob", "carol"):
        people.set_member(people.principal(site.operator()), "team", member, "member")
    RemoteDock(site.url, token=bob).add(content(tmp_path, 1, "team/x"), private=True)
    assert site.post(f"{API}/repositories/team/x/move", {"to": "bob/unseen"}, token=bob).status == 200
    folder = content(tmp_path, 2, "team/x")
    for answer in (
        site.publish(folder, carol),
        site.post(f"{API}/repositories", {"name": "team/x"}, token=carol),
        site.publish(folder, carol, private=True),
    ):
        assert answer.status == 409
        assert "unseen" not in str(answer.body)
    for token in (None, carol):
        assert site.get(f"{API}/learnwares/team/x", token=token).status == 404
    assert site.get(f"{API}/learnwares/team/x", token=bob).body["name"] == "bob/unseen"


def test_nothing_points_others_to_what_is_private(site: Site, tmp_path: Path) -> None:
    ada, task = site.token("ada"), spec_to_bytes(make_spec(np.random.default_rng(3), kind="task"))
    dock = RemoteDock(site.url, token=ada)
    for seed, name in enumerate(("ada/old", "ada/unseen", "ada/replaced")):
        dock.add(content(tmp_path, seed, name), private=name == "ada/replaced")
    with pytest.raises(UsageError, match="named to all"):
        dock.add(content(tmp_path, 5, "ada/other"), private=True, supersedes="ada/old")
    dock.add(content(tmp_path, 6, "ada/next"), supersedes="ada/replaced")
    dock.deprecate("ada/old", use="ada/unseen", because="it is better")
    assert "unseen" in str(site.get(f"{API}/learnwares/ada/old").body)
    assert site.ask("PATCH", f"{API}/repositories/ada/unseen", {"private": True}, token=ada).status == 200
    for token in (None, site.token("bob"), ada):
        asked = {"token": token}
        found = [
            site.get(f"{API}/{path}", **asked).body
            for path in ("learnwares", "learnwares/ada/old", "learnwares/ada/next", "learnwares/ada/old/versions")
        ]
        found += [site.get(f"{API}/learnwares/ada/next?version=v1", **asked).body]
        found += [site.post(f"{API}/{path}", task, **asked).body for path in ("identify", "route")]
        found += [site.post("/search", {"query": {"text": "good bad old"}}, **asked).body]
        assert all("better" in str(found[i]) for i in (0, 1, 3)), "the reason is told, to all"
        for hidden in ("unseen", "replaced"):
            assert (hidden in str(found)) == (token == ada)


def test_no_commit_keeps_the_files_of_a_removed_version(site: Site, tmp_path: Path) -> None:
    """Also those that came before its manifest, in a commit of their own."""
    dock, ada = RemoteDock(site.url, token=site.token("ada")), site.token("ada")
    folder = content(tmp_path, 1)
    site.post(f"{API}/repositories", {"name": NAME}, token=ada)
    ids = []
    for some in ([p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST], [folder / MANIFEST]):
        add = {str(p.relative_to(folder)): site.upload(p.read_bytes(), ada) for p in some}
        answer = site.post(f"{API}/repositories/{NAME}/commits", {"title": "x", "add": add}, token=ada)
        ids.append(answer.body["commit"]["id"])
    dock.add(content(tmp_path, 2))
    assert all(site.get(f"/{NAME}/resolve/{commit}/model.safetensors").status == 200 for commit in ids)
    dock.remove(f"{NAME}@v1")
    assert [site.get(f"/{NAME}/resolve/{commit}/model.safetensors").status for commit in ids] == [404, 404]
    in_step(site, tmp_path / "after")


def test_a_card_is_as_long_as_promised_can_be_deleted_and_counts(tmp_path: Path) -> None:
    with served_by("embedded", tmp_path / "dock", quota=1_000_000) as site:
        dock, ada = RemoteDock(site.url, token=site.token("ada")), site.token("ada")
        dock.add(content(tmp_path, 1))
        dock.edit(NAME, card="# Long\n" + "x" * 400_000)
        in_step(site, tmp_path / "a")
        dock.edit(NAME, card="# Longer\n" + "x" * 400_000)
        before = site.service.dock.history(NAME)
        with pytest.raises(QuotaExceeded):
            dock.edit(NAME, card="# Too many\n" + "x" * 400_000)
        assert site.service.dock.history(NAME) == before, "the dock has no card that its repository could not have"
        in_step(site, tmp_path / "b")
        gone = site.post(f"{API}/repositories/{NAME}/commits", {"title": "x", "delete": ["README.md"]}, token=ada)
        assert gone.status == 201
        assert (dock.card(NAME), "README.md" in main(site)) == ("", False)
        assert dock.edit(NAME, license="mit").license == "mit"
        in_step(site, tmp_path / "c")
