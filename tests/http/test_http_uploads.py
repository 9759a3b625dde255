"""Bytes on their way in: resumed, hashed, limited; and what may not be stored, through every way in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.files import sha256_bytes
from learndock.http.limits import FairQueue
from learndock.package.manifest import Manifest
from learndock.spec.file import spec_to_bytes
from tests.support import models
from tests.support.docking import make_learnware, make_spec, seal
from tests.support.serving import Site, served

SPEC = spec_to_bytes(make_spec(np.random.default_rng(3), kind="task"))
API = "/api/v1"
PART = 5 << 20


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(
        tmp_path_factory.mktemp("uploads") / "dock", request_seconds=0.6, quota=60_000_000, max_file=40_000_000
    ) as site:
        yield site


def begin(site: Site, content: bytes, token: str, **more: Any) -> str:
    asked = {"sha256": sha256_bytes(content), "size": len(content), **more}
    made = site.post(f"{API}/uploads", asked, token=token)
    assert made.status == 201, made
    return str(made.body["id"])


def send(site: Site, upload: str, offset: int, content: bytes, token: str) -> Any:
    return site.ask("PATCH", f"{API}/uploads/{upload}", content, token=token, headers={"Upload-Offset": str(offset)})


def read(site: Site, sha256: str) -> bytes:
    with site.service.storage.blobs.open(sha256) as stream:
        return stream.read()


def broken_off(site: Site, upload: str, content: bytes, token: str, *, sent: int) -> None:
    """Announce all of ``content``, send ``sent`` bytes, and go away."""
    with socket.create_connection(("127.0.0.1", site.running.port)) as connection:
        head = (
            f"PATCH {API}/uploads/{upload} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            f"Upload-Offset: 0\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        connection.sendall(head.encode() + content[:sent])
        time.sleep(0.1)


def test_an_upload_goes_on_where_it_broke_off(site: Site) -> None:
    ada, content = site.token("ada"), bytes(range(256)) * 12_000
    upload = begin(site, content, ada)
    broken_off(site, upload, content, ada, sent=1_500_000)
    for _ in range(100):
        offset = site.get(f"{API}/uploads/{upload}", token=ada).body["offset"]
        if offset == 1_500_000:
            break
        time.sleep(0.02)
    assert offset == 1_500_000
    for wrong in (0, offset - 1, offset + 1):
        answer = send(site, upload, wrong, content[wrong:], ada)
        assert (answer.status, answer.body["error"]["code"]) == (409, "conflict")
    for _ in range(100):  # the request that broke off may still be syncing what came
        done = send(site, upload, offset, content[offset:], ada)
        if done.status != 409 or "another request" not in done.body["error"]["message"]:
            break
        time.sleep(0.02)
    assert (done.status, done.body.get("stored"), done.body.get("offset")) == (200, True, len(content)), done
    assert read(site, sha256_bytes(content)) == content
    assert site.get(f"{API}/uploads/{upload}", token=ada).body["stored"]
    assert not (site.service.uploads.folder / upload).exists()


def test_an_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8_000
    with served(tmp_path / "dock") as site:
        ada = site.token("ada")
        upload = begin(site, content, ada)
        assert send(site, upload, 0, content[:700_000], ada).body["offset"] == 700_000
    with served(tmp_path / "dock") as site:
        done = send(site, upload, 700_000, content[700_000:], ada)
        assert (done.status, done.body["stored"]) == (200, True)
        assert read(site, sha256_bytes(content)) == content


def test_parts_come_in_any_order_side_by_side_and_again(site: Site) -> None:
    ada, content = site.token("ada"), bytes(range(255)) * 60_000
    upload = begin(site, content, ada, part_size=PART)
    found = site.get(f"{API}/uploads/{upload}", token=ada).body
    assert found["parts"] == 3

    def part(number: int) -> Any:
        begun = (number - 1) * PART
        return site.ask("PUT", f"{API}/uploads/{upload}/parts/{number}", content[begun : begun + PART], token=ada)

    short = site.ask("PUT", f"{API}/uploads/{upload}/parts/1", content[:1000], token=ada)
    assert (short.status, short.body["error"]["code"]) == (400, "usage_error")
    assert part(3).status == 200
    early = site.post(f"{API}/uploads/{upload}/complete", token=ada)
    assert (early.status, "part 1 first" in early.body["error"]["message"]) == (409, True)
    with ThreadPoolExecutor(3) as pool:
        assert [a.status for a in pool.map(part, (1, 2, 3))] == [200] * 3
    assert site.ask("PUT", f"{API}/uploads/{upload}/parts/4", b"x", token=ada).status == 400
    done = site.post(f"{API}/uploads/{upload}/complete", token=ada)
    assert (done.status, done.body["stored"]) == (200, True)
    assert read(site, sha256_bytes(content)) == content


def test_other_bytes_than_announced_are_not_kept(site: Site) -> None:
    ada = site.token("ada")
    upload = begin(site, b"what was announced", ada)
    wrong = send(site, upload, 0, b"what is sent......", ada)
    assert (wrong.status, "SHA-256" in wrong.body["error"]["message"]) == (400, True)
    assert site.get(f"{API}/uploads/{upload}", token=ada).status == 404
    assert not site.service.storage.blobs.has(sha256_bytes(b"what was announced"))
    upload = begin(site, b"short", ada)
    long = send(site, upload, 0, b"short and some more", ada)
    assert (long.status, long.body["error"]["code"]) == (413, "too_large")
    assert not site.service.storage.blobs.has(sha256_bytes(b"short and some more"))
    assert site.ask("DELETE", f"{API}/uploads/{upload}", token=ada).status == 204
    empty = site.post(f"{API}/uploads", {"sha256": sha256_bytes(b""), "size": 0}, token=ada)
    assert empty.body["stored"] is True


def test_too_large_and_more_than_the_quota(site: Site) -> None:
    eve = site.token("eve")
    for size, status, code in ((40_000_001, 413, "too_large"), (1 << 61, 413, "too_large")):
        answer = site.post(f"{API}/uploads", {"sha256": "a" * 64, "size": size}, token=eve)
        assert (answer.status, answer.body["error"]["code"]) == (status, code)
    assert site.post(f"{API}/uploads", {"sha256": "b" * 64, "size": 35_000_000}, token=eve).status == 201
    over = site.post(f"{API}/uploads", {"sha256": "c" * 64, "size": 35_000_000}, token=eve)
    assert (over.status, over.body["error"]["code"]) == (413, "quota_exceeded")
    more = site.ask("PUT", f"{API}/users/eve/quota", {"quota": 80_000_000}, token=site.operator())
    assert more.body["quota"] == 80_000_000
    assert site.post(f"{API}/uploads", {"sha256": "c" * 64, "size": 35_000_000}, token=eve).status == 201
    body = site.ask("POST", f"{API}/identify", b"x" * (9 << 20))
    assert (body.status, body.body["error"]["code"]) == (413, "too_large")
    for headers in ({}, {"Content-Type": "application/json"}):
        body = site.ask("POST", f"{API}/repositories", b"[" * (17 << 20), token=eve, headers=headers)
        assert (body.status, body.body["error"]["code"]) == (413, "too_large")


# -- slow clients, and many ------------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(site: Site) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", site.running.port), timeout=10) as connection:
        yield connection


def ended(connection: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            found += piece
    return found


def test_slow_clients_keep_no_other_waiting(tmp_path: Path) -> None:
    """With a minute for each: an answer comes while all of them are still open."""
    with served(tmp_path / "dock", request_seconds=60) as site, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connected(site)) for _ in range(3)]
        slow[0].sendall(b"GET /api/v1/health HTTP/1.1\r\nHost:")
        assert site.get(f"{API}/health").status == 200
        for connection in slow:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)


def test_slow_clients_are_ended(site: Site) -> None:
    ada = site.token("ada")
    upload = begin(site, b"x" * 100_000, ada)
    with contextlib.ExitStack() as stack:
        half, silent, body = (stack.enter_context(connected(site)) for _ in range(3))
        half.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost:")
        body.sendall(
            f"PATCH {API}/uploads/{upload} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ada}\r\nUpload-Offset: 0\r\n"
            "Content-Length: 100000\r\n\r\n".encode()
            + b"x" * 1000
        )
        assert b"408" in ended(half).split(b"\r\n")[0]
        assert ended(silent) == b""
        answer = ended_or_answer(body)
        assert b" 408 " in answer.split(b"\r\n")[0]
        assert b'"too_slow"' in answer
    assert site.get(f"{API}/uploads/{upload}", token=ada).body["offset"] == 1000, "what came stays"


def ended_or_answer(connection: socket.socket) -> bytes:
    found = b""
    while b"\r\n\r\n" not in found or b"}}" not in found:
        piece = connection.recv(1 << 16)
        if not piece:
            break
        found += piece
    return found


def test_who_does_not_read_is_ended(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "learndock.access")
    folder = make_learnware(tmp_path / "large", "ada/unread", numbers=6_000_000)
    assert site.publish(folder, site.token("ada")).status == 201
    with connected(site) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(
            f"GET {API}/learnwares/ada/unread/files/model.safetensors HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
        assert b"200 OK" in connection.recv(100)
        for _ in range(200):
            figures = site.get(f"{API}/metrics").body.decode()
            if "learndock_requests_running 1.0" in figures:  # the one that asks for this
                break
            time.sleep(0.02)
        else:
            pytest.fail("the download goes on without a reader")
    requests = [vars(record) for record in caplog.records if record.message == "request"]
    sent = next(r["bytes"] for r in requests if r["path"].endswith(".safetensors"))
    assert sent < 24_000_000


def test_a_head_without_end_is_refused(site: Site) -> None:
    with connected(site) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(40):
                connection.sendall(b"X-A: " + b"a" * 4000 + b"\r\n")
        assert b" 431 " in ended(connection).split(b"\r\n")[0]
    with connected(site) as connection:
        connection.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        assert b'"remedy"' in ended(connection)


def test_64_writers_publish_64_versions(tmp_path: Path) -> None:
    with served(tmp_path / "dock") as site:
        ada = site.token("ada")
        manifests = []
        for i in range(64):
            folder = make_learnware(tmp_path / str(i), "ada/wanted", seed=i, numbers=10)
            manifest = Manifest.from_folder(folder)
            for file in manifest.files:
                site.service.uploads.put(site.principal("ada"), (folder / file.path).read_bytes())
            manifests.append({"manifest": manifest.model_dump(mode="json")})
        with ThreadPoolExecutor(64) as pool:
            statuses = list(pool.map(lambda m: site.post(f"{API}/learnwares", m, token=ada).status, manifests))
        assert statuses == [201] * 64
        assert [v.version for v in site.service.dock.versions("ada/wanted")] == list(range(1, 65))
        assert [r.name for r in site.service.dock.records()] == ["ada/wanted"]
        assert [p for p in site.service.dock.verify() if p.severity == "error"] == []


def test_who_comes_too_fast_waits(tmp_path: Path) -> None:
    with served(tmp_path / "dock", rate=0.5, burst=10) as site:
        ada = site.token("ada")
        statuses = [site.get(f"{API}/health").status for _ in range(14)]
        assert statuses[:10] == [200] * 10
        assert 429 in statuses[10:]
        refused = site.get(f"{API}/health")
        assert (refused.body["error"]["code"], int(refused.headers["retry-after"]) >= 1) == ("too_many_requests", True)
        assert site.get(f"{API}/whoami", token=ada).status == 200, "each token has its own"
        made_up = [site.get(f"{API}/whoami", token=f"ldk_{i}").status for i in range(140)]
        assert 429 in made_up, "but an address has not as many as it can think of"


def test_who_asks_for_too_much_at_once_waits_and_others_do_not(tmp_path: Path) -> None:
    with served(tmp_path / "dock", concurrent_requests=3) as site, contextlib.ExitStack() as stack:
        ada, bob = site.token("ada"), site.token("bob")
        asking = f"POST {API}/identify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ada}\r\nContent-Length: 9\r\n\r\n"
        for _ in range(3):  # a body that is awaited
            connection = stack.enter_context(connected(site))
            connection.sendall(asking.encode())
        for _ in range(200):
            refused = site.get(f"{API}/health", token=ada)
            if refused.status != 200:
                break
        assert (refused.status, refused.body["error"]["code"]) == (429, "too_many_requests")
        assert int(refused.headers["retry-after"]) == 1
        assert site.get(f"{API}/health", token=bob).status == 200
        assert site.get(f"{API}/health").status == 200
        connection.sendall(b"123456789")
        assert b" 4" in ended_or_answer(connection).split(b"\r\n")[0]
        assert site.get(f"{API}/health", token=ada).status == 200, "one of them was answered"


def test_whoever_asks_little_has_a_turn_soon() -> None:
    turns, began = FairQueue(2), []

    async def work(client: str) -> None:
        async with turns.turn(client):
            began.append(client)
            await asyncio.sleep(0.001)

    async def all_of_it() -> None:
        greedy = [asyncio.create_task(work("ada")) for _ in range(50)]
        await asyncio.sleep(0)
        await work("bob")
        await asyncio.gather(*greedy)

    asyncio.run(all_of_it())
    assert len(began) == 51
    assert began.index("bob") <= 4
    assert not turns._own
    assert not turns._there


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], check=False).returncode:
        pytest.skip("cannot mount a small file system here; it takes root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_told_reading_goes_on_and_it_recovers_by_itself(small_disk: Path, tmp_path: Path) -> None:
    with served(small_disk / "dock") as site:
        ada = site.token("ada")
        assert site.publish(make_learnware(tmp_path / "a", "ada/a"), ada).status == 201
        large = bytes(range(256)) * 40_000
        upload = begin(site, large, ada)
        full = send(site, upload, 0, large, ada)
        assert (full.status, full.body["error"]["code"]) == (507, "storage_full")
        for _ in range(3):  # nothing is left at all
            with contextlib.suppress(OSError), (small_disk / "filler").open("ab", buffering=0) as filler:
                filler.write(bytes(8 << 20))
        refused = [
            site.post(f"{API}/repositories", {"name": f"ada/new{i}"}, token=ada) for i in range(40)
        ]  # fmt: skip
        assert {a.status for a in refused} <= {201, 507}
        assert refused[-1].status == 507
        assert refused[-1].body["error"]["code"] == "storage_full"
        assert site.get(f"{API}/learnwares/ada/a").status == 200
        assert site.get(f"{API}/learnwares/ada/a/files/model.safetensors").status == 200
        assert site.post(f"{API}/identify", SPEC).body["searched"] == 1
        (small_disk / "filler").unlink()
        assert site.ask("DELETE", f"{API}/uploads/{upload}", token=ada).status == 204
        assert site.publish(make_learnware(tmp_path / "b", "ada/b"), ada).status == 201
        assert [p for p in site.service.dock.verify() if p.severity == "error"] == []


# -- what may not be stored ------------------------------------------------------------------------------------


def bad_files(canary: Path) -> dict[str, tuple[str, bytes]]:
    """File name and content of what no way in may take."""
    pickled = models.payload(canary)
    return {
        "pickle": ("model.bin", pickled),
        "pickle as weights": ("model.safetensors", pickled),
        "pickle as text": ("notes.txt", pickled),
        "object array": ("data.npy", models.object_array(canary)),
        "code": ("modeling.py", b"import os; os.mkdir('x')"),
        "auto_map": ("config.json", b'{"model_type": "bert", "auto_map": {"AutoModel": "m.M"}}'),
        "auto_mapping": ("adapter_config.json", b'{"auto_mapping": {"parent_library": "os"}}'),
        "chat template": ("tokenizer_config.json", b'{"chat_template": "{{ x }}"}'),
        "template file": ("chat_template.jinja", b"{{ x }}"),
        "key twice": ("config.json", b'{"model_type": "bert", "model_type": "gpt2"}'),
        "NaN": ("config.json", b'{"model_type": NaN}'),
        "nested": ("config.json", b"[" * 100_000),
        "header too long": ("model.safetensors", (1 << 40).to_bytes(8, "little") + b"{}"),
        "tensor name": (
            "model.safetensors",
            header({"../../etc/x": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}),
        ),
        "archive": ("model.zip", b"PK\x03\x04"),
        "skops that is none": ("model.skops", b"PK\x05\x06" + bytes(18)),
        "onnx that is none": ("model.onnx", b"\x08\x07\xff\xff"),
    }


def header(entries: dict[str, Any]) -> bytes:
    source = json.dumps(entries).encode()
    return len(source).to_bytes(8, "little") + source


def test_what_could_run_is_refused_by_every_way_in(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with served(tmp_path / "dock") as site:
        ada = site.token("ada")
        site.post(f"{API}/repositories", {"name": "ada/plain"}, token=ada)
        for what, (name, content) in bad_files(canary).items():
            sha256 = site.upload(content, ada)
            commit = {"title": what, "add": {name: sha256}}
            answers = [site.post(f"{API}/repositories/ada/plain/commits", commit, token=ada)]
            folder = make_learnware(tmp_path / what, f"ada/{what.replace(' ', '-')}")
            (folder / name).write_bytes(content)
            answers.append(site.publish_sealed(folder, seal(folder, f"ada/{what.replace(' ', '-')}"), ada))
            answers.append(site.post(f"{API}/identify", content, token=ada))
            for answer in answers:
                assert answer.status in (400, 422), (what, answer)
                assert set(answer.body["error"]) == {"code", "message", "remedy"}
                assert str(tmp_path) not in str(answer.body), "where the service keeps its files is nobody's business"
        for path in ("../x", "/etc/passwd", "a//b", "a/../b", ".git/config", "x" * 600, ""):
            commit = {"title": "x", "add": {path: site.upload(b"hello", ada)}}
            answer = site.post(f"{API}/repositories/ada/plain/commits", commit, token=ada)
            assert (answer.status, answer.body["error"]["code"]) == (422, "package_error"), path
        assert not canary.exists()
        assert site.service.dock.records() == []
        assert [r["name"] for r in site.get(f"{API}/repositories").body["repositories"]] == ["ada/plain"]
        assert site.get(f"{API}/repositories/ada/plain/commits").body["commits"] == []
        assert not list(site.service.uploads.folder.glob("view-*"))


def test_a_plain_model_becomes_a_learnware_when_its_spec_arrives(tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "late", "ada/late")
    with served(tmp_path / "dock") as site:
        ada = site.token("ada")
        site.post(f"{API}/repositories", {"name": "ada/late"}, token=ada)
        names = {p.relative_to(folder).as_posix(): site.upload(p.read_bytes(), ada) for p in folder.rglob("*") if
                 p.is_file()}  # fmt: skip
        first = {p: s for p, s in names.items() if p not in ("learnware.json", "specs/tiny.spec")}
        plain = site.post(f"{API}/repositories/ada/late/commits", {"title": "model", "add": first}, token=ada)
        assert plain.status == 201
        assert (plain.body["repository"]["digest"], "plain model" in plain.body["repository"]["note"]) == (None, True)
        site.service.dock.gc()
        assert site.get(f"{API}/repositories/ada/late/files/main/model.safetensors").status == 200, (
            "collecting keeps it"
        )
        assert site.get(f"{API}/learnwares/ada/late").status == 404
        manifest = {"title": "manifest", "add": {"learnware.json": names["learnware.json"]}}
        half = site.post(f"{API}/repositories/ada/late/commits", manifest, token=ada)
        assert (half.status, half.body["repository"]["digest"]) == (201, None)
        assert "specs/tiny.spec: missing" in half.body["repository"]["note"]
        spec = {"title": "spec", "add": {"specs/tiny.spec": names["specs/tiny.spec"]}}
        whole = site.post(f"{API}/repositories/ada/late/commits", spec, token=ada)
        assert whole.body["repository"]["digest"] == Manifest.from_folder(folder).digest
        assert site.get(f"{API}/learnwares/ada/late").status == 200
        commits = site.get(f"{API}/repositories/ada/late/commits").body["commits"]
        assert [c["title"] for c in commits] == ["spec", "manifest", "model"]
        stale = {"title": "x", "parent": commits[1]["id"], "delete": ["README.md"]}
        assert site.post(f"{API}/repositories/ada/late/commits", stale, token=ada).status == 409
