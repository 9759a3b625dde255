"""Uploads in Xet's chunks: by the real client, and by one of our own that can be wrong."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest
from benchmarks import fuzz_parsers
from blake3 import blake3
from safetensors.numpy import save_file

from learndock.files import sha256_bytes, sha256_file
from learndock.http.hub import snapshot, xet
from learndock.service import xet_format
from learndock.service.xet_format import HashTree, chunk_hash, text_of
from tests.support.serving import BACKENDS, Answer, Site, served, served_by
from tests.support.xet import END, Pack, contents, grouped, header, packed, plain, shard_of, xorb_of

pytest.importorskip("hf_xet", reason="asks with the hub's client")
MEGABYTE = 1 << 20


@pytest.fixture(scope="module", params=BACKENDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served_by(request.param, tmp_path_factory.mktemp("xet") / "dock") as site:
        yield site


def hf(site: Site, home: Path, token: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the installed ``hf`` with nothing set but the address and the token."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return subprocess.run(
        [str(Path(sys.executable).with_name("hf")), *map(str, arguments)],
        env={**ours, "HF_ENDPOINT": site.url, "HF_TOKEN": token, "HF_HOME": str(home)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def staged(site: Site, user: str) -> list[Path]:
    """The bytes of xorbs that are not in stored files."""
    return sorted(site.service.xet.xorbs.place(site.principal(user)).glob("*.bytes"))


def weights(path: Path, seed: int, *, megabytes: int = 60) -> Path:
    """A file of weights: some that compress well by bytes, some that do not, some all alike."""
    draw = np.random.default_rng(seed)
    count = megabytes * MEGABYTE // 4
    parts = (draw.normal(size=count // 2), draw.integers(0, 3, count // 4), np.zeros(count - count // 2 - count // 4))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: part.astype(np.float32) for name, part in zip("abc", parts, strict=True)}, path)
    return path


def test_hf_upload_above_50_mb_needs_nothing_set(site: Site, tmp_path: Path) -> None:
    token, home = site.token("ada"), tmp_path / "home"
    file = weights(tmp_path / "model" / "model.safetensors", 1)
    done = hf(site, home, token, "upload", "ada/large", file.parent)
    assert done.returncode == 0, done.stderr
    tree = site.get("/api/models/ada/large/tree/main", token=token).body
    assert [e["lfs"]["oid"] for e in tree] == [sha256_file(file)]
    assert not staged(site, "ada"), "the chunks are in the stored file, and nowhere else"
    # A small change: the client sends what is new, and the rest comes from the stored file.
    with file.open("r+b") as stream:
        stream.seek(20 * MEGABYTE)
        stream.write(b"changed")
    before = sum(p.stat().st_size for p in site.service.uploads.folder.rglob("*.index"))
    done = hf(site, home, token, "upload", "ada/large", file.parent)
    assert done.returncode == 0, done.stderr
    after = sum(p.stat().st_size for p in site.service.uploads.folder.rglob("*.index"))
    assert after - before < before / 10
    pulled = hf(site, tmp_path / "other", token, "download", "ada/large", "--local-dir", tmp_path / "pulled")
    assert pulled.returncode == 0, pulled.stderr
    assert sha256_file(tmp_path / "pulled" / file.name) == sha256_file(file)


# -- a client of our own ----------------------------------------------------------------------------------


class Client:
    """Sends xorbs and shards to a repository of ``user``."""

    def __init__(self, site: Site, user: str, repo: str = "model") -> None:
        self.site, self.token = site, site.token(user)
        site.post("/api/repos/create", {"name": repo}, token=self.token)
        found = site.get(f"/api/models/{user}/{repo}/xet-write-token/main", token=self.token)
        assert found.status == 200, found
        self.key = found.body["accessToken"]
        self.path = found.body["casUrl"].removeprefix(site.url)
        assert found.headers["x-xet-cas-url"] == found.body["casUrl"]

    def xorb(self, name: str, source: bytes, *, key: str | None = None) -> Answer:
        return self.site.post(f"{self.path}/v1/xorbs/default/{name}", source, token=key or self.key)

    def has(self, name: str) -> bool:
        return self.site.ask("HEAD", f"{self.path}/v1/xorbs/default/{name}", token=self.key).status == 200

    def shard(self, source: bytes) -> Answer:
        return self.site.post(f"{self.path}/v1/shards", source, token=self.key)

    def events(self, source: bytes) -> list[dict[str, Any]]:
        answer = self.site.post(f"{self.path}/v2/shards", source, token=self.key)
        assert answer.status == 200, answer
        return [json.loads(line) for line in answer.body.splitlines()]


def test_the_hash_tree_is_that_of_the_specification() -> None:
    """Written down once more, as the specification says it: level by level, over the complete list."""

    def slow(chunks: list[tuple[bytes, int]]) -> bytes:
        while len(chunks) > 1:
            above, group = [], []
            for place, (digest, size) in enumerate(chunks):
                group.append((digest, size))
                ends = len(group) > 2 and int.from_bytes(digest[24:], "little") % 4 == 0
                if ends or len(group) == 9 or place == len(chunks) - 1:
                    text = "".join(f"{text_of(d)} : {s}\n" for d, s in group).encode()
                    key = bytes([1, 126, 197, 199, 165, 71, 41, 150, 253, 148, 102, 102, 180, 138, 2, 230, 93, 221, 83])
                    key += bytes([111, 55, 199, 109, 210, 248, 99, 82, 230, 74, 83, 113, 63])
                    above.append((blake3(text, key=key).digest(), sum(s for _, s in group)))
                    group = []
            chunks = above
        return chunks[0][0]

    for count in (*range(1, 40), 1000):
        chunks = [(chunk_hash(struct.pack("<Q", i)), 8 + i) for i in range(count)]
        tree = HashTree()
        for digest, size in chunks:
            tree.add(digest, size)
        assert tree.root() == slow(chunks), count


@pytest.mark.parametrize("pack", [plain, packed, grouped], ids=lambda p: p.__name__)
def test_every_compression_becomes_the_file(site: Site, pack: Pack) -> None:
    client, chunks = Client(site, "ada"), contents(sum(map(ord, pack.__name__)), 1, 2, 3, 131_072, 9_999)
    name, source = xorb_of(chunks, pack)
    assert client.xorb(name, source).body == {"was_inserted": True}
    assert client.xorb(name, source).body == {"was_inserted": False}
    # Older clients send an index after the chunks.
    other = contents(len(source), 70_000)
    second, more = xorb_of(other, pack)
    assert client.xorb(second, more + b"XETBLOB\x01" + bytes(100)).body == {"was_inserted": True}
    whole = chunks[3] + chunks[4] + other[0] + chunks[0] + chunks[3]
    ranges = [(chunks, 3, 5), (other, 0, 1), (chunks, 0, 1), (chunks, 3, 4)]
    shard = shard_of([(sha256_bytes(whole), ranges)])
    assert client.events(shard)[-1] == {"type": "result", "result": 1}
    assert client.shard(shard).body == {"result": 1}
    blob = site.service.holdings.blob(site.principal("ada"), sha256_bytes(whole))
    with site.service.storage.blobs.open(blob.sha256) as stream:
        assert stream.read() == whole
    line = {"key": "lfsFile", "value": {"path": f"{pack.__name__}.txt", "oid": blob.sha256, "size": len(whole)}}
    body = b"\n".join(json.dumps(x).encode() for x in ({"key": "header", "value": {"summary": "x"}}, line))
    done = site.post("/api/models/ada/model/commit/main", body, token=client.token)
    assert done.status == 200, done


def test_chunks_that_were_sent_twice_are_kept_once(site: Site) -> None:
    client, chunks = Client(site, "kim"), contents(14, 5000, 6000, 70_000, 9000)
    twice = [*contents(15, 100), *chunks[1:]]
    for xorb in (chunks, twice):
        assert client.xorb(*xorb_of(xorb)).status == 200
    first, second = b"".join(chunks), twice[0] + chunks[3]
    shard = shard_of([(sha256_bytes(first), [(chunks, 0, 4)]), (sha256_bytes(second), [(twice, 0, 1), (chunks, 3, 4)])])
    assert client.shard(shard).status == 200
    assert not staged(site, "kim")
    # All of the second xorb, now that its bytes are gone.
    whole = b"".join(twice)
    assert client.shard(shard_of([(sha256_bytes(whole), [(twice, 0, 4)])])).status == 200
    with site.service.storage.blobs.open(sha256_bytes(whole)) as stream:
        assert stream.read() == whole


def test_no_xorb_that_is_wrong_is_kept(site: Site) -> None:
    client, chunks = Client(site, "ada"), contents(5, 5000, 70_000)
    name, source = xorb_of(chunks)
    bomb = lz4.frame.compress(bytes(1 << 20))
    small = lz4.frame.compress(b"x" * 99)
    for what, wrong in {
        "empty": b"",
        "cut in a chunk": source[:-1],
        "cut in a header": source + b"\0\0",
        "another byte": source[:-1] + bytes([source[-1] ^ 1]),
        "a chunk less": source[: 8 + 5000],
        "version": header(0, 5, 5, version=1) + b"12345",
        "scheme": header(3, 5, 5) + b"12345",
        "no bytes": header(0, 0, 0),
        "other size": header(0, 5, 6) + b"12345",
        "too long": header(0, 131_073, 131_073) + bytes(131_073),
        "bomb": header(1, len(bomb), 131_072) + bomb,
        "shorter": header(1, len(small), 100) + small,
        "longer": header(1, len(small), 98) + small,
        "two frames": header(1, 2 * len(small), 198) + small + small,
        "half a frame": header(1, len(small) - 9, 99) + small[:-9],
        "no frame": header(2, 9, 99) + b"123456789",
        "index only": b"XETBLOB\x01" + bytes(99),
    }.items():
        answer = client.xorb(name, wrong)
        assert answer.status == 400, (what, answer)
        assert answer.body["code"] == "usage_error", what
    many = b"".join(header(0, 1, 1) + b"x" for _ in range(xet_format.MAX_CHUNKS + 1))
    assert client.xorb(name, many).status == 413
    zeros = lz4.frame.compress(bytes(131_072))
    assert client.xorb(name, (header(1, len(zeros), 131_072) + zeros) * 1025).status == 413
    assert not client.has(name)
    assert not [p for p in staged(site, "ada") if name in p.name]
    assert not list(site.service.xet.xorbs.place(site.principal("ada")).glob("*.part"))
    assert client.xorb(name, source).body == {"was_inserted": True}


def test_no_shard_that_is_wrong_stores_a_file(site: Site) -> None:
    client, chunks = Client(site, "ada"), contents(6, 5000, 70_000)
    name, source = xorb_of(chunks)
    client.xorb(name, source)
    whole = b"".join(chunks)
    sha256 = sha256_bytes(whole)
    good = shard_of([(sha256, [(chunks, 0, 2)])])
    terms = 48 + 48
    for what, wrong in {
        "empty": b"",
        "tag": b"x" + good[1:],
        "version": good[:32] + struct.pack("<Q", 3) + good[40:],
        "cut": good[:-1],
        "cut within the file": good[: terms + 20],
        "more": good + b"x",
        "a count that is too large": good[: terms - 12] + struct.pack("<I", 1 << 31) + good[terms - 8 :],
        "unknown flags": good[: terms - 16] + struct.pack("<I", 7 << 29) + good[terms - 12 :],
        "no SHA-256": good[: terms - 16] + struct.pack("<I", 1 << 31) + good[terms - 12 : -144] + good[-96:],
        "another file's hash": good[:48] + bytes(32) + good[80:],
        "no chunks": good[: terms + 40] + struct.pack("<2I", 1, 1) + good[terms + 48 :],
        "chunks that are not there": good[: terms + 40] + struct.pack("<2I", 0, 3) + good[terms + 48 :],
        "other length": good[: terms + 36] + struct.pack("<I", 74_999) + good[terms + 40 :],
        "other range hash": good[: terms + 48] + bytes(32) + good[terms + 80 :],
        "millions of chunks": good[:-48] + bytes(36) + struct.pack("<3I", 1 << 30, 0, 0) + END,
    }.items():
        answer = client.shard(wrong)
        assert (answer.status, answer.body.get("code")) == (400, "usage_error"), (what, answer)
        with pytest.raises(Exception, match="no such file"):
            site.service.holdings.blob(site.principal("ada"), sha256)
    tiny = shard_of([(sha256, [(contents(16, 1), 0, 1)] * 1001)])
    assert "1001 ranges for 1001 bytes" in client.shard(tiny).body["message"]
    many = shard_of([(sha256, [(chunks, 0, 2)])] * 1001)
    assert client.shard(many).body["code"] == "too_large"
    last = client.events(good[:48] + bytes(32) + good[80:])[-1]
    assert (last["type"], last["retryable"]) == ("error", False)
    assert "upload" in last["message"]
    assert client.shard(good).status == 200
    # Other bytes than announced: nothing is kept, and the client is made to send its chunks again.
    lie = "ab" * 32
    assert client.shard(shard_of([(lie, [(chunks, 0, 1)])])).status == 400
    assert not client.has(name)
    assert Client(site, "ada").path != client.path


def test_nobody_gets_or_learns_of_anothers_chunks(site: Site) -> None:
    ada, bob = Client(site, "ada"), Client(site, "bob")
    chunks = contents(7, 5000, 70_000)
    name, source = xorb_of(chunks)
    assert ada.xorb(name, source).body == {"was_inserted": True}
    assert ada.path != bob.path
    assert ada.has(name)
    assert not bob.has(name)
    whole = b"".join(chunks)
    answer = bob.shard(shard_of([(sha256_bytes(whole), [(chunks, 0, 2)])]))
    assert answer.status == 400
    assert "not here" in answer.body["message"]
    digest = text_of(chunk_hash(chunks[0]))
    for client in (ada, bob):
        assert site.get(f"{client.path}/v1/chunks/default-merkledb/{digest}", token=client.key).status == 404
    assert bob.xorb(name, source).body == {"was_inserted": True}, "the same answer as if nobody had it"


def test_a_token_is_for_one_repository_and_a_short_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(site, "eve", "short")
    name, source = xorb_of(contents(8, 5000))
    head, _, signature = client.key.rpartition(".")
    number, token, expires, repository = head.split(".")
    other = Client(site, "eve", "other").key.split(".")[3]
    for wrong in (
        client.token,
        f"{head}.{'0' * 64}",
        f"{number}.{token}.{int(expires) + 1}.{repository}.{signature}",
        f"{number}.{int(token) + 1}.{expires}.{repository}.{signature}",
        f"{number}.{token}.{expires}.{other}.{signature}",
        f"{client.key}.",
    ):
        assert client.xorb(name, source, key=wrong).status == 401, wrong
    assert site.get("/api/whoami-v2", token=client.key).status == 401, "it opens nothing else"
    read = site.token("eve", "read")
    assert site.get("/api/models/eve/short/xet-write-token/main", token=read).status == 403
    monkeypatch.setattr(xet, "TOKEN_SECONDS", -1)
    assert Client(site, "eve", "short").xorb(name, source).status == 401
    monkeypatch.undo()
    assert client.xorb(name, source).status == 200
    assert site.ask("DELETE", "/api/repos/delete", {"name": "eve/short"}, token=client.token).status == 200
    assert client.xorb(name, source).status == 404
    ended = Client(site, "eve", "third")
    with site.service.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE tokens SET expires = 0 WHERE id = {int(token)}")
    assert ended.xorb(name, source).status == 401


def test_chunks_count_against_the_quota(tmp_path: Path) -> None:
    with served(tmp_path / "dock", quota=200_000) as site:
        client, chunks = Client(site, "ada"), contents(9, 100_000, 50_000)
        name, source = xorb_of(chunks)
        assert client.xorb(name, source).status == 200
        more, larger = xorb_of(contents(10, 60_000))
        answer = client.xorb(more, larger)
        assert answer.status == 303
        assert "quota-is-used-up" in answer.headers["location"]
        assert site.get(answer.headers["location"]).body["code"] == "quota_exceeded"
        whole = b"".join(chunks)
        # Stored, they count once.
        assert client.shard(shard_of([(sha256_bytes(whole), [(chunks, 0, 2)])])).status == 200
        assert client.xorb(*xorb_of(contents(11, 40_000))).status == 200
        twice = shard_of([(sha256_bytes(whole * 2), [(chunks, 0, 2)] * 2)])
        assert client.shard(twice).body["code"] == "quota_exceeded"


def test_chunks_outlive_a_restart_and_expire(tmp_path: Path) -> None:
    chunks = contents(12, 100_000, 50_000)
    name, source = xorb_of(chunks)
    whole = b"".join(chunks)
    with served(tmp_path / "dock") as site:
        client = Client(site, "ada")
        client.xorb(name, source)
        tokens = site._tokens
    with served(tmp_path / "dock") as site:
        site._tokens.update(tokens)
        again = Client(site, "ada")
        assert again.path == client.path
        assert again.shard(shard_of([(sha256_bytes(whole), [(chunks, 0, 2)])])).status == 200
        assert not staged(site, "ada")
        # From the stored file now, as long as it is there.
        part = sha256_bytes(chunks[1])
        assert again.shard(shard_of([(part, [(chunks, 1, 2)])])).status == 200
        old, unused = xorb_of(contents(13, 5000))
        again.xorb(old, unused)
        place = site.service.xet.xorbs.place(site.principal("ada"))
        (place / "left.part").touch()
        for path in (*place.glob("*.index"), place / "left.part"):
            os.utime(path, (1, 1))
        assert site.service.xet.expire() == 2
        assert list(place.iterdir()) == []
        assert Client(site, "ada").path != client.path, "the client must not count on what is gone"


# -- the real client, when something happens --------------------------------------------------------------


def test_what_the_client_believes_is_here_and_is_not_it_sends_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "LARGE", MEGABYTE)
    token, home = site.token("tom"), tmp_path / "home"
    file = weights(tmp_path / "model" / "model.safetensors", 2, megabytes=4)
    assert hf(site, home, token, "upload", "tom/first", file).returncode == 0
    xorbs, tom = site.service.xet.xorbs, site.principal("tom")
    names = {p.stem for p in xorbs.place(tom).glob("*.index")}
    # As after a time in which it was not used.
    xorbs.forget(tom, names)
    done = hf(site, home, token, "upload", "tom/second", file)
    assert done.returncode == 0, done.stderr
    # As after a power cut: the address is the same.
    for path in xorbs.place(tom).glob("*.index"):
        path.unlink()
    assert hf(site, home, token, "upload", "tom/third", file).returncode != 0
    done = hf(site, home, token, "upload", "tom/third", file)
    assert done.returncode == 0, done.stderr
    assert site.get("/api/models/tom/third/tree/main", token=token).body[0]["lfs"]["oid"] == sha256_file(file)


def test_a_killed_upload_goes_on(site: Site, tmp_path: Path) -> None:
    token, home = site.token("max"), tmp_path / "home"
    file = weights(tmp_path / "model" / "model.safetensors", 3, megabytes=130)
    ours = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment = {**ours, "HF_ENDPOINT": site.url, "HF_TOKEN": token, "HF_HOME": str(home)}
    command = [str(Path(sys.executable).with_name("hf")), "upload", "max/killed", str(file)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
        until = time.monotonic() + 60
        while not staged(site, "max") and time.monotonic() < until:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    assert len(staged(site, "max")) >= 1
    done = hf(site, home, token, "upload", "max/killed", file)
    assert done.returncode == 0, done.stderr
    assert site.get("/api/models/max/killed/tree/main", token=token).body[0]["lfs"]["oid"] == sha256_file(file)
    assert not staged(site, "max")


# -- strangers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["xorb", "shard"])
def test_mutants_are_read_or_refused(name: str) -> None:
    parser = fuzz_parsers.xet_parsers()[name]
    found = fuzz_parsers.fuzz(parser, name, 10_000_000, 500, math.inf)
    assert found["wrong"] == 0, found["examples"]
    assert found["refused"] >= 100


def test_lists_of_tiny_chunks_count_too(tmp_path: Path) -> None:
    with served(tmp_path / "dock", quota=200_000) as site:
        client = Client(site, "ada")
        statuses = [client.xorb(*xorb_of([bytes([i, j & 255, j >> 8]) for j in range(2000)])).status for i in range(6)]
        assert statuses[0] == 200
        assert statuses[-1] == 303
        held = sum(p.stat().st_size for p in (site.service.uploads.folder / "xet").rglob("*") if p.is_file())
        assert held < 300_000


def test_a_client_that_is_gone_keeps_no_shard_waiting(site: Site) -> None:
    client = Client(site, "ada", "waiting")
    who = site.principal("ada")
    place = site.service.xet.xorbs.place(who)
    xet._SHARDS._running[who.id] = 1  # another of theirs is being stored
    try:
        with socket.create_connection(("127.0.0.1", site.running.port)) as gone:
            source = shard_of([])
            head = f"POST {client.path}/v2/shards HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.key}\r\n"
            gone.sendall(f"{head}Content-Length: {len(source)}\r\n\r\n".encode() + source)
            assert b"validating" in gone.recv(4096) + gone.recv(4096)
            assert list(place.glob("*.part"))
        deadline = time.monotonic() + 5
        while list(place.glob("*.part")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not list(place.glob("*.part"))
    finally:
        del xet._SHARDS._running[who.id]
