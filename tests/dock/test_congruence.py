"""One suite for every kind of dock: a folder, PostgreSQL with an object store, and a service at an address.

Each question is asked of a dock in a folder and of one of the kinds, filled alike: the answers must be equal, and the
errors of the same class with the same remedy.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.dock import Dock, LocalDock, Record, identify, open_dock
from learndock.dock.open import open_server_dock
from learndock.dock.remote.dock import RemoteDock
from learndock.errors import LearndockError
from learndock.search import Filters
from learndock.spec import Spec
from tests.support import engines
from tests.support.docking import SPACE, SPACE_ID, blob_path, make_learnware, make_spec
from tests.support.hub_clients import hashes
from tests.support.serving import served

OWNERS = ("ada", "bob", "eve", "joe", "kim")
THREE = {"type": "classification", "labels": ["low", "middle", "high"]}
WEIGHTS = "model.safetensors"


class Pair:
    """A dock of one kind, and the one in a folder that it must be like; ``as_owner`` gives the dock to one owner."""

    def __init__(self, plain: LocalDock, as_owner: Callable[[str], Dock], lose: Callable[[str], None]) -> None:
        self.plain, self.as_owner, self.lose = plain, as_owner, lose
        self.dock = as_owner("ada")

    def add(self, folder: Path, owner: str = "ada") -> None:
        self.plain.add(folder)
        self.as_owner(owner).add(folder)


@contextlib.contextmanager
def in_folder(place: Path, plain: LocalDock) -> Iterator[Pair]:
    dock = open_dock(place / "dock")

    def lose(sha256: str) -> None:
        (dock.folder / blob_path(sha256)).unlink()

    yield Pair(plain, lambda _: dock, lose)


@contextlib.contextmanager
def server_backed(place: Path, plain: LocalDock) -> Iterator[Pair]:
    pytest.importorskip("obstore", reason='a server-backed dock needs "learndock[server]"')
    from learndock.dock.storage.s3 import object_store

    with engines.postgres() as url, engines.seaweed() as s3:
        store = object_store("s3://tests/dock", endpoint=s3.endpoint, key=engines.KEY, secret=engines.SECRET)
        dock = open_server_dock(place / "scratch", url, store)
        yield Pair(plain, lambda _: dock, dock.storage.blobs.delete)


@contextlib.contextmanager
def at_a_service(place: Path, plain: LocalDock) -> Iterator[Pair]:
    with served(place / "served") as site:
        docks = {owner: RemoteDock(site.url, token=site.token(owner)) for owner in OWNERS}
        yield Pair(plain, docks.__getitem__, site.service.storage.blobs.delete)


KINDS = {"folder": in_folder, "server-backed": server_backed, "service": at_a_service}


@pytest.fixture(scope="module", params=KINDS)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Eleven learnwares of five owners, one of them with three classes; one more was removed."""
    place = tmp_path_factory.mktemp("congruence")
    with KINDS[request.param](place, open_dock(place / "plain")) as pair:
        for number in range(10):
            owner = OWNERS[number % len(OWNERS)]
            pair.add(make_learnware(place / f"m{number}", f"{owner}/m{number}"), owner)
        pair.add(make_learnware(place / "three", "ada/three", schema=THREE))
        pair.add(make_learnware(place / "gone", "ada/gone"))
        for dock in (pair.plain, pair.dock):
            dock.remove("ada/gone")
        yield pair


def outcome(dock: Dock, ask: Callable[[Dock], Any]) -> Any:
    """What a dock answers: a value, or the class and the remedy of its error."""
    try:
        return ask(dock)
    except LearndockError as error:
        return type(error), error.remedy


def same(pair: Pair, ask: Callable[[Dock], Any]) -> Any:
    """The answer to a question, which must be that of the folder."""
    expected, found = outcome(pair.plain, ask), outcome(pair.dock, ask)
    assert found == expected
    return found


def failed(pair: Pair, ask: Callable[[Dock], Any]) -> str:
    """The class of the error that both answer with."""
    found = same(pair, ask)
    assert isinstance(found, tuple)
    assert issubclass(found[0], LearndockError)
    return str(found[0].__name__)


def task(seed: int, **changes: Any) -> Spec:
    draw = np.random.default_rng(seed)
    contrasts = draw.normal(size=(6, 24)).astype(np.float32) * np.float32(0.3)
    return make_spec(draw, kind="task", contrasts=contrasts, **changes).canonical()


def test_every_kind_has_every_method_of_the_protocol() -> None:
    for name, wanted in inspect.getmembers(Dock, inspect.isfunction):
        if name.startswith("_") and name != "__len__":
            continue
        for kind in (LocalDock, RemoteDock):
            ours = inspect.signature(getattr(kind, name)).parameters
            theirs = inspect.signature(wanted).parameters
            assert set(theirs) <= set(ours), f"{kind.__name__}.{name}"
            more = [p for n, p in ours.items() if n not in theirs]
            assert all(p.default is not p.empty for p in more), f"{kind.__name__}.{name} needs more"


def test_what_is_there(filled: Pair) -> None:
    records = same(filled, lambda dock: dock.records())
    assert [r.name for r in records] == [*(f"{OWNERS[i % 5]}/m{i}" for i in range(10)), "ada/three"]
    assert same(filled, len) == 11
    summaries = same(filled, lambda dock: dock.summaries())
    assert [(s.id, s.bytes) for s in summaries] == [(r.id, sum(f.size for f in r.manifest.files)) for r in records]
    for text, filters, names in (
        ("MIDDLE  ada", Filters(), ["ada/three"]),
        ("bad m7", Filters(license="mit"), ["eve/m7"]),
        ("m7", Filters(owner="ADA"), []),
        ("", Filters(owner="Bob", task="classification"), ["bob/m1", "bob/m6"]),
    ):
        found = same(filled, operator.methodcaller("summaries", text, filters=filters))
        assert [s.name for s in found] == names
    assert same(filled, lambda dock: dock.spaces()) == {SPACE_ID: ("tiny", 11)}


def test_one_record(filled: Pair) -> None:
    one = same(filled, lambda dock: dock.get_record("bob/m1"))
    assert isinstance(one, Record)
    for which in (one.id, f"bob/m1@{one.digest[:6]}", f"bob/m1@{one.digest[:9].upper()}"):
        assert same(filled, operator.methodcaller("get_record", which)) == one
    for which, error in (
        *(("bob/nothing-like-it", "NotFound"), ("bob/m1@000000", "NotFound"), ("no name", "NotFound")),
        *(("ada/gone", "NotFound"), ("bob/m1@n o", "UsageError"), ("bob/m1@", "UsageError"), ("", "NotFound")),
    ):
        assert failed(filled, operator.methodcaller("get_record", which)) == error, which


def test_a_folder_out(filled: Pair, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "x").touch()
    told: dict[Any, list[tuple[int, int]]] = {}

    def get(dock: Dock) -> Any:
        out = tmp_path / f"out-{type(dock).__name__}-{id(dock)}"
        return hashes(dock.get("eve/m2", out, progress=lambda *done: told.setdefault(dock, []).append(done)))

    assert WEIGHTS in same(filled, get)
    one, other = told.values()
    assert one == other
    assert failed(filled, lambda dock: dock.get("eve/m2", taken)) == "UsageError"
    assert failed(filled, lambda dock: dock.get("eve/none", tmp_path / "none")) == "NotFound"
    assert not (tmp_path / "none").exists()


def test_one_spec(filled: Pair) -> None:
    def parts(dock: Dock) -> Any:
        spec = dock.spec("joe/m3", SPACE_ID)
        return spec.kind, spec.domain.tolist(), spec.behaviour.tolist(), dict(spec.schema), spec.reliability

    assert same(filled, parts)[0] == "model"
    assert failed(filled, lambda dock: dock.spec("joe/m3", "0" * 64)) == "NotFound"
    assert failed(filled, lambda dock: dock.spec("joe/nobody", SPACE_ID)) == "NotFound"


@pytest.mark.parametrize("silent", [False, True])
def test_the_same_ranking(filled: Pair, silent: bool) -> None:
    asked = task(5, p_value=0.6 if silent else 0.01, schema=THREE)
    for options in (
        *({}, {"top": 3}, {"top": 1, "seed": 9}, {"filters": Filters(owner="ADA", license="MIT")}),
        *(
            {"filters": Filters(format="onnx")},
            {"filters": Filters(base="x/y")},
            {"filters": Filters(task="regression")},
        ),
    ):
        found = same(filled, functools.partial(identify, spec=asked, **options))
        assert len(found.matches) == min(options.get("top", 10), found.searched)
    found = filled.dock.identify(asked, top=20)
    assert found == filled.plain.identify(asked, top=20)
    assert found.matches[0].name == "ada/three", "the one that has as many classes"
    assert [m.can_answer for m in found.matches] == [True] + [False] * 10
    assert found.matches[1].missing == ("1 of: low, middle, high",)
    assert (found.matches[0].consensus is None) == (not silent)


def test_where_nothing_fits_the_reason_is_the_same(filled: Pair) -> None:
    reading = {"reading": {"remarks": ["about 80% of the texts are in a language that the helper hardly reads"]}}
    asked = replace(task(8, settings=reading), contrasts=task(9).contrasts)
    found = same(filled, lambda dock: dock.identify(asked))
    assert not found.fits
    assert found.reason == reading["reading"]["remarks"][0]


def test_questions_that_are_refused(filled: Pair) -> None:
    assert failed(filled, lambda dock: dock.identify(make_spec(np.random.default_rng(0)))) == "UsageError"
    assert failed(filled, lambda dock: dock.identify(task(1), top=0)) == "UsageError"
    elsewhere = {**SPACE, "space": "elsewhere"}
    assert failed(filled, lambda dock: dock.identify(task(1, space=elsewhere))) == "SpaceMismatch"


def test_adding_and_removing(filled: Pair, tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "new", "ada/new")
    other = make_learnware(tmp_path / "other", "ada/new", seed=1)
    told: dict[Any, list[tuple[int, int]]] = {}
    added = same(filled, lambda dock: dock.add(folder, progress=lambda *done: told.setdefault(dock, []).append(done)))
    assert isinstance(added, Record)
    assert all(done[-1][0] == done[-1][1] == sum(f.size for f in added.manifest.files) for done in told.values())
    assert same(filled, lambda dock: dock.add(folder)) == added
    _second_version(filled, added, other)
    assert same(filled, lambda dock: dock.remove("ada/new").record.name) == "ada/new"
    assert failed(filled, lambda dock: dock.remove("ada/new")) == "NotFound"
    assert failed(filled, lambda dock: dock.get_record("ada/new")) == "NotFound"
    assert same(filled, len) == 11


def _second_version(pair: Pair, first: Record, other: Path) -> None:
    assert failed(pair, lambda dock: dock.add(other, after="stable")) == "Conflict"
    second = same(pair, lambda dock: dock.add(other, after="v1"))
    assert (second.version, second.latest) == (2, 2)
    assert same(pair, lambda dock: dock.tag("ada/new@v1", "stable")).tags == ("stable",)
    assert failed(pair, lambda dock: dock.tag("ada/new", "v7")) == "UsageError"
    assert failed(pair, lambda dock: dock.untag("ada/new", "old")) == "NotFound"
    assert [r.version for r in same(pair, lambda dock: dock.versions("ada/new"))] == [1, 2]
    for which in ("ada/new@stable", "ada/new@v1", first.id):
        assert same(pair, operator.methodcaller("get_record", which)).digest == first.digest
    assert failed(pair, lambda dock: dock.get_record("ada/new@v3")) == "NotFound"
    left = same(pair, lambda dock: dock.remove("ada/new@v2"))
    assert (left.record.version, [r.version for r in left.remaining], left.remaining[0].latest) == (2, [1], 1)


def test_what_may_not_be_added(filled: Pair, tmp_path: Path) -> None:
    unsafe = make_learnware(tmp_path / "unsafe", "ada/unsafe")
    (unsafe / "modeling.py").write_text("import os\n")
    assert failed(filled, lambda dock: dock.add(unsafe)) == "UnsafeModel"
    (unsafe / "modeling.py").unlink()
    (unsafe / WEIGHTS).unlink()
    assert failed(filled, lambda dock: dock.add(unsafe)) == "PackageError"
    assert failed(filled, lambda dock: dock.add(tmp_path / "nothing")) == "PackageError"


def test_a_lost_file_is_told(filled: Pair, tmp_path: Path) -> None:
    assert same(filled, lambda dock: dock.verify("kim/m4")) == []
    assert failed(filled, lambda dock: dock.verify("kim/none")) == "NotFound"
    record = filled.plain.get_record("kim/m4")
    sha256 = next(f.sha256 for f in record.manifest.files if f.path == WEIGHTS)
    filled.lose(sha256)
    (filled.plain.folder / blob_path(sha256)).unlink()
    problems = same(filled, lambda dock: [(p.severity, p.about) for p in dock.verify("kim/m4")])
    assert problems == [("error", f"kim/m4: {WEIGHTS}")]
    assert failed(filled, lambda dock: dock.get("kim/m4", tmp_path / "out")) == "Corrupt"
    assert not (tmp_path / "out").exists()


def test_what_is_said_beside_the_content(filled: Pair, tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "said", "ada/said", listed=False)
    added = same(filled, lambda dock: dock.add(folder))
    edited = same(filled, lambda dock: dock.edit("ada/said", license="bsd", tags=["short"]))
    assert (edited.id, edited.license, edited.said.tags) == (added.id, "bsd", ("short",))
    assert "license: bsd" in same(filled, lambda dock: dock.card("ada/said"))
    moved = same(filled, lambda dock: dock.move("ada/said", "ada/renamed"))
    assert (moved.name, moved.former) == ("ada/renamed", ("ada/said",))
    assert same(filled, lambda dock: dock.get_record("ada/said")) == moved
    assert failed(filled, lambda dock: dock.move("ada/renamed", "ada/three")) == "Conflict"
    for dock in (filled.plain, filled.dock):
        deprecated = dock.deprecate("ada/said", use="ada/three").deprecated
        assert deprecated is not None
        assert deprecated.use == "ada/three"
        if isinstance(dock, LocalDock):
            dock.rebuild()
        assert [p for p in dock.verify("ada/renamed") if p.severity == "error"] == []
        assert dock.remove("ada/renamed").record.name == "ada/renamed"
    assert same(filled, len) == 11
