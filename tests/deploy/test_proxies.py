"""The examples for nginx and Caddy, run but for names, ports and the certificate as they are: uploads, downloads."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from learndock.files import sha256_bytes
from learndock.package.manifest import Manifest
from tests.support import engines
from tests.support.docking import make_learnware
from tests.support.processes import Serving, serving

DEPLOY = Path(__file__).parents[2] / "deploy"
HUB = shutil.which("hf") or str(Path(sys.executable).with_name("hf"))


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for before, after in pairs:
        assert before in text, before
        text = text.replace(before, after)
    return text


def certificate(place: Path) -> None:
    name = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", str(place / "key.pem"), "-out", str(place / "cert.pem"))
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *name, *files)
    subprocess.run(command, check=True, capture_output=True)


def nginx(place: Path, port: int, behind: int) -> list[str]:
    site = replaced(
        (DEPLOY / "nginx.conf").read_text(),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("dock.example;", "127.0.0.1;"),
        ("/etc/ssl/dock.example.pem", str(place / "cert.pem")),
        ("/etc/ssl/dock.example.key", str(place / "key.pem")),
        ("127.0.0.1:7080;", f"127.0.0.1:{behind};"),
    )
    parts = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{part}_temp_path {place / part};\n" for part in parts)
    (place / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {place / 'pid'};\nerror_log {place / 'error.log'};\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{site}\n}}\n"
    )
    return [str(shutil.which("nginx")), "-p", str(place), "-c", str(place / "nginx.conf")]


def caddy(place: Path, port: int, behind: int) -> list[str]:
    site = replaced(
        (DEPLOY / "Caddyfile").read_text(),
        ("dock.example {", f"https://127.0.0.1:{port} {{\n    tls {place / 'cert.pem'} {place / 'key.pem'}"),
        ("127.0.0.1:7080 {", f"127.0.0.1:{behind} {{"),
    )
    (place / "Caddyfile").write_text(f"{{\n    admin off\n    auto_https off\n}}\n{site}")
    return [str(shutil.which("caddy")), "run", "--adapter", "caddyfile", "--config", str(place / "Caddyfile")]


@contextlib.contextmanager
def behind(name: str, place: Path, *more: str) -> Iterator[tuple[Serving, int]]:
    """A service behind the proxy ``name``, and the port at which that speaks TLS."""
    if shutil.which(name) is None or shutil.which("openssl") is None:
        pytest.skip(f"{name} or openssl is not installed (`make soak-proxies` installs them)")
    place.mkdir()
    certificate(place)
    port = engines.free_port()
    flags = ("--public-url", f"https://127.0.0.1:{port}", "--trusted-proxies", "127.0.0.1", *more)
    behind = engines.free_port()
    with serving(place / "dock", *flags, port=behind) as site:
        command = {"nginx": nginx, "caddy": caddy}[name](place, port, behind)
        with engines.running(command, port=port, log=place / "log", end=signal.SIGTERM):
            yield site, port


def ran(*command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_clients_upload_and_download_through_the_example(name: str, tmp_path: Path) -> None:
    with behind(name, tmp_path / "proxy") as (site, port):
        ada = site.user(site.operator(), "ada")
        url, trusted = f"https://127.0.0.1:{port}", tmp_path / "proxy" / "cert.pem"
        environment = {
            **os.environ,
            "SSL_CERT_FILE": str(trusted),
            "LEARNDOCK_TOKEN": ada,
            "NO_PROXY": "127.0.0.1",
            "HF_ENDPOINT": url,
            "HF_TOKEN": ada,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": "0",
        }
        learndock = (sys.executable, "-c", "from learndock.cli import main; main()")
        # 40 MB: nginx's own limit is 1 MB, and it would keep a body on its disk before it hands it on.
        folder = make_learnware(tmp_path / "large", "ada/large", numbers=10_000_000)
        ran(*learndock, "add", str(folder), "--dock", url, environment=environment)
        ran(*learndock, "get", "ada/large", "-o", str(tmp_path / "got"), "--dock", url, environment=environment)
        for file in Manifest.from_folder(folder).files:
            assert (tmp_path / "got" / file.path).read_bytes() == (folder / file.path).read_bytes()
        plain = tmp_path / "plain"
        plain.mkdir()
        (plain / "README.md").write_text("# plain\n")
        (plain / "notes.txt").write_bytes(os.urandom(1_500_000).hex().encode())
        ran(HUB, "upload", "ada/plain", str(plain), environment=environment)
        ran(HUB, "download", "ada/plain", "--local-dir", str(tmp_path / "hf"), environment=environment)
        for path in ("README.md", "notes.txt"):
            assert (tmp_path / "hf" / path).read_bytes() == (plain / path).read_bytes()
        check_streaming(site, port, trusted, ada)


def check_streaming(site: Serving, port: int, trusted: Path, token: str) -> None:
    """Half of an upload is at the service while the other half has not been sent."""
    content = os.urandom(4 << 20)
    begun = site.post("/api/v1/uploads", {"sha256": sha256_bytes(content), "size": len(content)}, token=token).body
    path = f"/api/v1/uploads/{begun['id']}"
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, context=ssl.create_default_context(cafile=str(trusted)), timeout=30
    )
    connection.putrequest("PATCH", path)
    for name, value in (
        ("Authorization", f"Bearer {token}"),
        ("Upload-Offset", "0"),
        ("Content-Length", str(len(content))),
    ):
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(content[: len(content) // 2])
    until = time.monotonic() + 15
    while site.get(path, token=token).body["offset"] < 1 << 20:
        assert time.monotonic() < until, "the proxy keeps what was sent"
        time.sleep(0.05)
    connection.send(content[len(content) // 2 :])
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_a_header_of_the_client_does_not_pass_the_rate(name: str, tmp_path: Path) -> None:
    with behind(name, tmp_path / "proxy", "--rate", "5", "--burst", "10") as (_, port):
        context = ssl.create_default_context(cafile=str(tmp_path / "proxy" / "cert.pem"))
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
        found = []
        for number in range(60):
            connection.request("GET", "/api/v1/health", headers={"X-Forwarded-For": f"203.0.113.{number}"})
            answer = connection.getresponse()
            answer.read()
            found.append(answer.status)
        connection.close()
        assert set(found) == {200, 429}
        assert found.count(429) >= 20, found


def test_the_page_shows_the_examples_as_they_are_tested() -> None:
    page = (DEPLOY.parent / "docs" / "operating.md").read_text()
    lines = {line.strip() for line in page.splitlines()}
    for name in ("nginx.conf", "Caddyfile", "prometheus.yml"):
        shown = [line.strip() for line in (DEPLOY / name).read_text().splitlines() if not line.startswith("#")]
        assert [line for line in shown if line not in lines] == [], name
