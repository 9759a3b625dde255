"""What hub clients ask for and a dock does not have, and what it asks them to leave out: told, never passed over."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from learndock.errors import PackageError, UsageError
from learndock.http.hub.unsupported import NOT_HERE, NOT_OF_A_MODEL
from learndock.service.left_out import is_training_state
from learndock.service.people import check_owner_name
from tests.support.serving import Site, served


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("refusals") / "dock") as site:
        ada = site.token("ada")
        site.post("/api/repos/create", {"name": "open"}, token=ada)
        site.post("/api/repos/create", {"name": "mine", "private": True}, token=ada)
        yield site


def commit(site: Site, repo: str, files: dict[str, bytes]) -> Any:
    """Commit as a client does that asks for nothing before."""
    lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": "x"}}]
    for path, content in files.items():
        value = {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}
        lines.append({"key": "file", "value": value})
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return site.post(f"/api/models/{repo}/commit/main", body, token=site.token(repo.partition("/")[0]))


@pytest.mark.parametrize("kind", NOT_HERE)
def test_what_a_dock_does_not_keep_is_refused_with_the_reason(site: Site, kind: str) -> None:
    answer = site.get(f"/api/{kind}?limit=3")
    assert answer.status == 400
    assert answer.headers["x-error-message"].startswith(NOT_HERE[kind][0])
    assert answer.body["error"] == "; ".join(NOT_HERE[kind])
    named = site.get(f"/api/{kind}/ada/x")
    missing = kind in ("datasets", "spaces", "kernels", "buckets")
    assert (named.status, named.headers.get("x-error-code")) == ((404, "RepoNotFound") if missing else (400, None))


@pytest.mark.parametrize("part", NOT_OF_A_MODEL)
def test_what_a_model_does_not_have_is_refused_to_those_who_see_it(site: Site, part: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert site.ask(method, f"/api/models/ada/open/{part}/1").status == 400
        hidden = site.ask(method, f"/api/models/ada/mine/{part}")
        assert (hidden.status, hidden.headers["x-error-code"]) == (404, "RepoNotFound")
    assert NOT_OF_A_MODEL[part][0] in site.get(f"/api/models/ada/mine/{part}", token=site.token("ada")).body["error"]


def test_who_may_read_and_write_is_told(site: Site) -> None:
    ada, bob = site.token("ada"), site.token("bob")
    for token, read, write in ((ada, 200, 200), (bob, 404, 404), (None, 404, 401)):
        assert site.get("/api/models/ada/mine/auth-check", token=token).status == read
        assert site.get("/api/models/ada/mine/auth-check/write", token=token).status == write
    assert site.get("/api/models/ada/open/auth-check").status == 200
    assert site.get("/api/models/ada/open/auth-check/write", token=bob).status == 403


def test_an_empty_repository_has_no_file_rather_than_no_branch(site: Site) -> None:
    for revision in ("main", "HEAD", "refs%2Fheads%2Fmain", "0" * 40):
        answer = site.get(f"/ada/open/resolve/{revision}/README.md")
        assert (answer.status, answer.headers["x-error-code"]) == (404, "EntryNotFound")
        assert answer.headers["x-repo-commit"] == "0" * 40
    assert site.get("/ada/open/resolve/dev/README.md").headers["x-error-code"] == "RevisionNotFound"


STATE = ["training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_3.pth", "scaler.pt",
         "checkpoint-500/optimizer.bin", "runs/x/events.out.tfevents.1.host.2.0", "random_states_0.pkl"]  # fmt: skip
MODEL = ["pytorch_model.bin", "model.safetensors", "my_optimizer.pt", "optimizer.json", "trainer_state.json", "a.pkl"]


def test_the_state_of_a_training_run_is_to_be_left_out_and_refused_where_it_is_not(site: Site) -> None:
    ada = site.token("ada")
    asked = {"files": [{"path": p, "size": 3, "sample": "eHh4"} for p in STATE + MODEL]}
    answer = site.post("/api/models/ada/open/preupload/main", asked, token=ada)
    assert [f["path"] for f in answer.body["files"] if f["shouldIgnore"]] == STATE
    assert "training_args.bin" in answer.headers["x-hf-warning"]
    assert "and 4 more" in answer.headers["x-hf-warning"]
    assert not any(map(is_training_state, MODEL))
    hostile = commit(site, "ada/open", {"training_args.bin": b"\x80\x04.", "README.md": b"# x"})
    assert (hostile.status, hostile.body["code"]) == (422, "unsafe_model")
    assert site.get("/api/models/ada/open").body["siblings"] == []


@pytest.mark.parametrize("name", ["resolve", "Health", "docs", "login", "robots.txt", "favicon.ico", "api", "v2"])
def test_names_that_addresses_need_are_nobodys(name: str) -> None:
    with pytest.raises(UsageError, match="reserved"):
        check_owner_name(name)


def test_a_repository_is_not_called_as_git_calls_it(site: Site) -> None:
    answer = site.post("/api/repos/create", {"name": "x.git"}, token=site.token("ada"))
    assert (answer.status, answer.body["code"]) == (422, "package_error")
    with pytest.raises(PackageError, match=r"\.git"):
        site.service.repositories.create(site.principal("ada"), "ada/X.GIT")


@pytest.mark.parametrize("path", ["CON.txt", "a/nul", "a/Com1.json", "aux.d/x.txt", "PRN .txt"])
def test_files_that_windows_cannot_hold_are_refused(site: Site, path: str) -> None:
    answer = commit(site, "ada/open", {path: b"x", "README.md": b"# x"})
    assert answer.status == 422
    assert "Windows" in answer.body["message"]


@pytest.mark.parametrize("base", ["/home/ada/bert", "../bert", "https://models.example/bert", "a/b/c", 7])
def test_an_adapter_names_its_base_and_no_place(site: Site, base: object) -> None:
    config = json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}).encode()
    answer = commit(site, "ada/open", {"checkpoint-1/adapter_config.json": config})
    assert (answer.status, answer.body["code"]) == (422, "package_error")
    assert "OWNER/NAME" in answer.body["remedy"]


def test_of_an_empty_file_the_first_byte_can_be_asked_for(site: Site, tmp_path: Path) -> None:
    """As hub clients in Rust do, to learn the size from Content-Range."""
    site.post("/api/repos/create", {"name": "empty"}, token=site.token("ada"))
    assert commit(site, "ada/empty", {"empty.txt": b"", "one.txt": b"1"}).status == 200
    for path, asked, status, length in (
        ("empty.txt", "bytes=0-0", 200, "bytes */0"), ("empty.txt", "bytes=0-", 200, "bytes */0"),
        ("empty.txt", "bytes=1-", 416, "bytes */0"), ("one.txt", "bytes=0-0", 206, "bytes 0-0/1"),
        ("one.txt", "bytes=1-", 416, "bytes */1"),
    ):  # fmt: skip
        answer = site.get(f"/ada/empty/resolve/main/{path}", headers={"Range": asked})
        assert (answer.status, answer.headers["content-range"]) == (status, length), (path, asked)
