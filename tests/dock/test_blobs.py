"""The blob store: what goes in comes out, or nothing went in. A second store would run the same tests."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learndock.dock import BlobStore, DiskBlobs
from learndock.errors import Corrupt, NotFound
from tests.support.soak import examples


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    for folder in ("blobs", "staging"):
        (tmp_path / folder).mkdir()
    return DiskBlobs(tmp_path / "blobs", tmp_path / "staging")


def put(store: BlobStore, content: bytes) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    store.put(io.BytesIO(content), sha256=sha256, size=len(content))
    return sha256


def files_below(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(st.binary(max_size=3_000), max_size=5))
def test_what_goes_in_comes_out(store: BlobStore, contents: list[bytes]) -> None:
    for content in contents:
        sha256 = put(store, content)
        assert store.has(sha256)
        with store.open(sha256) as stream:
            assert stream.read() == content
    wanted = {hashlib.sha256(content).hexdigest() for content in contents}
    assert wanted <= set(store.digests())
    assert list(store.digests()) == sorted(store.digests())
    for sha256 in wanted:
        store.delete(sha256)
        assert not store.has(sha256)


def test_put_says_what_is_new_and_keeps_one(store: BlobStore, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"abc").hexdigest()
    assert store.put(io.BytesIO(b"abc"), sha256=sha256, size=3) is True
    assert store.put(io.BytesIO(b"abc"), sha256=sha256, size=3) is False
    assert files_below(tmp_path) == [tmp_path / "blobs" / sha256[:2] / sha256]


@pytest.mark.parametrize(
    ("content", "size", "says"),
    [(b"abd", 3, "SHA-256"), (b"ab", 3, "2 bytes"), (b"abcd", 3, "more bytes"), (b"", 3, "0 bytes")],
)
def test_other_bytes_are_refused_and_nothing_stays(
    store: BlobStore, tmp_path: Path, content: bytes, size: int, says: str
) -> None:
    sha256 = hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(Corrupt, match=says):
        store.put(io.BytesIO(content), sha256=sha256, size=size)
    assert not store.has(sha256)
    assert files_below(tmp_path) == []


def test_an_endless_stream_is_cut_off(store: BlobStore, tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            return b"\0" * size

    stream = Endless()
    with pytest.raises(Corrupt, match="more bytes"):
        store.put(stream, sha256="0" * 64, size=5)  # type: ignore[arg-type]
    assert stream.given <= 2 << 20
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("damage", [b"abX", b"", b"abcd"])
def test_putting_again_mends_a_damaged_blob(store: BlobStore, tmp_path: Path, damage: bytes) -> None:
    sha256 = put(store, b"abc")
    file = tmp_path / "blobs" / sha256[:2] / sha256
    file.chmod(0o644)
    file.write_bytes(damage)
    put(store, b"abc")
    assert file.read_bytes() == b"abc"


@pytest.mark.parametrize("name", ["", "ab", "../../../etc/passwd", "A" * 64, "0" * 63 + "/"])
def test_a_name_is_a_sha256_or_nothing(store: BlobStore, name: str) -> None:
    with pytest.raises(NotFound, match="is not a SHA-256"):
        store.open(name)
    with pytest.raises(NotFound, match="is not a SHA-256"):
        store.put(io.BytesIO(b""), sha256=name, size=0)


def test_what_is_not_there(store: BlobStore) -> None:
    with pytest.raises(NotFound, match="no blob"):
        store.open("0" * 64)
    assert not store.has("0" * 64)
    store.delete("0" * 64)
