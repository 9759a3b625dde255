"""Whether a private name answers slower than one that is not there, by each route that takes a name.

    python -m benchmarks.timing_names [--asked 2000]

One client without a token asks for a private learnware, an absent name, and another absent name in turn, on one
connection. Prints the median difference of neighbours in microseconds with its 95% interval (bootstrap): private minus
absent, and absent minus absent, which says what the machine's own noise is.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tests.support.docking import make_learnware

import learndock
from benchmarks.bench_abuse import Server
from learndock.dock.remote.session import Session
from learndock.package.manifest import Manifest

ROUTES = {
    "repository": "/api/v1/repositories/{}",
    "learnware": "/api/v1/learnwares/{}",
    "model": "/api/models/{}",
    "resolve": "/{}/resolve/main/config.json",
}
NAMES = {"private": "ada/hidden", "absent": "ada/absent", "other": "ada/nobody"}


def publish(session: Session, folder: Path) -> None:
    """Publish a learnware that only its owner may see."""
    manifest = Manifest.from_folder(folder)
    for file in manifest.files:
        upload = session.json("POST", "/uploads", {"sha256": file.sha256, "size": file.size})
        if not upload["stored"]:
            content = (folder / file.path).read_bytes()
            session.json("PATCH", f"/uploads/{upload['id']}", content, headers={"Upload-Offset": "0"})
    session.json("POST", "/learnwares", {"manifest": manifest.model_dump(mode="json"), "private": True})


def asked(connection: http.client.HTTPConnection, path: str) -> float:
    """Microseconds of one question."""
    begun = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 404, answer.status
    return (time.perf_counter() - begun) * 1e6


def interval(differences: np.ndarray) -> str:
    """The median and its 95% interval."""
    draw = np.random.default_rng(0)
    medians = [np.median(draw.choice(differences, len(differences))) for _ in range(1000)]
    low, high = np.percentile(medians, [2.5, 97.5])
    return f"{np.median(differences):6.1f} us ({low:.1f} to {high:.1f})"


def main() -> int:
    """Ask, and print a line for each route."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--asked", type=int, default=2000)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "dock", Path(learndock.__file__).parents[1])
        try:
            token = server.token_of(server.token())
            session = Session(f"http://127.0.0.1:{server.port}", token=token)
            publish(session, make_learnware(Path(folder) / "hidden", NAMES["private"]))
            publish(session, make_learnware(Path(folder) / "mine", "ada/mine", seed=1))
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            order = np.random.default_rng(1)
            for route, path in ROUTES.items():
                took: dict[str, list[float]] = {name: [] for name in NAMES}
                for _ in range(chosen.asked):
                    for name in order.permutation(list(NAMES)):
                        took[name].append(asked(connection, path.format(NAMES[name])))
                private, absent, other = (np.array(took[name]) for name in NAMES)
                print(
                    f"{route:12} p50 {np.median(absent):6.0f} us   private - absent {interval(private - absent)}   "
                    f"absent - absent {interval(other - absent)}",
                    flush=True,
                )
        finally:
            server.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
