"""The service when its process is killed: what was acknowledged stays, nothing is half there, all rubbish goes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from learndock.dock import open_dock
from learndock.dock.storage.lock import held
from learndock.errors import Conflict, DockError, NotFound
from learndock.service.backup import restore
from learndock.service.referrers import open_referrers
from learndock.service.repositories import BEGUN
from learndock.service.upkeep import Upkeep
from tests.support.docking import MEMORY
from tests.support.killing import points, strace
from tests.support.killing_service import (
    SETTINGS,
    VERBS,
    Killer,
    Small,
    expire,
    look,
    make_small,
    opened,
    send_all,
    stepping,
)

#: Points of each verb; ``benchmarks/kill_points_service.py`` takes all.
SAMPLE = 3


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def small() -> Iterator[Small]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield make_small(Path(folder) / "small")


@pytest.fixture
def dock(small: Small, place: Path) -> Path:
    """A copy of the small service's dock."""
    return Path(shutil.copytree(small.folder / "dock", place / "dock", symlinks=True))


@pytest.mark.parametrize("verb", [pytest.param(v, marks=[] if v == "publish" else pytest.mark.slow) for v in VERBS])
def test_killed_at_calls_that_touch_the_disk(small: Small, place: Path, verb: str) -> None:
    tracer, why = strace()
    if tracer is None:
        pytest.skip(f"{why}; nothing is killed")
    killer = Killer(tracer, small, place, verb)
    places = points(killer.measure())
    assert len(places) > 10 * SAMPLE
    step = len(places) // SAMPLE
    for call, n in places[step // 2 :: step]:
        killer.kill(call, n)


def test_a_step_that_makes_a_table_anew_keeps_what_refers_to_it(small: Small, dock: Path) -> None:
    before = look(small, dock)
    with stepping(small):
        assert look(small, dock) == before


def test_a_publication_that_was_killed_leaves_no_file_of_the_state_before(small: Small, dock: Path) -> None:
    with opened(dock) as service:
        send_all(small, service, small.folder / "over", lambda: None)
        service.dock.add(small.folder / "over")
        assert Upkeep(service).reconcile() == 1
        repository = service.repositories.get(small.ada, "ada/plain")
        tree = service.repositories.tree(service.repositories.resolve(repository))
        assert "model.safetensors" in tree
        assert "notes.txt" not in tree


def test_an_empty_repository_goes_where_its_learnware_never_came(small: Small, dock: Path) -> None:
    with opened(dock) as service:
        service.repositories.create(small.ada, "ada/begun", begun=True)
        service.repositories.create(small.ada, "ada/empty")
        Upkeep(service).collect()
        assert service.repositories.get(small.ada, "ada/begun").note == BEGUN
    expire(dock)
    with opened(dock) as service:
        Upkeep(service).collect()
        assert service.repositories.get(small.ada, "ada/empty").note is None
        with pytest.raises(NotFound):
            service.repositories.get(small.ada, "ada/begun")


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root cannot give files away")
def test_an_upload_goes_on_whose_file_was_about_to_become_a_blob(small: Small, dock: Path) -> None:
    """A blob is made read-only before it gets its name; a service that is not root is held to that."""
    with opened(dock) as service:
        upload = service.uploads.begin(small.ada, "0" * 64, 3)
        file = service.uploads.folder / upload.id
        file.write_bytes(b"ab")
        file.chmod(0o444)
        for path in (dock.parent, dock, service.uploads.folder, file):
            os.chown(path, 65534, -1)
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionError):
                file.open("ab")
            with service.uploads.receive(small.ada, upload, offset=2) as receiver:
                receiver.write(b"c")
        finally:
            os.seteuid(0)
        assert file.read_bytes() == b"abc"


def test_a_collection_spares_the_backup_that_goes_on(dock: Path) -> None:
    home = open_dock(dock).storage
    dead = dock / "backup-0123abcd"
    dead.mkdir()
    (dead / "blob").write_bytes(b"x")
    with home.hard_links() as stash:
        collecting = open_dock(dock)
        collecting.storage.referrers = open_referrers(dock)
        assert collecting.gc().unfinished == 1
        assert stash.is_dir()
        assert not dead.exists()
    assert not stash.exists()


def test_half_a_restore_is_no_dock(small: Small, dock: Path) -> None:
    before = look(small, small.folder / "saved")
    (dock / "restoring.json").write_text("{}")
    for opening in (lambda: open_dock(dock), lambda: opened(dock).__enter__()):
        with pytest.raises(DockError, match="run `learndock restore` again"):
            opening()
    with held(dock / "restoring.json"), pytest.raises(Conflict, match="another restore"):
        restore(SETTINGS, small.folder / "saved", dock)
    restore(SETTINGS, small.folder / "saved", dock)
    assert look(small, dock) == before
