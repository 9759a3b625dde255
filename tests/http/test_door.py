"""The outer door: proxies, pages of other origins, heads, addresses that no route has, and what the start says."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from learndock.dock.storage.s3 import object_store
from learndock.errors import UsageError
from learndock.http.forwarded import Forwarded
from learndock.http.protocol import MAX_HEAD
from learndock.http.run import warnings_of
from learndock.settings import Settings, load
from tests.http.test_serve import running as process
from tests.support.docking import make_learnware
from tests.support.serving import Site, served

API = "/api/v1"
PAGE = "https://app.example"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("door")
    with served(place / "dock", rate=0, cors=PAGE) as site:
        assert site.publish(make_learnware(place / "open", "ada/open"), site.token("ada")).status == 201
        hidden = make_learnware(place / "hidden", "ada/hidden", seed=1)
        assert site.publish(hidden, site.token("ada"), private=True).status == 201
        yield site


# -- proxies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1", "203.0.113.7"], "203.0.113.7"),  # the first is what the client says of itself
        (["203.0.113.7", "10.1.2.3"], "203.0.113.7"),
        (["198.51.100.1", "203.0.113.7", "10.1.2.3", "127.0.0.1"], "203.0.113.7"),
        (["10.1.2.3", "127.0.0.1"], "10.1.2.3"),
        (["203.0.113.7:4711", "[::ffff:10.1.2.3]:80"], "203.0.113.7"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["203.0.113.7", "unknown"], None),
        ([], None),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy_of_ours(hops: list[str], client: str | None) -> None:
    found = Forwarded(lambda *_: None, trusted="127.0.0.1, 10.0.0.0/8").client_of(hops)  # type: ignore[arg-type]
    assert (None if found is None else str(found)) == client


@pytest.mark.parametrize("trusted", ["", "203.0.113.0/24", "127.0.0.1"])
def test_forwarded_addresses_count_only_from_trusted_proxies(tmp_path: Path, trusted: str) -> None:
    """Requests beyond the burst, each with another X-Forwarded-For; and the scheme of addresses in answers."""
    with served(tmp_path / "dock", rate=0.001, burst=10, trusted_proxies=trusted) as site:
        headers = {"X-Forwarded-Proto": "https"}
        answers = [
            site.get(f"{API}/health", headers={**headers, "X-Forwarded-For": f"203.0.113.{i}"}) for i in range(30)
        ]
        assert [a.status for a in answers].count(429) == (0 if trusted == "127.0.0.1" else 20)
        told = site.get("/", headers={**headers, "X-Forwarded-For": "203.0.113.99"}).body
        if trusted == "127.0.0.1":
            assert told["api"].startswith("https://127.0.0.1:")
            one = [site.get(f"{API}/health", headers={"X-Forwarded-For": f"{i}, 192.0.2.1"}) for i in range(30)]
            assert [a.status for a in one].count(429) == 20, "what the client itself wrote before the proxy is nothing"


# -- pages of other origins ---------------------------------------------------------------------------------------


def test_pages_of_named_origins_read_what_is_public(site: Site) -> None:
    asked = {"Origin": PAGE, "Range": "bytes=0-1"}
    answer = site.get("/ada/open/resolve/main/config.json", headers=asked)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (206, PAGE)
    exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
    assert {"etag", "x-repo-commit", "content-range", "accept-ranges"} <= set(exposed)
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers
    missing = site.get("/ada/nothing/resolve/main/config.json", headers=asked)
    assert (missing.status, missing.headers["access-control-allow-origin"]) == (404, PAGE)

    preflight = {"Origin": PAGE, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}
    may = site.ask("OPTIONS", "/ada/open/resolve/main/config.json", headers=preflight)
    assert (may.status, may.headers["access-control-allow-origin"]) == (204, PAGE)
    assert "range" in may.headers["access-control-allow-headers"].lower()
    assert may.headers["access-control-allow-methods"] == "GET, HEAD"
    assert "authorization" not in may.headers["access-control-allow-headers"].lower()


def test_pages_read_nothing_else(site: Site) -> None:
    ada, allowed = site.token("ada"), "access-control-allow-origin"
    path = "/ada/hidden/resolve/main/config.json"
    assert allowed not in site.get(path, token=ada, headers={"Origin": PAGE}).headers
    for other in ("https://evil.example", "null", f"{PAGE}.evil.example", "http://app.example"):
        assert allowed not in site.get("/ada/open/resolve/main/config.json", headers={"Origin": other}).headers
        preflight = {"Origin": other, "Access-Control-Request-Method": "GET"}
        assert allowed not in site.ask("OPTIONS", path, headers=preflight).headers
    assert allowed not in site.post(f"{API}/identify", b"x", headers={"Origin": PAGE}).headers


def test_no_origin_is_allowed_unless_the_setting_says_so(tmp_path: Path) -> None:
    with served(tmp_path / "dock") as site:
        answer = site.get(f"{API}/learnwares", headers={"Origin": PAGE})
        assert not [h for h in answer.headers if h.startswith("access-control")]
    with served(tmp_path / "dock", cors="*") as site:
        assert site.get(f"{API}/learnwares", headers={"Origin": PAGE}).headers["access-control-allow-origin"] == "*"


# -- heads, and answers that are not read --------------------------------------------------------------------------


@pytest.mark.parametrize("length", [MAX_HEAD - 200, MAX_HEAD + 200, 120_000])
def test_a_head_is_bounded_where_it_comes_at_once_too(site: Site, length: int) -> None:
    head = f"GET {API}/health HTTP/1.1\r\nHost: x\r\nX-A: ".encode()
    request = head + b"a" * (length - len(head)) + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", site.running.port), timeout=10) as connection:
        connection.sendall(request + (request if length < MAX_HEAD else b""))
        found = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(1 << 16):
                found += piece
                if found.count(b'"status"') == 2:  # each of two has a head of its own
                    break
    assert found.split(b" ")[1] == (b"200" if length < MAX_HEAD else b"431"), found[:200]
    assert found.count(b'"ok"') == (2 if length < MAX_HEAD else 0)


def test_a_reader_that_stops_is_one_line_in_the_log(tmp_path: Path) -> None:
    with served(tmp_path / "dock") as site:
        made = site.publish(make_learnware(tmp_path / "large", "ada/large", numbers=6_000_000), site.token("ada"))
        assert made.status == 201
    with process(tmp_path / "dock", "--request-seconds", "0.3") as server:
        port = int(server.url.rpartition(":")[2])
        path = f"{API}/learnwares/ada/large/files/model.safetensors"
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            connection.recv(100)
            for _ in range(200):
                if b"learndock_requests_running 1.0" in server.answer(f"{API}/metrics"):
                    break
                time.sleep(0.02)
        server.process.terminate()
        _, said = server.process.communicate(timeout=30)
    assert said.count("slow reader") == 1
    assert "Traceback" not in said
    assert '"level": "error"' not in said


# -- addresses that no route has ------------------------------------------------------------------------------------


def test_the_root_says_what_this_is(site: Site) -> None:
    told = site.get("/")
    assert (told.status, told.body["name"]) == (200, "learndock")
    assert told.body["download"] == f"HF_ENDPOINT={site.url} hf download OWNER/NAME"
    assert site.ask("HEAD", "/").status == 200
    page = site.get("/", headers={"Accept": "text/html,*/*;q=0.8", "Host": "<b>"})
    assert page.headers["content-type"].startswith("text/html")
    assert b"learndock identify" in page.body
    assert b"<b>" not in page.body


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/ada/open", "hf download ada/open"),
        ("/ada/hidden", "hf download ada/hidden"),
        ("/ada/open/tree/main", "hf download ada/open"),
        ("/ada/open.git", "hf download ada/open"),
        ("/ada/open.git/HEAD", "hf download ada/open"),
        ("/ada/open/discussions", "hf download ada/open"),
        ("/datasets/ada/x", "models only"),
        ("/robots.txt", "openapi.json"),
        ("/api/v1/nothing", "openapi.json"),
        ("/a/b/c/d/<script>", "openapi.json"),
    ],
)
def test_an_unknown_address_says_what_to_do(site: Site, path: str, says: str) -> None:
    answer = site.get(path)
    assert (answer.status, answer.body["error"]["code"]) == (404, "not_found"), answer
    assert says in answer.body["error"]["message"] + answer.body["error"]["remedy"]
    page = site.get(path, headers={"Accept": "text/html"})
    if page.headers["content-type"].startswith("text/html"):
        assert says.encode() in page.body
        assert b"<script" not in page.body


# -- what the start says, and refuses --------------------------------------------------------------------------------


def test_it_says_where_addresses_come_from_when_others_can_reach_it() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        assert list(warnings_of(Settings(host=host))) == []
    for host in ("0.0.0.0", "192.0.2.7", "dock.example"):
        assert "made from the Host header" in list(warnings_of(Settings(host=host)))[-1]
        assert list(warnings_of(Settings(host=host, public_url="https://dock.example"))) == []


def test_signed_addresses_begin_with_the_public_url(tmp_path: Path) -> None:
    with served(tmp_path / "dock", public_url="https://dock.example/") as site:
        site.running.url = f"http://127.0.0.1:{site.running.port}"  # where the tests ask
        ada = site.token("ada")
        site.post("/api/repos/create", {"name": "m"}, token=ada)
        batch = {"operation": "upload", "objects": [{"oid": "ab" * 32, "size": 3}]}
        headers = {"Host": "evil.example", "X-Forwarded-Proto": "http"}
        answer = site.post("/ada/m.git/info/lfs/objects/batch", batch, token=ada, headers=headers)
        actions = answer.body["objects"][0]["actions"]
        assert all(a["href"].startswith("https://dock.example/") for a in actions.values())


def test_an_object_store_without_keys_asks_no_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                 "AWS_CONTAINER_CREDENTIALS_FULL_URI"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="--objects-key"):
        object_store("s3://bucket/dock", endpoint="http://127.0.0.1:1")
    object_store("s3://bucket/dock", endpoint="http://127.0.0.1:1", key="role")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    object_store("s3://bucket/dock", endpoint="http://127.0.0.1:1")


def test_lists_in_settings_are_checked() -> None:
    assert load({"trusted_proxies": "10.1.2.3/8 ::1"}, environment={}).trusted_proxies == "10.0.0.0/8,::1/128"
    assert load({"cors": "https://A.example, http://b:80"}, environment={}).cors == "https://a.example,http://b:80"
    for name, value in (("trusted_proxies", "10.0.0.0/33"), ("cors", "https://a.example/path"), ("cors", "a")):
        with pytest.raises(UsageError, match="such as"):
            load({name: value}, environment={})
