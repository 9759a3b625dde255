"""The table of specs against a loop over the learnwares, whatever was added and removed before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learndock.search import SpecTable
from learndock.search.consensus import DOMAIN_WEIGHT
from learndock.spec import Spec
from tests.support.docking import make_spec

draw = np.random.default_rng(7)
IDS = tuple(f"{'abcdefghijkl'[i % 12]}/m{i}@{i:064x}" for i in range(60))
DOMAINS, BEHAVIOURS = (draw.normal(size=(60, n)).astype(np.float32) for n in (8, 24))
# Exact ties, far from each other: the order of ids decides
DOMAINS[40:50], BEHAVIOURS[40:50] = DOMAINS[:10], BEHAVIOURS[:10]
RELIABILITY = draw.uniform(size=60)
RELIABILITY[40:50] = RELIABILITY[:10]


def task(seed: int, *, silent: bool = False) -> Spec:
    generator = np.random.default_rng(seed)
    spec = make_spec(generator, kind="task", p_value=0.6 if silent else 0.01)
    return replace(spec, contrasts=generator.normal(size=(5, 24)).astype(np.float32) * 0.3)


def part(rows: list[int]) -> SpecTable:
    return SpecTable([IDS[r] for r in rows], DOMAINS[rows], BEHAVIOURS[rows], RELIABILITY[rows])


def cosine(one: Any, other: Any) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def looped(asked: Spec, rows: list[int]) -> list[tuple[str, float, float, float]]:
    """Id, score, domain and behaviour by their definition, the best first."""
    found = []
    for row in rows:
        domain, behaviour = cosine(asked.domain, DOMAINS[row]), cosine(asked.behaviour, BEHAVIOURS[row])
        found.append((IDS[row], (domain + min(RELIABILITY[row] / 0.6, 1) * behaviour) / 2, domain, behaviour))
    return sorted(found, key=lambda row: (-round(row[1], 9), row[0]))


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 59), min_size=1, max_size=30)), max_size=6),
    seed=st.integers(0, 50),
    hidden=st.sets(st.integers(0, 59), max_size=40),
)
def test_it_answers_as_a_loop_does(steps: list[tuple[bool, list[int]]], seed: int, hidden: set[int]) -> None:
    there, table = [0, 1], part([0, 1])
    for add, rows in steps:
        if add:
            new = [r for r in dict.fromkeys(rows) if r not in there]
            if new:
                table = table.added(part(new))
                there += new
        else:
            table = table.without([IDS[r] for r in rows])
            there = [r for r in there if r not in rows]
    assert table.ids == tuple(IDS[r] for r in there)
    for rows, given_rows in (([r for r in there if r not in hidden], True), (there, False)):
        chosen = table.rows_of(IDS[r] for r in range(60) if r not in hidden) if given_rows else None
        found, wanted = table.identify(task(seed), chosen), looped(task(seed), rows)
        assert found.searched == len(rows)
        assert [m.id for m in found.matches] == [name for name, *_ in wanted]
        for match, (_, *expected) in zip(found.matches, wanted, strict=True):
            assert [match.ranked_by, match.domain, match.behaviour] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("silent", [False, True])
def test_answers_do_not_depend_on_the_order_of_additions(silent: bool) -> None:
    """To the last bit, but for the p-value of the dock, whose products are taken where the rows are."""
    asked, first = task(3, silent=silent), part(list(range(60))).identify(task(3, silent=silent))
    for order in (list(range(59, -1, -1)), np.random.default_rng(1).permutation(60).tolist()):
        table = part(order[:20]).added(part(order[20:21])).added(part(order[21:]))
        found = table.identify(asked)
        assert found.matches == first.matches
        assert found.p_value_any == pytest.approx(first.p_value_any, abs=0.002)


def test_without_evidence_domain_and_consensus_order() -> None:
    asked = task(4, silent=True)
    found = part(list(range(40))).identify(asked)
    one = found.matches[0]
    assert one.consensus is not None
    # The order is by (12 domain + (1 - share) behaviour + share consensus) / 13, share the same for all
    shares = [
        (m.ranked_by * (DOMAIN_WEIGHT + 1) - DOMAIN_WEIGHT * m.domain - m.behaviour) / (m.consensus - m.behaviour)
        for m in found.matches
        if m.consensus is not None
    ]
    assert shares == pytest.approx([shares[0]] * len(shares), abs=1e-3)
    assert 0 < shares[0] < 0.75
    assert [m.ranked_by for m in found.matches] == sorted((m.ranked_by for m in found.matches), reverse=True)


def test_a_table_stays_as_it_was_while_others_are_made_of_it() -> None:
    first = part([0, 1, 2])
    grown, other = first.added(part([3, 4])), first.added(part([5]))
    smaller = grown.without([IDS[4]])
    for table, rows in ((first, [0, 1, 2]), (grown, [0, 1, 2, 3, 4]), (other, [0, 1, 2, 5]), (smaller, [0, 1, 2, 3])):
        assert table.ids == tuple(IDS[r] for r in rows)
        assert len(table) == len(rows)
        assert [m.id for m in table.identify(task(1)).matches] == [name for name, *_ in looped(task(1), rows)]
        np.testing.assert_allclose((table.behaviour**2).sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(table.reliability, RELIABILITY[rows])


def test_more_learnwares_than_candidates() -> None:
    generator = np.random.default_rng(11)
    domains, behaviours = (generator.normal(size=(700, n)).astype(np.float32) for n in (8, 24))
    names = [f"a/m{i}@{i:064x}" for i in range(700)]
    asked = task(9)
    cosines = [
        (cosine(asked.domain, d) + cosine(asked.behaviour, b)) / 2 for d, b in zip(domains, behaviours, strict=True)
    ]
    wanted = [names[i] for i in np.argsort(-np.array(cosines), kind="stable")]
    table = SpecTable(names, domains, behaviours, np.ones(700))
    assert [m.id for m in table.identify(asked).matches] == wanted[:200]
    assert [m.id for m in table.identify(asked, top=300).matches] == wanted[:300]
    assert table.identify(asked).searched == 700
