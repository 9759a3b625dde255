"""The dock in a real PostgreSQL and a real S3 server: the tests of the embedded dock and of blobs, on it."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from learndock.dock import BlobStore, LocalDock
from learndock.dock.open import open_server_dock
from learndock.dock.storage import migrations
from learndock.dock.storage.postgres import STEPS
from learndock.dock.storage.publications import Publication
from learndock.dock.storage.records import Records
from learndock.dock.storage.s3 import ObjectBlobs, object_store
from learndock.errors import Conflict, DockError, StorageFull, Unavailable
from tests.dock import test_blobs, test_dock
from tests.dock.test_blobs import (  # noqa: F401 - collected here once more
    test_a_name_is_a_sha256_or_nothing,
    test_an_endless_stream_is_cut_off,
    test_other_bytes_are_refused_and_nothing_stays,
    test_what_is_not_there,
)
from tests.dock.test_dock import (  # noqa: F401 - collected here once more
    good,
    test_a_damaged_blob_is_told_not_handed_out_and_mended,
    test_a_damaged_record_is_told_and_nothing_is_lost,
    test_a_folder_that_is_not_what_was_packed,
    test_a_manifest_with_text_that_is_not_unicode,
    test_a_removed_name_goes_on_with_its_numbers,
    test_a_spec_that_cannot_be_true_is_not_stored,
    test_added_listed_found_and_exported,
    test_adding_again_changes_nothing,
    test_an_undo_that_fails_does_not_hide_the_first_error,
    test_collect_takes_what_nobody_refers_to,
    test_equal_files_are_kept_once,
    test_export_writes_only_where_nothing_is,
    test_names_that_look_alike_on_disk,
    test_other_content_follows_only_the_version_that_was_meant,
    test_readers_go_on_while_a_rebuild_replaces_the_database,
    test_rebuild_gives_identical_answers,
    test_rebuild_without_a_spec_says_how_to_go_on,
    test_verify_finds_a_database_that_lies,
    test_what_a_dock_does_not_take,
    test_what_is_not_there_and_what_was_meant,
    test_without_specs_or_with_two_for_a_space,
    test_writers_stop_where_disk_and_database_disagree,
    tmp_path,
)
from tests.support import engines
from tests.support.docking import make_learnware, put_behind_its_back, reopened, server_storage, stored

_number = itertools.count()
#: What comes before the store is reached, or differs in nothing there, runs here with LEARNDOCK_SOAK=1 only.
_LONG = ("test_a_spec_that_cannot_be_true", "test_what_a_dock_does_not_take", "test_without_specs", "flip-", "grow")
_LIES = ("sequence = 77", "manifest =", "DELETE FROM specs", "DELETE FROM names")


@pytest.fixture(autouse=True)
def _what_runs_every_time(request: pytest.FixtureRequest) -> None:
    name = request.node.name
    lies = "lies[" in name and not any(part in name for part in _LIES)
    if not os.environ.get("LEARNDOCK_SOAK") and (lies or any(part in name for part in _LONG)):
        pytest.skip("runs with LEARNDOCK_SOAK=1")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with engines.postgres() as url:
        yield url


@pytest.fixture(scope="module")
def s3() -> Iterator[engines.S3]:
    with engines.seaweed() as server:
        yield server


def a_store(s3: engines.S3) -> Any:
    """A part of the object store that nobody has used."""
    url = f"s3://tests/{next(_number)}"
    return object_store(url, endpoint=s3.endpoint, key=engines.KEY, secret=engines.SECRET)


@pytest.fixture
def dock(database: str, s3: engines.S3, tmp_path: Path) -> Iterator[LocalDock]:  # noqa: F811 - the fixture
    dock = open_server_dock(tmp_path / "scratch", database, a_store(s3))
    yield dock
    storage = server_storage(dock)
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS specs, versions, names, dock_changes, dock_version")
    storage.engine.dispose()


@pytest.fixture
def full(dock: LocalDock, tmp_path: Path) -> LocalDock:  # noqa: F811 - the fixture
    for name in ("d", "b", "a", "c"):
        dock.add(make_learnware(tmp_path / name, f"ada/{name}"))
    dock.remove("ada/b")
    dock.remove("ada/d")
    dock.add(tmp_path / "d")
    return dock


@pytest.fixture
def store(s3: engines.S3, tmp_path: Path) -> BlobStore:  # noqa: F811 - the fixture
    return ObjectBlobs(a_store(s3), tmp_path)


def test_all_that_does_not_speak_of_files_runs_here() -> None:
    """Who adds a test to the embedded dock decides whether it is one of a folder, or runs here too."""
    of_a_folder = {
        "test_a_database_of_the_future_is_refused",
        "test_a_dock_of_the_future_is_refused",
        "test_a_dock_of_the_past_is_brought_up_to_date",
        "test_a_dock_that_may_not_be_written_is_still_read",
        "test_a_folder_of_other_things_is_no_dock",
        "test_a_folder_that_changes_after_admission",
        "test_a_founder_that_was_killed_is_no_obstacle",
        "test_a_full_disk_changes_nothing_and_reading_goes_on",
        "test_a_limit_at_any_size_leaves_all_or_nothing",
        "test_a_limit_stops_other_verbs_whole",
        "test_a_lost_or_damaged_database_is_told_and_rebuilt",
        "test_a_new_dock_is_empty_and_the_same_when_opened_again",
        "test_a_waiting_log_is_read_without_room",
        "test_an_address_without_its_scheme_makes_no_folder",
        "test_errors_of_the_system_are_ours",
        "test_the_environment_names_the_dock",
    }
    assert {n for n in vars(test_dock) if n.startswith("test_")} - of_a_folder <= set(globals())
    of_a_disk = {
        "test_what_goes_in_comes_out",
        "test_put_says_what_is_new_and_keeps_one",
        "test_putting_again_mends_a_damaged_blob",
    }
    assert {n for n in vars(test_blobs) if n.startswith("test_")} - of_a_disk <= set(globals())


def test_every_step_of_the_tables_has_its_twin() -> None:
    assert len(STEPS) == len(migrations.STEPS)


def test_blobs_go_in_and_come_out(store: BlobStore, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    content = bytes(range(256)) * 100_000  # more than one part
    sha256 = hashlib.sha256(content).hexdigest()
    for _ in range(2):
        (tmp_path / "file").write_bytes(content)
        store.adopt(tmp_path / "file", sha256=sha256, size=len(content))
        assert not (tmp_path / "file").exists()
    with store.open(sha256) as stream:
        assert stream.read() == content
        stream.seek(25_000_000)
        assert stream.read(10) == content[25_000_000:25_000_010]
    store.link(sha256, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert list(store.digests()) == [sha256]


def test_lost_tables_are_told_and_rebuilt(full: LocalDock, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    from tests.support.docking import reopened, run_sql

    before = test_dock.shown(full)
    run_sql(full, "DROP TABLE specs, versions, names, dock_changes, dock_version")
    again = reopened(full)
    with pytest.raises(DockError, match="learndock rebuild"):
        again.records()
    assert again.rebuild() == 3
    assert test_dock.shown(again) == before
    server_storage(again).engine.dispose()


def test_a_dock_of_0_1_0_is_migrated(dock: LocalDock, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    for name in ("good", "gone"):
        dock.add(make_learnware(tmp_path / name, f"ada/{name}"))
    dock.remove("ada/gone")
    before = test_dock.shown(dock)
    _age(dock)
    with pytest.raises(DockError):
        dock.records()  # only a writer migrates the tables
    again = reopened(dock)
    assert test_dock.shown(again) == before
    assert [again.add(make_learnware(tmp_path / f"2-{n}", f"ada/{n}", seed=1)).version for n in ("good", "gone")] == [
        2,
        2,
    ]
    assert stored(again, "dock.json")["dock.json"] == b'{"format": 2}\n'
    assert [p for p in again.verify() if p.severity == "error"] == []
    assert again.rebuild() == 2
    server_storage(again).engine.dispose()


def _age(dock: LocalDock) -> None:
    """Make the dock what learndock 0.1.0 would have made of it, each name with one version."""
    for path, content in stored(dock, "learnwares/").items():
        found = json.loads(content)
        (version,) = found["versions"]
        kept = {key: version[key] for key in ("state", "sequence", "digest", "manifest") if key in version}
        put_behind_its_back(dock, path, json.dumps({"name": found["name"], **kept}).encode())
    put_behind_its_back(dock, "dock.json", b'{"format": 1}\n')
    columns = "space_id, space, sha256, domain, behaviour, reliability"
    with server_storage(dock).engine.begin() as connection:
        for statement in (
            f"CREATE TABLE kept AS SELECT name, {columns} FROM specs",
            "CREATE TABLE were AS SELECT name, digest, state, sequence, manifest FROM versions",
            "DROP TABLE specs, versions, names, dock_changes, dock_version",
            *";".join(STEPS[:2]).split(";"),
            (
                "INSERT INTO learnwares SELECT name, digest, state, sequence, manifest, 'x', 'y', 'mit' FROM were "
                "WHERE state = 'published'"
            ),
            "INSERT INTO tombstones SELECT name, digest, sequence FROM were WHERE state = 'removed'",
            f"INSERT INTO specs (name, {columns}) SELECT name, {columns} FROM kept",
            "DROP TABLE kept, were",
            "INSERT INTO dock_version VALUES (2)",
        ):
            connection.exec_driver_sql(statement)


def test_one_of_many_writers_follows_the_first_version(dock: LocalDock, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    folders = [make_learnware(tmp_path / str(i), "ada/good", seed=i) for i in range(8)]
    dock.add(make_learnware(tmp_path / "first", "ada/good", seed=8))
    storage = server_storage(dock)
    others = [open_server_dock(tmp_path / f"s{i}", str(storage.engine.url), storage.store) for i in (0, 1)]

    def add(i: int) -> str | None:
        try:
            return others[i % 2].add(folders[i], after="v1").digest
        except Conflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        done = [d for d in pool.map(add, range(8)) if d]
    assert [r.digest for r in dock.records()] == done
    assert dock.gc().blobs == 0, "writers that were refused left nothing"
    assert dock.verify() == []
    for other in others:
        server_storage(other).engine.dispose()


def test_a_connection_that_ends_while_publishing_is_told_as_what_it_is(
    full: LocalDock,
    tmp_path: Path,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = test_dock.shown(full)
    settled = Records.settle

    def ended(self: Records, publication: Publication) -> None:
        self._database.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        settled(self, publication)

    with monkeypatch.context() as patch:
        patch.setattr(Records, "settle", ended)
        with pytest.raises(Unavailable, match="the database does not answer") as caught:
            full.add(make_learnware(tmp_path / "new", "ada/new"))
    assert "ROLLBACK" not in str(caught.value)
    assert test_dock.shown(full) == before
    full.add(tmp_path / "new")
    assert [p for p in full.verify() if p.severity != "info"] == []


def test_what_does_not_answer_is_told(s3: engines.S3, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    nowhere = f"postgresql://tests@127.0.0.1:{engines.free_port()}/postgres"
    with pytest.raises(Unavailable, match="does not answer"):
        open_server_dock(tmp_path / "a", nowhere, a_store(s3))
    wrong = object_store("s3://tests/x", endpoint=s3.endpoint, key=engines.KEY, secret="no such secret")
    with pytest.raises(DockError, match=r"object store did not answer as it should \(.*403.*objects_secret"):
        open_server_dock(tmp_path / "b", nowhere, wrong)
    gone = f"http://127.0.0.1:{engines.free_port()}"
    unreachable = object_store("s3://tests/x", endpoint=gone, key=engines.KEY, secret=engines.SECRET)
    with pytest.raises(Unavailable, match="objects_endpoint") as found:
        open_server_dock(tmp_path / "b", nowhere, unreachable)
    assert gone in str(found.value)
    assert "Debug source" not in str(found.value)
    shutil.rmtree(tmp_path / "b")
    assert issubclass(StorageFull, DockError)
