"""Specs kept ready in memory answer as the library's ``identify`` does, whatever was added and removed before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learndock.dock import SpecTable
from learndock.search import identify
from learndock.search.prepared import Prepared
from tests.support.docking import SPACE_ID, make_spec
from tests.support.soak import examples

draw = np.random.default_rng(7)
POOL = SpecTable(
    tuple(f"{'abc'[i % 3]}/m{i}@{i:064x}" for i in range(60)),
    draw.normal(size=(60, 8)).astype(np.float32),
    draw.normal(size=(60, 24)).astype(np.float32),
    draw.uniform(size=60),
)


def task(seed: int, *, silent: bool = False) -> Any:
    generator = np.random.default_rng(seed)
    spec = make_spec(generator, kind="task", p_value=0.6 if silent else 0.01)
    rows = generator.normal(size=(5, 24)).astype(np.float32) * 0.3
    return replace(spec, contrasts=rows)


def part(rows: list[int]) -> SpecTable:
    return SpecTable(tuple(POOL.ids[r] for r in rows), POOL.domain[rows], POOL.behaviour[rows], POOL.reliability[rows])


@dataclass
class Shelf:
    """What ``identify`` asks of a dock."""

    table: SpecTable
    url: None = None

    def vectors(self, space_id: str) -> SpecTable:
        assert space_id == SPACE_ID
        return self.table


@settings(max_examples=examples(40), deadline=None)
@given(
    steps=st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 59), min_size=1, max_size=30)), max_size=6),
    seed=st.integers(0, 50),
    silent=st.booleans(),
    hidden=st.sets(st.integers(0, 59), max_size=40),
)
def test_it_answers_as_the_library_does(
    steps: list[tuple[bool, list[int]]], seed: int, silent: bool, hidden: set[int]
) -> None:
    there, prepared = [0, 1], Prepared(*vars(part([0, 1])).values())
    for add, rows in steps:
        if add:
            new = [r for r in dict.fromkeys(rows) if r not in there]
            if new:
                prepared = prepared.added(*vars(part(new)).values())
                there += new
        else:
            prepared = prepared.without([POOL.ids[r] for r in rows])
            there = [r for r in there if r not in rows]
    assert sorted(prepared.rows) == sorted(POOL.ids[r] for r in there)
    allowed = [POOL.ids[r] for r in there if r not in hidden]
    asked = task(seed, silent=silent)
    places = np.array(sorted(prepared.rows[name] for name in allowed), dtype=np.intp)
    found = prepared.identify(asked, places, top=7)
    if not there:
        assert found.searched == 0
        return
    wanted = identify(Shelf(part(there)), asked, top=7, allowed=allowed)
    assert [m.id for m in found.matches] == [m.id for m in wanted.matches]
    assert (found.searched, found.fits if allowed else None) == (wanted.searched, wanted.fits if allowed else None)
    if allowed:
        assert found.p_value_any == pytest.approx(wanted.p_value_any, abs=0.002)
    for ours, theirs in zip(found.matches, wanted.matches, strict=True):
        for field in ("score", "domain", "behaviour", "reliability", "p_value"):
            assert getattr(ours, field) == pytest.approx(getattr(theirs, field), abs=1e-5)


def test_a_value_stays_as_it_was_while_others_are_made_of_it() -> None:
    first = Prepared(*vars(part([0, 1, 2])).values())
    grown = first.added(*vars(part([3, 4])).values())
    other = first.added(*vars(part([5])).values())
    asked = task(1)
    for value, rows in ((first, [0, 1, 2]), (grown, [0, 1, 2, 3, 4]), (other, [0, 1, 2, 5]), (grown.without(
            [POOL.ids[4]]), [0, 1, 2, 3])):  # fmt: skip
        assert sorted(value.rows) == sorted(POOL.ids[r] for r in rows)
        wanted = identify(Shelf(part(rows)), asked, top=9)
        found = value.identify(asked, np.array(sorted(value.rows.values()), dtype=np.intp), top=9)
        assert [m.id for m in found.matches] == [m.id for m in wanted.matches]
