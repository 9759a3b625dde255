"""Publishing reads every byte before it takes the writer's lock, and a collection in the meantime does no harm."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from learndock.dock import LocalDock, open_dock
from learndock.dock.storage.layout import DockLayout
from learndock.errors import Conflict, PackageError
from learndock.files import sha256_file
from tests.support.docking import blob_path, make_learnware

#: Files that were opened to be read while a lock was held; None where nobody looks.
_opened: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str) and "r" in str(arguments[1]):
        _opened.append(arguments[0])


sys.addaudithook(_hook)


@pytest.fixture
def dock(tmp_path: Path) -> LocalDock:
    return open_dock(tmp_path / "dock")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return make_learnware(tmp_path / "good", "ada/good")


@pytest.fixture
def while_locked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened to be read while the writer's lock is held."""
    seen: list[str] = []
    locked = DockLayout.locked

    @contextlib.contextmanager
    def watched(self: DockLayout, *, wait: bool = True) -> Iterator[bool]:
        global _opened
        with locked(self, wait=wait) as held:
            _opened = seen
            try:
                yield held
            finally:
                _opened = None

    monkeypatch.setattr(DockLayout, "locked", watched)
    return seen


def test_no_file_is_read_while_the_lock_is_held(dock: LocalDock, good: Path, while_locked: list[str]) -> None:
    dock.add(good)
    dock.add(good)
    read = [p for p in while_locked if str(good) in p or "/blobs/" in p]
    assert read == []
    assert dock.verify() == []
    assert any("learnwares" in p for p in while_locked), "the watch sees what is opened"


def test_others_write_while_a_large_file_is_read(dock: LocalDock, tmp_path: Path) -> None:
    """Another writer publishes between the first and the last of 16 MB."""
    large = make_learnware(tmp_path / "large", "ada/large", numbers=4_000_000)
    small = make_learnware(tmp_path / "small", "bob/small")
    added: list[str] = []

    def another(done: int, total: int) -> None:
        if total > 16_000_000 and 0 < done < total and not added:
            added.append(open_dock(dock.folder).add(small).id)

    dock.add(large, progress=another)
    assert len(added) == 1
    assert {record.name for record in dock.records()} == {"ada/large", "bob/small"}


def read_while_locked(dock: LocalDock, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Bytes that this process reads while it holds the writer's lock to add ``folder``, and in all."""
    inside = [0]
    locked = DockLayout.locked

    @contextlib.contextmanager
    def counted(self: DockLayout, *, wait: bool = True) -> Iterator[bool]:
        with locked(self, wait=wait) as held:
            before = bytes_read()
            try:
                yield held
            finally:
                inside[0] += bytes_read() - before

    start = bytes_read()
    with monkeypatch.context() as patch:
        patch.setattr(DockLayout, "locked", counted)
        dock.add(folder)
    return inside[0], bytes_read() - start


def bytes_read() -> int:
    """Bytes that this process has read so far, as Linux counts them."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what a process reads")
def test_the_lock_is_held_as_long_for_a_large_file_as_for_a_small_one(
    dock: LocalDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured in bytes that its holder reads, which no other load on the machine changes."""
    small, _ = read_while_locked(dock, make_learnware(tmp_path / "small", "ada/small"), monkeypatch)
    large, total = read_while_locked(
        dock, make_learnware(tmp_path / "large", "ada/large", numbers=4_000_000), monkeypatch
    )
    assert total > 16_000_000
    assert large < small + 100_000


def test_a_damaged_blob_is_replaced_without_reading_it_in_the_lock(
    dock: LocalDock, good: Path, while_locked: list[str]
) -> None:
    record = dock.add(good)
    blob = dock.folder / blob_path(record.manifest.files[0].sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"damaged")
    dock.add(good)
    assert sha256_file(blob) == blob.name
    assert not [p for p in while_locked if str(good) in p or "/blobs/" in p]


def test_a_blob_that_is_collected_between_hashing_and_publishing_is_put_again(
    dock: LocalDock, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock.add(good)
    dock.remove("ada/good")  # its blobs are there until the next collection
    workspaces: list[Path] = []
    locked = DockLayout.locked
    state = {"collected": False}

    @contextlib.contextmanager
    def collecting(self: DockLayout, *, wait: bool = True) -> Iterator[bool]:
        adding = list(self.folder.glob("adding-*"))
        if adding and not state["collected"]:
            state["collected"] = True
            assert open_dock(self.folder).gc().blobs > 0
            workspaces.extend(adding)
        with locked(self, wait=wait) as held:
            yield held

    monkeypatch.setattr(DockLayout, "locked", collecting)
    dock.add(good)
    assert state["collected"]
    assert dock.verify() == []
    assert not any(w.exists() for w in workspaces), "and the folder for what comes in is gone at the end"


def test_a_collection_spares_the_folder_of_who_is_adding_and_takes_that_of_who_was_killed(dock: LocalDock) -> None:
    with dock.storage.workspace() as place:
        (place / "file").write_bytes(b"x")
        dock.gc()
        assert (place / "file").exists()
        left = shutil.copytree(place, place.with_name("adding-killed"))
    assert not place.exists()
    dock.gc()
    assert not left.exists()


def test_what_does_not_follow_the_latest_is_refused_before_its_files_are_read(
    dock: LocalDock, good: Path, tmp_path: Path
) -> None:
    dock.add(good)
    other = make_learnware(tmp_path / "other", "ada/good", seed=1)
    admitted = dock.admit(other)
    (other / "model.safetensors").unlink()
    with pytest.raises(Conflict):
        dock.publish(admitted, after="v2")


def test_stored_files_must_be_stored(dock: LocalDock, good: Path) -> None:
    with pytest.raises(PackageError, match="upload it again"):
        dock.publish(dock.admit(good), stored=True)
    assert (dock.records(), dock.verify()) == ([], [])
