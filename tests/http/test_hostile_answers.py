"""Hostile learnwares over HTTP: each is refused in our shape, and no answer says where the service keeps its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from learndock.files import sha256_bytes
from tests.support import corpus
from tests.support.corpus import Hostile
from tests.support.serving import Site, served

API = "/api/v1"
CASES = corpus.cases()
#: One of each kind, and every fifteenth of all: the corpus has its own tests at every other door.
SOME = list({c.name: c for c in [*{c.kind: c for c in CASES}.values(), *CASES[::15]]}.values())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("hostile") / "dock-of-the-service", rate=0) as site:
        yield site


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.write_sound(tmp_path_factory.mktemp("sound"))


@pytest.mark.parametrize("case", SOME, ids=[c.name for c in SOME])
def test_no_answer_names_a_folder_of_the_service(site: Site, sound: Path, tmp_path: Path, case: Hostile) -> None:
    token = site.token("mallory")
    folder = case.learnware(tmp_path / "hostile", sound, tmp_path / "canary")
    contents = {
        sha256_bytes(content): content
        for path in folder.rglob("*")
        if not path.is_dir() and path.name != "learnware.json"
        for content in [path.read_bytes() if path.is_file() and not path.is_symlink() else b""]
    }
    for content in contents.values():
        site.upload(content, token)
    source = (folder / "learnware.json").read_bytes()
    try:
        body: object = {"manifest": json.loads(source)}
    except (ValueError, RecursionError):
        body = source
    answers = [site.post(f"{API}/learnwares", body, token=token, headers={"Content-Type": "application/json"})]
    # Bit by bit: a commit of the same files, which a plain model would be held to as well.
    name = f"mallory/plain-{sha256_bytes(case.name.encode())[:12]}"
    site.post(f"{API}/repositories", {"name": name}, token=token)
    add = {f"file-{number}{path.suffix}": sha256_bytes(path.read_bytes())
           for number, path in enumerate(sorted(folder.rglob("*")))
           if path.is_file() and not path.is_symlink() and path.name != "learnware.json"}  # fmt: skip
    answers.append(site.post(f"{API}/repositories/{name}/commits", {"title": "x", "add": add}, token=token))
    answers.append(site.get(f"{API}/repositories/{name}", token=token))
    assert 400 <= answers[0].status < 500, answers[0]
    for answer in answers:
        said = str(answer.body) + str(answer.headers)
        assert str(site.service.folder) not in said
        assert "dock-of-the-service" not in said
        assert "view-" not in said
    assert not (tmp_path / "canary").exists(), "a payload ran"
