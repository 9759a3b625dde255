"""Every call by which a service touches the disk: killed there, then started again.

    python benchmarks/kill_points_service.py --json OUT [--verbs publish,delete] [--minutes 20]

For each verb of ``tests/support/killing_service.py`` and each call of ``tests/support/killing.py``, with strace. After
the next start what was acknowledged is there, a learnware is there whole or not at all (dock, repository and
catalogue agree), every blob has its bytes and nobody sees what is private. The verb done again succeeds. When the
time of everything is over, a collection leaves nothing that nobody refers to.
"""

from __future__ import annotations

import collections
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.docking import MEMORY
from tests.support.killing import points
from tests.support.killing_service import VERBS, Killer, make_small

from benchmarks.kill_points import asked, begun, conclude


def run(killer: Killer, until: float) -> dict[str, Any]:
    """All points of a verb, or as many as fit."""
    start = time.monotonic()
    killed: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    calls = killer.measure()
    for call, n in points(calls):
        if time.monotonic() > until:
            break
        try:
            killer.kill(call, n)
        except Exception as error:
            wrong.append(f"{killer.verb}: {call} {n}: {type(error).__name__}: {error}"[:400])
            print(wrong[-1], flush=True)
        killed[call] += 1
    done = sum(killed.values())
    return {
        "kill": dict(sorted(killed.items())),
        "points": done,
        "skipped": sum(calls.values()) - done,
        "wrong": wrong,
        "seconds": round(time.monotonic() - start, 1),
    }


def main() -> int:
    """Run and print; write the figures as JSON."""
    options = asked(str(__doc__), VERBS, 20.0)
    start, result = time.monotonic(), begun(options)
    names = options.verbs
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        small = make_small(Path(folder) / "small")
        for number, verb in enumerate(names):
            place = Path(folder) / "place"
            place.mkdir()
            now = time.monotonic()
            share = (start + 60 * options.minutes - now) / (len(names) - number)  # so that time fails none of them
            found = result[verb] = run(Killer(options.tracer, small, place, verb), now + share)
            shutil.rmtree(place)
            print(
                f"{verb:18s} {found['points']:4d} points, {len(found['wrong'])} wrong, "
                f"{found['skipped']} left out for time, {found['seconds']} s",
                flush=True,
            )
            conclude(result, start, options.json)
    return conclude(result, start, options.json)


if __name__ == "__main__":
    sys.exit(main())
