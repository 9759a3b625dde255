"""``POST /api/v1/route`` through a real server: by domain, by spec and by prompts, for what one may see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import learndock
from learndock.dock.remote.dock import RemoteDock
from learndock.errors import Forbidden, SpaceError
from learndock.spec.domain import Domain
from tests.support.docking import SPACE_ID, make_learnware, make_spec
from tests.support.serving import Site, served

PATH = "/api/v1/route"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("route")
    with served(place / "dock") as site:
        for owner in ("ada", "bob"):
            for i in range(3):
                folder = make_learnware(place / f"{owner}{i}", f"{owner}/m{i}")
                assert site.publish(folder, site.token(owner), private=owner == "bob").status == 201
        yield site


def domain_of(site: Site, which: str) -> list[float]:
    spec = site.service.dock.spec(which, SPACE_ID)
    return [float(v) for v in spec.domain]


def test_a_domain_finds_its_learnware_and_only_what_one_may_see(site: Site) -> None:
    asked = {"space": SPACE_ID, "domain": domain_of(site, "ada/m1"), "inputs": 8}
    found = site.post(PATH, asked)
    assert (found.status, found.body["name"], found.body["searched"]) == (200, "ada/m1", 3)
    assert found.body["by"] == "domain"
    assert found.body["fits"] is None, "no one measured this space"
    assert 0 < found.body["seconds"] < 1
    private = {**asked, "domain": domain_of(site, "bob/m2")}
    assert site.post(PATH, private).body["name"] != "bob/m2"
    assert "bob" not in str(site.post(PATH, private).body)
    own = site.post(PATH, private, token=site.token("bob")).body
    assert (own["name"], own["searched"]) == ("bob/m2", 6)
    none = site.post(f"{PATH}?format=peft", asked).body
    assert (none["name"], none["fits"], none["searched"]) == (None, False, 0)


def test_a_private_learnware_that_is_made_public_is_found_at_once(site: Site) -> None:
    asked = {"space": SPACE_ID, "domain": domain_of(site, "bob/m0")}
    assert site.post(PATH, asked).body["name"] != "bob/m0"
    site.ask("PATCH", "/api/v1/repositories/bob/m0", {"private": False}, token=site.token("bob"))
    assert site.post(PATH, asked).body["name"] == "bob/m0"
    site.ask("PATCH", "/api/v1/repositories/bob/m0", {"private": True}, token=site.token("bob"))
    assert site.post(PATH, asked).body["name"] != "bob/m0"


def test_the_library_asks_a_service_as_it_asks_a_folder(site: Site) -> None:
    remote = RemoteDock(site.url, token=site.token("bob"))
    asked = Domain(SPACE_ID, np.asarray(domain_of(site, "bob/m1"), np.float32), 3)
    near = [(n.name, round(n.similarity, 4)) for n in learndock.route(site.service.dock, asked).nearest]
    found = learndock.route(remote, asked)
    assert [(n.name, round(n.similarity, 4)) for n in found.nearest] == near
    assert (found.name, found.inputs) == ("bob/m1", 3)
    model = site.service.dock.spec("ada/m2", SPACE_ID)
    task = make_spec(np.random.default_rng(0), kind="task", domain=model.domain, behaviour=model.behaviour)
    by_spec = learndock.route(remote, task)
    assert (by_spec.name, by_spec.by, by_spec.fits) == ("ada/m2", "domain and behaviour", None)
    assert by_spec == learndock.route(site.service.dock, task.canonical())


def test_versions_and_deprecation_are_told(site: Site, tmp_path: Path) -> None:
    dock = site.service.dock
    asked = Domain(SPACE_ID, np.asarray(domain_of(site, "ada/m0"), np.float32), 3)
    site.publish(make_learnware(tmp_path / "other", "ada/other"), site.token("ada"))
    dock.deprecate("ada/m0", use="ada/other", because="old")
    for found in (learndock.route(RemoteDock(site.url), asked), learndock.route(dock, asked)):
        first = found.nearest[0]
        assert (found.name, first.version, first.latest) == ("ada/m0", 1, 1)
        assert str(first.deprecated) == "deprecated, use ada/other instead: old"
    assert learndock.route(RemoteDock(site.url), asked).to_dict()["nearest"][0]["deprecated"]["use"] == "ada/other"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"prompts": [], "x": 1}', 400),
        (b'{"prompts": ["\\ud800"]}', 400),
        (b'{"prompts": ["a"], "space": "' + b"0" * 64 + b'", "domain": [1]}', 400),
        (b"[" * 60_000, 400),
        (b'{"space": "' + SPACE_ID.encode() + b'", "domain": [1, 2]}', 422),
        (b'{"space": "' + SPACE_ID.encode() + b'", "domain": [1e999, 2]}', 422),
        (b'{"prompts": ["a"]}', 403),
        (b" " * 70_000, 413),
    ],
)
def test_what_is_no_question_is_refused(site: Site, body: bytes, status: int) -> None:
    answer = site.post(PATH, body, headers={"Content-Type": "application/json"})
    assert (answer.status, bool(answer.body["error"]["remedy"])) == (status, True), answer.body


def test_prompts_are_read_only_where_the_operator_allows_it(site: Site, tiny_space: Any, tmp_path: Path) -> None:
    with pytest.raises(Forbidden, match="--route-space"):
        RemoteDock(site.url).session.json("POST", "/route", {"prompts": ["a film"]})
    with pytest.raises(SpaceError, match="nosuch"), served(tmp_path / "none", route_space="nosuch"):
        pass
    dock = learndock.open_dock(tmp_path / "dock")
    texts = {"films": ["the film was good", "a bad film"], "soup": ["the soup was cold", "warm soup"]}
    for name, inputs in texts.items():
        about = learndock.make_domain(inputs, space=str(tiny_space.folder))
        folder = make_learnware(tmp_path / name, f"ada/{name}")
        spec = make_spec(np.random.default_rng(1), space=tiny_space.describe("one-pass"), domain=about.values)
        write_tiny_spec(folder, f"ada/{name}", spec)
        dock.publish(dock.admit(folder), vouched=True)
    with served(tmp_path / "dock", route_space=str(tiny_space.folder)) as allowed:
        for name, inputs in texts.items():
            found = allowed.post(PATH, {"prompts": inputs})
            assert (found.status, found.body["name"]) == (200, f"ada/{name}"), found.body
            asked = learndock.make_domain(inputs, space=str(tiny_space.folder))
            assert learndock.route(RemoteDock(allowed.url), asked).name == f"ada/{name}"


def write_tiny_spec(folder: Path, name: str, spec: Any) -> None:
    from learndock.package.manifest import SpecFile
    from learndock.spec import write_spec
    from tests.support.docking import canonical, seal

    size = int(spec.space["sketch"]["size"])
    values = canonical(np.random.default_rng(len(name)).normal(size=size))
    exact = learndock.Spec(
        **{f: getattr(spec, f) for f in ("kind", "space", "schema", "n")},
        domain=canonical(spec.domain),
        behaviour=values,
    )
    (folder / "specs" / "tiny.spec").unlink()
    write_spec(exact, folder / "specs" / "tiny.spec")
    seal(folder, name, specs=(SpecFile(path="specs/tiny.spec", space="tiny", space_id=exact.space_id),))
