"""How many learnwares a second one service publishes: each of four files, uploaded and published over HTTP.

    python -m benchmarks.bench_publish [--source src] [--source ../before/src] [--seconds 10] [--rounds 3]
    python -m benchmarks.bench_publish --files 900      the seconds of one commit of 900 small files instead

Each ``--source`` is the ``src`` folder of a checkout; several are measured by turns, so that they meet the same load of
the machine. A server is ``learndock serve`` in a process of its own on a dock in a folder of the disk; this process is
the client, with one and with eight connections. Every learnware is new. Printed are publications a second, medians.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

API = "/api/v1"
#: Run with each source's own learndock: writes learnwares of four files below a folder.
MAKE = """
import sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from learndock.package.manifest import File, Manifest, SpecFile
from learndock.spec import Spec, write_spec
from learndock.spec.spec import identity
from learndock.files import sha256_file

place, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
schema = {"type": "classification", "labels": ["bad", "good"]}
space = {"space": "bench", "helper": {"width": 384}, "sketch": {"size": 4096}, "adapters": {"size": 442_368}}
draw = np.random.default_rng(seed)
unit = lambda v: (v / np.sqrt(np.mean(v ** 2))).astype(np.float32)
for i in range(count):
    folder = place / f"{seed}-{i}"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert", "id2label": {"0": "bad", "1": "good"}}')
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "WordPiece"}}')
    save_file({"weight": draw.normal(size=100_000).astype(np.float32)}, folder / "model.safetensors")
    write_spec(Spec(kind="model", space=space, schema=schema, n=1000, domain=unit(draw.normal(size=384)),
                    behaviour=unit(draw.normal(size=4096))), folder / "bench.spec")
    files = tuple(File(path=p.name, size=p.stat().st_size, sha256=sha256_file(p)) for p in sorted(folder.iterdir()))
    manifest = Manifest(name=f"admin/m{seed}-{i}", format="transformers", task=schema, files=files,
                        specs=(SpecFile(path="bench.spec", space="bench", space_id=identity(space)),))
    (folder / "learnware.json").write_bytes(manifest.to_bytes())
"""


def run_python(source: Path, *words: str, **options: Any) -> subprocess.Popen[str]:
    """A process that imports learndock from ``source``."""
    return subprocess.Popen(
        [sys.executable, "-c", *words], env={**os.environ, "PYTHONPATH": str(source)}, text=True, **options
    )


@contextmanager
def serving(source: Path, folder: Path) -> Iterator[tuple[int, str]]:
    """Yield the port and a token of a new service."""
    words = ["from learndock.cli import main; main()", "serve", "--dock", str(folder), "--port", "0", "--rate", "0"]
    process = run_python(source, *words, "--log", "warning", stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = ""
    while "link=" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    found = re.search(r"http://127\.0\.0\.1:(\d+)#link=([^\s']+)", said)
    assert found, said
    try:
        link = {"link": found[2], "name": "bench", "scope": "write"}
        token = ask(http.client.HTTPConnection("127.0.0.1", int(found[1])), "POST", "/tokens/exchange", link)["token"]
        yield int(found[1]), token
    finally:
        process.terminate()
        process.communicate()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any, token: str = "", **headers: str
) -> Any:
    """The JSON answer to one request.

    Raises:
        RuntimeError: it was refused.
    """
    source = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    sent = {"Content-Type": kind, **({"Authorization": f"Bearer {token}"} if token else {}), **headers}
    connection.request(method, API + path, body=source, headers=sent)
    answer = connection.getresponse()
    found = answer.read()
    if answer.status >= 400:
        raise RuntimeError(f"{method} {path}: {answer.status} {found[:300]!r}")
    return json.loads(found)


def publish(connection: http.client.HTTPConnection, folder: Path, token: str, *, inline: bool) -> float:
    """Upload and publish a learnware, in one request or several; returns the seconds of the last."""
    manifest = json.loads((folder / "learnware.json").read_bytes())
    if inline:
        begun_at = time.perf_counter()
        paths = [file["path"] for file in manifest["files"]]
        line = json.dumps({"manifest": manifest, "files": paths}).encode() + b"\n"
        body = line + b"".join((folder / path).read_bytes() for path in paths)
        ask(connection, "POST", "/learnwares/inline", body, token)
        return time.perf_counter() - begun_at
    for file in manifest["files"]:
        content = (folder / file["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        begun = ask(connection, "POST", "/uploads", {"sha256": file["sha256"], "size": file["size"]}, token)
        if not begun["stored"]:
            ask(connection, "PATCH", f"/uploads/{begun['id']}", content, token, **{"Upload-Offset": "0"})
    begun_at = time.perf_counter()
    ask(connection, "POST", "/learnwares", {"manifest": manifest}, token)
    return time.perf_counter() - begun_at


def measure(source: Path, place: Path, clients: int, seconds: float, seed: int) -> tuple[float, float, float]:
    """Publications a second, and the median and the 95th percentile of the milliseconds of the last request."""
    place.mkdir()
    (place / "learnwares").mkdir()
    count = int(seconds * 100)
    made = run_python(source, MAKE, str(place / "learnwares"), str(count), str(seed))
    assert made.wait() == 0
    waiting = sorted((place / "learnwares").iterdir())
    lock, taken = threading.Lock(), []
    inline = any("learnwares/inline" in f.read_text() for f in (source / "learndock/http/routes").glob("*.py"))

    with serving(source, place / "dock") as (port, token):
        warm = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(2):
            publish(warm, waiting.pop(), token, inline=inline)
        begun = time.perf_counter()

        def work() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            while time.perf_counter() - begun < seconds:
                with lock:
                    folder = waiting.pop()
                passed = publish(connection, folder, token, inline=inline)
                with lock:
                    taken.append(passed)

        threads = [threading.Thread(target=work) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed = time.perf_counter() - begun
    return (
        len(taken) / passed,
        statistics.quantiles(taken, n=20)[9] * 1000,
        statistics.quantiles(taken, n=20)[18] * 1000,
    )


def commit(connection: http.client.HTTPConnection, files: int, seed: int, token: str) -> float:
    """Commit that many small files at once, as the hub's clients do; returns the seconds of the commit."""
    name = f"c{seed}"
    raw(connection, "POST", "/api/repos/create", json.dumps({"name": name}).encode(), token)
    lines = [{"key": "header", "value": {"summary": "files", "description": ""}}]
    for i in range(files):
        content = base64.b64encode(json.dumps({"number": i, "seed": seed, "text": "x" * 1000}).encode()).decode()
        value = {"path": f"folder-{i % 20}/{i}.json", "content": content, "encoding": "base64"}
        lines.append({"key": "file", "value": value})
    body = "\n".join(json.dumps(line) for line in lines).encode()
    begun = time.perf_counter()
    raw(connection, "POST", f"/api/models/admin/{name}/commit/main", body, token, kind="application/x-ndjson")
    return time.perf_counter() - begun


def raw(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes,
    token: str,
    *,
    kind: str = "application/json",
) -> None:
    """Send a request of the hub's protocol."""
    connection.request(method, path, body, {"Content-Type": kind, "Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    found = answer.read()
    if answer.status >= 400:
        raise RuntimeError(f"{method} {path}: {answer.status} {found[:300]!r}")


def measure_commits(sources: list[Path], place: Path, files: int, rounds: int) -> None:
    """Print the seconds of one commit of ``files`` files, for all sources by turns."""
    found: dict[Path, list[float]] = {source: [] for source in sources}
    for turn in range(rounds):
        for number, source in enumerate(sources):
            with serving(source, place / f"commit-{turn}-{number}") as (port, token):
                connection = http.client.HTTPConnection("127.0.0.1", port)
                commit(connection, 2, 0, token)
                found[source].append(commit(connection, files, 1, token))
    print(f"| source | seconds of a commit of {files} files |")
    print("|---|---|")
    for source, seconds in found.items():
        print(f"| {source} | {statistics.median(seconds):.2f} ({', '.join(f'{s:.2f}' for s in seconds)}) |")


def main() -> int:
    """Measure all sources by turns and print a table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--source", type=Path, action="append")
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    arguments.add_argument("--files", type=int, help="measure instead commits of so many small files")
    chosen = arguments.parse_args()
    sources = [s.absolute() for s in chosen.source or [Path(__file__).parents[1] / "src"]]
    found: dict[tuple[Path, int], list[tuple[float, float, float]]] = {}
    if chosen.files:
        with tempfile.TemporaryDirectory() as place:
            measure_commits(sources, Path(place), chosen.files, chosen.rounds)
        return 0
    with tempfile.TemporaryDirectory() as place:
        for turn in range(chosen.rounds):
            for clients in chosen.clients:
                for number, source in enumerate(sources):
                    where = Path(place) / f"{turn}-{clients}-{number}"
                    result = measure(source, where, clients, chosen.seconds, turn * 10 + clients)
                    found.setdefault((source, clients), []).append(result)
    print("| source | clients | published a second | ms of the publishing request (median) | (95th percentile) |")
    print("|---|---|---|---|---|")
    for (source, clients), results in found.items():
        rate, ms, slow = (statistics.median(r[i] for r in results) for i in (0, 1, 2))
        spread = ", ".join(f"{r[0]:.1f}" for r in results)
        print(f"| {source} | {clients} | {rate:.1f} ({spread}) | {ms:.0f} | {slow:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
