"""The hub's protocol, asked by the real clients: whatever they send today, and what they sent some versions ago."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from learndock.dock import open_dock
from learndock.files import sha256_bytes, sha256_file
from learndock.http.hub import addresses, lfs, snapshot
from learndock.http.hub import upload as hub_upload
from learndock.package.manifest import MANIFEST, Manifest
from learndock.spec.file import spec_to_bytes
from tests.support.docking import make_learnware, make_spec
from tests.support.hub_clients import hashes
from tests.support.proxy import Heard, Told, proxy
from tests.support.serving import BACKENDS, Site, served, served_by

pytest.importorskip("huggingface_hub", reason="asks with the hub's clients")
PROGRAMS = Path(__file__).parents[1] / "support" / "hub_clients.py"
MEGABYTE = 1 << 20
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module", params=BACKENDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served_by(request.param, tmp_path_factory.mktemp("hub") / "dock") as site:
        yield site


def environment(site: Site, home: Path, token: str | None, **more: str) -> dict[str, str]:
    """What a person sets, and nothing of theirs or of these tests beside it."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "LEARNDOCK_", "TRANSFORMERS_"))}
    return {
        **ours,
        "HF_ENDPOINT": site.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **({} if token is None else {"HF_TOKEN": token}),
        **more,
    }


def program(
    site: Site,
    home: Path,
    token: str | None,
    name: str,
    *,
    python: str | Path = sys.executable,
    variables: dict[str, str] | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """Run a program of ``hub_clients``; returns what it found."""
    root = PROGRAMS.parents[2]
    paths = {"PYTHONPATH": os.pathsep.join([str(root), str(root / "src")])}
    done = subprocess.run(
        [str(python), str(PROGRAMS), name, json.dumps(arguments)],
        env=environment(site, home, token, **paths, **(variables or {})),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def hf(site: Site, home: Path, token: str | None, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the installed ``hf``."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("hf")), *map(str, arguments)],
        env=environment(site, home, token),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def identified(site: Site, token: str | None = None) -> list[str]:
    """The names that a task spec finds."""
    answer = site.post(
        "/api/v1/identify?top=1000", spec_to_bytes(make_spec(np.random.default_rng(1), kind="task")), token=token
    )
    return [m["name"] for m in (*answer.body["matches"], *answer.body["closest"])]


def check_journey(site: Site, found: dict[str, Any], folder: Path, owner: str, repo: str) -> None:
    """What a journey must have found, whatever client it was."""
    files = sorted(hashes(folder))
    assert found["name"] == owner
    assert found["url"] == f"{site.url}/{repo}"
    assert found["first"] == found["again"], "nothing changed, nothing is committed"
    plain = [file for file in files if file != MANIFEST]
    assert found["files"] == sorted([*plain, "docs/notes.md"])
    assert found["tree"] == sorted({f.partition("/")[0] for f in found["files"]})
    assert found["info"] == found["added"] == found["branches"][0] != found["first"]
    assert sorted(found["paths"]) == ["config.json", "docs"]
    assert found["commits"][-1] == "All of it"
    assert found["snapshot"] == hashes(folder)
    assert found["absent"] in ("EntryNotFoundError", "RemoteEntryNotFoundError")
    assert found["absent revision"] == "RevisionNotFoundError"
    assert found["absent repository"] == found["without an owner"] == "RepositoryNotFoundError"
    assert found["left"] == plain
    assert repo in identified(site)


def test_the_whole_journey_with_the_current_client(site: Site, tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "words", "ada/words")
    found = program(
        *(site, tmp_path / "home", site.token("ada"), "journey"),
        repo="ada/words",
        folder=str(folder),
        work=str(tmp_path),
    )
    check_journey(site, found, folder, "ada", "ada/words")
    manifest = Manifest.from_bytes((folder / MANIFEST).read_bytes())
    assert site.get("/api/v1/learnwares/ada/words").body["id"] == manifest.id


def test_hf_upload_makes_it_identifiable_and_hf_download_gives_it_back(site: Site, tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "good", "ada/good")
    pushed = hf(site, tmp_path / "home", site.token("ada"), "upload", "ada/good", folder)
    assert pushed.returncode == 0, pushed.stderr
    assert "ada/good" in identified(site)
    pulled = hf(site, tmp_path / "other", None, "download", "ada/good", "--local-dir", tmp_path / "pulled")
    assert pulled.returncode == 0, pulled.stderr
    assert hashes(tmp_path / "pulled") == hashes(folder)


def test_a_plain_model_becomes_a_learnware_when_its_spec_arrives(site: Site, tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "later", "bob/later")
    late = [folder / MANIFEST, folder / "specs" / "tiny.spec"]
    kept = [f.read_bytes() for f in late]
    for file in late:
        file.unlink()
    bob, home = site.token("bob"), tmp_path / "home"
    assert site.post("/api/repos/create", {"name": "later"}, token=bob).status == 200
    assert _commit(site, "bob/later", bob, _content(folder)).status == 200
    model = site.get("/api/models/bob/later").body
    assert model["learndock"]["digest"] is None
    assert "a plain model" in model["learndock"]["note"]
    assert "bob/later" not in identified(site)
    for file, content in zip(late, kept, strict=True):
        file.write_bytes(content)
    assert hf(site, home, bob, "upload", "bob/later", folder).returncode == 0
    assert "bob/later" in identified(site)
    assert site.get("/api/models/bob/later").body["learndock"] == {
        "digest": site.get("/api/v1/learnwares/bob/later").body["digest"],
        "note": None,
        "card": None,
        "left_out": [],
    }


def test_a_commit_of_other_content_publishes_the_next_version(site: Site, tmp_path: Path) -> None:
    ada = site.token("ada")
    assert site.publish(make_learnware(tmp_path / "one", "ada/firm"), ada).status == 201
    other = make_learnware(tmp_path / "two", "ada/firm", seed=1)
    digest = Manifest.from_folder(other).digest
    assert _commit(site, "ada/firm", ada, _content(other)).status == 200
    told = site.get("/api/models/ada/firm").body["learndock"]
    assert (told["digest"], told["note"]) == (digest, None)
    assert site.get("/api/v1/learnwares/ada/firm").body["digest"] == digest


def test_what_could_run_code_is_refused_and_the_person_told(site: Site, tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "bad", "ada/bad")
    (folder / "modeling.py").write_text("print('hello')\n")
    pushed = hf(site, tmp_path / "home", site.token("ada"), "upload", "ada/bad", folder)
    assert pushed.returncode != 0
    assert "code is never part of a learnware" in " ".join(pushed.stderr.split())
    assert site.get("/api/models/ada/bad").body["siblings"] == []


def test_a_model_may_come_file_by_file(site: Site) -> None:
    """The index of shards before the shards, and the model before its weights; what is there is what it says."""
    who = site.token("ada")
    assert site.post("/api/repos/create", {"name": "pieces"}, token=who).status == 200
    index = {"weight_map": {"weight": "model-1-of-1.safetensors"}}
    assert _commit(site, "ada/pieces", who, {"model.safetensors.index.json": json.dumps(index).encode()}).status == 200
    wrong = save({"other": np.zeros(3, np.float32)})
    refused = _commit(site, "ada/pieces", who, {"model-1-of-1.safetensors": wrong})
    assert (refused.status, refused.body["code"]) == (422, "model_error")
    right = save({"weight": np.zeros(3, np.float32)})
    assert _commit(site, "ada/pieces", who, {"model-1-of-1.safetensors": right}).status == 200
    assert site.get("/ada/pieces/resolve/main/model-1-of-1.safetensors").body == right


def _content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _commit(site: Site, repo: str, token: str | None, files: dict[str, bytes], *, more: bytes = b"") -> Any:
    """A commit as clients send it."""
    lines: list[Any] = [{"key": "header", "value": {"summary": "test", "description": ""}}]
    for path, content in files.items():
        value = {"content": base64.b64encode(content).decode(), "path": path, "encoding": "base64"}
        lines.append({"key": "file", "value": value})
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + more
    return site.post(f"/api/models/{repo}/commit/main", body, token=token)


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"7",
        b'{"key": "file"}',
        b'{"key": "file", "value": {"path": "a.txt"}}',
        b'{"key": "file", "value": {"path": "a.txt", "content": "eA=", "encoding": "base64"}}',
        b'{"key": "file", "value": {"path": "a.txt", "content": "e=A=", "encoding": "base64"}}',
        b'{"key": "file", "value": {"path": "a.txt", "content": "x y!", "encoding": "base64"}}',
        b'{"key": "file", "value": {"path": "a.txt", "content": "eHh4", "encoding": "utf-8"}}',
        b'{"key": "file", "value": {"path": 7, "content": "eHh4"}}',
        b'{"key": "file", "value": {"path": "../a.txt", "content": "eHh4"}}',
        b'{"key": "file", "value": {"path": "a/.git/config", "content": "eHh4"}}',
        b'{"key": "file", "value": {"path": "a.pkl", "content": "eHh4"}}',
        b'{"key": "file", "value": {"path": "README.md/a.txt", "content": "eHh4"}}',
        b'{"key": "lfsFile", "value": {"path": "a.txt", "oid": "' + b"0" * 64 + b'"}}',
        b'{"key": "lfsFile", "value": {"path": "a.txt", "oid": {"a": 1}}}',
        b'{"key": "deletedFile", "value": {"path": "absent"}}',
        b'{"key": "copyFile", "value": {"path": "a.txt"}}',
        b'{"key": "header", "value": {"parentCommit": "' + b"1" * 40 + b'"}}',
        b'{"key": "file", "value": {"path": "' + b"a" * 2000 + b'.txt", "content": "eHh4"}}',
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"key": "file", "value": {"path": "' + b"a" * 2_000_000 + b'", "content": "eHh4"}}', id="long"),
    ],
)  # fmt: skip
def test_commits_that_are_none_change_nothing(site: Site, line: bytes) -> None:
    who = site.token("ada")
    site.post("/api/repos/create", {"name": "strange"}, token=who)
    assert _commit(site, "ada/strange", who, {"README.md": b"# as it is\n"}).status == 200
    before = site.get("/api/models/ada/strange").body["sha"]
    answer = _commit(site, "ada/strange", who, {"new.txt": b"new"}, more=line + b"\n")
    assert 400 <= answer.status < 500, answer
    assert {"error", "code", "message", "remedy"} == answer.body.keys()
    assert answer.headers["x-error-message"]
    assert site.get("/api/models/ada/strange").body["sha"] == before
    assert site.ask("HEAD", "/ada/strange/resolve/main/new.txt").headers["x-error-code"] == "EntryNotFound"


def test_what_is_read_whole_has_a_limit(tmp_path: Path) -> None:
    with served(tmp_path / "dock", max_request=100_000) as site:
        who = site.token("ada")
        site.post("/api/repos/create", {"name": "x"}, token=who)
        body = json.dumps({"files": [{"path": "a" * 900, "size": 1}] * 200}).encode()
        for path in ("repos/create", "models/ada/x/preupload/main", "models/ada/x/paths-info/main", "validate-yaml"):
            assert (
                site.post(f"/api/{path}", body, token=who, headers={"Content-Type": "application/json"}).status == 413
            )
        assert site.post("/ada/x.git/info/lfs/objects/batch", body, token=who).status == 413
        assert _commit(site, "ada/x", who, {"a.txt": b"a" * 300_000}).status == 200, "a commit has its own"


def test_a_commit_has_limits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    who = site.token("small")
    site.post("/api/repos/create", {"name": "small"}, token=who)
    monkeypatch.setattr(hub_upload, "LARGE", 1000)
    too_large = _commit(site, "small/small", who, {"a.txt": b"x" * 1001})
    assert (too_large.status, "as LFS objects" in str(too_large.body)) == (400, True)
    site.service.people.set_quota(site.service.people.principal(site.operator()), "small", 100)
    assert _commit(site, "small/small", who, {"a.txt": b"x" * 101}).status == 413
    monkeypatch.setattr(type(site.service.holdings), "room", lambda *_: 0)
    long = b"\n".join([json.dumps({"key": "deletedFile", "value": {"path": "x" * 900}}).encode()] * 20_000)
    assert _commit(site, "small/small", who, {}, more=long).status == 413
    assert site.get("/api/models/small/small").body["sha"] == snapshot.EMPTY


def test_signed_addresses_are_for_one_thing_and_a_while(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    who, content = site.token("sue"), b"not much, but large for a test"
    site.post("/api/repos/create", {"name": "s"}, token=who)
    asked = {"operation": "upload", "transfers": ["basic"], "objects": [_object(content)]}

    def put(path: str, body: bytes = content) -> int:
        return site.ask("PUT", path, body).status

    batch = "/sue/s.git/info/lfs/objects/batch"
    for token, status in ((None, 401), (site.token("sue", "read"), 403), (site.token("bob"), 403)):
        assert site.post(batch, asked, token=token).status == status
    path = _upload_path(site, site.post(batch, asked, token=who).body)
    parts = urlsplit(path)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in (
        ("signature", "0" * 64), ("signature", "ä"), ("part", "1"), ("expires", "9" * 12), ("token", "1"), ("part", "x")
    ):  # fmt: skip
        assert put(f"{parts.path}?{urlencode({**query, name: value})}") == 403, name
    assert put(parts.path) == 400
    monkeypatch.setattr(addresses, "SECONDS", -1.0)
    assert put(_upload_path(site, site.post(batch, asked, token=who).body)) == 403
    monkeypatch.undo()
    assert put(path, b"other bytes") == 400
    assert put(_upload_path(site, site.post(batch, asked, token=who).body), content[::-1]) == 400
    path = _upload_path(site, site.post(batch, asked, token=who).body)
    assert put(path) == 200
    assert "actions" not in site.post(batch, asked, token=who).body["objects"][0]
    verify = "/sue/s.git/info/lfs/verify"
    assert site.post(verify, _object(content), token=who).status == 200
    assert site.post(verify, {**_object(content), "size": 1}, token=who).status == 400
    assert site.post(verify, _object(b"absent"), token=who).status == 404
    # Somebody else learns nothing from this: for them the same bytes are not there.
    site.post("/api/repos/create", {"name": "b"}, token=site.token("bob"))
    theirs = site.post("/bob/b.git/info/lfs/objects/batch", asked, token=site.token("bob")).body
    assert "actions" in theirs["objects"][0]
    path = _upload_path(site, theirs)
    people, bob = site.service.people, site.principal("bob")
    people.revoke_token(bob, bob.token)
    del site._tokens["bob", "write"]
    assert put(path) == 401, "whose token is ended cannot use what was signed for it"


def test_an_upload_that_is_sent_again_begins_anew(site: Site) -> None:
    """As clients do after an error: the same address, from the first byte."""
    who, content = site.token("tim"), bytes(range(256)) * 100
    site.post("/api/repos/create", {"name": "t"}, token=who)
    asked = {"transfers": ["basic"], "objects": [_object(content)]}
    path = _upload_path(site, site.post("/tim/t.git/info/lfs/objects/batch", asked, token=who).body)
    assert site.ask("PUT", path, content[:1000]).status == 400
    assert site.ask("PUT", path, content).status == 200


def test_an_object_that_has_no_room_is_refused_alone(site: Site) -> None:
    who = site.token("pia")
    site.post("/api/repos/create", {"name": "p"}, token=who)
    site.service.people.set_quota(site.service.people.principal(site.operator()), "pia", 1000)
    asked = {"objects": [_object(b"a" * 2000), _object(b"b" * 500)]}
    found = site.post("/pia/p.git/info/lfs/objects/batch", asked, token=who)
    assert found.status == 200
    assert found.body["objects"][0]["error"]["code"] == 413
    assert found.body["objects"][1]["actions"]["upload"]["href"].startswith(f"{site.url}/api/lfs/")


def test_bad_batches_are_refused(site: Site) -> None:
    who = site.token("ada")
    negative = {"objects": [{"oid": "0" * 64, "size": -1}]}
    for body in (
        *(b"", b"7", b"{}", b"\xff", b'{"objects": 7}', b'{"objects": [{"oid": "x", "size": 1}]}'),
        *(b'{"operation": "download", "objects": []}', json.dumps(negative).encode()),
    ):
        answer = site.post("/ada/bad.git/info/lfs/objects/batch", body, token=who)
        assert answer.status == 400, body
        assert {"error", "code", "message", "remedy"} == answer.body.keys()


def _object(content: bytes) -> dict[str, Any]:
    return {"oid": sha256_bytes(content), "size": len(content)}


def _upload_path(site: Site, batch: Any) -> str:
    return str(batch["objects"][0]["actions"]["upload"]["href"]).removeprefix(site.url)


def test_trees_come_in_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    who = site.token("ada")
    site.post("/api/repos/create", {"name": "pages"}, token=who)
    files = {f"notes/{i:02}.txt": b"%d" % i for i in range(7)} | {"README.md": b"# pages"}
    assert _commit(site, "ada/pages", who, files).status == 200
    seen, path = [], "/api/models/ada/pages/tree/main?recursive=true&limit=3"
    while path:
        answer = site.get(path)
        seen += [e["path"] for e in answer.body]
        link = answer.headers.get("link", "")
        path = link.partition(">")[0].removeprefix(f"<{site.url}")
    assert seen == sorted([*files, "notes"])
    assert [e["path"] for e in site.get("/api/models/ada/pages/tree/main").body] == ["README.md", "notes"]
    assert len(site.get("/api/models/ada/pages/tree/main/notes").body) == 7
    absent = site.get("/api/models/ada/pages/tree/main/absent")
    assert (absent.status, absent.headers["x-error-code"]) == (404, "EntryNotFound")
    assert len(site.get("/api/models/ada/pages/tree/refs%2Fheads%2Fmain/notes").body) == 7
    names, path = [], "/api/models?limit=2&author=ada"
    while path:
        answer = site.get(path)
        names += [m["id"] for m in answer.body]
        path = answer.headers.get("link", "").partition(">")[0].removeprefix(f"<{site.url}")
    assert "ada/pages" in names
    assert names == sorted(set(names))


def test_what_lies_in_the_dock_without_a_repository_is_given_out_too(tmp_path: Path) -> None:
    """An operator serves the folder that was filled by hand."""
    folder = make_learnware(tmp_path / "hand", "old/hand")
    open_dock(tmp_path / "dock").add(folder)
    with served(tmp_path / "dock") as site:
        pulled = hf(site, tmp_path / "home", None, "download", "old/hand", "--local-dir", tmp_path / "pulled")
        assert pulled.returncode == 0, pulled.stderr
        assert hashes(tmp_path / "pulled") == hashes(folder)
        digest = Manifest.from_bytes((folder / MANIFEST).read_bytes()).digest
        site.publish(make_learnware(tmp_path / "new", "ada/new"), site.token("ada"))
        assert [m["id"] for m in site.get("/api/models").body] == ["ada/new", "old/hand"]
        assert [m["id"] for m in site.get("/api/models?author=OLD&search=Han").body] == ["old/hand"]
        assert site.get("/api/models?limit=1&cursor=ada/new").body[0]["id"] == "old/hand"
        assert site.get(f"/api/models/old/hand/revision/{digest[:12]}").body["sha"] == digest[:40]
        for revision in ("other", digest[:3], "f" * 12):
            answer = site.get(f"/api/models/old/hand/revision/{revision}")
            assert (answer.status, answer.headers["x-error-code"]) == (404, "RevisionNotFound")


def test_visibility_can_be_changed_and_repositories_deleted(site: Site) -> None:
    who = site.token("ada")
    made = site.post("/api/repos/create", {"name": "gone", "visibility": "private"}, token=who)
    again = site.post("/api/repos/create", {"name": "gone", "organization": "ada"}, token=who)
    assert (made.status, again.status) == (200, 409)
    assert made.body["url"] == again.body["url"] == f"{site.url}/ada/gone"
    assert site.get("/api/models/ada/gone").status == 404
    assert site.ask("PUT", "/api/models/ada/gone/settings", {"private": False}, token=who).body == {"private": False}
    assert site.get("/api/models/ada/gone").body["private"] is False
    assert site.ask("PUT", "/api/models/ada/gone/settings", {}, token=who).status == 400
    assert site.ask("DELETE", "/api/repos/delete", {"name": "gone"}, token=site.token("bob")).status == 404
    assert site.ask("DELETE", "/api/repos/delete", {"name": "ada/gone"}, token=who).status == 200
    assert site.get("/api/models/ada/gone").status == 404
    assert site.post("/api/repos/create", {"name": "x", "type": "dataset"}, token=who).status == 400
    assert site.post("/api/repos/create", {"name": "nobody/x"}, token=who).status == 404
    assert site.post("/api/models/ada/bad/commit/dev", b"{}", token=who).headers["x-error-code"] == "RevisionNotFound"
    assert site.post("/api/models/ada/bad/commit/main?create_pr=1", b"{}", token=who).status == 400


def test_private_repositories_are_their_owners(site: Site, tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "mine", "ada/mine")
    ada, bob = site.token("ada"), site.token("bob")
    assert site.post("/api/repos/create", {"name": "mine", "visibility": "private"}, token=ada).status == 200
    assert _commit(site, "ada/mine", ada, _content(folder)).status == 200
    assert "ada/mine" in identified(site, ada)
    for token in (None, bob):
        assert "ada/mine" not in identified(site, token)
        for method, path in (
            ("GET", "/api/models/ada/mine"),
            ("GET", "/api/models/ada/mine/revision/main"),
            ("GET", "/api/models/ada/mine/tree/main"),
            ("GET", "/api/models/ada/mine/refs"),
            ("GET", "/api/models/ada/mine/commits/main"),
            ("GET", "/ada/mine/resolve/main/config.json"),
            ("HEAD", "/ada/mine/resolve/main/config.json"),
        ):
            answer = site.ask(method, path, token=token)
            assert (answer.status, answer.headers["x-error-code"]) == (404, "RepoNotFound"), path
        assert "ada/mine" not in str(site.get("/api/models", token=token).body)
    assert site.get("/ada/mine/resolve/main/config.json", token=ada).status == 200
    assert site.post("/api/models/ada/mine/preupload/main", {"files": []}, token=bob).status == 404
    site.post("/api/repos/create", {"name": "open"}, token=ada)
    assert site.post("/api/models/ada/open/preupload/main", {"files": []}, token=bob).status == 403
    assert site.post("/api/models/ada/mine/preupload/main", {"files": []}).status == 401
    assert site.post("/api/repos/create", {"name": "x"}, token=site.token("ada", "read")).status == 403


def test_a_download_goes_on_where_it_broke_off(site: Site, tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "long", "ada/long", numbers=3_200_000)
    assert site.publish(folder, site.token("ada")).status == 201
    whole = (folder / "model.safetensors").read_bytes()
    answers: list[tuple[int, int]] = []

    def break_off_once(heard: Heard, told: Told) -> Told:
        if heard.method != "GET" or not heard.path.endswith("/model.safetensors"):
            return told
        answers.append((told.status, len(told.body)))
        return replace(told, cut=12_000_000) if len(answers) == 1 else told

    with proxy(site.url, break_off_once) as between:
        found = program(
            *(site, tmp_path / "home", None, "pulled"),
            variables={"HF_ENDPOINT": between.url},
            repo="ada/long",
            file="model.safetensors",
        )
    assert found["sha256"] == sha256_file(folder / "model.safetensors")
    assert answers[0] == (200, len(whole))
    assert answers[1][0] == 206
    assert answers[1][1] <= len(whole) - 10_000_000


#: Clients before and after Xet became their only way for large files.
OLDER = ("1.19.0", "1.33.0")


@pytest.fixture(params=OLDER)
def older(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> tuple[str, Path]:
    """An older client in an environment of its own, which `make soak-hub` makes and pytest's cache keeps."""
    name = str(request.param)
    if "LEARNDOCK_SOAK" not in os.environ:
        pytest.skip(f"huggingface_hub {name} is tried by `make soak-hub`")
    place = pytestconfig.cache.mkdir("learndock-hub-clients") / name
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        for command in (
            [sys.executable, "-m", "venv", str(place)],
            [str(python), "-m", "pip", "install", "-q", f"huggingface_hub=={name}"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"huggingface_hub {name} cannot be had: {done.stderr[-300:]}")
        (place / "complete").touch()
    return name, python


def test_the_whole_journey_with_older_clients(
    site: Site, tmp_path: Path, older: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    version, python = older
    repo, token = f"max/{version}", site.token("max")
    folder = make_learnware(tmp_path / "words", repo)
    found = program(
        *(site, tmp_path / "home", token, "journey"),
        python=python, repo=repo, folder=str(folder), work=str(tmp_path),
    )  # fmt: skip
    assert found["version"] == version
    check_journey(site, found, folder, "max", repo)
    large_in_parts(monkeypatch)
    file = tmp_path / WEIGHTS
    save_file({"weight": np.random.default_rng(3).normal(size=MEGABYTE)}, file)
    sent = program(
        *(site, tmp_path / "home", token, "large"), python=python, repo=f"max/large-{version}", file=str(file)
    )
    assert sent["sha256"] == sent["pulled"] == sha256_file(file)


def large_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a megabyte is large, and six come in parts."""
    monkeypatch.setattr(snapshot, "LARGE", MEGABYTE)
    monkeypatch.setattr(lfs, "PART", 5 * MEGABYTE)
    monkeypatch.setattr(lfs, "IN_PARTS_ABOVE", 6 * MEGABYTE)


@pytest.mark.parametrize("xet", [False, True], ids=["without-xet", "with-xet"])
def test_large_files_come_as_lfs_objects_in_parts(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xet: bool
) -> None:
    large_in_parts(monkeypatch)
    file = tmp_path / WEIGHTS
    save_file({"weight": np.random.default_rng(xet).normal(size=(1 + 2 * xet) * MEGABYTE)}, file)
    found = program(
        *(site, tmp_path / "home", site.token("eve"), "large"),
        variables={} if xet else {"HF_HUB_DISABLE_XET": "1"},
        repo=f"eve/large-{xet}",
        file=str(file),
    )
    assert found["sha256"] == found["pulled"] == sha256_file(file)


def test_transformers_and_peft_load_from_the_dock(site: Site, tmp_path: Path) -> None:
    for needed in ("torch", "transformers", "peft"):
        if find_spec(needed) is None:
            pytest.skip(f"loads models, and {needed} is not installed")
    found = program(site, tmp_path / "home", site.token("tom"), "models", owner="tom", work=str(tmp_path))
    assert found["plain dock"] == found["plain here"]
    assert found["adapted dock"] == found["adapted here"] != found["plain here"]


@pytest.mark.slow
def test_a_space_and_the_base_of_an_adapter_come_from_a_hub_by_name(site: Site, tmp_path: Path) -> None:
    for needed in ("torch", "transformers", "peft", "onnxscript"):
        if find_spec(needed) is None:
            pytest.skip(f"loads models, and {needed} is not installed")
    from tests.support.causal import prompts, write_causal, write_causal_adapter

    lou, home = site.token("lou"), tmp_path / "home"
    base = write_causal(tmp_path / "writer", seed=6)
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    adapter = write_causal_adapter(tmp_path / "adapter", base, seed=1)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "lou/writer"}))
    rows = [{"prompt": p.text, "completion": ("goal", "sun")[about]} for p, about in zip(*prompts(16), strict=True)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    pushed = hf(site, home, lou, "upload", "lou/writer", base)
    assert pushed.returncode == 0, pushed.stderr

    def learndock(*arguments: str | Path) -> None:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("learndock")), *map(str, arguments)],
            env=environment(site, home, lou), capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    learndock("space", "build", "lou/writer", "-o", "writer-space", "--rank", "4")
    built = json.loads((tmp_path / "writer-space" / "space.json").read_text())["description"]
    assert (built["input"], built["helper"]["architecture"]) == ("generation", "llama")
    shutil.rmtree(base)
    learndock(
        "pack", adapter, "--name", "lou/weather", "--data", "rows.jsonl", "--space", "writer-space", "-o", "packed"
    )
    packed = json.loads((tmp_path / "packed" / MANIFEST).read_text())
    assert packed["base"]["name"] == "lou/writer"
    assert packed["settings"]["ends"] == [2, 7]


def test_too_many_files_are_refused_before_their_bytes_travel(tmp_path: Path) -> None:
    """Announced in two requests, as clients do with long lists; also what is in the repository counts."""
    with served(tmp_path / "dock", max_files=5) as site:
        token = site.token("ada")
        site.post("/api/repos/create", {"name": "many"}, token=token)
        line = {"key": "file", "value": {"path": "there.txt", "content": "aGk="}}
        assert site.post("/api/models/ada/many/commit/main", json.dumps(line).encode(), token=token).status == 200

        def announce(*names: str) -> Any:
            files = [{"path": name, "size": 3, "sample": ""} for name in names]
            return site.post("/api/models/ada/many/preupload/main", {"files": files}, token=token)

        assert announce("a", "b", "c", "there.txt").status == 200
        assert announce("a", "d").status == 200
        refused = announce("e", "f")
        assert refused.status == 422
        assert "7 files, and this service takes at most 5" in refused.headers["x-error-message"]
        assert "ada/many" in refused.headers["x-error-message"]
        assert announce("a").status == 200, "what was refused does not count any more"
        lines = [json.dumps({"key": "file", "value": {"path": f"{i}.txt", "content": "aGk="}}) for i in range(5)]
        refused = site.post("/api/models/ada/many/commit/main", "\n".join(lines).encode(), token=token)
        assert refused.status == 422
        assert "ada/many" in refused.headers["x-error-message"]
