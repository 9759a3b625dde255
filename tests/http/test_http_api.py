"""The service end to end: somebody publishes, others see it or do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from learndock.spec.file import spec_to_bytes
from tests.support.docking import make_learnware, make_spec
from tests.support.serving import Site, served


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("site") / "dock") as site:
        yield site


def test_published_found_and_taken(site: Site, tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "good", "ada/good")
    ada = site.token("ada")
    made = site.publish(folder, ada)
    assert made.status == 201, made
    assert site.publish(folder, ada).status == 200
    assert site.get("/api/v1/learnwares/ada/good").body["id"] == made.body["id"]
    (version,) = site.get("/api/v1/learnwares/ada/good/versions").body["versions"]
    assert (version["digest"], len(version["commits"])) == (made.body["digest"], 1)
    file = site.get("/api/v1/learnwares/ada/good/files/model.safetensors")
    assert (file.status, file.body) == (200, (folder / "model.safetensors").read_bytes())
    part = site.get("/api/v1/learnwares/ada/good/files/model.safetensors", headers={"Range": "bytes=5-9"})
    assert (part.status, part.body) == (206, file.body[5:10])
    task = make_spec(np.random.default_rng(1), kind="task")
    found = site.post("/api/v1/identify", spec_to_bytes(task))
    assert found.status == 200, found
    assert found.body["searched"] == 1


def test_what_is_private_is_not_there_for_others(site: Site, tmp_path: Path) -> None:
    ada, bob = site.token("ada"), site.token("bob")
    assert site.publish(make_learnware(tmp_path / "mine", "ada/mine"), ada, private=True).status == 201
    for token in (None, bob):
        for path in ("learnwares/ada/mine", "learnwares/ada/mine/files/model.safetensors", "repositories/ada/mine"):
            answer = site.get(f"/api/v1/{path}", token=token)
            assert answer.status == 404, answer
            assert answer.body["error"]["code"] == "not_found"
    assert site.get("/api/v1/learnwares/ada/mine", token=ada).status == 200
