"""What takes long: a large upload, a server killed at work, concurrent changes for minutes.

    python benchmarks/soak_service.py [--minutes 5] [--upload-gb 5] [--json soak-service.json]

Exits with 1 where anything that was acknowledged is lost, half there, or out of bounds.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.docking import make_learnware

from learndock.dock import open_dock
from learndock.dock.remote.session import Session
from learndock.errors import LearndockError
from learndock.files import sha256_file
from learndock.package.manifest import Manifest

GROWTH_MB = 300
PIECE = 1 << 20


class Server:
    """``learndock serve`` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", "from learndock.cli import main; main()", "serve", "--dock", str(folder)]
        flags = ["--port", "0", "--rate", "0", "--log", "error", "--gc-hours", "0.001"]
        self.process = subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        first = self.process.stderr.readline()
        found = re.search(r"at (http://\S+)", first)
        assert found, first + self.process.stderr.read()
        self.url = found[1]
        self.lines: list[str] = []
        threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True).start()  # type: ignore[arg-type]

    def link(self) -> str:
        """The secret that the first start prints."""
        for _ in range(500):
            for line in self.lines:
                if found := re.search(r"#link=([^\s']+)", line):
                    return found[1]
            time.sleep(0.01)
        raise RuntimeError("no link was printed")

    def memory(self) -> float:
        """MB that the server has now."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1000  # type: ignore[index]

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        self.process.send_signal(how)
        self.process.wait()


def in_(server: Server) -> str:
    """A token of the operator."""
    asked = {"link": server.link(), "name": "soak", "scope": "admin"}
    return str(Session(server.url, token=None).json("POST", "/tokens/exchange", asked)["token"])


# --- one large upload ----------------------------------------------------------------------------------------------


def pattern(size: int) -> Iterator[bytes]:
    """``size`` bytes that are not all the same."""
    block = random.Random(0).randbytes(PIECE)
    for i in range(0, size, PIECE):
        yield (i.to_bytes(8, "little") + block[8:])[: min(PIECE, size - i)]


def settled(session: Session, upload: str) -> int:
    """The offset, once the server has taken in all of what was on its way when the connection broke off."""
    before, now = -1, int(session.json("GET", f"/uploads/{upload}")["offset"])
    while now != before:
        time.sleep(2)
        before, now = now, int(session.json("GET", f"/uploads/{upload}")["offset"])
    return now


def large_upload(place: Path, size: int) -> dict[str, Any]:
    """Upload ``size`` bytes, broken off once in the middle, and watch the server's memory."""
    digest = hashlib.sha256()
    for piece in pattern(size):
        digest.update(piece)
    server = Server(place / "large")
    token = in_(server)
    session = Session(server.url, token=token)
    upload = session.json("POST", "/uploads", {"sha256": digest.hexdigest(), "size": size})["id"]
    baseline, peak, begun = server.memory(), 0.0, time.perf_counter()
    for stop in (size // 2, size):
        offset = settled(session, upload)
        host = server.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=120)
        connection.putrequest("PATCH", f"/api/v1/uploads/{upload}")
        for name, value in (
            ("Authorization", f"Bearer {token}"),
            ("Upload-Offset", str(offset)),
            ("Content-Length", str(size - offset)),
        ):
            connection.putheader(name, value)
        connection.endheaders()
        at = 0
        for piece in pattern(size):
            if at + len(piece) > offset and at < stop:
                connection.send(piece[max(0, offset - at) :])
                peak = max(peak, server.memory()) if at % (64 * PIECE) == 0 else peak
            at += len(piece)
        if stop == size:
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status == 200, f"{answer.status}: {said[:500]!r}"
        connection.close()
        time.sleep(0.5)
    found = session.json("GET", f"/uploads/{upload}")
    passed = time.perf_counter() - begun
    peak = max(peak, server.memory())
    server.end()
    file = place / "large" / "blobs" / digest.hexdigest()[:2] / digest.hexdigest()
    return {
        "GB": size / 1e9,
        "stored and right": bool(found["stored"]) and sha256_file(file) == digest.hexdigest(),
        "MB/s": round(size / passed / 1e6),
        "memory before MB": round(baseline),
        "growth at most MB": round(peak - baseline),
    }


# --- killed at work --------------------------------------------------------------------------------------------------


def killed_at_work(place: Path, seconds: float) -> dict[str, Any]:
    """Publish and delete while the server is killed again and again; what was acknowledged must be there."""
    folder, server = place / "killed", Server(place / "killed")
    token = in_(server)
    sure: dict[str, str] = {}
    gone: set[str] = set()
    rounds = published = deleted = 0
    until, draw = time.monotonic() + seconds, random.Random(1)
    while time.monotonic() < until:
        rounds += 1
        killer = threading.Timer(draw.uniform(0.5, 6), server.process.kill)
        killer.start()
        session = Session(server.url, token=token)
        with contextlib.suppress(LearndockError):
            while True:
                name = f"admin/m{rounds}-{published}"
                made = make_learnware(place / "made" / name, name, numbers=50)
                publish(session, made)
                sure[name] = Manifest.from_folder(made).digest
                published += 1
                if draw.random() < 0.3:
                    victim = draw.choice(sorted(sure))
                    del sure[victim]  # neither there nor gone, until it is acknowledged
                    session.json("DELETE", f"/learnwares/{victim}")
                    gone.add(victim)
                    deleted += 1
        server.process.wait()
        killer.cancel()
        server = Server(folder)
        session = Session(server.url, token=token)
        time.sleep(0.3)
        there: dict[str, Any] = {}
        after: int | None = 0
        while after is not None:
            page = session.json("GET", f"/learnwares?limit=1000&after={after}")
            there |= {r["name"]: r["digest"] for r in page["learnwares"]}
            after = page["next"]
        lost = {n for n, v in sure.items() if there.get(n) != v}
        assert not lost, f"acknowledged and lost: {lost}"
        assert not gone & set(there), "deleted, acknowledged, and there again"
    server.end()
    problems = [p.message for p in open_dock(folder).verify() if p.severity == "error"]
    assert not problems, problems
    assert published > rounds, "the server was killed before it did anything"
    return {"kills": rounds, "published": published, "deleted": deleted, "lost": 0, "verify": "sound"}


def publish(session: Session, folder: Path) -> None:
    """Upload the files of a learnware and publish it."""
    manifest = Manifest.from_folder(folder)
    for file in manifest.files:
        upload = session.json("POST", "/uploads", {"sha256": file.sha256, "size": file.size})
        if not upload["stored"]:
            content = (folder / file.path).read_bytes()
            session.json("PATCH", f"/uploads/{upload['id']}", content, headers={"Upload-Offset": "0"})
    session.json("POST", "/learnwares", {"manifest": manifest.model_dump(mode="json")})


def main() -> int:
    """Run all, print, write the JSON."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--minutes", type=float, default=5)
    arguments.add_argument("--upload-gb", type=float, default=5)
    arguments.add_argument("--json", type=Path, default=Path("soak-service.json"))
    chosen = arguments.parse_args()
    from tests.http.test_http_contract import run_shop

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if chosen.upload_gb:
            found["large upload"] = large_upload(place, int(chosen.upload_gb * 1e9))
            print(json.dumps(found), flush=True)
        found["killed at work"] = killed_at_work(place, chosen.minutes * 30)
        print(json.dumps(found), flush=True)
        begun, examples = time.monotonic(), 0
        while time.monotonic() < begun + chosen.minutes * 30:
            (place / f"shop{examples}").mkdir()
            run_shop(place / f"shop{examples}", examples=10, steps=40)
            examples += 10
        found["publishing, deleting, collecting side by side"] = {"runs of 40 steps": examples, "failed": 0}
    chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    large = found.get("large upload")
    return 0 if large is None or (large["stored and right"] and large["growth at most MB"] < GROWTH_MB) else 1


if __name__ == "__main__":
    sys.exit(main())
