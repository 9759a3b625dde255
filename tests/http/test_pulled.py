"""GGUF models as ollama and llama.cpp ask for them, git, and discovery by agents, each through a real server."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from safetensors.numpy import save

from learndock.files import sha256_bytes, sha256_file
from learndock.package.manifest import MANIFEST, File, Manifest, SpecFile
from tests.http.test_hub import program
from tests.support.causal import gguf_bytes
from tests.support.docking import SPACE_ID, make_learnware
from tests.support.serving import Site, served

#: The program of the package hf-discover, which needs an environment of its own.
DISCOVER = os.environ.get("LEARNDOCK_HF_DISCOVER") or shutil.which("hf-discover")
ACCEPT = {"Accept": "application/vnd.docker.distribution.manifest.v2+json", "User-Agent": "ollama/0.9.7 (amd64 linux)"}


def gguf(seed: int) -> bytes:
    numbers = hashlib.sha256(str(seed).encode()).digest() * 40
    return gguf_bytes({"general.architecture": "llama", "x.y": seed}, {"a": ((10, 32), 0, numbers)})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("pulled")
    with served(place / "dock") as site:
        token = site.token("ada")
        for name, private in (("small", False), ("own", True), ("parts", False)):
            site.post("/api/v1/repositories", {"name": f"ada/{name}", "private": private}, token=token)
        commit(site, "ada/small", {"x-Q8_0.gguf": gguf(1), "x-Q4_K_M.gguf": gguf(2), "README.md": b"# x\n"})
        commit(site, "ada/own", {"x.gguf": gguf(3)})
        commit(site, "ada/parts", {"x-00001-of-00002.gguf": gguf(4)})
        site.publish(make_learnware(place / "words", "ada/words"), token)
        site.publish(make_learnware(place / "hidden", "ada/hidden"), token, private=True)
        yield site


def commit(site: Site, name: str, files: dict[str, bytes]) -> None:
    token = site.token("ada")
    add = {path: site.upload(content, token) for path, content in files.items()}
    done = site.post(f"/api/v1/repositories/{name}/commits", {"title": "x", "add": add}, token=token)
    assert done.status == 201, done


def ollama_pull(site: Site, name: str, tag: str) -> dict[str, bytes]:
    """What ``ollama pull`` asks, in its order, without a token; returns the bytes of each layer by its kind.

    As in ollama's server/images.go and server/download.go, read at v0.9.7-rc1: the address of the parts is that of the
    header ``Location``, also of an answer with the status 200, and parts are asked for with Range.
    """
    got = site.get(f"/v2/{name}/manifests/{tag}", headers=ACCEPT)
    assert got.status == 200, got
    manifest, found = json.loads(got.body), {}
    assert manifest["schemaVersion"] == 2
    for layer in (*manifest["layers"], manifest["config"]):
        path = f"/v2/{name}/blobs/{layer['digest']}"
        total = int(site.ask("HEAD", path).headers["content-length"])
        assert total == layer["size"]
        direct = urlsplit(site.get(path).headers["location"])
        assert f"{direct.scheme}://{direct.netloc}" == site.url
        pieces, step = [], max(total // 3, 1)
        for start in range(0, total, step):
            last = min(start + step, total) - 1
            part = site.get(direct.path, headers={"Range": f"bytes={start}-{last}"})
            body = part.body if isinstance(part.body, bytes) else json.dumps(part.body).encode()
            if part.status == 200:  # a small one, whole
                pieces = [body]
                break
            pieces.append(body)
        content = b"".join(pieces)
        assert f"sha256:{sha256_bytes(content)}" == layer["digest"]
        found[layer["mediaType"].rpartition(".")[2]] = content
    return found


def test_ollama_pulls_a_gguf_model(site: Site) -> None:
    latest = ollama_pull(site, "ada/small", "latest")
    assert latest["model"] == gguf(2), "Q4_K_M comes first"
    settings = json.loads(latest["v1+json"])
    assert (settings["model_format"], settings["model_family"], settings["file_type"]) == ("gguf", "llama", "Q4_K_M")
    assert ollama_pull(site, "ada/small", "Q8_0")["model"] == gguf(1)
    head = site.get("/api/v1/repositories/ada/small/commits").body["commits"][0]["id"]
    assert ollama_pull(site, "ada/small", head)["model"] == gguf(2)


def test_what_ollama_cannot_pull_says_why(site: Site) -> None:
    words = site.get("/v2/ada/words/manifests/latest", headers=ACCEPT)
    assert (words.status, "GGUF" in str(words.body), "hf download" in str(words.body)) == (400, True, True)
    parts = site.get("/v2/ada/parts/manifests/latest", headers=ACCEPT)
    assert (parts.status, "several parts" in str(parts.body)) == (400, True)
    for path in ("small/manifests/Q2_K", "absent/manifests/latest", "own/manifests/latest", "hidden/manifests/latest"):
        assert site.get(f"/v2/ada/{path}", headers=ACCEPT).status == 404
    own = site.get("/v2/ada/own/manifests/latest", token=site.token("ada"))
    digest = json.loads(own.body)["layers"][0]["digest"]
    assert site.get(f"/v2/ada/own/blobs/{digest}").status == 404
    assert site.get(f"/v2/ada/small/blobs/{digest}").status == 404, "each model has its own files only"
    assert site.get(f"/v2/ada/own/blobs/{digest}", token=site.token("ada")).body == gguf(3)


def test_llama_cpp_finds_files_in_both_of_its_ways(site: Site) -> None:
    """Up to b8600 by a manifest, since then by refs and tree: common/download.cpp and common/hf-cache.cpp."""
    old = site.get("/v2/ada/small/manifests/latest", headers={"User-Agent": "llama-cpp", "Accept": "application/json"})
    file = json.loads(old.body)["ggufFile"]["rfilename"]
    assert site.get(f"/ada/small/resolve/main/{file}").body == gguf(2)
    branches = site.get("/api/models/ada/small/refs").body["branches"]
    commit_id = next(b["targetCommit"] for b in branches if b["name"] == "main")
    assert len(commit_id) == 40
    tree = site.get(f"/api/models/ada/small/tree/{commit_id}?recursive=true").body
    found = {e["path"]: e.get("lfs", e)["oid"] for e in tree if e["type"] == "file"}
    assert {len(oid) for oid in found.values()} <= {40, 64}
    path = f"/ada/small/resolve/{commit_id}/x-Q8_0.gguf"
    head = site.ask("HEAD", path)
    assert (head.status, head.headers["accept-ranges"]) == (200, "bytes")
    assert int(head.headers["content-length"]) == len(gguf(1))
    rest = site.get(path, headers={"Range": "bytes=100-"})
    assert (rest.status, rest.body) == (206, gguf(1)[100:])


def test_versions_are_tags(tmp_path: Path) -> None:
    """A learnware that the operator added, in two versions."""
    with served(tmp_path / "dock") as site:
        for seed in (1, 2):
            folder = make_learnware(tmp_path / f"v{seed}", "ada/model", seed=seed)
            for file in folder.glob("*.*"):
                file.unlink()
            (folder / "m.gguf").write_bytes(gguf(seed))
            put_version(site, folder)
        for tag, seed in (("latest", 2), ("v1", 1), ("v2", 2)):
            assert ollama_pull(site, "ada/model", tag)["model"] == gguf(seed)


def put_version(site: Site, folder: Path) -> None:
    """Publish without the checks of the format, which want a complete language model."""
    from learndock.dock.admission import Admitted

    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    manifest = Manifest(
        name="ada/model",
        format="gguf",
        task={"type": "classification", "labels": ["bad", "good"]},
        specs=(SpecFile(path="specs/tiny.spec", space="tiny", space_id=SPACE_ID),),
        files=tuple(File(path=str(p.relative_to(folder)), size=p.stat().st_size, sha256=sha256_file(p)) for p in files),
    )
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    site.service.dock.publish(Admitted(folder, manifest), vouched=True)


def test_vllm_finds_adapters_as_its_resolver_asks(site: Site, tmp_path: Path) -> None:
    """Replayed with the hub's client. The resolver of the vllm 0.33.0 wheel itself was run against a dock by hand."""
    pytest.importorskip("huggingface_hub", reason="asks with the hub's client")
    settings = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 4}).encode()
    weights = save({"lora_A.weight": np.ones((4, 8), np.float32)})
    token = site.token("ada")
    for name, private in (("adapter", False), ("secret-adapter", True)):
        site.post("/api/v1/repositories", {"name": f"ada/{name}", "private": private}, token=token)
    adapter = {"adapter_config.json": settings, "adapter_model.safetensors": weights}
    commit(site, "ada/adapter", {**adapter, **{f"german/{p}": c for p, c in adapter.items()}})
    commit(site, "ada/secret-adapter", adapter)
    asked = {p: sha256_bytes(c) for p, c in adapter.items()}

    def resolve(token: str | None, *names: tuple[str, str]) -> list[Any]:
        return list(program(site, tmp_path / f"home{len(names)}", token, "resolve_lora", asked=names)["found"])

    root, german, french, other = resolve(
        None,
        ("ada/adapter", "org/base"),
        ("ada/adapter/german", "org/base"),
        ("ada/adapter/french", "org/base"),
        ("ada/adapter", "org/other"),
    )
    assert asked.items() <= root.items()
    assert (german, french, other) == (asked, None, None)
    assert resolve(token, ("ada/secret-adapter", "org/base")) == [asked]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("address", ["ada/words.git", "ada/words", "ada/absent"])
def test_git_shows_what_to_do(site: Site, address: str, tmp_path: Path) -> None:
    for words in (["clone", f"{site.url}/{address}", str(tmp_path / "x")], ["ls-remote", f"{site.url}/{address}"]):
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_TERMINAL_PROMPT": "0"}
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode != 0
        assert f"hf download {address.removesuffix('.git')}" in done.stderr, done.stderr


# --- discovery -----------------------------------------------------------------------------------------------


def searched(site: Site, text: str, token: str | None = None, **more: Any) -> list[dict[str, Any]]:
    found = site.post("/search", {"query": {"text": text, **more.pop("query", {})}, **more}, token=token)
    assert found.status == 200, found
    return list(found.body["results"])


def test_an_agent_finds_learnwares_by_words(site: Site) -> None:
    for path in ("/.well-known/ard.json", "/.well-known/ai-catalog.json"):
        (entry,) = site.get(path).body["entries"]
        assert (entry["type"], entry["url"]) == ("application/ai-registry+json", site.url)
    (found,) = searched(site, "help me find a model that says good or bad words")
    assert (found["displayName"], found["score"] > 0, found["source"]) == ("ada/words", True, site.url)
    assert site.get(urlsplit(found["url"]).path).body["name"] == "ada/words"
    entry = site.get(f"/agents/{quote(found['identifier'], safe='')}").body
    assert entry["representativeQueries"]
    assert {k: v for k, v in found.items() if k not in ("score", "source")}.items() <= entry.items()
    own = searched(site, "good", token=site.token("ada"))
    assert {r["displayName"] for r in own} == {"ada/words", "ada/hidden"}
    first = site.post("/search", {"query": {"text": "good"}, "pageSize": 1}, token=site.token("ada")).body
    second = searched(site, "good", token=site.token("ada"), pageSize=1, pageToken=first["pageToken"])
    assert [first["results"][0]["displayName"], second[0]["displayName"]] == ["ada/words", "ada/hidden"]
    assert searched(site, "good", query={"filter": {"type": ["application/mcp-server-card+json"]}}) == []
    assert searched(site, "good", query={"filter": {"metadata.format": "transformers"}})
    hidden = found["identifier"].replace("words", "hidden")
    assert site.get(f"/agents/{quote(hidden, safe='')}").status == 404
    assert site.get("/agents/words").status == 400
    assert site.post("/search", {"query": {"text": "good", "filter": {"nonsense": "x"}}}).status == 400
    assert site.post("/search", {"query": {"text": "the of"}}).status == 400
    assert site.post("/explore", {}).status == 501


@pytest.mark.skipif(DISCOVER is None, reason="needs hf-discover, in an environment of its own (LEARNDOCK_HF_DISCOVER)")
def test_hf_discover_finds_learnwares(site: Site, tmp_path: Path) -> None:
    def discover(*words: str) -> dict[str, Any]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(
            [str(DISCOVER), *words, "--json"], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    found = discover("search", "--registry-url", site.url, "good or bad")
    assert [r["displayName"] for r in found["results"]] == ["ada/words"]
    own = discover("search", "--registry-url", site.url, "good", "--token", site.token("ada"))
    assert {r["displayName"] for r in own["results"]} == {"ada/words", "ada/hidden"}
    navigated = discover("navigate", site.url, "good or bad")
    assert [r["displayName"] for r in navigated["results"]] == ["ada/words"]
    assert all(d["status"] != "error" for d in navigated["discovered"])
