"""Networks of the bench: they learn, tell what tuning changed, and are told apart by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from learndock import Space
from learndock.bench.cache import Cache
from learndock.bench.learners import Features, Tuned
from learndock.bench.pool import Bench, build, logistic
from learndock.bench.size import QUICK
from learndock.bench.tasks import Task, split
from learndock.data import Examples, Schema
from tests.support.tiny import WORDS

pytest.importorskip("sklearn")
pytest.importorskip("torch")
from learndock.bench import networks

SIZE = replace(
    QUICK, shots=8, pool_shots=16, fit=64, spec=24, test=40, cross_test=24, qualities=("good",),
    network_qualities=("good", "corrupted"), network_fit=64, network_epochs=12,
)  # fmt: skip


def task(name: str, word: str) -> Task:
    """Does a text name ``word``? Its labels have names of their own."""
    schema = Schema("classification", ("no", "yes"), (f"nothing of {word}", f"all about {word}"), "accuracy")
    generator = np.random.Generator(np.random.Philox(key=len(word)))
    others = [w for w in WORDS if w != word]
    targets = np.arange(200) % 2
    texts = [" ".join([*generator.choice(others, 5), *[word if t else others[i % 7]] * 3])
             for i, t in enumerate(targets)]  # fmt: skip
    train, test = (Examples(texts[a:b], targets[a:b], schema) for a, b in ((0, 160), (160, 200)))
    return split(name, schema, train, test, SIZE, family=name)


@pytest.fixture(scope="module")
def bench(tiny_space: Space, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    features = Features(tiny_space)
    kinds = {
        "logistic": logistic(features),
        "network": lambda t, quality, bar: networks.train_network(tiny_space, t.schema, t.fit, quality, SIZE, 0, bar),
    }
    tasks = [task("first", WORDS[0]), task("second", WORDS[3])]
    folder = tmp_path_factory.mktemp("networks")
    return build(tiny_space, tasks, SIZE, Cache(folder), kinds, features, lambda *_: None)


def test_a_network_learns_and_a_scrambled_one_does_not(bench: Bench) -> None:
    scores = {e.name: bench.scores[e.task][0, i] for i, e in enumerate(bench.entries)}
    assert scores["first/network/good"] > scores["first/network/corrupted"] + 0.2
    assert scores["second/network/good"] > 0.7


def test_only_networks_tell_what_tuning_changed(bench: Bench, tiny_space: Space) -> None:
    for entry in bench.entries:
        assert set(entry.changed) == ({"activations", "weights"} if entry.kind == "network" else set())
    still = networks.Network(tiny_space, bench.tasks["first"].schema, 0)
    assert isinstance(still, Tuned)
    assert {n: float(np.abs(v).max()) for n, v in still.changed().items()} == {"activations": 0, "weights": 0}


def test_methods_that_compare_changes_choose_a_network(bench: Bench) -> None:
    found = networks.aligned_networks(bench).result
    for name in ("weights", "delta activations"):
        chosen = [c for t in found["tasks"].values() for c in t[name]["chosen"]]
        assert all("/network/" in c for c in chosen)
    alone = found["methods"]["helper tuned whole, no learnware"]
    assert 0.3 < alone["mean_score"] <= 1
    assert alone["top1_own_dataset"] == 0


def test_a_users_own_network_is_trained_once(bench: Bench) -> None:
    first = networks.own_network(bench, "first", 0)
    kept = {p.name: p.stat().st_mtime_ns for p in bench.cache.folder.glob("own-*")}
    assert np.array_equal(networks.own_network(bench, "first", 0)["weights"], first["weights"])
    assert {p.name: p.stat().st_mtime_ns for p in bench.cache.folder.glob("own-*")} == kept


def test_beyond_says_what_users_have_alone(bench: Bench) -> None:
    found = networks.beyond_networks(bench).result["methods"]
    assert {"helper alone", "helper tuned whole, no learnware", "weights"} <= set(found)


def test_a_larger_helper_may_be_one_that_writes(bench: Bench, tiny_causal_space: Space) -> None:
    ask = networks.larger(str(tiny_causal_space.folder))
    found = [ask(bench, "first", 0) for _ in range(2)]
    assert 0 <= found[0] <= 1
    assert found[0] == found[1]
    assert len(list(bench.cache.folder.glob("larger-*"))) == 1
