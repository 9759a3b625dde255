"""Poisoned specs at the dock's door: copies, mirrors, odd lengths and hubs stay out, honest newcomers come in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from learndock.dock import LocalDock, open_dock
from learndock.dock.gate import Newcomer, choose_sentinels
from learndock.dock.storage.migrations import STEPS
from learndock.errors import SuspectSpec, http_status
from learndock.package.manifest import SpecFile
from learndock.spec import Spec, write_spec
from learndock.spec.spec import Array, identity
from tests.support import work
from tests.support.docking import SCHEMA, age, canonical, seal

SPACE = {"space": "wide", "helper": {"width": 48}, "sketch": {"size": 256}, "adapters": {"size": 512}}
SPACE_ID = identity(SPACE)
TOPICS = 14


class World:
    """Topics with a common part, as real domains have, and owners whose models are of one topic each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.draw = np.random.default_rng(7)
        common = canonical(self.draw.normal(size=48))
        self.topics = [canonical(common + 0.9 * self.draw.normal(size=48)) for _ in range(TOPICS)]
        self.tasks = [canonical(self.draw.normal(size=256)) for _ in range(TOPICS)]
        self.made = 0

    def honest(self, topic: int) -> tuple[Array, Array]:
        """Another owner's model of a topic."""
        domain = canonical(self.topics[topic] + 0.2 * self.draw.normal(size=48))
        return domain, canonical(self.tasks[topic] + 0.8 * self.draw.normal(size=256))

    def learnware(self, name: str, domain: Array, behaviour: Array) -> Path:
        """The folder of a learnware with this spec."""
        self.made += 1
        place = self.folder / f"made-{self.made}"
        (place / "specs").mkdir(parents=True)
        (place / "config.json").write_text('{"model_type": "bert", "id2label": {"0": "bad", "1": "good"}}')
        (place / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "WordPiece"}}')
        save_file({"weight": np.full(4, self.made, np.float32)}, place / "model.safetensors")
        spec = Spec(kind="model", space=SPACE, schema=SCHEMA, n=32, domain=domain, behaviour=behaviour)
        write_spec(spec, place / "specs" / "wide.spec")
        seal(place, name, specs=(SpecFile(path="specs/wide.spec", space="wide", space_id=SPACE_ID),))
        return place


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalDock, World]:
    """A dock with two owners' models of every topic; tests add what is refused, or take out what they added."""
    folder = tmp_path_factory.mktemp("world")
    world, dock = World(folder), open_dock(folder / "dock")
    for topic in range(TOPICS):
        for owner in ("ada", "bob"):
            dock.add(world.learnware(f"{owner}{topic}/model", *world.honest(topic)))
    return dock, world


def middle(dock: LocalDock) -> tuple[Array, Array]:
    """The mean of everything that is in the dock."""
    table = dock.vectors(SPACE_ID)
    return canonical(table.domain.mean(0)), canonical(table.behaviour.mean(0))


def first_of(dock: LocalDock, name: str) -> tuple[Array, Array]:
    table = dock.vectors(SPACE_ID)
    place = [i.split("@")[0] for i in table.ids].index(name)
    return canonical(table.domain[place]), canonical(table.behaviour[place])


def refused(dock: LocalDock, folder: Path, *words: str) -> None:
    before, blobs = dock.records(), sorted((dock.folder / "blobs").rglob("*"))
    with pytest.raises(SuspectSpec) as caught:
        dock.add(folder)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert http_status(caught.value) == 422
    assert dock.records() == before
    assert [p for p in sorted((dock.folder / "blobs").rglob("*")) if p.is_file()] == [p for p in blobs if p.is_file()]


# -- honest ones ---------------------------------------------------------------------------------------------


def test_an_honest_newcomer_comes_in(filled: tuple[LocalDock, World]) -> None:
    dock, world = filled
    for topic in range(TOPICS):
        dock.remove(dock.add(world.learnware(f"eve{topic}/model", *world.honest(topic))).id)


def test_an_owner_may_repeat_herself(filled: tuple[LocalDock, World]) -> None:
    dock, world = filled
    dock.remove(dock.add(world.learnware("ada3/second", *first_of(dock, "ada3/model"))).id)


def test_an_empty_dock_takes_the_first_one(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert open_dock(tmp_path / "dock").add(world.learnware("ada/model", *world.honest(0))).sequence == 1


# -- copies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b, draw: b, "behaves as ada5/model (cosine +1.0000)"),
        (lambda b, draw: -b, "mirror image of ada5/model (cosine -1.0000)"),
        (lambda b, draw: canonical(b + 0.03 * draw.normal(size=len(b))), "behaves as ada5/model (cosine +0.99"),
    ],
)
def test_a_copy_of_anothers_is_refused(
    change: Callable[[Array, np.random.Generator], Array], words: str, filled: tuple[LocalDock, World]
) -> None:
    dock, world = filled
    domain, behaviour = first_of(dock, "ada5/model")
    refused(dock, world.learnware("mallory/copy", domain, change(behaviour, world.draw)), words, "--vouch")
    # Under another topic's domain it is the same behaviour still
    refused(dock, world.learnware("mallory/copy", world.topics[0], change(behaviour, world.draw)), words)


def test_who_keeps_the_dock_may_vouch(filled: tuple[LocalDock, World]) -> None:
    dock, world = filled
    folder = world.learnware("mirror/copy", *first_of(dock, "ada6/model"))
    refused(dock, folder)
    added = dock.add(folder, vouched=True)
    assert dock.add(folder) == added  # what stands is not asked again
    assert dock.rebuild() == 2 * TOPICS + 1  # nor is it by a rebuild
    assert dock.get_record("mirror/copy") == added
    dock.remove(added.id)


# -- lengths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1000.0, 1.1, 0.9, 1e-4, 6e-8])
@pytest.mark.parametrize("part", ["domain", "behaviour"])
def test_scaled_and_denormal_specs_are_refused(part: str, factor: float, filled: tuple[LocalDock, World]) -> None:
    dock, world = filled
    domain, behaviour = world.honest(2)
    if part == "domain":
        folder = world.learnware("mallory/long", domain * np.float32(factor), behaviour)
    else:
        folder = world.learnware("mallory/long", domain, behaviour * np.float32(factor))
    refused(dock, folder, part, "root mean square")
    with pytest.raises(SuspectSpec):
        dock.add(folder, vouched=True)


# -- hubs ----------------------------------------------------------------------------------------------------


def test_a_mean_of_everything_is_refused(filled: tuple[LocalDock, World]) -> None:
    dock, world = filled
    refused(dock, world.learnware("mallory/hub", *middle(dock)), "similar to everything", "--vouch")


def test_a_mean_of_some_topics_is_refused(filled: tuple[LocalDock, World]) -> None:
    dock, world = filled
    domain, behaviour = canonical(np.mean(world.topics[:6], 0)), canonical(np.mean(world.tasks[:6], 0))
    refused(dock, world.learnware("mallory/hub", domain, behaviour), "similar to everything")


def test_a_hub_that_came_early_is_found_later(tmp_path: Path) -> None:
    world, dock = World(tmp_path), open_dock(tmp_path / "dock")
    hub = dock.add(
        world.learnware("mallory/hub", canonical(np.mean(world.topics, 0)), canonical(np.mean(world.tasks, 0)))
    )
    assert dock.verify() == []
    for topic in range(TOPICS):
        dock.add(world.learnware(f"ada{topic}/model", *world.honest(topic)))
    (problem,) = dock.verify()
    assert (problem.severity, problem.about) == ("warning", "mallory/hub")
    assert "similar to everything" in problem.message
    # It does not open the door for the next one
    refused(dock, world.learnware("trudy/hub", *middle(dock)), "similar to everything")
    dock.remove(hub.id)
    dock.gc()
    assert dock.verify() == []


def test_one_topic_alone_has_no_hubs(tmp_path: Path) -> None:
    """Where all models are of one kind, the best of them is near to all: that is no crime."""
    world, dock = World(tmp_path), open_dock(tmp_path / "dock")
    for owner in range(10):
        domain, behaviour = world.honest(0)
        dock.add(world.learnware(f"ada{owner}/model", domain, canonical(world.tasks[0] + 0.5 * behaviour)))
    dock.add(world.learnware("eve/best", world.topics[0], world.tasks[0]))


def test_sentinels_are_apart_and_do_not_depend_on_who_came_first(filled: tuple[LocalDock, World]) -> None:
    dock, _ = filled
    table = dock.vectors(SPACE_ID)
    listed = [i.split("@")[0] for i in table.ids]

    class InMemory:
        def outlines(self, space_id: str, length: int) -> tuple[list[str], Array]:
            return listed, table.behaviour[:, :length]

        def parts(self, space_id: str, names: Sequence[str]) -> tuple[Array, Array]:
            places = [listed.index(n) for n in names]
            return table.domain[places], table.behaviour[places]

    found = choose_sentinels(SPACE_ID, listed, InMemory())
    again = choose_sentinels(SPACE_ID, listed[::-1], InMemory())
    assert found is not None
    assert again is not None
    assert found.names == again.names
    assert 8 <= len(found.names) <= TOPICS + 2
    alike = (found.domains @ found.domains.T + found.behaviours @ found.behaviours.T) / 2
    assert (alike[~np.eye(len(alike), dtype=bool)] <= 0.55).all()


def test_what_an_owner_uploaded_is_not_asked_about_that_owners_next_one(tmp_path: Path) -> None:
    world, dock = World(tmp_path), open_dock(tmp_path / "dock")
    for topic in range(TOPICS):
        dock.add(world.learnware(f"ada/model{topic}", *world.honest(topic)))
    hub = canonical(np.mean(world.topics, 0)), canonical(np.mean(world.tasks, 0))
    dock.add(world.learnware("ada/all", *hub))
    assert [p for p in dock.verify() if p.severity == "warning"] == []
    refused(dock, world.learnware("eve/all", *hub), "ada/all")


def test_a_domain_in_the_middle_is_enough(filled: tuple[LocalDock, World]) -> None:
    """It decides for users whose few examples say nothing."""
    dock, world = filled
    domain, _ = middle(dock)
    behaviour = canonical(world.draw.normal(size=256))
    refused(dock, world.learnware("mallory/hub", domain, behaviour), "in the domain alone")


# -- beside the database -------------------------------------------------------------------------------------


def test_a_dock_of_an_older_learndock_gets_its_outlines(filled: tuple[LocalDock, World]) -> None:
    dock, world = filled
    age(dock.folder, steps=1)
    again = open_dock(dock.folder)
    refused(again, world.learnware("mallory/hub", *middle(dock)), "similar to everything")
    database = sqlite3.connect(dock.folder / "records.sqlite")
    assert database.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
    plan = database.execute(
        "EXPLAIN QUERY PLAN SELECT s.name, s.number, n.latest, substr(s.behaviour, 1, 256) FROM specs s "
        "JOIN names n ON n.name = s.name WHERE s.space_id = 'x' ORDER BY s.name, s.number"
    ).fetchall()
    database.close()
    assert "INDEX specs_outlines" in str(plan)
    assert "TEMP B-TREE" not in str(plan)


def test_the_gate_is_little_work(filled: tuple[LocalDock, World]) -> None:
    from learndock.dock.gate import check_newcomer

    dock, world = filled
    domain, behaviour = world.honest(4)
    with dock.storage.read() as records:
        newcomer = Newcomer("eve/new", SPACE_ID, domain, behaviour)
        seconds = work.spent(lambda: check_newcomer(newcomer, records))
    assert seconds < 5 * work.yardstick()
