"""The dock when its writers are killed, or race: what was acknowledged stays, and nothing is half there."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from learndock.dock import open_dock
from learndock.errors import LearndockError
from learndock.package import open_learnware
from tests.support.docking import MEMORY, make_learnware
from tests.support.killing import (
    CALLS,
    CHANGING,
    VERBS,
    age,
    answers,
    check,
    count_calls,
    make_small,
    run_traced,
    source,
    strace,
)
from tests.support.soak import SOAK


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory where there is one: being killed does not depend on the disk, waiting for it does."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


def add_and_remove(place: Path, kill: int, say: int) -> None:
    """Add learnwares and remove every third again, until killed; tells what is done and what is begun."""
    dock = open_dock(place / "dock")
    for number in range(1_000):
        folder = make_learnware(place / f"{kill}-{number}", f"loop{kill}/n{number}", numbers=20_000)
        added = dock.add(folder).id
        os.write(say, f"added {added}\n".encode())
        if number % 3 == 1:
            os.write(say, f"removing {added}\n".encode())
            dock.remove(added)
            os.write(say, f"removed {added}\n".encode())


def test_writers_killed_at_any_moment(place: Path) -> None:
    draw = random.Random(5)
    told: dict[str, list[str]] = {"added": [], "removing": [], "removed": []}
    for kill in range(12):
        said, say = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                add_and_remove(place, kill, say)
            finally:
                os._exit(1)
        os.close(say)
        time.sleep(draw.uniform(0.01, 0.25))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        with os.fdopen(said) as reader:
            for line in reader:
                told[line.split()[0]].append(line.split()[1])
        check(place / "dock")
        there = [r.id for r in open_dock(place / "dock").records()]
        assert [each for each in told["added"] if each not in told["removing"]] == [
            each for each in there if each in told["added"] and each not in told["removing"]
        ]
        assert not set(told["removed"]) & set(there)
    assert len(told["added"]) >= 8
    assert len(told["removed"]) >= 2
    dock = open_dock(place / "dock")
    dock.gc()
    assert dock.verify() == []


# -- killed at every call --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tracer() -> str:
    found, why = strace()
    if found is None:
        pytest.skip(f"{why}; killed at random moments only")
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize(
    "verb", [pytest.param(v, marks=[] if v in ("add", "move") else pytest.mark.slow) for v in VERBS]
)
def test_killed_at_every_call_that_touches_the_disk(tracer: str, small: Path, place: Path, verb: str) -> None:
    """Before, or after, and whole: whichever call is the last one.

    A sample: every twelfth call of an addition; in a soak every third call of what changes answers, every eighth of
    what does not. ``benchmarks/kill_points.py`` takes them all.
    """
    before, trace = [each for each, _ in answers(open_dock(source(small, verb)))], place / "trace"

    def attempt(path: Path, *options: str) -> tuple[int, bool]:
        shutil.copytree(source(small, verb), path, symlinks=True)
        if verb == "migrate":
            age(path)
        ended, said = run_traced(tracer, trace, lambda: VERBS[verb](small, path), *options)
        return ended, said == "done"

    assert attempt(place / "whole", "-e", f"trace={','.join(CALLS)}") == (0, True)
    counts = count_calls(trace)
    shutil.rmtree(place / "got", ignore_errors=True)
    after = check(place / "whole")
    assert (after != before) == (verb in CHANGING)
    ends = []
    # The last write is the child's own word that it is done.
    points = [(call, n) for call, count in counts.items() for n in range(1, count + 1)]
    for call, n in points[:: 8 if before == after else 3 if SOAK else 12]:
        path = place / "killed"
        ended, told = attempt(path, "-e", f"inject={call}:signal=KILL:when={n}")
        assert ended == -signal.SIGKILL or told
        if verb == "found":
            assert check(path / "founded") == []
        if verb == "get" and (place / "got").exists():
            open_learnware(place / "got", verify=True)
            shutil.rmtree(place / "got")
        there = check(path)
        assert there in (before, after)
        assert there == after or not told
        ends.append(there == after)
        if len(ends) % 3 == 0:  # what was interrupted can be done again, and leaves nothing
            if there != after:
                VERBS[verb](small, path)
                assert [each for each, _ in answers(open_dock(path))] == after
            open_dock(path).gc()
            assert open_dock(path).verify() == []
            assert not list((path / "staging").iterdir())
        shutil.rmtree(path)
    assert len(ends) >= 3
    assert before == after or {True, False} == set(ends)


# -- at once ---------------------------------------------------------------------------------------------


def add_when_told(path: str, folders: list[str], start: float) -> list[str]:
    """In a process of its own: add each folder, beginning at the same moment as the others."""
    time.sleep(max(0.0, start - time.time()))
    said = []
    for folder in folders:
        try:
            said.append(open_dock(Path(path)).add(folder).id)
        except LearndockError as error:
            said.append(type(error).__name__)
    return said


def at_once(path: Path, *jobs: list[Path]) -> list[list[str]]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(len(jobs)) as pool:
        pool.map(time.sleep, [0.05] * len(jobs), chunksize=1)
        start = time.time() + 0.3
        return pool.starmap(add_when_told, [(str(path), [str(f) for f in job], start) for job in jobs], chunksize=1)


def test_two_processes_add_at_once_even_to_a_dock_that_is_not_there_yet(place: Path) -> None:
    one = [make_learnware(place / f"one-{i}", f"one/n{i}") for i in range(6)]
    two = [make_learnware(place / f"two-{i}", f"two/n{i}") for i in range(6)]
    same = [make_learnware(place / f"same-{i}", f"both/same{i}") for i in range(4)]
    here = [make_learnware(place / f"here-{i}", f"both/mine{i}", seed=1) for i in range(4)]
    there = [make_learnware(place / f"there-{i}", f"both/mine{i}", seed=2) for i in range(4)]
    first, second = at_once(place / "dock", one + same + here, two + same + there)
    assert all("@" in each for each in first[:10] + second[:10])
    assert first[6:10] == second[6:10]
    check(place / "dock")
    assert len(open_dock(place / "dock")) == 6 + 6 + 4 + 4
    dock = open_dock(place / "dock")
    found = [version for record in dock.records() for version in dock.versions(record.name)]
    assert sorted(r.id for r in found) == sorted({*first, *second}), "other content is the next version"
    assert [r.version for r in found if "mine" in r.name] == [1, 2] * 4


# -- a disk that fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["add", pytest.param("get", marks=pytest.mark.slow)])
def test_an_fsync_that_fails_is_a_failure(tracer: str, small: Path, place: Path, verb: str) -> None:
    """Never tried again into success: the second fsync of a file says that all is well, and its bytes are gone."""
    before = [each for each, _ in answers(open_dock(small / "dock"))]
    path = place / "dock"
    shutil.copytree(small / "dock", path, symlinks=True)
    assert run_traced(tracer, place / "trace", lambda: VERBS[verb](small, path), "-e", "trace=fsync") == (0, "done")
    count = count_calls(place / "trace")["fsync"]
    assert count >= 5
    for n in range(1, count + 1):
        shutil.rmtree(path)
        shutil.rmtree(place / "got", ignore_errors=True)
        shutil.copytree(small / "dock", path, symlinks=True)
        _, said = run_traced(
            tracer, place / "trace", lambda: VERBS[verb](small, path), "-e", f"inject=fsync:error=EIO:when={n}"
        )
        assert said == {"add": "StorageFailed", "get": "DockError"}[verb], f"fsync {n}: {said}"
        assert not (place / "got").exists()
        assert check(path) == before
        VERBS[verb](small, path)
