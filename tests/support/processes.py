"""``learndock serve`` in a process of its own: what only more than one process, or the end of one, shows."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from learndock.settings import Settings
from tests.support import engines
from tests.support.serving import Asking

SERVE = (sys.executable, "-c", "from learndock.cli import main; main()", "serve")


class Serving(Asking):
    """A running server; ``lines`` is what it says on standard error."""

    def __init__(self, folder: Path, *flags: str, port: int = 0) -> None:
        command = [*SERVE, "--dock", str(folder), "--port", str(port), "--rate", "0", "--log", "error", *flags]
        self.folder = folder
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.lines: list[str] = []
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"at (https?://\S+)", line):
                break
        else:
            raise RuntimeError("".join(self.lines))
        # With --public-url it names that one.
        self._url = f"http://127.0.0.1:{port}" if port else found[1]
        self._reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr or ()), daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        return self._url

    @property
    def port(self) -> int:
        return int(self._url.rpartition(":")[2])

    def operator(self) -> str:
        """A token of the operator: by the link that the first start prints."""
        for _ in range(1000):
            for line in self.lines:
                if found := re.search(r"#link=([^\s']+)", line):
                    asked = {"link": found[1], "name": "tests", "scope": "admin"}
                    return str(self.post("/api/v1/tokens/exchange", asked).body["token"])
            time.sleep(0.01)
        raise RuntimeError("no link was printed")

    def user(self, operator: str, name: str) -> str:
        """A token of a new user."""
        assert self.post("/api/v1/users", {"name": name}, token=operator).status == 201
        link = self.post(f"/api/v1/users/{name}/invite", token=operator).body["link"]
        asked = {"link": link.rpartition("#link=")[2], "name": "tests", "scope": "write"}
        return str(self.post("/api/v1/tokens/exchange", asked).body["token"])

    def ready(self, seconds: float = 30.0) -> None:
        """Wait until it says that it answers questions."""
        deadline = time.monotonic() + seconds
        while self.get("/api/v1/ready").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(timeout=60)
        self._reader.join(timeout=10)


@contextlib.contextmanager
def serving(folder: Path, *flags: str, port: int = 0) -> Iterator[Serving]:
    """A server until the block ends."""
    found = Serving(folder, *flags, port=port)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.end()


@contextlib.contextmanager
def stores(backend: str) -> Iterator[tuple[str, ...]]:
    """The flags of a service whose things are in its folder (``embedded``), or in PostgreSQL and an S3 store."""
    if backend == "embedded":
        yield ()
        return
    with engines.postgres() as url, engines.seaweed() as s3:
        yield server_flags(url, s3.endpoint)


def server_flags(database: str, endpoint: str) -> tuple[str, ...]:
    """The flags of a service whose things are there."""
    flags = {
        "database": database,
        "objects": "s3://tests/dock",
        "objects-endpoint": endpoint,
        "objects-key": engines.KEY,
        "objects-secret": engines.SECRET,
    }
    return tuple(part for name, value in flags.items() for part in (f"--{name}", value))


def settings_of(flags: Sequence[str]) -> Settings:
    """The settings of such a service, to look at its dock from here."""
    named = dict(zip(flags[::2], flags[1::2], strict=True))
    return Settings(**{name.removeprefix("--").replace("-", "_"): value for name, value in named.items()})  # type: ignore[arg-type]
