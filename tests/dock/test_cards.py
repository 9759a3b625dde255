"""What is said about a learnware and changes without a new version: its card, its deprecation, its name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from learndock.dock import LocalDock, open_dock
from learndock.errors import Conflict, NotFound, PackageError, UsageError
from learndock.package import open_learnware
from learndock.package.front_matter import MAX_HEADER_BYTES, FrontMatter, edited, read_front_matter
from learndock.package.manifest import CARD, Manifest
from learndock.search import Filters
from tests.support.docking import SPACE_ID, make_learnware, make_spec, put_behind_its_back, stored

OTHERS = "model-index:\n- name: x  # kept\n  results: []\npipeline_tag: text-classification\n"


@pytest.fixture
def dock(tmp_path: Path) -> LocalDock:
    return open_dock(tmp_path / "dock")


@pytest.fixture(params=["listed", "beside"])
def good(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A learnware whose manifest lists the card, as learndock 0.1.0 made it, and one whose does not."""
    return make_learnware(tmp_path / "good", "ada/good", listed=request.param == "listed")


# -- the card --------------------------------------------------------------------------------------------


def test_the_card_is_edited_without_a_new_version(dock: LocalDock, good: Path, tmp_path: Path) -> None:
    before = dock.add(good)
    own = (good / CARD).read_text("utf-8")
    assert dock.card("ada/good") == own
    assert dock.get("ada/good", tmp_path / "first").joinpath(CARD).read_text("utf-8") == own
    record = dock.edit("ada/good", license="bsd", description="Reviews: good or bad", tags=["reviews", "german"])
    assert (record.id, record.version, record.license) == (before.id, 1, "bsd")
    assert (record.description, record.said.tags) == ("Reviews: good or bad", ("reviews", "german"))
    assert dock.card("ada/good").endswith(own)
    assert [e.what for e in dock.history("ada/good")][-4:] == ["description", "tag", "tag", "card"]
    assert dock.edit("ada/good", untag=["german"], by="ada").said.tags == ("reviews",)
    assert dock.history("ada/good")[-1].by == "ada"
    history = dock.history("ada/good")
    assert dock.edit("ada/good", license="bsd") == dock.get_record("ada/good")
    assert dock.history("ada/good") == history, "what changes nothing leaves no trace"

    asked = make_spec(np.random.default_rng(0), kind="task")
    assert dock.identify(asked, filters=Filters(license="BSD")).searched == 1
    assert dock.identify(asked, filters=Filters(license="mit")).searched == 0
    assert [s.license for s in dock.summaries("german")] == []
    assert [s.license for s in dock.summaries("reviews: good")] == ["bsd"]

    out = dock.get("ada/good", tmp_path / "second")
    assert (out / CARD).read_text("utf-8") == dock.card("ada/good")
    assert open_learnware(out).manifest.digest == before.digest
    assert dock.add(good).version == 1, "the same content, whatever its card says"
    dock.rebuild()
    assert dock.get_record("ada/good").license == "bsd"
    dock.gc()
    assert dock.verify() == []


def test_a_new_version_brings_its_card(dock: LocalDock, good: Path, tmp_path: Path) -> None:
    dock.add(good)
    dock.edit("ada/good", license="bsd")
    second = make_learnware(tmp_path / "second", "ada/good", seed=1, listed=False)
    (second / CARD).write_text("---\nlicense: apache-2.0\n---\n# Second\n")
    assert dock.add(second).license == "apache-2.0"
    third = make_learnware(tmp_path / "third", "ada/good", seed=2)
    (third / CARD).write_text((third / CARD).read_text("utf-8"))
    assert dock.add(third).license == "mit", "what its manifest says"
    assert dock.card("ada/good") == (third / CARD).read_text("utf-8")
    assert dock.get("ada/good@v2", tmp_path / "out").joinpath(CARD).read_text("utf-8") == dock.card("ada/good")
    assert dock.remove("ada/good@v3").remaining[-1].version == 2
    dock.gc()
    assert dock.verify() == []


def test_cards_that_are_refused(dock: LocalDock, good: Path, tmp_path: Path) -> None:
    dock.add(good)
    before, files = dock.history("ada/good"), stored(dock, "blobs/")
    for card, says in (
        ("---\nlicense: [a, b]\n---\n", "not a text"),
        ("---\nlicense: *x\n---\n", "not YAML|alias"),
        ("---\na: &x 1\nb: *x\n---\n", "alias"),
        ("---\na: !!bool x\n---\n", "tag"),
        ("---\nlicense: !!python/object/apply:os.getcwd []\n---\n", "not YAML"),
        ("---\n- a\n---\n", "KEY: VALUE"),
        ("---\ntags: [[a]]\n---\n", "list of words"),
        (f"---\nx: {'y' * MAX_HEADER_BYTES}\n---\n", "bytes"),
        (f"---\nlicense: {'y' * 200}\n---\n", "one line"),
        ("x" * (1 << 20) + "y", "at most"),
    ):
        with pytest.raises(PackageError, match=says):
            dock.edit("ada/good", card=card)
    with pytest.raises(NotFound):
        dock.edit("ada/none", license="mit")
    assert (dock.history("ada/good"), stored(dock, "blobs/")) == (before, files)
    broken = make_learnware(tmp_path / "broken", "ada/broken", listed=False)
    (broken / CARD).write_bytes(b"\xff\xfe")
    with pytest.raises(PackageError, match="UTF-8"):
        dock.add(broken)


@pytest.mark.parametrize(
    "text", ["", "# Title\n", f"---\n{OTHERS}---\n# Title\n", "---\nlicense: x\n---\n", "---\n---\nA"]
)
def test_an_edit_keeps_what_it_does_not_know(text: str) -> None:
    changed = edited(text, license='a "b": c', description="é - #1", tags=["x", "yes"])
    assert read_front_matter(changed) == FrontMatter('a "b": c', "é - #1", ("x", "yes"))
    assert (OTHERS in changed) == (OTHERS in text)
    again = edited(changed, license="", description="", untag=["x", "yes"])
    assert read_front_matter(again) == FrontMatter()
    assert again.endswith(text.rpartition("---\n")[2])
    assert edited(changed) == changed


def test_an_edit_that_would_lose_something_is_refused() -> None:
    with pytest.raises(PackageError, match="cannot be edited"):
        edited('---\n"license": mit\n---\n', license="")


# -- deprecation -----------------------------------------------------------------------------------------


def test_deprecation_is_shown_and_taken_back(dock: LocalDock, tmp_path: Path) -> None:
    for name in ("ada/old", "ada/new"):
        dock.add(make_learnware(tmp_path / name, name))
    record = dock.deprecate("ada/old", use="ada/new", because="it is better", by="ada")
    assert str(record.deprecated) == "deprecated, use ada/new instead: it is better"
    asked = make_spec(np.random.default_rng(0), kind="task")
    shown = {m.name: m.deprecated for m in dock.identify(asked).matches}
    assert shown == {"ada/old": record.deprecated, "ada/new": None}
    assert "deprecated, use ada/new" in repr(dock.identify(asked).matches)
    assert json.dumps(dock.identify(asked).to_dict())
    dock.rebuild()
    assert dock.get_record("ada/old").deprecated == record.deprecated
    with pytest.raises(UsageError, match="instead of itself"):
        dock.deprecate("ada/old", use="ada/old")
    with pytest.raises(NotFound):
        dock.deprecate("ada/old", use="ada/nothing")
    assert dock.deprecate("ada/old", undo=True).deprecated is None
    assert [e.what for e in dock.history("ada/old")] == ["deprecate", "deprecate"]
    assert dock.verify() == []


def test_matches_say_which_version_they_are(dock: LocalDock, tmp_path: Path) -> None:
    for seed in (1, 2):
        dock.add(make_learnware(tmp_path / str(seed), "ada/good", seed=seed))
    (match,) = dock.identify(make_spec(np.random.default_rng(0), kind="task")).matches
    assert (match.version, match.latest, match.to_dict()["version"]) == (2, 2, 2)
    assert "ada/good@v2" in repr(match)
    assert "ada/good@v2" in match._repr_html_()


# -- another name ----------------------------------------------------------------------------------------


def test_a_learnware_moves_and_its_old_name_points_to_it(dock: LocalDock, tmp_path: Path) -> None:
    folders = [make_learnware(tmp_path / str(seed), "ada/good", seed=seed) for seed in (1, 2)]
    first, second = (dock.add(folder) for folder in folders)
    dock.tag("ada/good@v1", "stable")
    dock.edit("ada/good", license="bsd")
    dock.add(make_learnware(tmp_path / "taken", "bob/taken"))
    with pytest.raises(Conflict, match="taken"):
        dock.move("ada/good", "bob/taken")
    with pytest.raises(PackageError):
        dock.move("ada/good", "bob")
    for _ in range(2):  # there, and back
        moved = dock.move("ada/good", "bob/better", by="ada")
        assert (moved.name, moved.digest, moved.version, moved.license) == ("bob/better", second.digest, 2, "bsd")
        for which, record in (
            ("ada/good@stable", first),
            (f"ada/good@{second.digest[:8]}", second),
            ("bob/better", second),
        ):
            assert (dock.get_record(which).name, dock.get_record(which).digest) == ("bob/better", record.digest)
        assert Manifest.from_folder(dock.get("ada/good", tmp_path / f"out-{_}")).digest == second.digest
        assert dock.vectors(SPACE_ID).ids == (f"bob/better@{second.digest}", dock.get_record("bob/taken").id)
        assert [r.name for r in dock.records()] == ["bob/better", "bob/taken"]
        dock.rebuild()
        assert dock.verify() == []
        assert dock.add(folders[1]).name == "bob/better", "the same content is there already"
        with pytest.raises(Conflict, match="moved to bob/better"):
            dock.add(make_learnware(tmp_path / f"new-{_}", "ada/good", seed=3))
        back = dock.move("bob/better", "ada/good")
        assert (back.name, back.former) == ("ada/good", ("ada/good", "bob/better") * (_ + 1))
        assert dock.get_record("bob/better").name == "ada/good"
        assert [r.tags for r in dock.versions("ada/good")] == [("stable",), ()]
    assert dock.add(make_learnware(tmp_path / "third", "ada/good", seed=4)).version == 3
    dock.move("ada/good", "ada/best")
    assert dock.remove("ada/good").record.name == "ada/best"
    with pytest.raises(NotFound):
        dock.get_record("ada/best")
    assert [p for p in dock.verify() if p.severity == "error"] == []


def test_a_rebuild_finishes_a_move_that_was_cut_off(dock: LocalDock, tmp_path: Path) -> None:
    """The new name's file is there, the old one's as before, and the database is lost."""
    dock.add(make_learnware(tmp_path / "good", "ada/good"))
    before = stored(dock)["learnwares/ada/good.json"]
    dock.move("ada/good", "bob/good")
    after = stored(dock)["learnwares/ada/good.json"]
    put_behind_its_back(dock, "learnwares/ada/good.json", before)
    assert dock.rebuild() == 1
    assert stored(dock)["learnwares/ada/good.json"] == after
    assert [r.name for r in dock.records()] == ["bob/good"]
    assert dock.verify() == []


def test_a_name_has_a_limited_number_of_tags(dock: LocalDock, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learndock.dock.storage.names.MOST_TAGS", 2)
    dock.add(good)
    for tag in ("one", "two", "one", "latest"):
        dock.tag("ada/good@v1", tag)
    with pytest.raises(UsageError, match="2 tags"):
        dock.tag("ada/good@v1", "three")
    dock.untag("ada/good", "one")
    assert dock.tag("ada/good@v1", "three").tags == ("three", "two")
