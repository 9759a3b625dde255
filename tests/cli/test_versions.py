"""Names that live, as a person types them: versions, tags, and what one has already."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from learndock.cli import remembered
from learndock.spec import write_spec
from tests.support.docking import make_learnware, make_spec
from tests.support.terminal import learndock


@pytest.fixture(params=["folder", "service"])
def dock(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a dock where commands are ada's; the same must come of them wherever it is."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    if request.param == "folder":
        yield str(tmp_path / "dock")
        return
    pytest.importorskip("fastapi", reason="serves a dock")
    from tests.support.serving import served

    with served(tmp_path / "served") as site:
        monkeypatch.setenv("LEARNDOCK_TOKEN", site.token("ada"))
        yield site.url


def content(seed: int, name: str = "ada/good") -> Path:
    return make_learnware(Path(f"lw-{seed}"), name, seed=seed)


def test_a_name_that_lives(dock: str, tmp_path: Path) -> None:
    at = ("--dock", dock)
    one, two, three, old = content(1), content(2), content(3), content(9, "ada/old")
    assert learndock("add", one, *at).code == 0
    assert learndock("add", old, *at).code == 0
    refused = learndock("add", two, "--after", "v7", *at)
    assert (refused.code, "latest version is v1" in refused.complaint) == (32, True)
    both = learndock("add", two, three, "--after", "v1", *at)
    assert (both.code, "about one learnware" in both.complaint) == (2, True)
    assert "It is v2, and latest now." in learndock("add", two, "--after", "v1", *at).out
    assert "which was there; latest is still v2" in learndock("add", one, *at).out

    assert learndock("tag", "ada/good@v1", "prod", *at).out == "ada/good@prod is v1\n"
    listed = learndock("versions", "ada/good", *at, "--json").json
    assert [(v["number"], v["tags"]) for v in listed["versions"]] == [(1, ["prod"]), (2, ["latest"])]
    assert "prod" in learndock("versions", "ada/good", *at).out
    shown = learndock("show", "ada/good@prod", *at)
    assert "version  v1, latest is v2, tagged prod" in shown.out
    got = learndock("get", "ada/good@prod", "-o", "got", *at, "--json").json
    assert (got["version"], got["id"]) == (1, listed["versions"][0]["id"])
    assert learndock("tag", "ada/good@v1", "latest", *at, "--json").json["latest"] == 1
    assert learndock("list", *at, "--json").json["learnwares"][0]["number"] == 1
    assert learndock("untag", "ada/good", "prod", *at, "--json").json["tags"] == ["latest"]
    assert learndock("untag", "ada/good", "prod", *at).code == 31

    assert learndock("add", three, "--supersedes", "ada/old", *at, "--json").code == 0
    listed = learndock("list", "--text", "old", *at, "--json").json["learnwares"]
    assert listed[0]["deprecated"]["use"] == "ada/good"
    assert "deprecated" in learndock("list", *at).out
    warned = learndock("get", "ada/old", "-o", "old", *at)
    assert "warning: ada/old is deprecated, use ada/good instead" in warned.err

    left = learndock("remove", "ada/good@v3", *at)
    assert left.out == "removed ada/good@v3\n  there remain v1, v2; latest is v2\n"
    gone = learndock("remove", "ada/good", *at, "--json").json
    assert (gone["name"], gone["remaining"]) == ("ada/good", [])
    assert learndock("versions", "ada/good", *at).code == 31


def test_cards_and_deprecation(dock: str, tmp_path: Path) -> None:
    at = ("--dock", dock)
    assert learndock("add", content(1), *at).code == 0
    nothing = learndock("edit", "ada/good", *at)
    assert (nothing.code, "nothing to edit" in nothing.complaint) == (2, True)
    said = learndock(
        "edit", "ada/good", "--license", "apache-2.0", "--description", "Knows moods", "--tag", "mood", *at
    )
    assert said.out == "ada/good: license apache-2.0, tags mood; Knows moods\n"
    assert learndock("list", "--license", "APACHE-2.0", "--text", "mood", *at, "--json").json["found"] == 1
    (tmp_path / "card.md").write_text("---\nlicense: mit\n---\n# Hers\n")
    assert learndock("edit", "ada/good", "--card", tmp_path / "card.md", *at, "--json").json["license"] == "mit"
    assert learndock("edit", "ada/good", "--tag", "a", "--tag", "b", *at).code == 0
    assert "tags b" in learndock("edit", "ada/good", "--untag", "a", *at).out
    assert learndock("get", "ada/good", "-o", "got", *at).code == 0
    assert "# Hers" in (tmp_path / "got" / "README.md").read_text()
    (tmp_path / "card.md").write_bytes(b"\xff")
    assert learndock("edit", "ada/good", "--card", tmp_path / "card.md", *at).code == 20

    assert learndock("add", content(2, "ada/new"), *at).code == 0
    told = learndock("deprecate", "ada/good", "--use", "ada/new", "--because", "it knows more", *at)
    assert told.out == "ada/good is deprecated, use ada/new instead: it knows more\n"
    assert "use ada/new instead" in learndock("show", "ada/good", *at).out
    assert learndock("deprecate", "ada/good", "--undo", "--use", "x/y", *at).code == 2
    assert learndock("deprecate", "ada/good", "--undo", *at, "--json").json["deprecated"] is None
    moved = learndock("move", "ada/good", "ada/better", *at)
    assert moved.out == "ada/good is ada/better now; the old name leads to it\n"
    assert learndock("move", "ada/better", "ada/new", *at).code == 32
    assert learndock("move", "ada/better", "ada/best", *at, "--json").json["name"] == "ada/best"
    followed = learndock("get", "ada/good", "-o", "followed", *at)
    assert followed.out.startswith("followed: ada/best")
    assert "ada/good is ada/best now" in followed.err


def test_a_match_says_that_it_is_newer_than_what_one_has(dock: str, tmp_path: Path) -> None:
    at = ("--dock", dock)
    task = make_spec(np.random.default_rng(3), kind="task")
    write_spec(task, tmp_path / "task.spec")
    asked = ("identify", "--spec", tmp_path / "task.spec", *at)
    assert learndock("add", content(1), *at).code == 0
    assert learndock("get", "ada/good", "-o", "got", *at).code == 0
    first = learndock(*asked)
    assert "ada/good" in first.out
    assert "@v" not in first.out
    assert learndock("add", content(2), *at).code == 0
    assert learndock("deprecate", "ada/good", "--because", "it is old", *at).code == 0
    said = learndock(*asked).out
    assert "ada/good@v2 is newer than the v1 you have." in said
    assert "ada/good is deprecated: it is old." in said
    found = learndock(*asked, "--json").json
    assert found["have"] == {"ada/good": 1}
    (match,) = found["matches"] or found["closest"]
    assert (match["version"], match["latest"], match["deprecated"]["because"]) == (2, 2, "it is old")
    assert learndock("get", "ada/good", "-o", "again", *at).code == 0
    assert "newer than" not in learndock(*asked).out


def test_what_was_written_is_remembered_here_alone(dock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = ("--dock", dock)
    assert learndock("add", content(1), *at).code == 0
    monkeypatch.setenv("LEARNDOCK_REMEMBER", "0")
    assert learndock("get", "ada/good", "-o", "a", *at).code == 0
    assert not remembered.file().exists()
    monkeypatch.delenv("LEARNDOCK_REMEMBER")
    assert learndock("get", "ada/good", "-o", "b", *at).code == 0
    assert stat.S_IMODE(remembered.file().stat().st_mode) == 0o600
    place = dock if "://" in dock else str(Path(dock).absolute())
    assert remembered.have(place, ["ada/good", "ada/other"]) == {"ada/good": 1}
    remembered.file().write_text("not json")
    assert remembered.have(place, ["ada/good"]) == {}
