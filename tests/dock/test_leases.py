"""An export and a removal at once, in real processes: the reader ends whole, or says why it could not."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from learndock.dock import LocalDock, open_dock
from learndock.dock.storage.leases import GRACE
from learndock.errors import LearndockError, NotFound
from learndock.package import open_learnware
from learndock.package.unfinished import clear_stale, unfinished
from tests.support.docking import make_learnware


@pytest.fixture
def dock(tmp_path: Path) -> LocalDock:
    dock = open_dock(tmp_path / "dock")
    dock.add(make_learnware(tmp_path / "kept", "ada/kept"))
    dock.add(make_learnware(tmp_path / "gone", "ada/gone"))
    return dock


class Reader:
    """A process that exports and halts after its first file until it is told to go on."""

    def __init__(self, dock: LocalDock, out: Path) -> None:
        said, say = os.pipe()
        hear, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(tell)
            _export(dock.folder, out, say, hear)
        os.close(say)
        os.close(hear)
        self.said, self.tell = said, tell
        assert os.read(said, 1) == b"h"

    def go_on(self) -> str:
        """What it says when it is done."""
        os.close(self.tell)
        os.waitpid(self.pid, 0)
        with os.fdopen(self.said) as words:
            return words.read()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _export(dock: Path, out: Path, say: int, hear: int) -> None:
    halted = False

    def halt(done: int, total: int) -> None:
        nonlocal halted
        if not halted:
            halted = True
            os.write(say, b"h")
            os.read(hear, 1)

    try:
        open_dock(dock).get("ada/gone", out, progress=halt)
        os.write(say, b"whole")
    except LearndockError as error:
        os.write(say, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(0)


@contextlib.contextmanager
def reading(dock: LocalDock, out: Path) -> Iterator[Reader]:
    reader = Reader(dock, out)
    try:
        yield reader
    finally:
        with contextlib.suppress(OSError):
            os.kill(reader.pid, signal.SIGKILL)
            os.waitpid(reader.pid, 0)


def blobs(dock: LocalDock) -> int:
    return sum(1 for p in (dock.folder / "blobs").rglob("*") if p.is_file())


def leftovers(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.name.startswith(".")]


def test_a_learnware_that_is_removed_and_collected_meanwhile_arrives_whole(dock: LocalDock, tmp_path: Path) -> None:
    before = blobs(dock)
    with reading(dock, tmp_path / "out") as reader:
        dock.remove("ada/gone")
        found = dock.gc()
        assert (found.blobs, found.leased > 0, blobs(dock)) == (0, True, before)
        assert reader.go_on() == "whole"
    assert open_learnware(tmp_path / "out", verify=True).manifest.name == "ada/gone"
    found = dock.gc()
    assert (found.blobs > 0, found.leased) == (True, 0)
    assert blobs(dock) < before
    assert not list((dock.folder / "leases").iterdir())
    assert dock.verify() == []


def test_the_lease_of_a_killed_reader_holds_nothing(dock: LocalDock, tmp_path: Path) -> None:
    with reading(dock, tmp_path / "out") as reader:
        assert len(list((dock.folder / "leases").iterdir())) == 1
        reader.kill()
        dock.remove("ada/gone")
        found = dock.gc()
    assert (found.blobs > 0, found.leased, found.unfinished) == (True, 0, 1)
    assert not list((dock.folder / "leases").iterdir())
    assert len(leftovers(tmp_path)) == 1
    dock.get("ada/kept", tmp_path / "other")
    assert len(leftovers(tmp_path)) == 1  # not its own
    dock.get("ada/kept", tmp_path / "out")
    assert leftovers(tmp_path) == []


def test_a_reader_that_hangs_too_long_ends_cleanly(dock: LocalDock, tmp_path: Path) -> None:
    with reading(dock, tmp_path / "out") as reader:
        (lease,) = (dock.folder / "leases").iterdir()
        long_ago = time.time() - GRACE - 1
        os.utime(lease, (long_ago, long_ago))
        dock.remove("ada/gone")
        assert dock.gc().leased == 0
        assert (
            reader.go_on()
            == f"{NotFound.__name__}: ada/gone: was removed from this dock; `learndock list` shows what is there"
        )
    assert not (tmp_path / "out").exists()
    assert leftovers(tmp_path) == []


def test_a_dock_that_cannot_be_written_is_read_all_the_same(dock: LocalDock, tmp_path: Path) -> None:
    (dock.folder / "leases").touch()  # no folder can be made here
    dock.get("ada/gone", tmp_path / "out")
    open_learnware(tmp_path / "out", verify=True)


def test_a_removal_between_two_looks_is_told(dock: LocalDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from learndock.dock.storage import leases

    take = leases._take

    def slow(folder: Path, row: object) -> object:
        dock.remove("ada/gone")
        dock.gc()
        return take(folder, row)  # type: ignore[arg-type]

    monkeypatch.setattr(leases, "_take", slow)
    with pytest.raises(NotFound, match="was removed"):
        dock.get("ada/gone", tmp_path / "out")
    assert not list((dock.folder / "leases").iterdir())


# -- what stands beside an output ----------------------------------------------------------------------------


def hold(place: Path, body: Callable[[Path], None]) -> int:
    """A process that is making ``place``."""
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        with unfinished(place) as work:
            body(work)
            os.write(say, b"x")
            signal.pause()
    os.close(say)
    os.read(said, 1)
    os.close(said)
    return child


def test_stale_folders_are_told_from_living_ones(tmp_path: Path) -> None:
    place = tmp_path / "out"
    dead = hold(place, lambda work: (work / "half").touch())
    os.kill(dead, signal.SIGKILL)
    os.waitpid(dead, 0)
    alive = hold(place, lambda work: (work / "half").touch())
    try:
        assert len(leftovers(tmp_path)) == 1  # the living one cleared the dead one's
        with unfinished(place) as work:
            assert len(leftovers(tmp_path)) == 2
            work.rename(place)
        assert len(leftovers(tmp_path)) == 1
        assert clear_stale(place) == 0
    finally:
        os.kill(alive, signal.SIGKILL)
        os.waitpid(alive, 0)
    assert clear_stale(place) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_others_put_there_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / ".out.learndock-abcdefgh.part").symlink_to(tmp_path / "precious")
    for name in (
        ".out.part",
        ".out.learndock-abc.part",
        ".other.learndock-abcdefgh.part",
        "out.learndock-abcdefgh.part",
    ):
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.iterdir())
    assert clear_stale(tmp_path / "out") == 0
    assert sorted(tmp_path.iterdir()) == before
