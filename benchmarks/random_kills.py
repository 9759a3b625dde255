"""A service killed at random moments of mixed writes: 30 times on a folder, 30 times on PostgreSQL and an S3 server.

    python -m benchmarks.random_kills [--kills 30] [--stores folder,servers] [--json out/soak/random_kills.json]

Writers publish, publish further versions, delete, change who may see, and commit, each write tried again until it is
answered. Exits with 1 where anything that was acknowledged is lost, comes back after its deletion, is shown to those
who may not see it, or is half there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.store_faults import shop, shop_in_a_folder


def main() -> int:
    """Run, print, write the JSON after each store."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--kills", type=int, default=30)
    arguments.add_argument("--writers", type=int, default=4)
    arguments.add_argument("--stores", default="folder,servers")
    arguments.add_argument("--json", type=Path, default=Path("out/soak/random_kills.json"))
    chosen = arguments.parse_args()
    found: dict[str, Any] = {}
    for name in chosen.stores.split(","):
        begun = time.monotonic()
        opened = {"folder": shop_in_a_folder, "servers": shop}[name]
        with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as service:
            service.say = lambda line: print(line, flush=True)
            service.kill(chosen.kills, writers=chosen.writers, within=(0.5, 5.0), seed=len(name))
            service.check()
            found[name] = {
                "kills": service.rounds,
                "writes acknowledged": service.done,
                "lost": 0,
                "seconds until it writes again, at most": service.recovered["killed"],
                "seconds": round(time.monotonic() - begun, 1),
            }
        print(name, found[name], flush=True)
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
