"""Nothing of a name that the asker may not see is in any answer, whatever the names are and however they are alike."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learndock.package.manifest import Manifest
from learndock.spec import read_spec, write_spec
from learndock.spec.file import spec_to_bytes
from tests.support.docking import make_learnware, make_spec, seal
from tests.support.serving import Site, served

API = "/api/v1"
TASK = spec_to_bytes(make_spec(np.random.default_rng(3), kind="task"))
#: A part that no answer holds by itself.
SECRET = "zqx"
names = st.from_regex(r"zqx[a-z0-9]{0,6}(-[a-z0-9]{1,6})?", fullmatch=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("private") / "dock", rate=0) as site:
        yield site


def copied(source: Path, target: Path, name: str) -> Path:
    """Another learnware with the same spec: what the dock's gate refuses and says why."""
    shutil.copytree(source, target)
    (target / "README.md").write_text(f"# {name}, not the same\n")
    write_spec(read_spec(source / "specs" / "tiny.spec"), target / "specs" / "tiny.spec")
    seal(target, name)
    return target


def answers(site: Site, folder: Path, token: str | None, name: str) -> Iterator[Any]:
    """What the service says to somebody who tries to learn of ``name``, and publishes a copy of it."""
    asked: dict[str, Any] = {"token": token}
    for path in ("learnwares", "repositories", "spaces", "learnwares?include_manifest=true"):
        yield site.get(f"{API}/{path}", **asked)
    yield site.get("/api/models", **asked)
    yield site.post(f"{API}/identify", TASK, **asked)
    if token is None:
        return
    manifest = Manifest.from_folder(folder)
    yield site.publish(folder, token)
    # The same through a repository: what became of a commit is written down there.
    site.post(f"{API}/repositories", {"name": manifest.name}, token=token)
    add = {f.path: f.sha256 for f in manifest.files}
    add["learnware.json"] = site.upload(manifest.to_bytes(), token)
    yield site.post(f"{API}/repositories/{manifest.name}/commits", {"title": "x", "add": add}, token=token)
    yield site.get(f"{API}/repositories/{manifest.name}", **asked)
    yield site.get(f"/api/models/{manifest.name}", **asked)


@settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(own=names, tail=st.from_regex(r"-[a-z]{1,6}", fullmatch=True), draw=st.integers(0, 2**31))
def test_no_answer_holds_anything_of_a_private_name(
    site: Site, tmp_path_factory: pytest.TempPathFactory, own: str, tail: str, draw: int
) -> None:
    place = tmp_path_factory.mktemp("names")
    bob, ada = site.token("bob"), site.token("ada")
    # One name is the beginning of the other.
    hidden = [f"bob/{own}{draw}", f"bob/{own}{draw}{tail}"]
    folders = [make_learnware(place / f"{i}", name, seed=draw) for i, name in enumerate(hidden)]
    for folder in folders:
        assert site.publish(folder, bob, private=True).status == 201
    for i, source in enumerate(folders):
        name = f"ada/copy-{draw}-{i}"
        copy = copied(source, place / f"copy{i}", name)
        for token in (ada, None):
            refused = 0
            for answer in answers(site, copy, token, name):
                said = str(answer.body) + str(answer.headers)
                assert SECRET not in said, said
                assert tail + "'" not in said.replace(name, ""), said
                refused += answer.status == 422 and "private learnware" in said
            assert token is None or refused == 1, "the gate has compared the copy with what is hidden"
    for name in hidden:
        assert site.get(f"{API}/learnwares/{name}", token=bob).status == 200
        assert SECRET in str(site.get(f"{API}/learnwares", token=bob).body)
        assert site.get(f"{API}/learnwares/{name}", token=ada).status == 404
        site.ask("DELETE", f"{API}/learnwares/{name}", token=bob)


def test_a_note_does_not_keep_a_name_that_becomes_private(site: Site, tmp_path: Path) -> None:
    source = make_learnware(tmp_path / "first", "bob/zqxpublic", seed=11)
    bob, ada, name = site.token("bob"), site.token("ada"), "ada/note"
    assert site.publish(source, bob).status == 201
    copy = copied(source, tmp_path / "copy", name)
    assert site.publish(copy, ada).status == 422
    site.post(f"{API}/repositories", {"name": name}, token=ada)
    manifest = Manifest.from_folder(copy)
    add = {f.path: f.sha256 for f in manifest.files} | {"learnware.json": site.upload(manifest.to_bytes(), ada)}
    done = site.post(f"{API}/repositories/{name}/commits", {"title": "x", "add": add}, token=ada)
    assert "behaves as bob/zqxpublic" in done.body["repository"]["note"], "the committer sees what is public now"
    assert site.ask("PATCH", f"{API}/repositories/bob/zqxpublic", {"private": True}, token=bob).status == 200
    for path in (f"{API}/repositories/{name}", f"/api/models/{name}"):
        said = str(site.get(path, token=ada).body)
        assert "behaves as another owner's learnware" in said
        assert SECRET not in said


def test_an_owner_is_told_the_name_of_what_is_public(site: Site, tmp_path: Path) -> None:
    source = make_learnware(tmp_path / "open", "bob/open", seed=7)
    assert site.publish(source, site.token("bob")).status == 201
    answer = site.publish(copied(source, tmp_path / "copy", "ada/again"), site.token("ada"))
    assert answer.status == 422
    assert "bob/open" in answer.body["error"]["message"]
    assert "make the spec on examples of your own" in answer.body["error"]["remedy"]
