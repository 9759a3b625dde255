"""The dock of a service: nothing that comes back is trusted (``test_congruence`` compares its answers).

The journey on the command line runs against a folder and an address in ``test_cli``.
"""

from __future__ import annotations

import gc
import http.client
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import learndock
from learndock.dock import identify
from learndock.dock.remote import transfer
from learndock.dock.remote.ask import redacted
from learndock.dock.remote.dock import RemoteDock
from learndock.errors import (
    Corrupt,
    Forbidden,
    LearndockError,
    NotFound,
    PackageError,
    QuotaExceeded,
    ServiceError,
    Unauthorized,
    Unavailable,
    UsageError,
)
from learndock.files import sha256_bytes
from learndock.search import Filters
from tests.support.docking import SPACE_ID, make_learnware, make_spec
from tests.support.hub_clients import hashes
from tests.support.proxy import Heard, Proxy, Told, proxy
from tests.support.serving import BACKENDS, Site, served_by

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module", params=BACKENDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("remote")
    with served_by(request.param, folder / "dock") as site:
        for name in ("ada/one", "ada/two"):
            made = make_learnware(folder / name, name)
            assert site.publish(made, site.token("ada")).status == 201
        yield site


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts."""
    monkeypatch.setattr(transfer, "PAUSE", 0.001)


def opened(url: str, token: str | None = None) -> RemoteDock:
    return RemoteDock(url, token=token)


# -- the same as a folder ---------------------------------------------------------------------------------


def test_an_address_answers_as_its_folder_does(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEARNDOCK_TOKEN", raising=False)
    there = learndock.open_dock(site.url)
    here = site.service.dock
    assert isinstance(there, RemoteDock)
    assert there.records() == here.records()
    assert len(there) == len(here)
    assert there.spaces() == here.spaces()
    record = here.get_record("ada/two")
    assert there.get_record("ada/two") == there.get_record(f"ada/two@{record.digest[:9].upper()}") == record
    one, other = there.spec("ada/two", SPACE_ID), here.spec("ada/two", SPACE_ID)
    assert (one.behaviour == other.behaviour).all()
    assert hashes(there.get("ada/two", tmp_path / "a")) == hashes(here.get("ada/two", tmp_path / "b"))
    task = make_spec(np.random.default_rng(5), kind="task", contrasts=_contrasts()).canonical()
    for filters in (Filters(), Filters(owner="ADA", license="MIT"), Filters(format="onnx"), Filters(base="x/y")):
        assert identify(there, task, top=1, filters=filters) == identify(here, task, top=1, filters=filters)
    assert identify(there, task, seed=7) == identify(here, task, seed=7)
    assert there.verify("ada/one") == here.verify("ada/one") == here.verify() == []
    monkeypatch.setenv("LEARNDOCK_DOCK", site.url)
    assert learndock.open_dock().records() == here.records()


def _contrasts() -> Any:
    return make_spec(np.random.default_rng(6)).behaviour[None] * np.ones((4, 1), np.float32)


def test_what_is_asked_for_is_checked_before_it_is_asked(site: Site) -> None:
    there = opened(site.url)
    bad = (("ada/one@n/o", UsageError), ("ada/one@no", NotFound), ("no name", NotFound), ("ada/one@000000", NotFound))
    for which, kind in bad:
        with pytest.raises(kind):
            there.get_record(which)
    for url in (
        "ftp://x",
        "http://",
        "http://x:port",
        "http://[::1",
        "http://x:99999",
        "http://a b",
        "http://x/\n",
        "http://ü",
    ):
        with pytest.raises(UsageError, match="is not the address"):
            RemoteDock(url)
    with pytest.raises(UsageError, match="not part of any token"):
        RemoteDock(site.url, token="ldk_\r\nX: y")
    assert RemoteDock(site.url, token=f" {site.token('bob')}\n").records()
    with pytest.raises(Unavailable, match="cannot be reached"):
        RemoteDock("http://127.0.0.1:9").records()


def test_a_list_is_asked_for_without_manifests(site: Site) -> None:
    with proxy(site.url) as between, opened(between.url) as dock:
        assert [s.name for s in dock.summaries("two", filters=Filters(owner="ada"))] == ["ada/two"]
        assert len(dock) == 2
        assert [h.path for h in between.heard] == [
            "/api/v1/learnwares?after=0&limit=1000&owner=ada&text=two",
            "/api/v1/learnwares?limit=1",
        ]


def test_a_dock_leaves_no_socket_open(site: Site) -> None:
    gc.collect()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        dock = opened(site.url)
        dock.spaces()
        port = dock.session._connection.sock.getsockname()[1]
        del dock
        gc.collect()
    # Others of this process may be collected now: only this dock's own socket counts.
    assert [str(w.message) for w in said if str(port) in str(w.message)] == []
    with opened(site.url) as dock:
        dock.spaces()
    assert dock.session._connection.sock is None
    assert dock.spaces(), "a later question opens it again"


def test_more_matches_than_a_service_ranks_are_refused_here(site: Site) -> None:
    task = make_spec(np.random.default_rng(5), kind="task")
    with pytest.raises(UsageError, match="at most 1,000"):
        opened("http://127.0.0.1:9").identify(task, top=1001)
    assert opened(site.url).identify(task, top=1000).searched


# -- adding -----------------------------------------------------------------------------------------------


def test_added_shown_and_removed(site: Site, tmp_path: Path) -> None:
    bob = opened(site.url, site.token("bob"))
    folder = make_learnware(tmp_path / "mine", "bob/mine")
    told: list[tuple[int, int]] = []
    record = bob.add(folder, progress=lambda *t: told.append(t))
    total = sum(f.size for f in record.manifest.files)
    assert told[-1] == (total, total)
    assert bob.get_record("bob/mine") == record == bob.add(folder)
    second = bob.add(make_learnware(tmp_path / "other", "bob/mine", seed=1))
    assert bob.get_record("bob/mine").id == second.id != record.id
    sent = str(sorted(site.service.uploads.folder.rglob("*"))), len(list(site.service.storage.blobs.digests()))
    for user, kind in (("", Unauthorized), ("eve", Forbidden)):
        token = site.token(user) if user else None
        with pytest.raises(kind):
            opened(site.url, token).add(make_learnware(tmp_path / f"{user}-theirs", "bob/theirs"))
    with pytest.raises(Forbidden, match="write"):
        opened(site.url, site.token("bob", "read")).add(make_learnware(tmp_path / "read", "bob/read"))
    after = str(sorted(site.service.uploads.folder.rglob("*"))), len(list(site.service.storage.blobs.digests()))
    assert after == sent, "the owner is checked before any byte is sent"
    # ... here, and by the service for clients that do not ask
    announced = {"sha256": "ab" * 32, "size": 3}
    for name, status in (("eve/x", 404), ("bob/x.git", 422), ("bob", 422), ("bob/x", 201)):
        answer = site.post(f"/api/v1/uploads?name={name}", announced, token=site.token("bob"))
        assert (answer.status, "error" in answer.body) == (status, status != 201), name
    with pytest.raises(PackageError, match=r"cannot end in \.git"):
        bob.add(make_learnware(tmp_path / "git", "bob/x.git"))
    assert bob.remove("bob/mine").record.id == second.id
    with pytest.raises(NotFound):
        bob.get_record("bob/mine")


def test_private_is_for_its_owner(site: Site, tmp_path: Path) -> None:
    bob, nobody = opened(site.url, site.token("bob")), opened(site.url)
    bob.add(make_learnware(tmp_path / "secret", "bob/secret"), private=True)
    assert "bob/secret" in [r.name for r in bob.records()]
    assert "bob/secret" not in [r.name for r in nobody.records()]
    for ask in (nobody.get_record, nobody.verify, lambda w: nobody.get(w, tmp_path / "out")):
        with pytest.raises(NotFound):
            ask("bob/secret")
    task = make_spec(np.random.default_rng(5), kind="task")
    assert identify(bob, task).searched == identify(nobody, task).searched + 1


def test_an_upload_goes_on_where_an_earlier_run_stopped(site: Site, tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "long", "bob/long", numbers=500_000)
    content, token = (folder / WEIGHTS).read_bytes(), site.token("bob")
    begun = site.post("/api/v1/uploads", {"sha256": sha256_bytes(content), "size": len(content)}, token=token).body
    connection = http.client.HTTPConnection("127.0.0.1", site.running.port)
    connection.putrequest("PATCH", f"/api/v1/uploads/{begun['id']}")
    for name, value in (("Authorization", f"Bearer {token}"), ("Upload-Offset", "0"), ("Content-Length", len(content))):
        connection.putheader(name, str(value))
    connection.endheaders()
    connection.send(content[:700_000])
    connection.close()
    with proxy(site.url) as between:
        opened(between.url, token).add(folder)
        sent = [h for h in between.heard if h.method == "PATCH" and h.path.endswith(begun["id"])]
    offsets = [int(dict(h.headers)["Upload-Offset"]) for h in sent]
    assert [o + len(h.body) for o, h in zip(offsets, sent, strict=True)][-1] == len(content)
    assert offsets[-1] == 700_000


def test_an_upload_survives_connections_that_break(
    site: Site, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_learnware(tmp_path / "torn", "bob/torn", numbers=500_000)
    passed, read = [0, 0], transfer._Rest.read

    def breaking(self: Any, size: int = -1, /) -> bytes:
        passed[0] += 1
        if passed[0] % 4 == 0 and passed[1] < 3:
            passed[1] += 1
            raise ConnectionResetError("torn")
        return read(self, size)

    monkeypatch.setattr(transfer._Rest, "read", breaking)
    monkeypatch.setattr(transfer, "BUSY", 99)
    told: list[int] = []
    record = opened(site.url, site.token("bob")).add(folder, progress=lambda done, _: told.append(done))
    assert passed[1] == 3
    assert told[-1] == sum(f.size for f in record.manifest.files)


def test_no_room_is_said_and_nothing_published(site: Site, tmp_path: Path) -> None:
    token = site.token("poor")
    site.service.people.set_quota(site.service.people.principal(site.operator()), "poor", 2_000)
    dock = opened(site.url, token)
    with pytest.raises(QuotaExceeded):
        dock.add(make_learnware(tmp_path / "big", "poor/big"))
    with pytest.raises(NotFound):
        dock.get_record("poor/big")


# -- somebody in the middle -------------------------------------------------------------------------------


def flip(told: Told) -> Told:
    body = bytearray(told.body)
    body[len(body) // 2] ^= 1
    return told.with_body(bytes(body))


def altered(told: Told, change: Callable[[Any], None]) -> Told:
    found = json.loads(told.body)
    change(found)
    return told.with_body(json.dumps(found).encode())


#: What is done to the weights on their way.
TO_WEIGHTS: dict[str, Callable[[Told, Told], Told]] = {
    "flipped": lambda told, _: flip(told),
    "shortened": lambda told, _: told.with_body(told.body[:-7]),
    "empty": lambda told, _: told.with_body(b""),
    "longer": lambda told, _: told.with_body(told.body + b"more"),
    "cut off": lambda told, _: replace(told, cut=len(told.body) // 2 if told.status == 200 else 0),
    "another's": lambda _, other: other,
    "a page": lambda told, _: told.with_body(b"<html>"),
}
#: What is done to the learnware's own answer; ``other`` is that of another learnware.
TO_MANIFEST: dict[str, Callable[[Told, Told], Told]] = {
    "of another": lambda _, other: other,
    "another version": lambda told, _: altered(told, lambda f: f.update(digest="0" * 64)),
    "a file exchanged": lambda told, _: altered(told, lambda f: f["manifest"]["files"][-1].update(sha256="0" * 64)),
    "a path that leads out": lambda told, _: altered(told, lambda f: f["manifest"]["files"][0].update(path="../x")),
    "no manifest": lambda told, _: altered(told, lambda f: f.pop("manifest")),
    "no JSON": lambda told, _: told.with_body(b"<html>"),
    "a number": lambda told, _: told.with_body(b"7"),
}


@pytest.mark.parametrize(
    ("which", "change"),
    [
        *(pytest.param(f"/files/{WEIGHTS}", c, id=f"weights {name}") for name, c in TO_WEIGHTS.items()),
        *(pytest.param("/learnwares/ada/one", c, id=f"manifest {name}") for name, c in TO_MANIFEST.items()),
    ],
)
def test_what_was_changed_on_its_way_is_refused_and_leaves_nothing(
    site: Site, tmp_path: Path, quick: None, which: str, change: Callable[[Told, Told], Told]
) -> None:
    def other(path: str) -> Told:
        found = site.get(path.replace("ada/one", "ada/two").partition("?")[0])
        body = found.body if isinstance(found.body, bytes) else json.dumps(found.body).encode()
        return Told(200, tuple(found.headers.items()), b"").with_body(body)

    def tamper(heard: Heard, told: Told) -> Told:
        return change(told, other(heard.path)) if heard.path.partition("?")[0].endswith(which) else told

    place = tmp_path / "place"
    with proxy(site.url, tamper) as between:
        dock = opened(between.url)
        with pytest.raises((Corrupt, ServiceError)) as caught:
            dock.get("ada/one", place / "out")
        assert "Traceback" not in str(caught.value)
        assert not place.exists() or list(place.iterdir()) == []
        if which.endswith(WEIGHTS) and not isinstance(caught.value, Unavailable):
            assert [p.about for p in dock.verify("ada/one")] == [f"ada/one: {WEIGHTS}"]
        between.change = lambda _, told: told
        assert hashes(dock.get("ada/one", place / "out"))[WEIGHTS]


def test_an_old_answer_is_no_answer_for_a_version(site: Site, tmp_path: Path, quick: None) -> None:
    """Replayed: what was right once, for other versions and other names."""
    kept = site.get("/api/v1/learnwares/ada/one")
    body = json.dumps(kept.body).encode()
    with proxy(site.url, lambda _, told: replace(told, status=200).with_body(body)) as between:
        for which in ("ada/one@" + "0" * 12, "ada/two"):
            with pytest.raises(Corrupt, match="do not trust"):
                opened(between.url).get(which, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_list_is_checked_line_by_line(site: Site) -> None:
    def change(found: Any) -> None:
        found["learnwares"][0]["manifest"]["description"] = "the best of all"

    with proxy(site.url, lambda _, told: altered(told, change)) as between:
        with pytest.raises(Corrupt, match="do not trust"):
            opened(between.url).records()
        between.change = lambda _, told: altered(told, lambda f: f.update(next=0))
        with pytest.raises(ServiceError, match="unexpected response"):
            opened(between.url).records()


def test_strange_matches_are_no_answer(site: Site) -> None:
    task = make_spec(np.random.default_rng(5), kind="task")
    changes: list[Callable[[Any], Any]] = [
        lambda f: f.pop("fits"),
        lambda f: f.update(searched="many"),
        lambda f: f.update(closest=[{"id": "x"}], matches=[]),
    ]
    with proxy(site.url) as between:
        for change in changes:
            between.change = lambda _, told, change=change: altered(told, change)  # type: ignore[misc]
            with pytest.raises(ServiceError):
                identify(opened(between.url), task)


def test_the_spec_goes_out_without_labels(site: Site) -> None:
    schema = {"type": "classification", "labels": ["geheim-a", "geheim-b"], "descriptions": ["geheim", "geheimer"]}
    task = make_spec(np.random.default_rng(5), kind="task", schema=schema, settings={"head": "geheim"}).canonical()
    with proxy(site.url) as between:
        found = identify(opened(between.url), task)
        assert _asked(between)
        assert not [h for h in between.heard if h.holds(b"geheim")]
    allowed = [r.id for r in opened(site.url).records()]
    there = site.service.dock.identify(task, allowed=allowed)
    assert [m.id for m in found.matches] == [m.id for m in there.matches]
    # Rows at other places in memory may differ in the last bit
    assert [m.score for m in found.matches] == pytest.approx([m.score for m in there.matches], abs=1e-6)
    assert (redacted(task).behaviour == task.behaviour).all()


def _asked(between: Proxy) -> list[Heard]:
    return [h for h in between.heard if h.method == "POST" and "/identify" in h.path]


def test_errors_of_the_service_are_ours(site: Site) -> None:
    def failing(_: Heard, told: Told) -> Told:
        return replace(told, status=503).with_body(b'{"error": {"code": "nonsense", "message": "x", "remedy": "y"}}')

    with proxy(site.url, failing) as between, pytest.raises(LearndockError, match="status 503"):
        opened(between.url).get_record("ada/one")
