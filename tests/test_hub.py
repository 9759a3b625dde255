"""The hub's protocol, asked by the real clients: whatever they send today, and what they sent some versions ago."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from docking import make_learnware, make_spec
from hub_clients import hashes
from learndock.files import sha256_file
from learndock.http.hub import lfs, snapshot
from learndock.package.manifest import MANIFEST, Manifest
from learndock.spec.file import spec_to_bytes
from proxy import Heard, Told, proxy
from serving import Site, served

pytest.importorskip("huggingface_hub", reason="asks with the hub's clients")
PROGRAMS = Path(__file__).with_name("hub_clients.py")
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("hub") / "dock") as site:
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
    done = subprocess.run(
        [str(python), str(PROGRAMS), name, json.dumps(arguments)],
        env=environment(site, home, token, **(variables or {})),
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
    assert found["files"] == sorted([*files, "docs/notes.md"])
    assert found["tree"] == sorted({f.partition("/")[0] for f in found["files"]})
    assert found["info"] == found["added"] == found["branches"][0] != found["first"]
    assert sorted(found["paths"]) == ["config.json", "docs"]
    assert found["commits"][-1] == "All of it"
    assert found["snapshot"] == hashes(folder)
    assert found["absent"] in ("EntryNotFoundError", "RemoteEntryNotFoundError")
    assert found["absent revision"] == "RevisionNotFoundError"
    assert found["absent repository"] == found["without an owner"] == "RepositoryNotFoundError"
    assert found["left"] == files
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
    assert hf(site, home, bob, "upload", "bob/later", folder).returncode == 0
    model = site.get("/api/models/bob/later").body
    assert model["learndock"]["version"] is None
    assert "a plain model" in model["learndock"]["note"]
    assert "bob/later" not in identified(site)
    for file, content in zip(late, kept, strict=True):
        file.write_bytes(content)
    assert hf(site, home, bob, "upload", "bob/later", folder).returncode == 0
    assert "bob/later" in identified(site)
    assert site.get("/api/models/bob/later").body["learndock"] == {
        "version": site.get("/api/v1/learnwares/bob/later").body["version"],
        "note": None,
    }


def test_what_could_run_code_is_refused_and_the_person_told(site: Site, tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "bad", "ada/bad")
    (folder / "modeling.py").write_text("print('hello')\n")
    pushed = hf(site, tmp_path / "home", site.token("ada"), "upload", "ada/bad", folder)
    assert pushed.returncode != 0
    assert "code is never part of a learnware" in " ".join(pushed.stderr.split())
    assert site.get("/api/models/ada/bad").body["siblings"] == []


def test_private_repositories_are_their_owners(site: Site, tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "mine", "ada/mine")
    ada, bob = site.token("ada"), site.token("bob")
    pushed = hf(site, tmp_path / "home", ada, "upload", "ada/mine", folder, "--private")
    assert pushed.returncode == 0, pushed.stderr
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
    assert site.post("/api/models/ada/words/preupload/main", {"files": []}, token=bob).status == 403
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


@pytest.mark.parametrize("xet", [False, True], ids=["without-xet", "with-xet"])
def test_large_files_come_as_lfs_objects_in_parts(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xet: bool
) -> None:
    monkeypatch.setattr(snapshot, "LARGE", MEGABYTE)
    monkeypatch.setattr(lfs, "PART", 5 * MEGABYTE)
    monkeypatch.setattr(lfs, "IN_PARTS_ABOVE", 6 * MEGABYTE)
    file = tmp_path / "model.safetensors"
    save_file({"weight": np.random.default_rng(xet).normal(size=(1 + 2 * xet) * MEGABYTE)}, file)
    found = program(
        *(site, tmp_path / "home", site.token("eve"), "large"),
        variables={} if xet else {"HF_HUB_DISABLE_XET": "1"},
        repo=f"eve/large-{xet}",
        file=str(file),
    )
    assert found["sha256"] == found["pulled"] == sha256_file(file)
    if xet:
        assert "HF_HUB_DISABLE_XET=1" in found["refusal"]
    else:
        assert "refusal" not in found


def test_transformers_and_peft_load_from_the_dock(site: Site, tmp_path: Path) -> None:
    for needed in ("torch", "transformers", "peft"):
        if find_spec(needed) is None:
            pytest.skip(f"loads models, and {needed} is not installed")
    found = program(site, tmp_path / "home", site.token("tom"), "models", owner="tom", work=str(tmp_path))
    assert found["plain dock"] == found["plain here"]
    assert found["adapted dock"] == found["adapted here"] != found["plain here"]
