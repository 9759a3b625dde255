"""What hub clients and `learndock get` give under one name is the same bytes, version by version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from learndock.dock.remote.dock import RemoteDock
from tests.http.test_hub import hf
from tests.support.docking import make_learnware
from tests.support.hub_clients import hashes
from tests.support.serving import Site, served


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("versions") / "dock") as site:
        yield site


def test_a_push_publishes_a_version_and_both_ways_give_the_same(site: Site, tmp_path: Path) -> None:
    ada, home = site.token("ada"), tmp_path / "home"
    for seed in (0, 1):
        folder = make_learnware(tmp_path / f"v{seed + 1}", "ada/two", seed=seed)
        pushed = hf(site, home, ada, "upload", "ada/two", folder)
        assert pushed.returncode == 0, pushed.stderr
    tagged = hf(site, home, ada, "repos", "tag", "create", "ada/two", "first", "--revision", "v1")
    assert tagged.returncode == 0, tagged.stderr
    dock = RemoteDock(site.url, token=ada)
    for reference, revision, seed in (
        ("", "main", 1),
        ("@latest", "main", 1),
        ("@v1", "v1", 0),
        ("@first", "first", 0),
    ):
        there = tmp_path / f"hub-{revision}{reference}"
        pulled = hf(site, home, None, "download", "ada/two", "--revision", revision, "--local-dir", there)
        assert pulled.returncode == 0, pulled.stderr
        here = dock.get(f"ada/two{reference}", tmp_path / f"get-{revision}{reference}")
        assert hashes(there) == hashes(here), reference
        assert hashes(there)["model.safetensors"] == hashes(tmp_path / f"v{seed + 1}")["model.safetensors"]


def test_a_push_that_would_leave_no_learnware_fails_visibly(site: Site, tmp_path: Path) -> None:
    ada = site.token("ada")
    folder = make_learnware(tmp_path / "whole", "ada/whole")
    assert hf(site, tmp_path / "home", ada, "upload", "ada/whole", folder).returncode == 0
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    pushed = hf(site, tmp_path / "home", ada, "upload", "ada/whole", tmp_path / "config.json", "config.json")
    assert pushed.returncode != 0
    assert "learnware.json" in pushed.stderr
    assert [t["name"] for t in site.get("/api/models/ada/whole/refs").body["tags"] if t["name"] != "latest"] == ["v1"]
