"""Routing: the nearest domain, ties said, "nothing fits" by how near a mean of n inputs usually is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from learndock.errors import SpecError
from learndock.search import SpecTable
from learndock.search.route import MARGIN, NEAR, route
from learndock.spec import Domain
from tests.support.docking import SPACE_ID, make_spec

WIDTH, SIZE = 384, 64


def table(count: int, seed: int = 0) -> SpecTable:
    draw = np.random.default_rng(seed)
    domain, behaviour = draw.normal(size=(count, WIDTH)), draw.normal(size=(count, SIZE))
    ids = [f"ada/m{i}@{i:064x}" for i in range(count)]
    return SpecTable(ids, domain.astype(np.float32), behaviour.astype(np.float32), np.full(count, 0.9))


def near(specs: SpecTable, row: int, similarity: float, n: int = 1) -> Domain:
    """A domain with that cosine to a row's."""
    own = specs.domain[row].astype(np.float64)
    other = np.random.default_rng([row, 7]).normal(size=WIDTH)
    other -= (other @ own) * own
    values = similarity * own + np.sqrt(1 - similarity**2) * other / np.linalg.norm(other)
    return Domain(SPACE_ID, values.astype(np.float32), n)


def test_the_nearest_domain_is_named_as_a_plain_search_would() -> None:
    specs = table(3000)
    draw = np.random.default_rng(5)
    for row in (0, 17, 2999):
        asked = near(specs, row, 0.6)
        found = route(specs, asked, space="minilm-l6")
        assert (found.name, found.fits, found.sure, found.by) == (f"ada/m{row}", True, True, "domain")
        every = np.argsort(-(specs.domain.astype(np.float64) @ asked.unit_domain))
        assert [n.name for n in found.nearest] == [f"ada/m{i}" for i in every[:5]]
        assert found.nearest[0].similarity == pytest.approx(0.6, abs=1e-3)
        rows = np.sort(draw.choice(np.delete(np.arange(3000), row), 50, replace=False))
        assert route(specs, asked, rows).nearest[0].name != f"ada/m{row}"


def test_the_short_search_loses_nothing_while_tables_change() -> None:
    """Clustered domains, some of them equal, rows added and taken out: as the plain search over all rows."""
    draw = np.random.default_rng(3)
    centres = draw.normal(size=(12, WIDTH))
    domain = (centres[draw.integers(12, size=2500)] + 0.4 * draw.normal(size=(2500, WIDTH))).astype(np.float32)
    domain[100:110] = domain[7]
    ids = [f"ada/m{i}@{i:064x}" for i in range(2500)]
    specs = SpecTable(ids[:2400], domain[:2400], domain[:2400, :SIZE], np.ones(2400))
    more = SpecTable(ids[2400:], domain[2400:], domain[2400:, :SIZE], np.ones(100))
    tables = [specs, specs.added(more), specs.added(more).without(ids[:50])]
    for table in [*tables, *tables]:
        for row in (7, 60, 2399):
            values = domain[row] + draw.normal(size=WIDTH).astype(np.float32)
            asked = Domain(SPACE_ID, values, 1)
            exact = table.domain.astype(np.float64) @ asked.unit_domain
            every = sorted(zip(-exact.round(9), table.ids, strict=True))[:5]
            assert [n.id for n in route(table, asked).nearest] == [name for _, name in every]


def test_what_is_near_depends_on_how_many_inputs_were_given() -> None:
    specs = table(50)
    for n in (1, 4, 16, 1000):
        expected = route(specs, near(specs, 3, 0.5, n), space="minilm-l6").expected
        assert expected is not None
        above, below = (route(specs, near(specs, 3, NEAR * expected * f, n), space="minilm-l6") for f in (1.01, 0.99))
        assert (above.name, above.fits) == ("ada/m3", True)
        assert (below.name, below.fits, below.sure) == (None, False, False)
        assert below.nearest[0].name == "ada/m3"
        assert "usual" in str(below.reason)
    assert route(specs, near(specs, 3, 0.1), space="another").fits is None


def test_learnwares_of_one_domain_are_not_told_apart_by_domain_but_by_labels() -> None:
    draw = np.random.default_rng(1)
    domain = np.vstack([draw.normal(size=WIDTH)] * 2 + [draw.normal(size=WIDTH)]).astype(np.float32)
    behaviour = draw.normal(size=(3, SIZE)).astype(np.float32)
    specs = SpecTable([f"ada/{n}@{n * 64}" for n in "abc"], domain, behaviour, np.ones(3))
    found = route(specs, Domain(SPACE_ID, domain[0], 4), space="minilm-l6")
    assert (found.name, found.fits, found.sure) == ("ada/a", True, False)
    assert "labelled examples" in str(found.reason)
    task = make_spec(draw, kind="task", domain=domain[0], behaviour=behaviour[1], p_value=0.001)
    chosen = route(specs, task, space="minilm-l6")
    assert (chosen.name, chosen.sure, chosen.by) == ("ada/b", True, "domain and behaviour")
    assert chosen.nearest[0].score - chosen.nearest[1].score > MARGIN
    contrasts = draw.normal(size=(12, SIZE)).astype(np.float32)
    other = replace(task, behaviour=draw.normal(size=SIZE).astype(np.float32), contrasts=contrasts)
    refused = route(specs, other, space="minilm-l6")
    assert (refused.name, refused.fits) == (None, False)
    assert "chance" in str(refused.reason)
    # Without evidence in the labels, the domain decides
    assert route(specs, replace(task, p_value=0.5), space="minilm-l6").by == "domain"


def test_what_cannot_be_a_domain_is_refused() -> None:
    specs = table(3)
    with pytest.raises(SpecError, match="numbers"):
        route(specs, Domain(SPACE_ID, np.ones(3, np.float32), 1))
    for values in (np.zeros(4), np.full(4, np.nan), np.zeros(0)):
        with pytest.raises(SpecError):
            Domain(SPACE_ID, values.astype(np.float32), 1)
    empty = route(specs, Domain(SPACE_ID, np.ones(WIDTH, np.float32), 1), np.zeros(0, np.intp))
    assert (empty.name, empty.fits, empty.searched) == (None, False, 0)
