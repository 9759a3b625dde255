"""`learndock serve` as a process: how it starts, what it loads, how it ends, and how people get in."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from learndock.cli.app import app
from learndock.dock import open_dock
from learndock.dock.remote import credentials
from learndock.dock.remote.session import Session
from learndock.errors import Forbidden, NotFound, Unauthorized, Unavailable, UsageError
from tests.support.docking import make_learnware

#: What could run a stranger's code, or is too heavy for a server.
BANNED = (
    "torch", "transformers", "peft", "sklearn", "skops", "joblib", "cloudpickle", "dill", "onnx", "onnxruntime",
    "pandas", "pyarrow", "jinja2",
)  # fmt: skip


class Process:
    """A server in a process of its own, its address, and the operator's link where it printed one."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from learndock.cli import main; main()",
                "serve",
                "--dock",
                str(folder),
                "--port",
                "0",
                *flags,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.first = self.process.stderr.readline()
        found = re.search(r"at (http://\S+)", self.first)
        assert found, self.first + self.process.stderr.read()
        self.url = found[1]

    def answer(self, path: str) -> bytes:
        """The body at ``path``, once the server answers."""
        while True:
            try:
                with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                    return bytes(answer.read())
            except OSError:
                assert self.process.poll() is None
                assert time.monotonic() - self.begun < 30
                time.sleep(0.01)

    def seconds(self) -> float:
        """Processor time so far: what starting takes where nobody else is at work."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def status(self, field: str) -> int:
        """A figure of ``/proc``, in kB."""
        return int(re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1])  # type: ignore[index]


def yardstick() -> float:
    """Processor time to import what any server of this kind stands on: the bar of 2 s is for a machine of 0.5 s."""
    code = "import time, fastapi, sqlalchemy.engine; print(time.process_time())"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


@contextlib.contextmanager
def running(folder: Path, *flags: str) -> Iterator[Process]:
    server = Process(folder, *flags)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def test_it_starts_quickly_lets_the_operator_in_and_stops_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("LEARNDOCK_TOKEN", raising=False)
    run = CliRunner().invoke
    with running(tmp_path / "dock") as server:
        assert server.process.stderr is not None
        link = re.search(r"http://[^\s']+#link=[^\s']+", server.process.stderr.readline())
        assert link
        assert json.loads(server.answer("/api/v1/health"))["status"] == "ok"
        work = [server.seconds()]
        assert server.status("VmRSS") < 150_000
        assert b"learndock_requests_total" in server.answer("/api/v1/metrics")
        assert json.loads(server.answer("/api/v1/ready"))["status"] == "ready"

        with pytest.raises(Unauthorized):
            Session(server.url, token=None).json("GET", "/users")
        found = run(app, ["login", link[0], "--scope", "admin", "--json"], catch_exceptions=False)
        assert json.loads(found.output) == {"url": server.url, "name": "admin", "scope": "admin"}
        assert credentials.file().stat().st_mode & 0o077 == 0
        with pytest.raises(Unauthorized, match="used or older"):
            run(app, ["login", link[0]], catch_exceptions=False, standalone_mode=False)
        session = Session(server.url, token=credentials.token_for(server.url))
        assert [u["name"] for u in session.json("GET", "/users")["owners"]] == ["admin"]
        monkeypatch.setenv("LEARNDOCK_DOCK", server.url)

        def command(*words: str) -> Any:
            done = run(app, [*words, "--json"], catch_exceptions=False, standalone_mode=False)
            return json.loads(done.output)

        invited = command("user", "add", "ada")
        assert isinstance(invited, dict)
        assert command("user", "quota", "ada", "5000000")["quota"] == 5_000_000
        assert command("organisation", "make", "lab")["kind"] == "organisation"
        command("organisation", "member", "lab", "ada")
        assert [m["role"] for m in command("organisation", "members", "lab")["members"]] == ["member", "admin"]
        assert [u["name"] for u in command("user", "list")["users"]] == ["ada", "admin", "lab"]
        made = command("token", "make", "short", "--scope", "read", "--days", "1")
        command("token", "revoke", str(made["id"]))
        assert len(command("token", "list")["tokens"]) == 1
        assert command("user", "invite", "ada")["user"] == "ada"
        command("organisation", "member", "lab", "ada", "--role", "none")
        command("user", "remove", "ada")
        with pytest.raises(UsageError, match="a dock in a folder has no users"):
            run(app, ["user", "list", "--dock", str(tmp_path)], catch_exceptions=False, standalone_mode=False)
        weak = session.json("POST", "/tokens", {"name": "weak", "scope": "read"})["token"]
        with pytest.raises(Forbidden):
            Session(server.url, token=weak).json("GET", "/users")
        run(app, ["logout", server.url], catch_exceptions=False)
        assert credentials.token_for(server.url) is None

        server.process.send_signal(signal.SIGTERM)
        _, said = server.process.communicate(timeout=30)
        assert "Traceback" not in said
    with pytest.raises(Unavailable, match="cannot be reached"):
        Session(server.url, token=None).json("GET", "/health")
    with running(tmp_path / "dock") as again:
        again.answer("/api/v1/health")
        least = min(*work, again.seconds())
        assert least < 2.0 or least < 4 * yardstick(), "seconds of this machine's work until it answers"
        again.process.send_signal(signal.SIGTERM)
        assert "link=" not in again.process.communicate(timeout=30)[1], "there is an operator already"


def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, who: str) -> Callable[..., Any]:
    """What a person types on a machine of their own: words in, JSON out."""

    def command(*words: str) -> Any:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / who))
        done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False, standalone_mode=False)
        return json.loads(done.output)

    return command


def test_the_commands_of_the_service_page_lead_to_a_token_for_the_hubs_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/service.md: an invitation, a login without options, and a token that `hf` may write with."""
    monkeypatch.delenv("LEARNDOCK_TOKEN", raising=False)
    admin, ada = (commands(monkeypatch, tmp_path, who) for who in ("admin", "ada"))
    with running(tmp_path / "dock") as server:
        assert server.process.stderr is not None
        link = re.search(r"http://[^\s']+#link=[^\s']+", server.process.stderr.readline())
        assert link
        server.answer("/api/v1/health")
        monkeypatch.setenv("LEARNDOCK_DOCK", server.url)
        admin("login", link[0], "--scope", "admin")
        invited = admin("user", "add", "ada")["link"]
        assert ada("login", invited)["scope"] == "write"
        token = ada("token", "make", "hub", "--scope", "write")["token"]
        request = urllib.request.Request(
            f"{server.url}/api/repos/create",
            data=json.dumps({"name": "tumours", "private": True}).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.loads(answer.read())["name"] == "ada/tumours"


def test_an_operator_who_lost_the_token_is_let_in_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By who may write to the dock's folder, while the service runs; the links before are worth nothing then."""
    monkeypatch.delenv("LEARNDOCK_TOKEN", raising=False)
    admin = commands(monkeypatch, tmp_path, "admin")
    with pytest.raises(NotFound):
        admin("operator-link", "--dock", str(tmp_path / "dock"))
    with running(tmp_path / "dock") as server:
        assert server.process.stderr is not None
        first = re.search(r"http://[^\s']+#link=[^\s']+", server.process.stderr.readline())
        assert first
        server.answer("/api/v1/health")
        admin("login", first[0], "--scope", "admin")
        unused, used = (admin("operator-link", "--dock", str(tmp_path / "dock"))["command"] for _ in range(2))
        secrets = [re.search(r"#link=([^']+)'", c)[1] for c in (unused, used)]  # type: ignore[index]
        with pytest.raises(Unauthorized):
            admin("login", server.url, "--link", secrets[0])
        assert admin("login", server.url, "--link", secrets[1], "--scope", "admin")["name"] == "admin"
    (tmp_path / "plain").mkdir()
    open_dock(tmp_path / "plain" / "dock")
    with pytest.raises(UsageError, match="never served"):
        admin("operator-link", "--dock", str(tmp_path / "plain" / "dock"))
    with pytest.raises(UsageError, match="machine that has the dock"):
        admin("operator-link", "--dock", "http://127.0.0.1:7080")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_links_name_an_address_that_can_be_reached(tmp_path: Path, host: str) -> None:
    with running(tmp_path / "dock", "--host", host) as server:
        assert server.process.stderr is not None
        assert re.fullmatch(r"http://(127\.0\.0\.1|\[::1\]):\d+", server.url)
        assert json.loads(server.answer("/api/v1/health"))["status"] == "ok"
        assert f"'{server.url}#link=" in server.process.stderr.readline()
        assert "--public-url" in server.process.stderr.readline()


def test_the_server_loads_nothing_that_could_run_code(tmp_path: Path) -> None:
    make_learnware(tmp_path / "good", "ada/good")
    code = f"""
import pickle, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from learndock.http.run import refuse_pickles
refuse_pickles()
import numpy as np
from tests.support.docking import make_spec
from learndock.spec.file import spec_to_bytes
from tests.support.serving import served
with served(Path({str(tmp_path / "dock")!r})) as site:
    assert site.publish(Path({str(tmp_path / "good")!r}), site.token("ada")).status == 201
    found = site.post("/api/v1/identify", spec_to_bytes(make_spec(np.random.default_rng(0), kind="task")))
    assert found.body["searched"] == 1
    print(sorted({{m.split(".")[0] for m in sys.modules}} & set({BANNED!r})))
try:
    pickle.loads(pickle.dumps(Path("x")))
except Exception as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["[]", "UnsafeModel"]


@pytest.mark.parametrize("words", [("serve",), ("backup", "x"), ("restore", "x")], ids=" ".join)
def test_without_the_extra_it_is_named(words: tuple[str, ...], tmp_path: Path) -> None:
    block = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("fastapi", "uvicorn", "sqlalchemy", "obstore", "starlette"):
            raise ImportError(f"no {name}", name=name)
sys.meta_path.insert(0, Block())
from learndock.cli import main
main()
"""
    command = [sys.executable, "-c", block, *words, "--dock", str(tmp_path / "dock")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, 'pip install "learndock[server]"' in done.stderr) == (23, True), done.stderr
