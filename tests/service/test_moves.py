"""Moves that fail, are killed or meet another request: what is private stays private, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from learndock.dock.remote.dock import RemoteDock
from learndock.dock.storage import names
from learndock.errors import LearndockError, NotFound, QuotaExceeded, Unavailable
from learndock.service.upkeep import Upkeep
from tests.support.docking import make_learnware
from tests.support.serving import BACKENDS, Site, served_by

API = "/api/v1"
OLD, NEW = "ada/good", "ada/moved"


@pytest.fixture(params=BACKENDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A service with one private learnware, ``OLD``."""
    with served_by(request.param, tmp_path / "dock") as site:
        RemoteDock(site.url, token=site.token("ada")).add(make_learnware(tmp_path / "good", OLD, seed=1), private=True)
        yield site


def unseen(site: Site) -> None:
    assert RemoteDock(site.url).records() == []
    for name in (OLD, NEW):
        for path in (f"{API}/learnwares/{name}", f"{API}/repositories/{name}", f"/api/models/{name}"):
            assert site.get(path).status == 404, path


def there(site: Site, name: str) -> None:
    """The learnware and its repository have this name, once, and only their owner sees them."""
    unseen(site)
    dock = RemoteDock(site.url, token=site.token("ada"))
    assert [r.name for r in dock.records()] == [name]
    repository = site.get(f"{API}/repositories/{name}", token=site.token("ada")).body
    assert (repository["name"], repository["private"]) == (name, True)
    assert Upkeep(site.service).reconcile() == 0


def instead(monkeypatch: pytest.MonkeyPatch, do: Callable[..., Any]) -> pytest.MonkeyPatch:
    monkeypatch.setattr(names, "move", do)
    return monkeypatch


def killed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what a process leaves that ends after the repository was renamed."""

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(site.service.moves, "_follow", end)
        patch.setattr(site.service.moves, "_back", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            site.service.moves.move(site.principal("ada"), OLD, NEW)


def fails(*_: Any, **__: Any) -> None:
    raise Unavailable("the store does not answer", remedy="try again")


def test_upkeep_deletes_nothing_while_the_store_does_not_answer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(site, monkeypatch)
    with monkeypatch.context() as patch:
        instead(patch, fails)
        Upkeep(site.service).reconcile()
        unseen(site)
    Upkeep(site.service).reconcile()
    there(site, NEW)


def test_a_move_whose_answer_was_lost(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dock moved it, and the service does not know."""
    true = names.move

    def lost(*args: Any, **options: Any) -> None:
        true(*args, **options)
        fails()

    with monkeypatch.context() as patch:
        instead(patch, lost)
        with pytest.raises(LearndockError):
            site.service.moves.move(site.principal("ada"), OLD, NEW)
        unseen(site)
    Upkeep(site.service).reconcile()
    there(site, NEW)


def test_a_move_that_the_dock_refuses(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        instead(patch, fails)
        with pytest.raises(Unavailable):
            site.service.moves.move(site.principal("ada"), OLD, NEW)
        unseen(site)
    there(site, OLD)
    assert RemoteDock(site.url, token=site.token("ada")).move(OLD, NEW).name == NEW
    there(site, NEW)


def test_upkeep_of_another_process_beside_a_move(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repository is renamed after upkeep has looked for moves to finish, and before it looks at repositories."""
    upkeep = Upkeep(site.service)
    true = site.service.moves.finish

    def then_renamed() -> int:
        found = true()
        with monkeypatch.context() as patch:
            killed(site, patch)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(site.service.moves, "finish", then_renamed)
        upkeep.reconcile()
    unseen(site)
    upkeep.reconcile()
    there(site, NEW)


@pytest.mark.parametrize("name", [OLD, NEW])
def test_what_is_deleted_before_its_move_is_finished(site: Site, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(site, monkeypatch)
    site.service.delete(site.principal("ada"), name)
    unseen(site)
    assert RemoteDock(site.url, token=site.token("ada")).records() == []
    with pytest.raises(NotFound):
        site.service.dock.get_record(OLD)


def test_the_next_version_before_a_move_is_finished(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(site, monkeypatch)
    dock = RemoteDock(site.url, token=site.token("ada"))
    dock.add(make_learnware(tmp_path / "next", NEW, seed=2))
    Upkeep(site.service).reconcile()
    there(site, NEW)
    assert [r.version for r in dock.versions(NEW)] == [1, 2]


def test_moving_again_finishes_a_move(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(site, monkeypatch)
    assert RemoteDock(site.url, token=site.token("ada")).move(OLD, NEW).name == NEW
    there(site, NEW)


def test_a_former_name_that_led_here_still_does(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A move back to a former name fails: the former name leads on as it did."""
    dock = RemoteDock(site.url, token=site.token("ada"))
    dock.move(OLD, NEW)
    with monkeypatch.context() as patch:
        instead(patch, fails)
        with pytest.raises(Unavailable):
            site.service.moves.move(site.principal("ada"), NEW, OLD)
    there(site, NEW)
    assert site.get(f"{API}/repositories/{OLD}", token=site.token("ada")).body["name"] == NEW


def test_to_an_organisation_and_its_quota(site: Site) -> None:
    people, operator, ada = site.service.people, site.operator(), site.token("ada")
    admin = people.principal(operator)
    people.add_organisation(site.principal("ada", "admin"), "lab")
    people.add_organisation(site.principal("bob", "admin"), "others")
    dock = RemoteDock(site.url, token=ada)
    with pytest.raises(NotFound):
        dock.move(OLD, "others/good")
    people.set_quota(admin, "lab", 10)
    with pytest.raises(QuotaExceeded):
        dock.move(OLD, "lab/good")
    there(site, OLD)
    people.set_quota(admin, "lab", None)
    assert dock.move(OLD, "lab/good").name == "lab/good"
    assert site.get(f"{API}/repositories/{OLD}", token=ada).body["name"] == "lab/good"
    assert site.get(f"{API}/learnwares/{OLD}", token=site.token("bob")).status == 404
    unseen(site)


def test_a_push_before_a_move_is_finished(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(site, monkeypatch)
    token = site.token("ada")
    folder = make_learnware(tmp_path / "next", NEW, seed=2)
    add = {str(p.relative_to(folder)): site.upload(p.read_bytes(), token) for p in folder.rglob("*") if p.is_file()}
    pushed = site.post(f"{API}/repositories/{OLD}/commits", {"title": "x", "add": add}, token=token)
    assert pushed.status == 201
    there(site, NEW)
    assert [r.version for r in RemoteDock(site.url, token=token).versions(NEW)] == [1, 2]
