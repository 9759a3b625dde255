"""How much one service bears: readers, identify at 10,000 learnwares, downloads beside a plain file server.

    python benchmarks/bench_serve.py [--learnwares 10000] [--seconds 10] [--json bench-serve.json]

The server is ``learndock serve`` in a process of its own; this process is the generator. The dock is made here: its
records and blobs are written as the dock writes them, then ``rebuild`` makes the database of them. Exits with 1 where a
bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import platform
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from learndock.dock import LocalDock, open_dock
from learndock.dock.storage.publications import Publication, Version
from learndock.package.manifest import File, Manifest, SpecFile
from learndock.spec import Spec
from learndock.spec.file import spec_to_bytes
from learndock.spec.spec import identity

SCHEMA = {"type": "classification", "labels": ["bad", "good"]}
SPACE = {"space": "bench", "helper": {"width": 384}, "sketch": {"size": 4096}, "adapters": {"size": 442_368}}
SPACE_ID = identity(SPACE)
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
BARS = {"metadata p95 ms": 200.0, "identify p95 ms": 100.0, "download ratio": 0.6}
FILE_MB = 512


# --- the dock ----------------------------------------------------------------------------------------------------


def fill(folder: Path, learnwares: int) -> LocalDock:
    """A dock of ``learnwares`` in 20 domains, each with a spec of 384 + 4,096 numbers."""
    dock = open_dock(folder)
    draw = np.random.default_rng(0)
    domains = draw.normal(size=(20, 384)).astype(np.float32)
    questions = draw.normal(size=(60, 4096)).astype(np.float32)
    weights = keep(folder, b"weights that all of them share")
    for i in range(learnwares):
        spec = Spec(
            kind="model",
            space=SPACE,
            schema=SCHEMA,
            n=1000,
            domain=domains[i % 20] + 0.3 * draw.normal(size=384).astype(np.float32),
            behaviour=questions[i % 60] + 2 * draw.normal(size=4096).astype(np.float32),
            reliability=float(draw.uniform(0.3, 1)),
        )
        spec_file = keep(folder, spec_to_bytes(spec.canonical()), path="specs/bench.spec")
        name = f"owner-{i % 97}/model-{i}"
        card = keep(folder, f"# {name}\n".encode(), path="README.md")
        manifest = Manifest(
            name=name,
            format="transformers",
            task=SCHEMA,
            license="mit",
            specs=(SpecFile(path="specs/bench.spec", space="bench", space_id=SPACE_ID),),
            files=(weights, spec_file, card),
        )
        put(folder, manifest, i + 1)
    rebuilt = time.perf_counter()
    dock.rebuild()
    print(f"  rebuilt in {time.perf_counter() - rebuilt:.0f} s")
    return dock


def keep(folder: Path, content: bytes, path: str = "model.safetensors") -> File:
    """A blob, as ``DiskBlobs`` keeps it."""
    sha256 = hashlib.sha256(content).hexdigest()
    file = folder / "blobs" / sha256[:2] / sha256
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return File(path=path, size=len(content), sha256=sha256)


def put(folder: Path, manifest: Manifest, sequence: int) -> None:
    """A record of a name, as ``Publications`` keeps it."""
    owner, _, own = manifest.name.partition("/")
    (folder / "learnwares" / owner).mkdir(exist_ok=True)
    version = Version(1, manifest.digest, sequence, manifest.to_bytes())
    publication = Publication.first(manifest.name, version)
    (folder / "learnwares" / owner / f"{own}.json").write_bytes(publication.to_bytes())


def task(seed: int) -> bytes:
    """A user's spec: near one of the questions, with the noise of sixteen examples a class."""
    draw = np.random.default_rng(0)
    domains = draw.normal(size=(20, 384)).astype(np.float32)
    questions = draw.normal(size=(60, 4096)).astype(np.float32)
    own = np.random.default_rng(1000 + seed)
    groups = own.normal(size=(12, 4096)).astype(np.float32) * 3
    spec = Spec(
        kind="task",
        space=SPACE,
        schema=SCHEMA,
        n=32,
        domain=domains[seed % 20] + 0.5 * own.normal(size=384).astype(np.float32),
        behaviour=questions[seed % 60] + own.normal(size=4096).astype(np.float32),
        p_value=0.01,
        contrasts=groups,
    )
    return spec_to_bytes(spec.canonical())


# --- servers -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``learndock serve`` on a free port."""
    command = [sys.executable, "-c", "from learndock.cli import main; main()", "serve", "--dock", str(folder)]
    flags = ["--port", "0", "--rate", "0", "--log", "warning", "--gc-hours", "0", "--scrub-hours", "0"]
    process = subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    found = re.search(r"at http://127\.0\.0\.1:(\d+)", process.stderr.readline())
    assert found
    try:
        wait(int(found[1]))
        yield process, int(found[1])
    finally:
        process.terminate()
        process.communicate()


@contextlib.contextmanager
def plain_server(folder: Path) -> Iterator[int]:
    """Python's own file server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def wait(port: int) -> None:
    """Until somebody listens."""
    for _ in range(3000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    raise RuntimeError("the server does not answer")


def resident(process: subprocess.Popen[str], field: str = "VmRSS") -> int:
    """Memory of a process in MB."""
    found = re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
    return int(found[1]) // 1000 if found else 0


# --- load --------------------------------------------------------------------------------------------------------


async def ask(port: int, requests: Iterator[bytes], until: float, times: list[float], failed: list[str]) -> None:
    """One reader on one connection: the next request when the last is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        begun = time.perf_counter()
        if begun > until:
            break
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
        await reader.readexactly(length)
        times.append(time.perf_counter() - begun)
        if not head.startswith(b"HTTP/1.1 200"):
            failed.append(head.split(b"\r\n")[0].decode())
    writer.close()


def load(port: int, streams: list[Iterator[bytes]], seconds: float) -> dict[str, Any]:
    """All streams side by side; the figures of what they saw."""
    times: list[float] = []
    failed: list[str] = []

    async def run() -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(ask(port, s, until, times, failed) for s in streams))

    begun = time.perf_counter()
    asyncio.run(run())
    passed = time.perf_counter() - begun
    milliseconds = sorted(t * 1000 for t in times)
    return {
        "readers": len(streams),
        "requests": len(times),
        "errors": len(failed),
        "a second": round(len(times) / passed, 1),
        "p50 ms": round(milliseconds[len(times) // 2], 1),
        "p95 ms": round(milliseconds[int(len(times) * 0.95)], 1),
        "max ms": round(milliseconds[-1], 1),
    }


def get(path: str) -> bytes:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def metadata(learnwares: int, seed: int) -> Iterator[bytes]:
    """One reader: mostly single learnwares, sometimes a page of the list."""
    own = random.Random(seed)
    while True:
        i = own.randrange(learnwares)
        if own.random() < 0.05:
            yield get(f"/api/v1/learnwares?limit=20&after={i}")
        else:
            yield get(f"/api/v1/learnwares/owner-{i % 97}/model-{i}")


def questions(specs: list[bytes], seed: int, count: int) -> Iterator[bytes]:
    """Identify, again and again."""
    for i in range(count):
        body = specs[(seed * 7 + i) % len(specs)]
        yield f"POST /api/v1/identify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def download(port: int, path: str, size: int) -> float:
    """Megabytes a second of one download."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        begun = time.perf_counter()
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        buffer, got = bytearray(1 << 20), 0
        while count := connection.recv_into(buffer):
            got += count
        passed = time.perf_counter() - begun
    assert got >= size, f"{got} of {size} bytes"
    return got / passed / 1e6


def share_of_a_core() -> float:
    """How much of a core a busy process gets beside whatever else runs here: 1 on an idle machine."""
    begun, used = time.perf_counter(), time.process_time()
    while time.perf_counter() < begun + 1:
        pass
    return round((time.process_time() - used) / (time.perf_counter() - begun), 2)


def main() -> int:
    """Run all, print, write the JSON, say whether the bars are met."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--learnwares", type=int, default=10_000)
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--json", type=Path, default=Path("bench-serve.json"))
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        folder = Path(place) / "dock"
        print(f"making a dock of {chosen.learnwares} learnwares")
        fill(folder, chosen.learnwares)
        large = keep(folder, np.random.default_rng(1).bytes(FILE_MB * 10**6))
        manifest = Manifest(name="big/file", format="transformers", task=SCHEMA, files=(large,))
        put(folder, manifest, chosen.learnwares + 1)
        open_dock(folder).rebuild()
        (Path(place) / "plain").mkdir()
        (Path(place) / "plain" / "file").hardlink_to(folder / "blobs" / large.sha256[:2] / large.sha256)
        found = measure(folder, Path(place) / "plain", large, chosen.learnwares, chosen.seconds)
    chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    missed = [name for name, ok in found["bars"].items() if not ok]
    print("all bars met" if not missed else f"missed: {', '.join(missed)}")
    return 1 if missed else 0


def measure(folder: Path, plain: Path, large: File, learnwares: int, seconds: float) -> dict[str, Any]:
    """All figures."""
    with serving(folder) as (process, port), plain_server(plain) as plain_port:
        found: dict[str, Any] = {"machine": f"{os.cpu_count()} cores, {platform.machine()}", "learnwares": learnwares}
        found["share of a core before"] = share_of_a_core()
        found["memory before MB"] = resident(process)
        specs = [task(i) for i in range(20)]
        load(port, [questions(specs, 0, 3)], 60)  # reads the table into memory
        found["identify, one at a time"] = load(port, [questions(specs, 1, 100)], 60)
        found["identify, four at once"] = load(port, [questions(specs, s, 40) for s in range(4)], 60)
        load(port, [metadata(learnwares, 0)], 1)
        found["metadata"] = load(port, [metadata(learnwares, s) for s in range(200)], seconds)
        ours, theirs = [], []
        for _ in range(5):
            ours.append(download(port, f"/api/v1/learnwares/big/file/files/{large.path}", large.size))
            theirs.append(download(plain_port, "/file", large.size))
        found["download MB/s"] = round(statistics.median(ours))
        found["plain server MB/s"] = round(statistics.median(theirs))
        found["download ratio"] = round(statistics.median(ours) / statistics.median(theirs), 2)
        found["share of a core after"] = share_of_a_core()
        found["memory after MB"], found["memory peak MB"] = resident(process), resident(process, "VmHWM")
    found["bars"] = {
        "0 errors": not found["metadata"]["errors"] and not found["identify, four at once"]["errors"],
        "metadata p95 under 200 ms": found["metadata"]["p95 ms"] < BARS["metadata p95 ms"],
        "identify p95 under 100 ms": found["identify, one at a time"]["p95 ms"] < BARS["identify p95 ms"],
        "download at least 60% of a plain file server": found["download ratio"] >= BARS["download ratio"],
    }
    return found


if __name__ == "__main__":
    sys.exit(main())
