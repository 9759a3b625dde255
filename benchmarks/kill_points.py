"""Every call of a dock's writers that touches the disk: killed there, or told by the system that it failed.

    python benchmarks/kill_points.py --json OUT [--verbs add,remove] [--minutes 10]

For each verb (make a dock, add, add again what was removed, add a second version, supersede, tag, edit, deprecate,
move, remove a name or one version, rebuild, collect, migrate a dock of learndock 0.1.0, get) and each call of
``tests/support/killing.py``, with strace:

    kill    the process dies at the call
    fsync   the n-th fsync or fdatasync says EIO: a failure, never turned into success
    full    the n-th write says ENOSPC: an error of ours, nothing was changed, the next attempt succeeds

Afterwards the dock is opened as a reader would: what was acknowledged is there, nothing is half there, every blob has
its bytes, a rebuild gives the same answers; then the interrupted verb is done again and ``collect`` leaves no orphan.
"""

from __future__ import annotations

import argparse
import collections
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.support.docking import MEMORY
from tests.support.killing import (
    CALLS,
    CHANGING,
    VERBS,
    age,
    answers,
    check,
    count_calls,
    make_small,
    points,
    run_traced,
    source,
    strace,
)

from learndock.dock import open_dock
from learndock.package import open_learnware

SYNCS = ("fsync", "fdatasync")
WRITES = ("write", "pwrite64")


class Bench:
    """One verb on copies of one small dock."""

    def __init__(self, tracer: str, small: Path, place: Path, verb: str) -> None:
        self.tracer, self.small, self.place, self.verb = tracer, small, place, verb
        self.before = [each for each, _ in answers(open_dock(source(small, verb)))]
        self.path = place / "dock"
        ended, said = self.attempt("-e", f"trace={','.join(CALLS)}")
        assert (ended, said) == (0, "done"), f"{verb}: {said}"
        self.calls = count_calls(place / "trace")
        self.after = check(self.path)
        assert (self.after != self.before) == (verb in CHANGING)

    def attempt(self, *options: str) -> tuple[int, str]:
        """The verb on a fresh copy."""
        for folder in (self.path, self.place / "got"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source(self.small, self.verb), self.path, symlinks=True)
        if self.verb == "migrate":
            age(self.path)
        return run_traced(self.tracer, self.place / "trace", lambda: VERBS[self.verb](self.small, self.path), *options)

    def look(self, told: bool) -> list[str]:
        """What a reader finds; raises where it is not whole, or something acknowledged is lost."""
        if self.verb == "found":
            assert check(self.path / "founded") == []
        if self.verb == "get" and (self.place / "got").exists():
            open_learnware(self.place / "got", verify=True)
        there = check(self.path)
        assert there in (self.before, self.after), "neither before nor after"
        assert there == self.after or not told, "acknowledged and lost"
        return there

    def again(self, there: list[str]) -> None:
        """Do what was interrupted once more, and clear away."""
        shutil.rmtree(self.place / "got", ignore_errors=True)
        if there != self.after or self.verb not in CHANGING:
            VERBS[self.verb](self.small, self.path)
        assert [each for each, _ in answers(open_dock(self.path))] == self.after
        open_dock(self.path).gc()
        assert open_dock(self.path).verify() == []
        assert not list((self.path / "staging").iterdir())
        assert not [p for p in self.place.iterdir() if p.name.endswith(".part")]

    def points(self) -> Iterator[tuple[str, str, int, str]]:
        """``(mode, call, n, what strace injects)``."""
        for call, n in points(self.calls):
            yield "kill", call, n, "signal=KILL"
            if call in SYNCS:
                yield "fsync", call, n, "error=EIO"
            if call in WRITES:
                yield "full", call, n, "error=ENOSPC"


def run(bench: Bench, until: float) -> dict[str, Any]:
    """All points of a verb, or as many as fit."""
    found: dict[str, collections.Counter[str]] = {
        mode: collections.Counter() for mode in ("kill", "fsync", "full", "shrugged off", "skipped")
    }
    wrong: list[str] = []
    for mode, call, n, what in bench.points():
        if time.monotonic() > until:
            found["skipped"][call] += 1
            continue
        point = f"{bench.verb}: {mode} at {call} {n}"
        try:
            ended, said = bench.attempt("-e", f"inject={call}:{what}:when={n}")
            assert mode != "kill" or ended == -signal.SIGKILL or said == "done", "it was not killed"
            assert "Traceback" not in said, said
            there = bench.look(told=said == "done")
            found["shrugged off"][call] += mode != "kill" and said == "done"
            # The system said no, and so does the verb, or it did without what failed; but what it says holds
            assert said != "StorageFull" or there == bench.before, "nothing was changed, it said"
            bench.again(there)
        except Exception as error:
            wrong.append(f"{point}: {type(error).__name__}: {error}"[:400])
            print(wrong[-1], flush=True)
        found[mode][call] += 1
    return {
        **{mode: dict(sorted(counts.items())) for mode, counts in found.items()},
        "points": sum(sum(found[mode].values()) for mode in ("kill", "fsync", "full")),
        "wrong": wrong,
    }


def asked(about: str, verbs: Iterable[str], minutes: float) -> argparse.Namespace:
    """What the command line asks for: ``json``, ``verbs``, ``minutes``, and the ``tracer`` to do it with."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--verbs", default=",".join(verbs))
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--resume", action="store_true", help="leave out the verbs that --json has completely")
    options = parser.parse_args()
    options.verbs = options.verbs.split(",")
    options.tracer, why = strace()
    if options.tracer is None:
        print(f"{why}; nothing was killed")
        sys.exit(1)
    return options


def begun(options: argparse.Namespace) -> dict[str, Any]:
    """Return what an earlier run wrote, verb by verb, and leave out the verbs of which it took all points."""
    result: dict[str, Any] = {}
    if options.resume and options.json and options.json.exists():
        result = dict(json.loads(options.json.read_bytes())["verbs"])
    options.verbs = [v for v in options.verbs if v not in result or result[v].get("skipped")]
    return result


def conclude(result: dict[str, Any], start: float, file: Path | None) -> int:
    """Print the sum of all verbs and write the figures as JSON; returns the exit code."""
    wrong = sum(len(found["wrong"]) for found in result.values())
    whole = {"verbs": result, "wrong": wrong, "seconds": round(time.monotonic() - start, 1)}
    print(f"{sum(f['points'] for f in result.values())} points, {wrong} wrong, {whole['seconds']} s")
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return 1 if wrong else 0


def main() -> int:
    """Run and print; write the figures as JSON."""
    options = asked(str(__doc__), VERBS, 10.0)
    start = time.monotonic()
    result = begun(options)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        small = make_small(Path(folder))
        for verb in options.verbs:
            place = Path(folder) / "place"
            place.mkdir()
            found = result[verb] = run(Bench(options.tracer, small, place, verb), start + 60 * options.minutes)
            shutil.rmtree(place)
            print(
                f"{verb:10s} {found['points']:4d} points, {len(found['wrong'])} wrong, "
                f"{sum(found['shrugged off'].values())} errors without effect, "
                f"{sum(found['skipped'].values())} left out for time",
                flush=True,
            )
            conclude(result, start, options.json)
    return conclude(result, start, options.json)


if __name__ == "__main__":
    sys.exit(main())
