"""A thousand mixed writes to a service while PostgreSQL and the object store fail, one fault after the other.

    python -m benchmarks.soak_stores [--writes 1000] [--json out/soak/stores.json]

PostgreSQL is restarted, cut, slow and refuses connections; the S3 server answers 503, is cut, slow, and refuses. The
writes publish, publish further versions, delete, change who may see, and commit. Exits with 1 where anything that was
acknowledged is lost or half there, where a client gets anything but success or a 503 that says when to try again, or
where the service does not write again by itself within 30 s.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.support.store_faults import shop


def main() -> int:
    """Run, print, write the JSON."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--writes", type=int, default=1000)
    arguments.add_argument("--writers", type=int, default=8)
    arguments.add_argument("--seconds", type=float, default=1.5, help="how long each fault lasts")
    arguments.add_argument("--json", type=Path, default=Path("out/soak/stores.json"))
    chosen = arguments.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, shop(Path(folder)) as service:
        service.say = lambda line: print(line, flush=True)
        service.work(chosen.writes, writers=chosen.writers, seconds=chosen.seconds, rest=3.0)
        worked = time.monotonic() - begun
        service.check()
        found = {
            "writes acknowledged": service.done,
            "faults": service.rounds,
            "answers": {str(status): n for status, n in sorted(service.answers.items())},
            "seconds until it writes again, at most": service.recovered,
            "acknowledged and lost": 0,
            "half there": 0,
            "seconds": round(worked, 1),
        }
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
