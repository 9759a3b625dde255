"""A dock of the build before versions (0.1.0), opened by this one: nothing is lost. And the way back.

The earlier build is taken from git's history, and fills and backs up a dock with its own code. Part of ``make
soak-upgrade``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from learndock.files import sha256_bytes
from tests.support import engines
from tests.support.docking import make_learnware
from tests.support.serving import Site, served

ROOT = Path(__file__).parents[2]
#: The last commit whose docks have one content per name.
OLD = "ac3a1873f62be6c88982d3c7e2c5c4e79a280652"
PROGRAM = ROOT / "tests" / "support" / "old_dock.py"
CLI = "from learndock.cli import main; main()"

pytestmark = pytest.mark.skipif(
    "LEARNDOCK_SOAK" not in os.environ, reason="builds an earlier learndock: make soak-upgrade"
)


@dataclass
class Old:
    """A dock that the earlier build made: what was there, and how both builds reach it."""

    tree: Path
    folder: Path
    settings: dict[str, Any]
    facts: dict[str, Any]
    backup: Path

    def run(self, *words: str | Path, tree: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``learndock`` of the earlier build, or of the one in ``tree``."""
        known = {f"LEARNDOCK_{k.upper()}": str(v) for k, v in self.settings.items()}
        return call(tree or self.tree, ["-c", CLI, *map(str, words)], **known)


def call(tree: Path, words: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LEARNDOCK_", "HF_"))}
    environment = {**kept, "PYTHONPATH": os.pathsep.join([str(tree / "src"), str(tree)]), **more}
    return subprocess.run(
        [sys.executable, *words], cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The earlier build's files."""
    place = tmp_path_factory.mktemp("old-build")
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", OLD], capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"git does not have {OLD[:7]} here: {archive.stderr.decode()[:200]}")
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive.stdout, check=True)
    return place


@pytest.fixture(params=["folder", "server-backed"])
def old(request: pytest.FixtureRequest, tree: Path, tmp_path: Path) -> Iterator[Old]:
    if request.param == "folder":
        yield made(tree, tmp_path, {})
        return
    with engines.postgres() as url, engines.seaweed() as s3:
        yield made(tree, tmp_path, {
            "database": url, "objects": "s3://tests/dock", "objects_endpoint": s3.endpoint,
            "objects_key": engines.KEY, "objects_secret": engines.SECRET,
        })  # fmt: skip


def made(tree: Path, place: Path, settings: dict[str, Any]) -> Old:
    done = call(tree, [str(PROGRAM), str(place / "dock"), json.dumps(settings)])
    assert done.returncode == 0, done.stderr[-3000:]
    found = Old(tree, place / "dock", settings, json.loads(done.stdout.splitlines()[-1]), place / "backup")
    backed = found.run("backup", found.backup, "--dock", found.folder)
    assert backed.returncode == 0, backed.stderr
    return found


def check(site: Site, facts: dict[str, Any]) -> None:
    """Everything that was there is there, for those who may see it."""
    tokens = facts["tokens"]
    for name in ("ada", "bob"):
        who = site.get("/api/v1/whoami", token=tokens[name]).body
        assert (who["known"], who["name"], who["scope"]) == (True, name, "write")
    for name, files in facts["files"].items():
        mine, other = ("ada", "bob") if name.startswith("ada") else ("bob", "ada")
        tree = site.get(f"/api/v1/repositories/{name}/tree/main", token=tokens[mine]).body
        assert {f["path"]: f["sha256"] for f in tree["files"]} == files, name
        for path, sha256 in files.items():
            got = site.get(f"/{name}/resolve/main/{path}", token=tokens[mine])
            content = got.body if isinstance(got.body, bytes) else None
            assert got.status == 200, (name, path)
            assert content is None or sha256_bytes(content) == sha256, (name, path)
        commits = site.get(f"/api/v1/repositories/{name}/commits", token=tokens[mine]).body["commits"]
        assert [[c["id"], c["title"]] for c in commits] == facts["commits"][name]
        for token in (None, tokens[other]):
            seen = site.get(f"/api/v1/repositories/{name}", token=token).status
            assert seen == (404 if name in facts["private"] else 200), (name, token)
    for name, digest in facts["digests"].items():
        mine = "ada" if name.startswith("ada") else "bob"
        assert site.get(f"/api/v1/learnwares/{name}", token=tokens[mine]).body["digest"] == digest
    listed = {r["name"] for r in site.get("/api/v1/learnwares").body["learnwares"]}
    assert listed == {"ada/words", "lab/shared"}
    assert site.get("/api/v1/learnwares/ada/gone", token=tokens["ada"]).status == 404
    assert [p for p in site.service.dock.verify() if p.severity == "error"] == []


def test_an_earlier_dock_is_opened_whole_and_there_is_a_way_back(old: Old, tmp_path: Path) -> None:
    facts, tokens = old.facts, old.facts["tokens"]
    for _ in range(2):  # opened again after it was migrated
        with served(old.folder, **old.settings) as site:
            check(site, facts)
            assert next(r.id for r in site.service.dock.versions("ada/words")).endswith(facts["digests"]["ada/words"])
    with served(old.folder, **old.settings) as site:
        second = make_learnware(tmp_path / "second", "ada/words", seed=2)
        assert site.publish(second, tokens["ada"]).status == 201
        assert len(site.service.dock.versions("ada/words")) == 2
        bob = make_learnware(tmp_path / "bob", "bob/more")
        assert site.publish(bob, tokens["bob"]).status == 201

    # Back: the earlier build refuses what this one wrote, says so, and changes nothing.
    asked: list[tuple[str | Path, ...]] = [("serve", "--port", "0"), ("backup", tmp_path / "late")]
    if not old.settings:  # these commands read a folder, whatever the settings say
        asked += [("list",), ("verify",)]
    for words in asked:
        refused = old.run(*words, "--dock", old.folder)
        assert refused.returncode not in (0, 70), (words, refused.stdout[-500:], refused.stderr[-500:])
        assert "newer learndock" in refused.stderr or "this learndock knows" in refused.stderr, refused.stderr
    with served(old.folder, **old.settings) as site:
        assert len(site.service.dock.versions("ada/words")) == 2

    # The backup that the earlier build made is restored by it, and serves as before.
    place = tmp_path / "restored"
    alone = Old(old.tree, place, {}, facts, old.backup)
    restored = alone.run("restore", old.backup, "--dock", place)
    assert restored.returncode == 0, restored.stderr
    listed = alone.run("list", "--dock", place, "--json")
    assert sorted(r["name"] for r in json.loads(listed.stdout)["learnwares"]) == sorted(facts["digests"])
    assert alone.run("verify", "--dock", place).returncode == 0
    # And this build opens that backup too.
    with served(old.backup) as site:
        check(site, facts)
