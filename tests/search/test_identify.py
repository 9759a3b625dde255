"""Identify: the ranking is what a loop over the dock gives, and chance is not taken for a find."""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import learndock
from learndock.dock import LocalDock, identify, open_dock
from learndock.errors import SpaceMismatch, UsageError
from learndock.package.manifest import SpecFile
from learndock.search import SpecTable, p_values
from learndock.search.p_values import interval_halfwidth, match_p_values
from learndock.spec import Spec, read_spec, write_spec
from learndock.spec.statistics import contrasts
from tests.support.docking import MEMORY, make_learnware, seal

WIDTH, SIZE = 8, 1024
SPACE = {"name": "made-up", "recipe": "one-pass", "helper": {"width": WIDTH}, "sketch": {"size": SIZE},
         "adapters": {"size": 4096}}  # fmt: skip
SCHEMA = {"type": "classification", "labels": ["bad", "good"]}


def scaled(rows: np.ndarray) -> np.ndarray:
    unit: np.ndarray = rows / np.sqrt((rows**2).mean())
    return unit.astype(np.float32)


def model(draw: np.random.Generator, behaviour: np.ndarray | None = None, space: dict[str, Any] = SPACE) -> Spec:
    own = draw.normal(size=SIZE) if behaviour is None else behaviour
    worth = float(np.float32(draw.uniform(0.5, 1.0)))
    return Spec("model", space, SCHEMA, 100, scaled(draw.normal(size=WIDTH)), scaled(own), reliability=worth)


def task(seed: int, towards: np.ndarray | None = None, *, strength: float = 0.0, n: int = 32) -> Spec:
    """A task of ``n`` examples in two classes, whose behaviour is ``strength`` times ``towards`` and chance.

    Made as one pass makes it: sixteen groups, in which each label is there alike, of gradients with a spectrum.
    """
    draw = np.random.default_rng(seed)
    spectrum = 1 / np.sqrt(1 + np.arange(SIZE) / 30)
    rows = draw.normal(size=(n, SIZE)) * spectrum[draw.permutation(SIZE)]
    labels = np.arange(n) % 2 * 2 - 1
    if towards is not None:
        rows += strength * labels[:, None] * math.sqrt(SIZE) * towards / np.linalg.norm(towards)
    groups = (labels[:, None] * rows).reshape(16, -1, SIZE).mean(1).astype(np.float32)
    behaviour = groups.mean(0)
    unit = np.float32(np.sqrt((behaviour**2).mean()))
    kept = contrasts(groups, seed)
    assert kept is not None
    return Spec(
        "task", SPACE, SCHEMA, n, scaled(draw.normal(size=WIDTH)), behaviour / unit,
        contrasts=kept / (unit * np.float32(4)),
    ).canonical()  # fmt: skip


def put(dock: LocalDock, place: Path, name: str, spec: Spec) -> str:
    folder = make_learnware(place, name, numbers=4)
    (folder / "specs" / "tiny.spec").unlink()
    write_spec(spec, folder / "specs" / "made-up.spec")
    seal(folder, name, specs=(SpecFile(path="specs/made-up.spec", space="made-up", space_id=spec.space_id),))
    return dock.add(folder).id


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def stock(place: Path) -> dict[str, Spec]:
    """The learnwares of the dock below, by id."""
    draw = np.random.default_rng(0)
    dock = open_dock(place / "dock")
    made = [model(draw).canonical() for _ in range(12)]
    return {put(dock, place / f"m{i}", f"lab/m{i}", spec): spec for i, spec in enumerate(made)}


@pytest.fixture(scope="module")
def dock(place: Path, stock: dict[str, Spec]) -> LocalDock:
    return open_dock(place / "dock")


def naive(stock: dict[str, Spec], asked: Spec) -> list[tuple[str, float, float, float]]:
    """The ranking by its definition: the mean of the domain's cosine and the trusted part of the behaviour's."""
    found = []
    for name, spec in stock.items():
        domain, behaviour = (
            float(np.dot(a, b) / math.sqrt(np.dot(a, a) * np.dot(b, b)))
            for a, b in ((asked.domain, spec.domain), (asked.behaviour, spec.behaviour))
        )
        found.append((name, (domain + min(spec.reliability / 0.6, 1) * behaviour) / 2, domain, behaviour))
    return sorted(found, key=lambda row: -row[1])


def test_without_evidence_the_domain_and_the_others_decide(dock: LocalDock, stock: dict[str, Spec]) -> None:
    asked = replace(task(77), p_value=0.6)
    found = identify(dock, asked, top=5)
    assert all(m.consensus is not None for m in found.matches)
    # All are of one owner, and one voice is no crowd
    for m in found.matches:
        expected = (12 * m.domain + m.behaviour) / 13
        assert m.ranked_by == pytest.approx(expected, abs=1e-6)
    assert [m.ranked_by for m in found.matches] == sorted((m.ranked_by for m in found.matches), reverse=True)
    nearest = max(stock, key=lambda n: float(stock[n].unit_domain @ asked.unit_domain))
    assert found.matches[0].domain >= float(stock[nearest].unit_domain @ asked.unit_domain) - 0.25
    assert all(m.consensus is None for m in identify(dock, replace(asked, p_value=0.01), top=5).matches)


# --- ranking -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_ranking_is_that_of_a_loop(dock: LocalDock, stock: dict[str, Spec], seed: int) -> None:
    asked = task(seed)
    found = identify(dock, asked, top=100)
    expected = naive(stock, asked)
    assert found.searched == 12
    assert [m.id for m in found.matches] == [row[0] for row in expected]
    for match, (name, *numbers) in zip(found.matches, expected, strict=True):
        assert match.name == name.split("@")[0]
        assert [match.ranked_by, match.domain, match.behaviour] == pytest.approx(numbers, abs=1e-5)


def test_top_and_allowed(dock: LocalDock, stock: dict[str, Spec]) -> None:
    asked = task(4)
    everything = identify(dock, asked, top=100)
    first = identify(dock, asked, top=3)
    assert [m.id for m in first.matches] == [m.id for m in everything.matches[:3]]
    assert first.searched == 12
    some = set(list(stock)[3:7])
    limited = dock.identify(asked, allowed=some)
    assert [m.id for m in limited.matches] == [m.id for m in everything.matches if m.id in some]
    assert limited.searched == 4
    strange = dock.identify(asked, allowed=["lab/unknown@" + "0" * 64])
    assert (strange.matches, strange.searched, strange.fits) == ((), 0, False)
    assert dock.identify(asked, allowed=[]).matches == ()
    for top in (0, -1):
        with pytest.raises(UsageError, match=f"top is {top}; ask for at least 1"):
            identify(dock, asked, top=top)


def test_an_empty_dock(tmp_path: Path) -> None:
    found = identify(open_dock(tmp_path / "dock"), task(0))
    assert (found.fits, found.matches, found.p_value_any, found.searched) == (False, (), None, 0)
    assert found.to_dict() == {
        "fits": False,
        "p_value_any": None,
        "searched": 0,
        "reason": None,
        "matches": [],
        "closest": [],
    }


def test_a_spec_of_another_space(dock: LocalDock) -> None:
    other = replace(task(0), space={**SPACE, "name": "elsewhere", "recipe": "paper"})
    with pytest.raises(SpaceMismatch) as caught:
        identify(dock, other)
    for part in ("lab/m0", "name (elsewhere / made-up)", "recipe (paper / one-pass)", "with the dock's space"):
        assert part in str(caught.value)


def test_a_models_spec_is_no_question(dock: LocalDock, stock: dict[str, Spec]) -> None:
    with pytest.raises(UsageError, match="identify takes a task spec, and this one is of a model"):
        identify(dock, next(iter(stock.values())))


def test_the_same_question_has_the_same_answer(dock: LocalDock, tmp_path: Path) -> None:
    asked = task(5)
    write_spec(asked, tmp_path / "a.spec")
    assert identify(dock, asked) == identify(dock, read_spec(tmp_path / "a.spec"))


def test_a_removed_learnware_is_not_found(place: Path, stock: dict[str, Spec]) -> None:
    shutil.copytree(place / "dock", place / "other")
    dock = open_dock(place / "other")
    asked = task(6)
    best = identify(dock, asked).matches[0].id
    dock.remove(best.split("@")[0])
    assert best not in [m.id for m in identify(dock, asked, top=100).matches]


def test_the_walk_is_short(dock: LocalDock) -> None:
    """From the dock's method to the innermost product: no more than eight calls deep."""
    depth, deepest = 0, 0
    package = str(Path(learndock.__file__).parent)  # a clone may lie in a folder of that name, with its libraries

    def watch(frame: FrameType, event: str, _: object) -> None:
        nonlocal depth, deepest
        if frame.f_code.co_filename.startswith(package):
            depth += {"call": 1, "return": -1}.get(event, 0)
            deepest = max(deepest, depth)

    asked = replace(task(0), p_value=0.6)
    sys.setprofile(watch)
    try:
        dock.identify(asked)
    finally:
        sys.setprofile(None)
    assert 3 < deepest <= 8


# --- how sure ------------------------------------------------------------------------------------------------


def test_a_real_find(dock: LocalDock, stock: dict[str, Spec]) -> None:
    wanted, spec = list(stock.items())[7]
    asked = task(1, spec.behaviour, strength=0.5)
    found = identify(dock, asked)
    assert found.fits
    assert found.p_value_any is not None
    assert found.p_value_any <= 0.01
    best = max(found.matches, key=lambda m: m.behaviour)
    assert best.id == wanted
    assert best.p_value is not None
    assert best.p_value < 0.001
    assert best.interval is not None
    assert best.interval[0] < best.score < best.interval[1]
    told = json.loads(json.dumps(found.to_dict()))
    assert told["fits"] is True
    assert told["closest"] == []
    assert set(told["matches"][0]) == {
        *("id", "name", "score", "domain", "behaviour", "reliability", "consensus", "interval", "p_value"),
        *("ranked_by", "task_type", "classes", "labels", "can_answer", "missing", "version", "latest", "deprecated"),
    }


def test_where_nothing_fits_the_closest_are_not_matches(dock: LocalDock) -> None:
    """Twenty tasks whose labels mean nothing: about one of them looks as if something fits."""
    found = [identify(dock, task(seed)) for seed in range(20)]
    assert sum(f.fits for f in found) <= 4
    for answer in found:
        assert answer.p_value_any is not None
        assert answer.fits == (answer.p_value_any <= 0.05)
        shown = json.loads(json.dumps(answer.to_dict()))
        assert (len(shown["matches"]), len(shown["closest"])) == ((10, 0) if answer.fits else (0, 10))


def test_without_resampling_nothing_is_claimed_about_certainty(dock: LocalDock) -> None:
    found = identify(dock, replace(task(0), contrasts=None))
    assert found.p_value_any is None
    assert all(m.interval is None and m.p_value is None for m in found.matches)


def unit_rows(draw: np.random.Generator, rows: int, width: int) -> np.ndarray:
    found = draw.normal(size=(rows, width)).astype(np.float32)
    unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def p_any(asked: Spec, domains: np.ndarray, behaviours: np.ndarray, seed: int = 0) -> float:
    ids = [f"lab/m{i}@{i:064x}" for i in range(len(domains))]
    found = SpecTable(ids, domains, behaviours, np.ones(len(domains))).identify(asked, seed=seed).p_value_any
    assert found is not None
    return found


@pytest.mark.parametrize("learnwares", [1, 20, 300])
def test_false_alarms_are_as_rare_as_promised(learnwares: int) -> None:
    """Labels that mean nothing, 200 tasks: chance below 5% in about 5% of them, however large the dock."""
    draw = np.random.default_rng(9)
    domains, behaviours = unit_rows(draw, learnwares, WIDTH), unit_rows(draw, learnwares, SIZE)
    alarms = []
    for seed in range(200):
        chance = p_any(task(1000 + seed), domains, behaviours, seed)
        alarms.append(chance <= 0.05)
    assert np.mean(alarms) <= 0.12


def test_p_values_of_one_learnware_are_uniform_under_chance() -> None:
    draw = np.random.default_rng(10)
    behaviours = unit_rows(draw, 40, SIZE)
    found = []
    for seed in range(60):
        asked = task(2000 + seed)
        evidence = match_p_values(asked, behaviours, behaviours @ asked.unit_behaviour)
        assert evidence is not None
        found.append(evidence)
    values = np.concatenate(found)
    # One bit a number makes deviations look larger than they are: rather too careful than too sure
    assert 0.02 < (values <= 0.1).mean() < 0.15
    assert 0.42 < (values <= 0.5).mean() < 0.58


def test_what_is_there_is_found() -> None:
    draw = np.random.default_rng(11)
    domains, behaviours = unit_rows(draw, 100, WIDTH), unit_rows(draw, 100, SIZE)
    found = []
    for seed in range(40):
        asked = task(3000 + seed, behaviours[seed], strength=0.5)
        cosines = behaviours @ asked.unit_behaviour
        chance = p_any(asked, domains, behaviours, seed)
        found.append(chance <= 0.05 and cosines.argmax() == seed)
    assert np.mean(found) >= 0.9


def test_a_large_family_is_sampled_with_the_best_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p_values, "FAMILY", 50)
    draw = np.random.default_rng(12)
    domains, behaviours = unit_rows(draw, 400, WIDTH), unit_rows(draw, 400, SIZE)
    asked = task(4000, behaviours[399], strength=0.6)
    assert p_any(asked, np.concatenate([domains[:399], asked.unit_domain[None]]), behaviours) <= 0.01


@pytest.mark.parametrize("strength", [0.15, 0.5])
def test_intervals_cover_the_mean_over_other_examples(strength: float) -> None:
    """90% intervals of the behaviour cosine, each from 32 examples, against the mean cosine of 120 such samples."""
    from learndock.spec.statistics import critical

    draw = np.random.default_rng(13)
    towards = draw.normal(size=SIZE).astype(np.float32)
    target = (towards / np.linalg.norm(towards))[None]
    estimates, halves = [], []
    for seed in range(120):
        asked = task(5000 + seed, towards, strength=strength)
        cosine = target @ asked.unit_behaviour
        half = interval_halfwidth(asked, target, cosine, np.ones(1))
        assert half is not None
        estimates.append(float(cosine[0]))
        halves.append(float(half[0]))
    covered = np.mean(np.abs(np.array(estimates) - np.mean(estimates)) <= halves)
    assert 0.8 <= covered <= 0.98
    # Widths against the spread of the estimates
    assert np.median(halves) / critical(0.05, 12) == pytest.approx(np.std(estimates), rel=0.35)
