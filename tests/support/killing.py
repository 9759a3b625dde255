"""What a dock's writers do to the disk, call by call: killed at each, or told by the system that it failed.

Shared by ``test_dock_crash.py``, which takes a sample, and ``benchmarks/kill_points.py``, which takes all.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from learndock.dock import LocalDock, Record, open_dock
from learndock.errors import LearndockError
from tests.support.docking import SPACE_ID, make_learnware
from tests.support.docking import age as age

#: The calls that change the disk or make changes last.
CALLS = (
    *("write", "pwrite64", "ftruncate", "fsync", "fdatasync", "mkdir", "rmdir", "rename", "link"),
    *("unlink", "unlinkat", "symlink"),
)


def answers(dock: LocalDock) -> list[tuple[str, bytes]]:
    """What a reader sees: what is published in order, and the vectors of what is ranked."""
    records, table = dock.records(), dock.vectors(SPACE_ID)
    assert tuple(r.id for r in records) == table.ids
    vectors = [table.domain[i].tobytes() + table.behaviour[i].tobytes() for i in range(len(table))]
    return [(seen(dock, record), vector) for record, vector in zip(records, vectors, strict=True)]


def seen(dock: LocalDock, record: Record) -> str:
    """Everything that a reader sees of a name, but the times."""
    versions = [(r.version, r.digest, r.tags) for r in dock.versions(record.name)]
    deprecated = record.deprecated and (record.deprecated.use, record.deprecated.because)
    card = dock.card(record.name)
    return repr((record.id, record.latest, versions, record.former, record.supersedes, deprecated, record.said, card))


def check(path: Path) -> list[str]:
    """Open the dock that a killed writer left: everything in it is sound, and a rebuild says the same."""
    dock = open_dock(path)
    seen = answers(dock)
    assert [p for p in dock.verify() if p.severity == "error"] == []
    assert answers(dock) == seen
    assert dock.rebuild() == len(seen)
    assert answers(dock) == seen
    return [each for each, _ in seen]


def make_small(folder: Path) -> Path:
    """A dock with three learnwares, one removed and one with two versions, and the folders of two more contents."""
    dock = open_dock(folder / "dock")
    for name in ("kept", "gone"):
        dock.add(make_learnware(folder / name, f"ada/{name}"))
    dock.remove("ada/gone")
    shutil.copytree(folder / "dock", folder / "old", symlinks=True)
    for seed in (1, 2):
        dock.add(make_learnware(folder / f"two-{seed}", "ada/two", seed=seed, listed=False))
    make_learnware(folder / "new", "bob/new")
    make_learnware(folder / "second", "ada/kept", seed=1)
    return folder


def source(small: Path, verb: str) -> Path:
    """The dock that a verb is done in: what is migrated has one version of each name."""
    return small / ("old" if verb == "migrate" else "dock")


VERBS: dict[str, Callable[[Path, Path], object]] = {
    "found": lambda small, path: open_dock(path / "founded"),
    "add": lambda small, path: open_dock(path).add(small / "new"),
    "add again": lambda small, path: open_dock(path).add(small / "gone"),
    "add v2": lambda small, path: open_dock(path).add(small / "second"),
    "supersede": lambda small, path: open_dock(path).add(small / "new", supersedes="ada/kept"),
    "tag": lambda small, path: open_dock(path).tag("ada/two@v1", "stable"),
    "tag latest": lambda small, path: open_dock(path).tag("ada/two@v1", "latest"),
    "edit": lambda small, path: open_dock(path).edit("ada/two", license="bsd", tags=["reviews"]),
    "deprecate": lambda small, path: open_dock(path).deprecate("ada/kept", use="ada/two"),
    "move": lambda small, path: open_dock(path).move("ada/two", "bob/moved"),
    "remove": lambda small, path: open_dock(path).remove("ada/kept"),
    "remove one": lambda small, path: open_dock(path).remove("ada/two@v2"),
    "rebuild": lambda small, path: open_dock(path).rebuild(),
    "collect": lambda small, path: open_dock(path).gc(),
    "migrate": lambda small, path: open_dock(path).verify(),
    "get": lambda small, path: open_dock(path).get("ada/kept", path.parent / "got"),
}
#: Verbs after which readers see something else.
CHANGING = (
    *("add", "add again", "add v2", "supersede", "tag", "tag latest", "edit", "deprecate", "move"),
    *("remove", "remove one"),
)


def strace() -> tuple[str | None, str]:
    """The tracer, or why there is none."""
    found = shutil.which("strace")
    if found is None:
        return None, "strace is not installed"
    trial = subprocess.run([found, "-qq", "true"], check=False, capture_output=True, text=True)
    if trial.returncode:
        return None, f"strace may not trace here: {trial.stderr.strip()}"
    return found, ""


def run_traced(tracer: str, trace: Path, work: Callable[[], object], *options: str) -> tuple[int, str]:
    """Do ``work`` in a forked process under strace; returns how it ended and what it said.

    That is ``done``, the name of one of our errors, ``Traceback`` and another's, or nothing.
    """
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(said)
            os.kill(os.getpid(), signal.SIGSTOP)
            try:
                work()
                word = "done"
            except LearndockError as error:
                word = type(error).__name__
            except BaseException as error:
                word = f"Traceback {error!r}"
            with contextlib.suppress(OSError):
                os.write(say, word.encode())
        finally:
            os._exit(0)
    os.close(say)
    os.waitpid(child, os.WUNTRACED)
    with subprocess.Popen(
        [tracer, "-p", str(child), "-o", trace, *options], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = next((line for line in process.stderr if "attached" in line or "ermission" in line), "")
        assert "attached" in line, f"strace did not attach: {line}"
        os.kill(child, signal.SIGCONT)
        _, status = os.waitpid(child, 0)
    with os.fdopen(said, "rb") as reader:
        return os.waitstatus_to_exitcode(status), reader.read().decode()


def points(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """``(call, n)`` of every call that was counted: where a process can be killed."""
    return [(call, n) for call, count in sorted(counts.items()) for n in range(1, count + 1)]


def count_calls(trace: Path) -> collections.Counter[str]:
    """How often each call stands in a trace."""
    return collections.Counter(re.findall(r"^(\w+)\(", trace.read_text(), re.MULTILINE))
