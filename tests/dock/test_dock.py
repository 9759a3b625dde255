"""The embedded dock: what it promises while nobody is killed (``test_dock_crash`` has the rest)."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from learndock.dock import Admitted, LocalDock, Removed, admit, open_dock
from learndock.dock.storage.migrations import STEPS
from learndock.dock.storage.records import Records
from learndock.errors import (
    Conflict,
    Corrupt,
    DockError,
    LearndockError,
    ModelError,
    NotFound,
    PackageError,
    SpecError,
    StorageFull,
    UnsafeModel,
    UsageError,
)
from learndock.files import sha256_bytes
from learndock.package.manifest import MANIFEST, Manifest, SpecFile
from learndock.spec import read_spec, write_spec
from learndock.spec.file import _digest
from learndock.tensor_file import safetensors_header
from tests.support.docking import (
    MEMORY,
    SPACE,
    SPACE_ID,
    blob_path,
    make_learnware,
    make_spec,
    put_behind_its_back,
    reopened,
    run_sql,
    seal,
    server_storage,
    stored,
)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory where there is one: these tests would mostly wait for the disk to sync."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def dock(tmp_path: Path) -> LocalDock:
    return open_dock(tmp_path / "dock")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return make_learnware(tmp_path / "good", "ada/good")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def shown(dock: LocalDock) -> list[tuple[str, int, bytes]]:
    """Everything that a reader can see: ids, order, manifests, vectors."""
    table = dock.vectors(SPACE_ID)
    records = dock.records()
    assert [r.id for r in records] == list(table.ids)
    vectors = [table.domain[i].tobytes() + table.behaviour[i].tobytes() for i in range(len(table))]
    return [(r.id, r.sequence, r.manifest.to_bytes() + v) for r, v in zip(records, vectors, strict=True)]


@pytest.mark.parametrize("verb", ["add", "remove"])
def test_an_undo_that_fails_does_not_hide_the_first_error(
    dock: LocalDock, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    dock.add(good)
    other = make_learnware(tmp_path / "other", "ada/other")

    def first(self: Records, *_: Any) -> None:
        raise LearndockError("the first error")

    def second(self: Records, *_: Any) -> None:
        self._database.execute("SELECT nothing FROM nowhere")

    with monkeypatch.context() as patch:
        patch.setattr(Records, "settle", first)
        patch.setattr(Records, "forget", second)
        with pytest.raises(LearndockError, match="the first error"):
            dock.add(other) if verb == "add" else dock.remove("ada/good")
    # What could not be undone is finished by the next writer
    again = reopened(dock)
    assert [r.name for r in again.records()] == ["ada/good"]
    assert again.verify() == []
    assert again.add(other).name == "ada/other"


# -- opening ---------------------------------------------------------------------------------------------


def test_a_new_dock_is_empty_and_the_same_when_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        dock = open_dock(tmp_path / "a" / "dock")
        assert dock.records() == []
        assert len(dock) == 0
        assert dock.verify() == []
        assert len(dock.vectors(SPACE_ID)) == 0
    assert json.loads((tmp_path / "a" / "dock" / "dock.json").read_bytes()) == {"format": 2}


def test_the_environment_names_the_dock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNDOCK_DOCK", str(tmp_path / "named"))
    named = open_dock()
    assert isinstance(named, LocalDock)
    assert named.folder == tmp_path / "named"
    monkeypatch.delenv("LEARNDOCK_DOCK")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    usual = open_dock()
    assert isinstance(usual, LocalDock)
    assert usual.folder == tmp_path / "data" / "learndock" / "dock"


def test_an_address_without_its_scheme_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for named in ("localhost:7080", "10.0.0.7:80/x", "[::1]:7080", "postgresql://host/name"):
        with pytest.raises(UsageError, match="http://"):
            open_dock(named)
        monkeypatch.setenv("LEARNDOCK_DOCK", named)
        with pytest.raises(UsageError, match="http://"):
            open_dock()
    assert list(tmp_path.iterdir()) == []
    assert isinstance(open_dock("./localhost:7080"), LocalDock)


def test_a_folder_of_other_things_is_no_dock(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(DockError, match=r"holds files but no dock\.json"):
        open_dock(tmp_path)
    with pytest.raises(DockError, match="is a file"):
        open_dock(tmp_path / "thesis.txt")
    with pytest.raises(NotFound, match="no dock here"):
        open_dock(tmp_path / "nowhere", create=False)
    assert contents(tmp_path) == before


def test_a_founder_that_was_killed_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".dock.json.x1y2.part").write_bytes(b'{"for')
    assert len(open_dock(tmp_path)) == 0


def test_a_dock_of_the_future_is_refused(tmp_path: Path, good: Path) -> None:
    open_dock(tmp_path / "dock").add(good)
    mark = tmp_path / "dock" / "dock.json"
    mark.write_text('{"format": 3}')
    with pytest.raises(DockError, match=r"format 3.*upgrade"):
        open_dock(tmp_path / "dock")
    mark.write_text('{"fo')
    with pytest.raises(Corrupt, match="damaged"):
        open_dock(tmp_path / "dock")


def test_a_database_of_the_future_is_refused(dock: LocalDock, good: Path) -> None:
    dock.add(good)
    with sqlite3.connect(dock.folder / "records.sqlite") as database:
        database.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    database.close()
    for action in (dock.records, lambda: dock.add(good), lambda: open_dock(dock.folder)):
        with pytest.raises(DockError, match="newer learndock"):
            action()


def test_a_dock_of_the_past_is_brought_up_to_date(dock: LocalDock, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = dock.add(good)
    step = "ALTER TABLE names ADD COLUMN note TEXT; ALTER TABLE specs ADD COLUMN note TEXT"
    monkeypatch.setattr("learndock.dock.storage.migrations.STEPS", (*STEPS, f"{step}; SELECT no_such_function()"))
    with pytest.raises(Corrupt):
        dock.add(good)
    with monkeypatch.context() as before:
        before.setattr("learndock.dock.storage.migrations.STEPS", STEPS)
        assert dock.verify() == []  # the step and the record of it were taken back together
    monkeypatch.setattr("learndock.dock.storage.migrations.STEPS", (*STEPS, step))
    assert reopened(dock).records() == [record]
    with sqlite3.connect(dock.folder / "records.sqlite") as database:
        assert database.execute("SELECT note FROM names").fetchall() == [(None,)]
        assert database.execute("PRAGMA user_version").fetchone() == (len(STEPS) + 1,)
    database.close()


# -- adding ----------------------------------------------------------------------------------------------


def test_added_listed_found_and_exported(dock: LocalDock, good: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    record = dock.add(good, progress=lambda done, total: seen.append((done, total)))
    manifest = Manifest.from_folder(good)
    assert record.id == manifest.id
    assert record.manifest == manifest
    assert seen[-1][0] == seen[-1][1] == sum(f.size for f in manifest.files)
    assert reopened(dock).records() == [record]
    for which in ("ada/good", record.id, record.id[:15], f"ada/good@{record.digest[:6].upper()}"):
        assert dock.get_record(which) == record
    assert dock.spaces() == {SPACE_ID: ("tiny", 1)}
    spec, table = read_spec(good / "specs" / "tiny.spec"), dock.vectors(SPACE_ID)
    assert table.domain.dtype == np.float32
    assert (table.domain.shape, table.behaviour.shape) == ((1, 8), (1, 24))
    np.testing.assert_allclose(table.domain[0], spec.unit_domain, rtol=1e-6)
    np.testing.assert_allclose(table.behaviour[0], spec.unit_behaviour, rtol=1e-6)
    out = dock.get("ada/good", tmp_path / "sub" / "out")
    assert contents(out) == contents(good)
    assert out.stat().st_mode & 0o777 == 0o755
    assert dock.verify() == []


def test_adding_again_changes_nothing(dock: LocalDock, good: Path) -> None:
    first = dock.add(good)
    before = shown(dock)
    assert dock.add(good) == first
    assert shown(dock) == before


def test_equal_files_are_kept_once(dock: LocalDock, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        dock.add(make_learnware(tmp_path / name, f"ada/{name}"))
    configs = sha256_bytes((tmp_path / "a" / "config.json").read_bytes())
    blobs = list(stored(dock, "blobs/"))
    assert blobs.count(blob_path(configs)) == 1
    assert len(blobs) == 2 + 3 * 3


def test_other_content_follows_only_the_version_that_was_meant(dock: LocalDock, good: Path, tmp_path: Path) -> None:
    first = dock.add(good)
    other, third = (make_learnware(tmp_path / str(seed), "ada/good", seed=seed) for seed in (1, 2))
    second = dock.add(other, after="v1")
    before, files = shown(dock), set(stored(dock))
    for after in ("v1", first.digest[:8], "v3", "stable"):
        with pytest.raises(Conflict, match=rf"ada/good.*latest version is v2 \(digest {second.digest[:12]}"):
            dock.add(third, after=after)
    with pytest.raises(Conflict, match="no version yet"):
        dock.add(make_learnware(tmp_path / "new", "ada/new"), after="v1")
    assert dock.add(other, after="v1") == second, "the same again is there already"
    assert shown(dock) == before
    assert set(stored(dock)) == files
    assert dock.add(third, after=second.digest[:6]).version == 3


def test_names_that_look_alike_on_disk(dock: LocalDock, tmp_path: Path) -> None:
    for number, name in enumerate(("ada/x", "ada/x.json", "ada/x.removed", "ada.x/x", "ada/x.removed.json")):
        dock.add(make_learnware(tmp_path / str(number), name))
    dock.remove("ada/x")
    before = shown(dock)
    assert [r.name for r in dock.records()] == [
        "ada/x.json",
        "ada/x.removed",
        "ada.x/x",
        "ada/x.removed.json",
    ]
    dock.rebuild()
    assert shown(dock) == before
    assert dock.verify()[0].severity == "info"


def spoil(path: Path, how: str) -> None:
    """Put in the place of a sound spec one that the spec room itself would not write."""
    draw = np.random.default_rng(1)
    if how == "foreign":
        path.write_bytes(b"not a spec at all")
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif how == "of a task":
        write_spec(make_spec(draw, kind="task"), path)
    elif how == "of another space":
        write_spec(make_spec(draw, space={**SPACE, "sketch": {"size": 24, "seed": 2}}), path)
    elif how == "too wide":
        write_spec(make_spec(draw, behaviour=np.ones(25, dtype=np.float32)), path)
    else:
        value = {"NaN": np.nan, "infinite": np.inf, "zero": 0}[how]
        parts = {"domain": np.ones(8, np.float16), "behaviour": np.full(24, value, np.float16)}
        note = safetensors_header(io.BytesIO(path.read_bytes()), path.stat().st_size, where="", error=SpecError)
        about = json.loads(note.metadata["learndock"])
        del about["sha256"]
        about["sha256"] = _digest(about, parts)
        save_file(parts, path, metadata={"learndock": json.dumps(about)})


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("NaN", "behaviour holds NaN"),
        ("infinite", "behaviour holds NaN or infinity"),
        ("zero", "behaviour is zero"),
        ("too wide", "behaviour has 25 numbers, its space prescribes 24"),
        ("of a task", "a task spec"),
        ("of another space", "the manifest says"),
        ("foreign", "not a sound safetensors file"),
        ("cut", "not a sound safetensors file"),
    ],
)
def test_a_spec_that_cannot_be_true_is_not_stored(dock: LocalDock, good: Path, how: str, says: str) -> None:
    spoil(good / "specs" / "tiny.spec", how)
    seal(good, "ada/good")
    before = stored(dock)
    with pytest.raises(LearndockError, match=says) as told:
        dock.add(good)
    assert "specs/tiny.spec" in str(told.value)
    assert isinstance(told.value, SpecError | PackageError)
    assert stored(dock) == before


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("model.safetensors", None, ModelError, "missing"),
        ("tokenizer.json", None, ModelError, "missing"),
        ("config.json", b'{"model_type": "bert", "auto_map": {"AutoModel": "x.Y"}}', UnsafeModel, "auto_map"),
        ("modeling_bert.py", b"import os", UnsafeModel, "code is never part"),
        ("pytorch_model.bin", b"\x80\x02.", UnsafeModel, "pickle"),
    ],
)
def test_what_a_dock_does_not_take(
    dock: LocalDock, good: Path, name: str, content: bytes | None, error: type[LearndockError], says: str
) -> None:
    (good / name).unlink(missing_ok=True)
    if content is not None:
        (good / name).write_bytes(content)
    seal(good, "ada/good")
    before = stored(dock)
    with pytest.raises(error, match=rf"{name}: .*{says}"):
        dock.add(good)
    assert stored(dock) == before


def test_a_folder_that_is_not_what_was_packed(dock: LocalDock, good: Path) -> None:
    source = (good / "config.json").read_bytes()
    before = stored(dock)
    (good / "config.json").write_bytes(source.replace(b"good", b"goof"))
    with pytest.raises(PackageError, match=r"config\.json: its SHA-256"):
        dock.add(good)
    (good / "config.json").write_bytes(source)
    (good / "notes.txt").write_text("mine")
    with pytest.raises(PackageError, match=r"notes\.txt: not listed"):
        dock.add(good)
    assert stored(dock) == before


def test_without_specs_or_with_two_for_a_space(dock: LocalDock, good: Path) -> None:
    tiny = SpecFile(path="specs/tiny.spec", space="tiny", space_id=SPACE_ID)
    seal(good, "ada/good", specs=(tiny, tiny))
    with pytest.raises(PackageError, match="two specs for the space tiny"):
        dock.add(good)
    manifest = Manifest.from_folder(good).model_copy(update={"specs": ()})
    (good / MANIFEST).write_bytes(manifest.to_bytes())
    with pytest.raises(PackageError, match="no specification"):
        dock.add(good)
    assert len(dock) == 0


def test_a_manifest_with_text_that_is_not_unicode(dock: LocalDock, good: Path) -> None:
    source = json.loads((good / MANIFEST).read_bytes())
    source["settings"] = {"x": "\ud800"}
    (good / MANIFEST).write_text(json.dumps(source))
    with pytest.raises(PackageError, match="not Unicode"):
        dock.add(good)


def test_a_folder_that_changes_after_admission(tmp_path: Path, good: Path) -> None:
    def admit_then_change(folder: Path) -> Admitted:
        admitted = admit(folder)
        (folder / "model.safetensors").write_bytes(b"something else")
        return admitted

    dock = open_dock(tmp_path / "dock", admit=admit_then_change)
    before = contents(dock.folder)
    with pytest.raises(PackageError, match=r"model\.safetensors.*changed while it was being added"):
        dock.add(good)
    assert set(contents(dock.folder)) == set(before)
    assert dock.verify() == []


# -- finding ---------------------------------------------------------------------------------------------


def test_what_is_not_there_and_what_was_meant(dock: LocalDock, good: Path) -> None:
    with pytest.raises(NotFound, match="which is empty"):
        dock.get_record("ada/good")
    record = dock.add(good)
    for which in ("ada/god", "adda/good", "bob/good", "good"):
        with pytest.raises(NotFound, match="did you mean ada/good"):
            dock.get_record(which)
    with pytest.raises(NotFound, match="learndock list"):
        dock.get_record("completely/different")
    other = ("0" if record.digest[0] != "0" else "1") * 6
    with pytest.raises(NotFound, match=f"no version {other}; latest is v1"):
        dock.get_record(f"ada/good@{other}")
    for which in ("ada/good@", "ada/good@no such", "ada/good@../x"):
        with pytest.raises(UsageError, match="hexadecimal"):
            dock.get_record(which)
    for which in ("../../etc/passwd", "", "a/b/c", "ada/%", "ada/'--"):
        with pytest.raises(NotFound):
            dock.get_record(which)


# -- removing --------------------------------------------------------------------------------------------


def test_a_removed_name_goes_on_with_its_numbers(dock: LocalDock, good: Path, tmp_path: Path) -> None:
    kept = dock.add(make_learnware(tmp_path / "kept", "ada/kept"))
    record = dock.add(good)
    assert dock.remove("ada/good") == Removed(record, ())
    assert dock.records() == [kept]
    assert dock.vectors(SPACE_ID).ids == (kept.id,)
    with pytest.raises(NotFound, match="was removed"):
        dock.get_record("ada/good")
    with pytest.raises(NotFound, match="was removed"):
        dock.remove("ada/good")
    dock.rebuild()
    again = dock.add(good)
    assert (again.id, again.version, again.sequence) == (record.id, 2, record.sequence + 1)
    assert dock.get_record("ada/good@v2") == dock.get_record(again.id) == again
    with pytest.raises(NotFound, match="no version v1; latest is v2"):
        dock.get_record("ada/good@v1")
    assert dock.verify() == []


def test_collect_takes_what_nobody_refers_to(dock: LocalDock, good: Path, tmp_path: Path) -> None:
    dock.add(make_learnware(tmp_path / "kept", "ada/kept"))
    dock.add(good)
    dock.remove("ada/good")
    orphans = dock.verify()
    assert [p.severity for p in orphans] == ["info"] * 3  # card, model, spec; the config is shared
    (dock.folder / "staging" / "blob-left").write_bytes(b"x")
    if not server_storage(dock):
        (dock.folder / "learnwares" / "ada" / ".x.json.abc.part").write_bytes(b"x")
    dock.rebuild()
    collected = dock.gc()
    assert collected.blobs == 3
    assert collected.unfinished >= (1 if server_storage(dock) else 3)  # those above, and the database before
    assert dock.verify() == []
    assert len(list(dock.folder.glob("records-*.sqlite"))) == (0 if server_storage(dock) else 1)
    assert [r.name for r in dock.records()] == ["ada/kept"]
    assert dock.gc() == type(collected)(0, 0)
    dock.add(good)
    assert dock.verify() == []


# -- exporting -------------------------------------------------------------------------------------------


def test_export_writes_only_where_nothing_is(dock: LocalDock, good: Path, tmp_path: Path) -> None:
    dock.add(good)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out in (tmp_path / "taken", tmp_path / "taken" / "mine", tmp_path / "link"):
        with pytest.raises(UsageError, match="exists and is not an empty folder"):
            dock.get("ada/good", out)
    assert contents(tmp_path / "taken") == {"mine": b"mine"}
    (tmp_path / "empty").mkdir()
    assert contents(dock.get("ada/good", tmp_path / "empty")) == contents(good)


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "lose"])
def test_a_damaged_blob_is_told_not_handed_out_and_mended(
    dock: LocalDock, good: Path, tmp_path: Path, damage: str
) -> None:
    dock.add(good)
    source = (good / "model.safetensors").read_bytes()
    changed = {
        "flip": source[:500] + bytes([source[500] ^ 1]) + source[501:],
        "cut": source[:-1],
        "grow": source + b"\0",
        "lose": None,
    }
    put_behind_its_back(dock, blob_path(sha256_bytes(source)), changed[damage])
    with pytest.raises(Corrupt, match=r"ada/good: model\.safetensors.*learndock add"):
        dock.get("ada/good", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
    for which in (None, "ada/good"):
        (problem,) = dock.verify(which)
        assert (problem.severity, problem.about) == ("error", "ada/good: model.safetensors")
    dock.add(good)
    assert dock.verify() == []
    assert contents(dock.get("ada/good", tmp_path / "out")) == contents(good)


# -- verifying and rebuilding ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        place = Path(folder)
        _fill_template(place)
        yield place


def _fill_template(place: Path) -> None:
    dock = open_dock(place / "dock")
    for name in ("d", "b", "a", "c"):
        dock.add(make_learnware(place / name, f"ada/{name}"))
    dock.remove("ada/b")
    dock.remove("ada/d")
    dock.add(place / "d")


@pytest.fixture
def full(template: Path, tmp_path: Path) -> LocalDock:
    """A dock with four learnwares, one of them removed and another removed and added again; and their folders."""
    shutil.copytree(template, tmp_path, symlinks=True, dirs_exist_ok=True)
    return open_dock(tmp_path / "dock")


def errors(dock: LocalDock) -> list[tuple[str, str]]:
    return [(p.about, p.message) for p in dock.verify() if p.severity == "error"]


def test_rebuild_gives_identical_answers(full: LocalDock, tmp_path: Path) -> None:
    before = shown(full)
    seen: list[tuple[int, int]] = []
    assert full.rebuild(progress=lambda *step: seen.append(step)) == 3
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert shown(full) == before
    assert errors(full) == []
    assert [r.name for r in full.records()] == ["ada/a", "ada/c", "ada/d"]


def lose(database: Path) -> None:
    for file in database.parent.glob("records*"):
        file.unlink()


def scribble(database: Path) -> None:
    database.write_bytes(b"this is no database, and never was one" * 300)


def empty(database: Path) -> None:
    database.write_bytes(b"")


@pytest.mark.parametrize("damage", [lose, scribble, empty])
def test_a_lost_or_damaged_database_is_told_and_rebuilt(full: LocalDock, tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    before = shown(full)
    damage(full.folder / "records.sqlite")
    dock = open_dock(full.folder)
    for action in (
        dock.records,
        dock.verify,
        lambda: dock.add(tmp_path / "a"),
        lambda: dock.vectors(SPACE_ID),
    ):
        with pytest.raises(Corrupt, match="learndock rebuild"):
            action()
    assert dock.rebuild() == 3
    assert shown(dock) == before
    assert errors(dock) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE versions SET digest = replace(digest, substr(digest, 1, 1), 'f') WHERE name = 'ada/a'",
        "UPDATE versions SET sequence = 77 WHERE name = 'ada/a'",
        "UPDATE versions SET manifest = x'7b7d' WHERE name = 'ada/a'",
        "UPDATE specs SET behaviour = domain WHERE name = 'ada/a'",
        "UPDATE specs SET domain = zeroblob(32) WHERE name = 'ada/a'",
        "UPDATE specs SET space_id = 'x' WHERE name = 'ada/a'",
        "DELETE FROM specs WHERE name = 'ada/a'",
        "DELETE FROM versions WHERE name = 'ada/a'",
        "DELETE FROM names WHERE name = 'ada/a'",
        "UPDATE names SET latest = NULL WHERE name = 'ada/a'",
        """UPDATE names SET about = '{"tags": {"x": 1}}' WHERE name = 'ada/a'""",
        "DELETE FROM versions WHERE name = 'ada/b'",
        "UPDATE versions SET digest = 'x' WHERE name = 'ada/b'",
    ],
)
def test_verify_finds_a_database_that_lies(full: LocalDock, statement: str) -> None:
    before = shown(full)
    assert run_sql(full, statement) == 1
    found = errors(full)
    assert {about for about, _ in found} == {"ada/b" if "ada/b" in statement else "ada/a"}
    assert all("learndock rebuild" in message for _, message in found)
    full.rebuild()
    assert shown(full) == before
    assert errors(full) == []


def test_writers_stop_where_disk_and_database_disagree(full: LocalDock, tmp_path: Path) -> None:
    assert run_sql(full, "DELETE FROM versions WHERE name = 'ada/a'") == 1
    other = make_learnware(tmp_path / "other", "ada/a", seed=1)
    for folder in (other, tmp_path / "a"):
        with pytest.raises(Corrupt, match=r"ada/a.*learndock rebuild"):
            full.add(folder)
    full.rebuild()
    assert full.add(other).version == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "swap", "stray"])
def test_a_damaged_record_is_told_and_nothing_is_lost(full: LocalDock, damage: str) -> None:
    before = shown(full)
    path = "learnwares/ada/a.json"
    source = stored(full)[path]
    if damage == "flip":
        put_behind_its_back(full, path, source.replace(b'"bad"', b'"baa"'))
    elif damage == "cut":
        put_behind_its_back(full, path, source[: len(source) // 2])
    elif damage == "swap":
        put_behind_its_back(full, path, stored(full)["learnwares/ada/c.json"])
    else:
        path = "learnwares/ada/not a name.json"
        put_behind_its_back(full, path, source)
    blobs, name = stored(full, "blobs/"), Path(path).name
    with pytest.raises(Corrupt, match=rf"{name}: is damaged: .*back-?up"):
        full.rebuild()
    with pytest.raises(Corrupt, match=name):
        full.gc()
    assert stored(full, "blobs/") == blobs
    assert shown(full) == before
    if damage == "stray":
        put_behind_its_back(full, path, None)
    else:
        ((about, message),) = errors(full)
        assert about == "ada/a"
        assert ": is damaged: " in message
        put_behind_its_back(full, path, source)
    assert full.rebuild() == 3
    assert shown(full) == before
    assert errors(full) == []


def test_rebuild_without_a_spec_says_how_to_go_on(full: LocalDock, tmp_path: Path) -> None:
    before = shown(full)
    digest = sha256_bytes((tmp_path / "a" / "specs" / "tiny.spec").read_bytes())
    put_behind_its_back(full, blob_path(digest), None)
    with pytest.raises(Corrupt, match=r"ada/a: specs/tiny\.spec.*move .*a\.json away") as told:
        full.rebuild()
    assert shown(full) == before
    assert len(list(full.folder.glob("records-*.sqlite"))) == (0 if server_storage(full) else 1)
    assert "learndock rebuild" in str(told.value)
    put_behind_its_back(full, "learnwares/ada/a.json", None)
    assert full.rebuild() == 2
    full.add(tmp_path / "a")
    assert {r.name for r in full.records()} == {"ada/a", "ada/c", "ada/d"}
    assert errors(full) == []


def test_readers_go_on_while_a_rebuild_replaces_the_database(full: LocalDock) -> None:
    before = shown(full)
    with full.storage.read() as records:
        reopened(full).rebuild()
        assert [f"{r.name}@{r.digest}" for r in records.rows()] == [each[0] for each in before]
    assert shown(full) == before


# -- no room ---------------------------------------------------------------------------------------------


FileLimit = Callable[[int], None]


@pytest.fixture
def file_limit() -> Iterator[FileLimit]:
    """Sets the largest size of a file that this process may write; beyond it the system says EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_limit_at_any_size_leaves_all_or_nothing(full: LocalDock, tmp_path: Path, file_limit: FileLimit) -> None:
    """From a limit that stops the first blob to one that stops nothing: stored whole, or as before."""
    big = make_learnware(tmp_path / "big", "ada/big", numbers=100_000)
    before, files = (
        shown(full),
        set(contents(full.folder / "blobs")) | set(contents(full.folder / "learnwares")),
    )
    refused = 0
    for size in (*range(0, 12_000, 700), 100_000, 399_000, 420_000):
        file_limit(size)
        try:
            try:
                full.add(big)
            except StorageFull:
                refused += 1
                assert shown(full) == before
                assert shown(open_dock(full.folder)) == before
            else:
                break
        finally:
            file_limit(resource.RLIM_INFINITY)
        now = set(contents(full.folder / "blobs")) | set(contents(full.folder / "learnwares"))
        assert now == files
    assert refused >= 10
    full.add(big)
    assert full.records()[-1].name == "ada/big"
    assert errors(full) == []


@pytest.mark.parametrize("verb", ["remove", "rebuild", "export"])
def test_a_limit_stops_other_verbs_whole(full: LocalDock, tmp_path: Path, file_limit: FileLimit, verb: str) -> None:
    actions: dict[str, Callable[[], object]] = {
        "remove": lambda: full.remove("ada/c"),
        "rebuild": lambda: full.rebuild(),
        "export": lambda: full.get("ada/c", tmp_path / "out"),
    }
    before = shown(full)
    for size in (0, 100, 1_000, 4_000):
        file_limit(size)
        try:
            with pytest.raises(StorageFull, match="try again"):
                actions[verb]()
            assert shown(full) == before
        finally:
            file_limit(resource.RLIM_INFINITY)
        assert errors(full) == []
        assert not [p for p in tmp_path.iterdir() if "out" in p.name]
        assert len(list(full.folder.glob("records-*.sqlite"))) == 1


def test_a_waiting_log_is_read_without_room(full: LocalDock, tmp_path: Path, file_limit: FileLimit) -> None:
    """A writer died while another read: its last additions are in the log only, and nothing can be written."""
    new = make_learnware(tmp_path / "new", "ada/new")
    child = os.fork()
    if child == 0:
        try:
            with full.storage.read():
                full.add(new)
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (log,) = full.folder.glob("records-*.sqlite-wal")
    assert log.stat().st_size > 0
    file_limit(0)
    try:
        without_room = shown(full)
    finally:
        file_limit(resource.RLIM_INFINITY)
    assert [each[0].partition("@")[0] for each in without_room] == ["ada/a", "ada/c", "ada/d", "ada/new"]
    assert shown(full) == without_room
    assert errors(full) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", place], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here; it takes root")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(disk: Path, leave: int) -> None:
    """Take all room of ``disk`` but ``leave`` bytes."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - leave
    if free > 0:
        with (disk / "filler").open("ab", buffering=0) as filler:
            filler.write(bytes(free))


def test_a_full_disk_changes_nothing_and_reading_goes_on(small_disk: Path, tmp_path: Path) -> None:
    dock = open_dock(small_disk / "dock")
    for name in ("a", "b"):
        dock.add(make_learnware(tmp_path / name, f"ada/{name}"))
    new = make_learnware(tmp_path / "new", "ada/new", numbers=20_000)
    before = shown(dock)
    refused = 0
    for leave in range(0, 300_000, 12_288):
        fill(small_disk, leave)
        for verb in ("add", "remove", "rebuild"):
            try:
                if verb == "add":
                    dock.add(new)
                elif verb == "remove":
                    dock.remove("ada/new")
                else:
                    dock.rebuild()
            except StorageFull:
                refused += 1
            except NotFound:
                assert verb == "remove"
            now = shown(dock)
            # A removal that finds no room leaves the learnware; each is either whole or not there.
            assert [each[0] for each in now if "ada/new" not in each[0]] == [each[0] for each in before]
            assert shown(open_dock(small_disk / "dock")) == now
            dock.get("ada/a", tmp_path / f"out-{leave}-{verb}")
        (small_disk / "filler").unlink()
        dock.gc()
        assert [p for p in dock.verify() if p.severity == "error"] == []
    assert refused >= 3
    dock.add(new)
    assert dock.get_record("ada/new").name == "ada/new"
    assert dock.verify() == []


def test_a_dock_that_may_not_be_written_is_still_read(full: LocalDock, tmp_path: Path) -> None:
    """As another user, because root may write everywhere."""
    if os.getuid() != 0:
        pytest.skip("takes root to become another user")
    before = [r.id for r in full.records()]
    program = (
        "import os, sys; sys.path[:0] = sys.argv[2:]\n"
        "from learndock.dock import open_dock; from learndock.errors import DockError\n"
        "os.setuid(65534)\n"
        "dock = open_dock(sys.argv[1]); print(*(r.id for r in dock.records()))\n"
        "try: dock.remove('ada/a')\n"
        "except DockError as error: print(error)\n"
    )
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", program, str(full.folder), *sys.path], capture_output=True, text=True, check=True
    )
    ids, refusal = done.stdout.splitlines()
    assert ids.split() == before
    assert "can be" in refusal
    assert "written" in refusal


def test_errors_of_the_system_are_ours(full: LocalDock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A disk that fails to sync is a failure: told, undone, never taken for success."""
    before = shown(full)
    folder = make_learnware(tmp_path / "new", "ada/new")

    def failing(handle: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(LearndockError, match="Input/output error"):
            full.add(folder)
        assert shown(full) == before
    assert shown(full) == before
    full.add(folder)
    assert errors(full) == []
