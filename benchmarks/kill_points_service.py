"""Every call by which a service touches the disk: killed there, then started again.

    python benchmarks/kill_points_service.py --json OUT [--verbs publish,delete] [--minutes 20]

For each verb of ``tests/killing_service.py`` and each call of ``tests/killing.py``, with strace. After the next start
what was acknowledged is there, a learnware is there whole or not at all (dock, repository and catalogue agree),
every blob has its bytes and nobody sees what is private. The verb done again succeeds. When the time of everything
is over, a collection leaves nothing that nobody refers to.
"""

from __future__ import annotations

import argparse
import collections
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from docking import MEMORY
from killing import strace
from killing_service import VERBS, Killer, make_small


def run(killer: Killer, until: float) -> dict[str, Any]:
    """All points of a verb, or as many as fit."""
    start = time.monotonic()
    killed: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    calls = killer.measure()
    for call, n in [(call, n) for call, count in sorted(calls.items()) for n in range(1, count + 1)]:
        if time.monotonic() > until:
            break
        try:
            killer.kill(call, n)
        except Exception as error:
            wrong.append(f"{killer.verb}: {call} {n}: {type(error).__name__}: {error}"[:400])
            print(wrong[-1], flush=True)
        killed[call] += 1
    points = sum(killed.values())
    return {
        "kill": dict(sorted(killed.items())),
        "points": points,
        "skipped": sum(calls.values()) - points,
        "wrong": wrong,
        "seconds": round(time.monotonic() - start, 1),
    }


def main() -> int:
    """Run and print; write the figures as JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--verbs", default=",".join(VERBS))
    parser.add_argument("--minutes", type=float, default=20.0)
    options = parser.parse_args()
    tracer, why = strace()
    if tracer is None:
        print(f"{why}; nothing was killed")
        return 1
    start, result = time.monotonic(), {}
    names = options.verbs.split(",")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        small = make_small(Path(folder) / "small")
        for number, verb in enumerate(names):
            place = Path(folder) / "place"
            place.mkdir()
            now = time.monotonic()
            share = (start + 60 * options.minutes - now) / (len(names) - number)  # so that time fails none of them
            found = result[verb] = run(Killer(tracer, small, place, verb), now + share)
            shutil.rmtree(place)
            print(
                f"{verb:18s} {found['points']:4d} points, {len(found['wrong'])} wrong, "
                f"{found['skipped']} left out for time, {found['seconds']} s",
                flush=True,
            )
    wrong = sum(len(found["wrong"]) for found in result.values())
    whole = {"verbs": result, "wrong": wrong, "seconds": round(time.monotonic() - start, 1)}
    print(f"{sum(f['points'] for f in result.values())} points, {wrong} wrong, {whole['seconds']} s")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
