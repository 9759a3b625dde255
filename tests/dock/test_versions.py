"""A name has versions: numbers that are never given twice, tags, and one candidate when learnwares are ranked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from learndock.dock import LocalDock, open_dock
from learndock.dock.storage.publications import Publications
from learndock.errors import Conflict, Corrupt, NotFound, SuspectSpec, UsageError
from learndock.files import sha256_bytes
from learndock.package.manifest import MANIFEST, Manifest
from learndock.search import Filters
from learndock.spec import read_spec, write_spec
from learndock.spec.spec import identity
from tests.support.docking import SPACE, SPACE_ID, age, make_learnware, make_spec, put_behind_its_back, seal, stored


@pytest.fixture
def dock(tmp_path: Path) -> LocalDock:
    return open_dock(tmp_path / "dock")


def content(folder: Path, seed: int, name: str = "ada/good") -> Path:
    return make_learnware(folder / f"{name.partition('/')[2]}-{seed}", name, seed=seed)


def test_versions_tags_and_what_remains(dock: LocalDock, tmp_path: Path) -> None:
    folders = [content(tmp_path, seed) for seed in (1, 2, 3)]
    added = [dock.add(folder) for folder in folders]
    assert [(r.version, r.latest) for r in added] == [(1, 1), (2, 2), (3, 3)]
    assert all(r.published_at.endswith("Z") for r in added)
    assert [r.digest for r in dock.versions("ada/good")] == [r.digest for r in added]
    assert (len(dock), dock.records()) == (1, [added[2]])
    assert dock.add(folders[0]).version == 1, "what is there already is returned"

    dock.tag("ada/good@v1", "stable")
    assert dock.get_record("ada/good@stable") == dock.get_record(f"ada/good@{added[0].digest[:8]}")
    assert dock.tag("ada/good@v2", "stable").tags == ("stable",)
    assert dock.tag("ada/good@v2", "latest").latest == 2
    assert dock.get_record("ada/good").digest == added[1].digest
    for tag in ("v4", "main", "head", "abc123", "Stable", "a b", "", "x" * 65):
        with pytest.raises(UsageError):
            dock.tag("ada/good", tag)
    assert dock.untag("ada/good", "stable").version == 2
    with pytest.raises(NotFound, match="no tag 'stable'"):
        dock.untag("ada/good", "stable")
    with pytest.raises(UsageError, match="move it"):
        dock.untag("ada/good", "latest")

    dock.tag("ada/good@v2", "stable")
    left = dock.remove("ada/good@stable")
    assert (left.record.version, [r.version for r in left.remaining]) == (2, [1, 3])
    assert dock.get_record("ada/good").version == 3, "the newest that remains"
    with pytest.raises(NotFound):
        dock.get_record("ada/good@stable")
    assert dock.add(folders[1]).version == 4, "a number is never given again"
    dock.rebuild()
    assert [r.version for r in dock.versions("ada/good")] == [1, 3, 4]
    assert dock.remove("ada/good").remaining == ()
    assert (dock.records(), dock.spaces()) == ([], {})
    assert dock.add(folders[0]).version == 5
    assert [p for p in dock.verify() if p.severity == "error"] == []


def test_blobs_of_a_removed_version_go_and_those_of_others_stay(dock: LocalDock, tmp_path: Path) -> None:
    first, second = dock.add(content(tmp_path, 1)), dock.add(content(tmp_path, 2))
    shared = {f.sha256 for f in first.manifest.files} & {f.sha256 for f in second.manifest.files}
    assert shared, "config.json is the same in both"
    dock.remove("ada/good@v1")
    assert dock.gc().blobs == len(first.manifest.files) - len(shared)
    assert dock.verify() == []
    assert Manifest.from_folder(dock.get("ada/good", tmp_path / "out")).digest == second.digest


def test_superseding_deprecates_the_other_learnware(dock: LocalDock, tmp_path: Path) -> None:
    dock.add(content(tmp_path, 1, "ada/old"))
    with pytest.raises(NotFound):
        dock.add(content(tmp_path, 2), supersedes="ada/nothing")
    with pytest.raises(Conflict, match="itself"):
        dock.add(content(tmp_path, 3), supersedes="ada/good")
    assert [r.name for r in dock.records()] == ["ada/old"]
    new = dock.add(content(tmp_path, 4), supersedes="ada/old")
    for _ in range(2):
        assert dock.get_record("ada/good").supersedes == new.supersedes == "ada/old"
        deprecated = dock.get_record("ada/old").deprecated
        assert deprecated is not None
        assert deprecated.use == "ada/good"
        dock.rebuild()
    assert dock.verify() == []


# -- ranking ---------------------------------------------------------------------------------------------


ELSEWHERE = {**SPACE, "space": "elsewhere", "sketch": {"size": 24, "seed": 2}}


def test_one_candidate_for_each_name(dock: LocalDock, tmp_path: Path) -> None:
    """The version tagged latest, or the newest earlier one that has a spec and passes the filters."""
    first, second = dock.add(content(tmp_path, 1)), dock.add(content(tmp_path, 2))
    third = _in_another_space(content(tmp_path, 3))
    last = dock.add(third)
    asked = make_spec(np.random.default_rng(0), kind="task")
    assert [m.id for m in dock.identify(asked).matches] == [second.id], "the third has no spec in this space"
    assert dock.spaces() == {SPACE_ID: ("tiny", 1), identity(ELSEWHERE): ("elsewhere", 1)}
    assert [m.id for m in dock.identify(replace(asked, space=ELSEWHERE)).matches] == [last.id]
    for number, expected in ((1, [first.id]), (2, [second.id])):
        dock.tag(f"ada/good@v{number}", "latest")
        for filters in (Filters(), Filters(license="mit")):
            assert [m.id for m in dock.identify(asked, filters=filters).matches] == expected
    fourth = _licensed(content(tmp_path, 4), "apache-2.0")
    newest = dock.add(fourth)
    assert [m.id for m in dock.identify(asked).matches] == [newest.id]
    assert [m.id for m in dock.identify(asked, filters=Filters(license="mit")).matches] == [second.id]
    assert dock.identify(asked, filters=Filters(license="bsd")).searched == 0


def _in_another_space(folder: Path) -> Path:
    path = folder / "specs" / "tiny.spec"
    write_spec(replace(read_spec(path), space=ELSEWHERE), path)
    manifest = Manifest.from_folder(folder)
    entry = manifest.specs[0].model_copy(update={"space": "elsewhere", "space_id": identity(ELSEWHERE)})
    seal(folder, manifest.name, specs=(entry,))
    return folder


def _licensed(folder: Path, named: str) -> Path:
    changed = Manifest.from_folder(folder).model_copy(update={"license": named})
    (folder / MANIFEST).write_bytes(changed.to_bytes())
    return folder


def test_copies_of_ones_own_versions_are_none_and_those_of_others_are(dock: LocalDock, tmp_path: Path) -> None:
    first = content(tmp_path, 1)
    spec = read_spec(first / "specs" / "tiny.spec")
    dock.add(first)
    again = content(tmp_path, 2)
    write_spec(spec, again / "specs" / "tiny.spec")
    seal(again, "ada/good")
    assert dock.add(again).version == 2
    dock.add(content(tmp_path, 3))
    eve = content(tmp_path, 4, "eve/copy")
    write_spec(spec, eve / "specs" / "tiny.spec")
    seal(eve, "eve/copy")
    with pytest.raises(SuspectSpec, match="behaves as ada/good ") as told:
        dock.add(eve)
    assert told.value.about == "ada/good"


# -- docks of learndock 0.1.0 ----------------------------------------------------------------------------


def test_a_dock_of_0_1_0_opens_and_gets_a_second_version(dock: LocalDock, tmp_path: Path) -> None:
    for name in ("ada/good", "ada/gone", "bob/other"):
        dock.add(content(tmp_path, 1, name))
    dock.remove("ada/gone")
    before, files = dock.records(), stored(dock, "blobs/")
    age(dock.folder)
    old = json.loads(stored(dock)["learnwares/ada/good.json"])
    assert set(old) == {"name", "state", "sequence", "digest", "manifest"}
    for _ in range(2):
        again = open_dock(dock.folder)
        assert again.records() == before
        assert [r.published_at for r in again.records()] == ["", ""]
    assert again.verify() != []  # the blobs of ada/gone
    assert [p.severity for p in again.verify()] == ["info"] * 3
    assert again.add(content(tmp_path, 2)).version == 2
    assert again.add(content(tmp_path, 2, "ada/gone")).version == 2
    assert {p: c for p, c in stored(dock, "blobs/").items() if p in files} == files
    assert json.loads(stored(dock)["dock.json"]) == {"format": 2}
    assert json.loads(stored(dock)["learnwares/bob/other.json"]).get("format") is None, "not written, not changed"
    assert again.rebuild() == 3
    assert [p for p in again.verify() if p.severity == "error"] == []


def test_a_dock_of_0_1_0_is_read_where_it_cannot_be_written(dock: LocalDock, tmp_path: Path) -> None:
    record = dock.add(content(tmp_path, 1))
    age(dock.folder)
    with dock.storage.read() as records:
        assert records.outdated()
        assert records.row("ada/good") is not None
    assert dock.records() == [record]
    with dock.storage.read() as records:
        assert records.outdated(), "reading migrates nothing"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"latest": 7}, "contradict"), ({"latest": None}, "contradict"), ({"tags": {"x": 9}}, "contradict"),
        ({"format": 3}, "format 3"), ({"versions": []}, "contradict"), ({"versions": 1}, "cannot be read"),
        ({"tags": {"x": []}}, "cannot be read"), ({"tags": {"\ud800": 1}}, "cannot be read"),
        ({"name": "ada/other"}, "contradict"),
    ],
)  # fmt: skip
def test_a_file_that_contradicts_itself(dock: LocalDock, tmp_path: Path, change: dict[str, object], says: str) -> None:
    dock.add(content(tmp_path, 1))
    path = "learnwares/ada/good.json"
    put_behind_its_back(dock, path, json.dumps({**json.loads(stored(dock)[path]), **change}).encode())
    with pytest.raises(Corrupt, match=says):
        Publications(dock.folder / "learnwares").read("ada/good")
    with pytest.raises(Corrupt, match=says):
        dock.rebuild()


def test_the_file_is_the_same_again(dock: LocalDock, tmp_path: Path) -> None:
    dock.add(content(tmp_path, 1))
    dock.add(content(tmp_path, 2), supersedes=dock.add(content(tmp_path, 1, "ada/old")).name)
    dock.tag("ada/good@v1", "stable")
    source = stored(dock)["learnwares/ada/good.json"]
    found = dock.storage.publications.read("ada/good")
    assert found is not None
    assert sha256_bytes(found.to_bytes()) == sha256_bytes(source)
