"""How long a service takes to route at 10,000 adapters, by domain and by spec, with and without filters.

    python benchmarks/bench_route.py [--learnwares 10000] [--requests 400] [--json bench-route.json]

The service runs in this process, and requests come one after the other over one kept connection on loopback. *Server*
is what the comparison took (``seconds`` in the answer), *request* what the client waited; *processor* is the processor
time of the comparison by domain, without waiting for other programs. Exits with 1 where the bar is missed: p95 of the
server's time by domain under 1 ms.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_serve import MEMORY, SPACE_ID, fill, task
from learndock.service.principal import NOBODY
from learndock.service.service import Service, open_service
from learndock.settings import Settings
from learndock.spec import Domain, Spec
from learndock.spec.file import spec_from_bytes

BAR_MS = 1.0


def main() -> int:
    """Measure, print, and say whether the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learnwares", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        folder = Path(place) / "dock"
        fill(folder, chosen.learnwares)
        found = measure(folder, chosen.requests)
    print(json.dumps(found, indent=1))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1))
    return 0 if found["domain"]["server p95 ms"] < BAR_MS else 1


def measure(folder: Path, requests: int) -> dict[str, Any]:
    """Return p50 and p95 of each kind of question."""
    import threading

    from learndock.http.serve import start

    service = open_service(Settings(port=0, log="error"), folder)
    running = start(service)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    running.wait()
    specs = [task(i) for i in range(50)]
    domains = [
        json.dumps({"space": SPACE_ID, "domain": [float(v) for v in spec_from_bytes(s, where="task").domain]}).encode()
        for s in specs
    ]
    try:
        return {
            "learnwares": len(service.dock),
            "domain": asked(running.port, "/api/v1/route", domains, "application/json", requests),
            "domain, filtered": asked(
                running.port, "/api/v1/route?owner=owner-3", domains, "application/json", requests
            ),
            "processor": processor(service, [spec_from_bytes(s, where="task") for s in specs], requests),
            "spec": asked(running.port, "/api/v1/route", specs, "application/octet-stream", requests),
        }
    finally:
        running.stop()
        thread.join()
        service.close()


def processor(service: Service, specs: list[Spec], requests: int) -> dict[str, float]:
    """Return what this thread spends on a comparison by domain, in milliseconds."""
    found = []
    for i in range(requests):
        spec = specs[i % len(specs)]
        domain = Domain(spec.space_id, spec.domain, 1)
        begun = time.thread_time()
        service.catalogue.route(NOBODY, domain)
        found.append(time.thread_time() - begun)
    p50, p95 = np.percentile(found, (50, 95)) * 1000
    return {"p50 ms": round(float(p50), 3), "p95 ms": round(float(p95), 3)}


def asked(port: int, path: str, bodies: list[bytes], kind: str, requests: int) -> dict[str, float]:
    """Send ``requests`` questions; returns percentiles in milliseconds, without the first few."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    server, client = [], []
    for i in range(requests + 10):
        begun = time.perf_counter()
        connection.request("POST", path, bodies[i % len(bodies)], {"Content-Type": kind})
        answer = json.loads(connection.getresponse().read())
        client.append(time.perf_counter() - begun)
        server.append(answer["seconds"])
    found: dict[str, float] = {}
    for name, seconds in (("server", server[10:]), ("request", client[10:])):
        p50, p95 = np.percentile(seconds, (50, 95)) * 1000
        found |= {f"{name} p50 ms": round(float(p50), 3), f"{name} p95 ms": round(float(p95), 3)}
    return found


if __name__ == "__main__":
    raise SystemExit(main())
