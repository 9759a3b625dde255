"""What strangers cost: nothing is read before the token, little after it, and no input of theirs is our failure."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from learndock.errors import Unavailable, UsageError
from learndock.http import unknown
from learndock.http.app import PARTS
from learndock.http.bodies import LARGE, SMALL
from learndock.http.door import DoorRoute
from learndock.http.json_bodies import MAX_DEPTH, MAX_VALUES, read_json
from learndock.http.limits import BodyBudget
from tests.http.test_serve import Process
from tests.http.test_serve import running as process
from tests.support.docking import make_learnware
from tests.support.serving import Answer, Site, served

API = "/api/v1"
#: Routes that take JSON, with the least that their token must reach.
JSON_ROUTES = {
    f"{API}/tokens": 401, f"{API}/learnwares": 401, f"{API}/repositories": 401, f"{API}/uploads": 401,
    f"{API}/users": 401, f"{API}/organisations": 401, "/api/repos/create": 401,
    "/api/models/ada/open/preupload/main": 401, "/ada/open.git/info/lfs/objects/batch": 401,
    "/api/models/ada/open/commit/main": 401, f"{API}/tokens/exchange": 413, "/api/validate-yaml": 413,
    "/api/models/ada/open/paths-info/main": 413, f"{API}/identify": 413,
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("abuse")
    with served(place / "dock", rate=0, request_seconds=5) as site:
        assert site.publish(make_learnware(place / "open", "ada/open"), site.token("ada")).status == 201
        yield site


@contextlib.contextmanager
def sent(port: int, head: str, body: bytes = b"") -> Iterator[socket.socket]:
    """A connection that has sent a head, and a part of what it announced."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        yield connection


def status_of(connection: socket.socket) -> int:
    return int(connection.recv(1 << 16).split(b" ")[1])


def test_every_route_is_behind_the_door() -> None:
    routes = [r for part in PARTS if part is not unknown for r in part.router.routes]
    assert len(routes) > 60
    assert [r for r in routes if not isinstance(r, DoorRoute)] == []


@pytest.mark.parametrize("path", JSON_ROUTES)
def test_the_token_is_looked_at_before_any_byte_of_the_body(site: Site, path: str) -> None:
    """The answer comes although nothing of the body does."""
    for token in ("", "\nAuthorization: Bearer ldk_invented"):
        head = f"POST {path} HTTP/1.1\nHost: x{token}\nContent-Type: application/json\nContent-Length: 15000000"
        with sent(site.running.port, head) as connection:
            connection.settimeout(4)  # less than the server would wait for the body
            asks_no_user = path.endswith("exchange")
            assert status_of(connection) == (401 if token and not asks_no_user else JSON_ROUTES[path])


def test_with_a_token_more_is_read_and_not_everywhere(site: Site) -> None:
    ada, spec = site.token("ada"), b"x" * (SMALL + 1)
    assert site.post(f"{API}/identify", spec).status == 413
    assert site.post(f"{API}/identify", spec, token="ldk_invented").status == 401
    assert site.post(f"{API}/identify", spec, token=ada).status == 422
    assert site.post(f"{API}/identify", b"x" * (LARGE + 1), token=ada).status == 413
    long = {"name": "x" * SMALL}
    assert site.post(f"{API}/repositories", long, token=ada).status == 413
    card = site.post("/api/validate-yaml", {"content": "x" * 1_000_000}, token=ada)
    assert (card.status, card.body) == (200, {"errors": [], "warnings": []})


def bad_texts() -> dict[str, str]:
    return {"half of a pair": '"\\ud800"', "nul": '"a\\u0000b"', "deep": "[" * 20_000 + "]" * 20_000, "cut off": '"'}


@pytest.mark.parametrize("what", bad_texts())
def test_no_text_is_our_failure_on_any_route(site: Site, what: str) -> None:
    """As a value of a field, as an unknown field, and as all of the body."""
    ada, bad = site.token("ada", "admin"), bad_texts()[what]
    bodies = [bad, f'{{"name": {bad}}}', f'{{"manifest": {{"description": {bad}}}}}', f'{{"paths": [{bad}]}}']
    for path in JSON_ROUTES:
        for body in bodies:
            answer = post_json(site, path, body, token=ada)
            assert answer.status in (400, 422) or path.endswith("validate-yaml"), (path, body[:40], answer)


def post_json(site: Site, path: str, body: str, *, token: str) -> Answer:
    return site.post(path, body.encode(), token=token, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("what", bad_texts())
@pytest.mark.parametrize(
    "line",
    [
        '{"key": "header", "value": {"summary": %s}}',
        '{"key": "header", "value": {"summary": "x", "description": %s}}',
        '{"key": "header", "value": {"summary": "x", "parentCommit": %s}}',
        '{"key": "lfsFile", "value": {"path": "a.txt", "oid": %s}}',
        '{"key": "deletedFile", "value": {"path": %s}}',
        '{"key": "deletedFolder", "value": {"path": %s}}',
        '{"key": %s, "value": {}}',
    ],
)
def test_no_line_of_a_commit_is_our_failure(site: Site, line: str, what: str) -> None:
    ada, content = site.token("ada"), base64.b64encode(b"text").decode()
    site.post("/api/repos/create", {"name": "plain"}, token=ada)
    lines = [
        line % bad_texts()[what],
        json.dumps({"key": "file", "value": {"path": "a.txt", "content": content, "encoding": "base64"}}),
    ]
    answer = post_json(site, "/api/models/ada/plain/commit/main", "\n".join(lines), token=ada)
    assert answer.status == 400, answer
    assert site.get("/api/models/ada/plain").body["siblings"] == []


@pytest.mark.parametrize("path", ["learnwares?owner=a%00", "repositories/ada/a%00", "repositories?search=%00"])
def test_nul_in_an_address_is_refused(site: Site, path: str) -> None:
    assert site.get(f"{API}/{path}").status == 400
    assert site.get(f"/ada/open/resolve/main/{path}").status == 400


def test_paths_are_as_many_in_json_as_in_a_form(site: Site) -> None:
    ada = site.token("ada")
    for count, status in ((10_000, 200), (10_001, 400)):
        paths = ["config.json", *["x"] * (count - 1)]
        answer = site.post("/api/models/ada/open/paths-info/main", {"paths": paths}, token=ada)
        assert answer.status == status
        form = "&".join(f"paths={p}" for p in paths).encode()
        assert site.post("/api/models/ada/open/paths-info/main", form, token=ada).status == status
        if status == 200:
            assert [e["path"] for e in answer.body] == ["config.json"]


def test_json_is_bounded_before_it_is_parsed() -> None:
    assert read_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert read_json(json.dumps({"a": "[" * 1000, "b": ['"\\' + "{" * 100]}).encode())["a"] == "[" * 1000
    assert read_json(b'["\\\\u0000", "\\ud83d\\ude00"]') == ["\\u0000", "\N{GRINNING FACE}"]
    refused = {
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1): "deeper",
        b'["]]]]",' * MAX_DEPTH + b"[" + b"]" * (MAX_DEPTH + 1): "deeper",
        b"[" + b"1," * MAX_VALUES + b"1]": "values",
        b'{"a": 1, "a": 2}': "duplicate key",
        b"[NaN]": "NaN",
        b'["\xed\xa0\x80"]': "not valid JSON",
        b'{"\\ud800": 1}': "surrogate",
        b"[" + b"9" * 5000 + b"]": "4300 digits",
    }
    for source, reason in refused.items():
        with pytest.raises(UsageError, match=reason):
            read_json(source)


# -- how much at once ---------------------------------------------------------------------------------------------


def test_the_budget_is_one_for_all_and_gives_back() -> None:
    budget = BodyBudget(100, largest=10)
    for client in "abcd":
        budget.take(client, 25)
    for client in "ae":
        with pytest.raises(Unavailable):
            budget.take(client, 1)
    budget.give_back("a", 25)
    budget.take("e", 25)
    with pytest.raises(Unavailable):
        budget.take("a", 1)
    BodyBudget(20, largest=10).take("a", 10)  # one body of the largest kind always fits


def test_bodies_of_all_clients_share_a_budget(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served(tmp_path / "dock", body_memory=1_000_000) as site, contextlib.ExitStack() as stack:
        ada, bob, half = site.token("ada"), site.token("bob"), b"x" * 600_000
        head = f"POST {API}/identify HTTP/1.1\nHost: x\nAuthorization: Bearer {ada}\nContent-Length: 600001"
        waiting = stack.enter_context(sent(site.running.port, head, half))
        refused = eventually(lambda: site.post(f"{API}/identify", half, token=bob), 503)
        assert (refused.body["error"]["code"], refused.headers["retry-after"]) == ("unavailable", "1")
        assert refused.body["error"]["retry_after"] == 1
        assert "Traceback" not in caplog.text
        waiting.close()
        assert eventually(lambda: site.post(f"{API}/identify", half, token=bob), 422).status == 422


def test_uploads_pass_through_however_little_memory_is_left(tmp_path: Path) -> None:
    """Beside requests that take all of it; the pieces are smaller, the bytes the same."""
    with served(tmp_path / "dock", body_memory=1_000_000) as site, contextlib.ExitStack() as stack:
        ada = site.token("ada")
        head = f"POST {API}/identify HTTP/1.1\nHost: x\nAuthorization: Bearer {ada}\nContent-Length: 1000000"

        def full() -> Answer:  # again, where the question came before all of the bytes, which were refused then
            stack.enter_context(sent(site.running.port, head, b"x" * 990_000))
            return site.post(f"{API}/identify", b"x" * 50_000, token=ada)

        eventually(full, 503)
        content = bytes(range(256)) * 12_000
        sha256 = site.upload(content, site.token("bob"))
        with site.service.storage.blobs.open(sha256) as stream:
            assert stream.read() == content


def eventually(ask: Any, status: int) -> Any:
    """The answer, once it has this status."""
    for _ in range(200):
        found = ask()
        if found.status == status:
            return found
        time.sleep(0.02)
    pytest.fail(f"{found}, not {status}")


def test_invented_tokens_buy_no_place(tmp_path: Path) -> None:
    with served(tmp_path / "dock", concurrent_requests=5) as site, contextlib.ExitStack() as stack:
        ada = site.token("ada")
        asking = f"POST {API}/tokens/exchange HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: 9"
        there = [
            stack.enter_context(sent(site.running.port, f"{asking}\nAuthorization: Bearer ldk_{i}")) for i in range(5)
        ]
        eventually(lambda: site.get(f"{API}/health", token="ldk_other"), 429)
        assert site.get(f"{API}/health").status == 429, "nor without one: an address is one client"
        assert site.get(f"{API}/whoami", token=ada).status == 200, "one that is valid counts by itself"
        for connection in there:
            connection.close()
        eventually(lambda: site.get(f"{API}/health"), 200)


def test_a_client_that_goes_away_is_no_failure_of_ours(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "learndock")
    ada = site.token("ada")
    site.post("/api/repos/create", {"name": "left"}, token=ada)
    paths = [f"{API}/identify", f"{API}/tokens/exchange", "/api/models/ada/left/commit/main"]
    for path in paths:
        head = f"POST {path} HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: 300"
        head += f"\nAuthorization: Bearer {ada}" if "commit" in path else ""
        with sent(site.running.port, head, b"abc"):
            pass

    def gone() -> list[Any]:
        return [r for r in map(vars, caplog.records) if r.get("status") == 499]

    for _ in range(200):
        if len(gone()) == len(paths):
            break
        time.sleep(0.02)
    assert sorted(r["path"] for r in gone()) == sorted(paths)
    assert {r["levelname"] for r in map(vars, caplog.records)} == {"INFO"}
    figures = site.get(f"{API}/metrics").body.decode()
    assert 'route="/api/v1/identify",status="499"' in figures
    assert 'status="500"' not in figures
    assert site.get("/api/models/ada/left", token=ada).body["siblings"] == []


def test_strangers_hold_little_memory_and_keep_no_reader_waiting(tmp_path: Path) -> None:
    """A small ``make bench-abuse``: a server of its own, whose memory is looked at."""
    with process(tmp_path / "dock", "--log", "error") as server, contextlib.ExitStack() as stack:
        port = int(server.url.rpartition(":")[2])
        waits = [wait_of(server) for _ in range(30)]
        before = server.status("VmRSS")
        head = f"POST {API}/identify HTTP/1.1\nHost: x\nContent-Length: {SMALL}"
        for _ in range(100):
            stack.enter_context(sent(port, head, b"x" * (SMALL - 1)))
        deep = b"[],[]," * 20_000
        for _ in range(20):
            head = f"POST {API}/tokens HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: 16000000"
            with contextlib.suppress(ConnectionError):
                stack.enter_context(sent(port, head, deep))
        waits = sorted(wait_of(server) for _ in range(30))
        assert waits[15] < 0.05
        assert server.status("VmRSS") - before < 40_000, "kB"


def wait_of(server: Process) -> float:
    begun = time.perf_counter()
    server.answer(f"{API}/learnwares")
    return time.perf_counter() - begun


def test_no_body_is_read_on_the_event_loop(site: Site) -> None:
    ada = site.token("ada")
    answer = site.post("/api/models/ada/open/paths-info/main", b"paths=" + b"%41" * 100_000, token=ada)
    assert answer.status == 400
    prompts = b'{"prompts": [' + b'"a",' * MAX_VALUES + b'"a"]}'
    json_ = {"Content-Type": "application/json"}
    answer = site.post("/api/v1/route", prompts, token=ada, headers=json_)
    assert (answer.status, "values" in answer.body["error"]["message"]) == (400, True)
    assert site.post("/api/v1/route", b'{"prompts": ["\\ud800"]}', token=ada, headers=json_).status == 400
