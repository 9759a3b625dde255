"""What strangers can do to a service: memory that they hold, and how long a reader beside them waits.

    python -m benchmarks.bench_abuse [--beside FOLDER] [--json bench-abuse.json]

Each attack runs on a fresh ``learndock serve`` in a process of its own, while a second process reads the list of
learnwares with a token of its own and times each answer. ``--beside`` names the ``src`` of another learndock, measured
in the same way. Exits with 1 where a bar is missed: 250 strangers with the largest body that is allowed them hold under
100 MB, and 99% of the reads beside them take under 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

STRANGERS, INVENTED, GREEDY = 250, 600, 12
BAR_MB, BAR_MS = 100, 50
#: Sizes of a body that are tried, largest first.
SIZES = (16 << 20, 8 << 20, 1 << 20, 64_000, 16_000)
IDENTIFY, TOKENS, EXCHANGE = "/api/v1/identify", "/api/v1/tokens", "/api/v1/tokens/exchange"
READER = """
import http.client, json, sys, time
port, waits = int(sys.argv[1]), []
print("reading", flush=True)
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    begun = time.perf_counter()
    connection.request("GET", "/api/v1/learnwares", headers={"Authorization": "Bearer " + sys.argv[3]})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status
    waits.append((time.perf_counter() - begun) * 1000)
    time.sleep(0.01)
print(json.dumps(waits))
"""


class Server:
    """A service of some build, on a free port, with an empty dock."""

    def __init__(self, folder: Path, source: Path) -> None:
        command = [sys.executable, "-c", "from learndock.cli import main; main()", "serve", "--dock", str(folder)]
        flags = ["--port", "0", "--log", "error", "--rate", "0", "--gc-hours", "0", "--scrub-hours", "0"]
        environment = {**os.environ, "PYTHONPATH": str(source)}
        self._errors = (folder.parent / "errors").open("w+")
        self.process = subprocess.Popen([*command, *flags], stderr=self._errors, env=environment)
        found = self._printed(r"at (http://\S+:(\d+))")
        self.port = int(found[2])
        self.link = self._printed(r"#link=([^\s']+)")[1]

    def _printed(self, pattern: str) -> re.Match[str]:
        for _ in range(3000):
            self._errors.seek(0)
            if found := re.search(pattern, self._errors.read()):
                return found
            time.sleep(0.01)
        raise RuntimeError("the service did not start")

    def memory(self) -> float:
        """MB that it has now."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1000 if found else 0.0

    def token(self) -> str:
        """A token of the operator."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        asked = json.dumps({"link": self.link, "name": "bench", "scope": "admin"})
        connection.request("POST", EXCHANGE, asked, {"Content-Type": "application/json"})
        return str(json.loads(connection.getresponse().read())["token"])

    def token_of(self, operator: str) -> str:
        """A token of a user."""
        ask = {"Authorization": f"Bearer {operator}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/api/v1/users", json.dumps({"name": "ada"}), ask)
        asked = {"link": json.loads(connection.getresponse().read())["link"], "name": "bench"}
        connection.request("POST", EXCHANGE, json.dumps(asked), {"Content-Type": "application/json"})
        return str(json.loads(connection.getresponse().read())["token"])

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self._errors.close()


class Attack:
    """Many connections at once, and what came of each."""

    def __init__(self, port: int) -> None:
        self.port, self.statuses = port, dict[int, int]()
        self._writers: list[asyncio.StreamWriter] = []

    async def send(self, path: str, body: bytes, *, announced: int, token: str = "") -> None:
        """Send one request, all of ``body`` or as much as the service takes; keep the connection open."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        shown = f"Authorization: Bearer {token}\r\n" if token else ""
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{shown}Content-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {announced}\r\n\r\n".encode())

        async def sending() -> None:
            with contextlib.suppress(ConnectionError):
                view = memoryview(body)
                for begin in range(0, len(body), 1 << 18):
                    writer.write(view[begin : begin + (1 << 18)])
                    await writer.drain()

        sent = asyncio.create_task(sending())
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(60 if announced <= len(body) else 5):
                status = int((await reader.readline() or b"x 0").split()[1])
                self.statuses[status] = self.statuses.get(status, 0) + 1
        sent.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sent

    def close(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.close()


def largest(port: int) -> int:
    """Bytes of the largest body of identify that is read without a token."""
    for size in SIZES:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.7)
        connection.putrequest("POST", IDENTIFY)
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        try:
            connection.getresponse()
        except TimeoutError:  # it waits for the body
            return size
        finally:
            connection.close()
    raise RuntimeError("no body is read")


async def strangers(attack: Attack, size: int, _: str) -> None:
    """Connections without a token, each with all of its body but the last byte."""
    body = b"x" * (size - 1)
    await asyncio.gather(*(attack.send(IDENTIFY, body, announced=size) for _ in range(STRANGERS)))


async def known(attack: Attack, _: int, token: str) -> None:
    """The same with one valid token, and bodies of 8 MiB."""
    body = b"x" * ((8 << 20) - 1)
    await asyncio.gather(*(attack.send(IDENTIFY, body, announced=8 << 20, token=token) for _ in range(STRANGERS)))


async def json_without_token(attack: Attack, _: int, __: str) -> None:
    """Bodies of 16 MB that are costly to parse, where a token is needed and none is shown."""
    body = b"[" + b"[]," * 5_300_000 + b"[]]"
    await asyncio.gather(*(attack.send(TOKENS, body, announced=len(body)) for _ in range(GREEDY)))


async def invented(attack: Attack, _: int, __: str) -> None:
    """Connections that wait for a body, each with another token that does not exist."""
    sending = (attack.send(EXCHANGE, b"{", announced=300, token=f"ldk_{i}") for i in range(INVENTED))
    await asyncio.gather(*sending)


ATTACKS: dict[str, Callable[[Attack, int, str], Awaitable[None]]] = {
    "250 strangers with the largest body": strangers,
    "250 requests of one token, 8 MiB each": known,
    "12 x 16 MB of JSON without a token": json_without_token,
    "600 invented tokens that wait": invented,
}


async def measured(server: Server, attack: Callable[[Attack, int, str], Awaitable[None]]) -> dict[str, Any]:
    """Run one attack with a reader beside it."""
    size, token = largest(server.port), server.token()
    others = server.token_of(token)
    await asyncio.sleep(0.5)
    before = server.memory()
    reader = await asyncio.create_subprocess_exec(
        sys.executable, "-c", READER, str(server.port), "8", token, stdout=subprocess.PIPE
    )
    assert reader.stdout is not None
    await reader.stdout.readline()
    one, peak, done = Attack(server.port), before, asyncio.Event()

    async def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, server.memory())
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.5)
    await attack(one, size, others)
    waits = sorted(json.loads(await reader.stdout.read()))
    done.set()
    await watching
    one.close()
    await asyncio.sleep(3)
    return {
        "a body without a token, bytes": size,
        "memory before MB": round(before),
        "held MB": round(peak - before),
        "kept after MB": round(server.memory() - before),
        "reader p50 ms": round(waits[len(waits) // 2], 1),
        "reader p99 ms": round(waits[int(len(waits) * 0.99)], 1),
        "reader max ms": round(waits[-1], 1),
        "reads": len(waits),
        "answers": dict(sorted(one.statuses.items())),
    }


def main() -> int:
    """Run all, print, write the JSON, say whether the bars are met."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--beside", type=Path)
    arguments.add_argument("--only", help="attacks whose name has this")
    arguments.add_argument("--json", type=Path, default=Path("bench-abuse.json"))
    chosen = arguments.parse_args()
    import learndock

    builds = {"this build": Path(learndock.__file__).parents[1]}
    if chosen.beside is not None:
        builds["beside"] = chosen.beside
    found: dict[str, dict[str, Any]] = {}
    for name, attack in ATTACKS.items():
        for build, source in builds.items() if not chosen.only or chosen.only in name else ():
            with tempfile.TemporaryDirectory() as folder:
                server = Server(Path(folder) / "dock", source)
                try:
                    found.setdefault(name, {})[build] = asyncio.run(measured(server, attack))
                finally:
                    server.end()
            print(f"{name}, {build}: {json.dumps(found[name][build])}", flush=True)
    chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    bar = found.get("250 strangers with the largest body", {}).get("this build")
    if bar is None:
        return 0
    met = bar["held MB"] < BAR_MB and bar["reader p99 ms"] < BAR_MS
    print("the bars are met" if met else "a bar is missed")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
