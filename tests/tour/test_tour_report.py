"""The tour's report: the conclusion first, the maps last, and every link leads somewhere on the page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from learndock.dock import LocalDock, open_local_dock
from learndock.package import pack
from learndock.spec import make_spec
from learndock.tour.report import conclusion, write_report
from learndock.tour.visit import User, Visit
from tests.support import models


@pytest.fixture(scope="module")
def dock(tmp_path_factory: pytest.TempPathFactory) -> LocalDock:
    pytest.importorskip("skops")
    folder = tmp_path_factory.mktemp("tour")
    models.write_sklearn(folder / "model")
    examples = models.sentiment(32)
    pack(folder / "model", folder / "l", name="lab/mood", schema=models.SENTIMENT, examples=examples,
         space=models.space(), description="<b>moods</b>")  # fmt: skip
    found = open_local_dock(folder / "dock")
    found.add(folder / "l")
    return found


@pytest.fixture(scope="module")
def visits(dock: LocalDock) -> list[Visit]:
    spec = make_spec(models.sentiment(16), models.SENTIMENT, space=models.space())
    found = dock.identify(spec)
    best = found.matches[0]
    user = User("mood", "Praise or complaint?")
    reused = Visit(user, spec, found, "accuracy", best, reused=0.75, scratch=0.5, others={"lab/mood": 0.75})
    worse = replace(reused, user=User("mood-2", "Again."), reused=0.25)
    return [reused, worse, Visit(User("coin_toss", "Nothing."), spec, found, "accuracy")]


def test_the_conclusion_counts_and_compares(visits: list[Visit]) -> None:
    assert conclusion(visits) == (
        "2 of 3 users found a model, and for 1 of them it beats a model trained from scratch on the same few examples: "
        "mean score 0.50 against 0.50. 1 got the answer that nothing in this dock fits."
    )


def test_a_report_without_a_match_has_a_conclusion(visits: list[Visit]) -> None:
    assert conclusion(visits[2:]).startswith("0 of 1 users found a model")


def test_the_conclusion_comes_first_and_links_lead_somewhere(
    dock: LocalDock, visits: list[Visit], tmp_path: Path
) -> None:
    write_report(tmp_path / "report.html", dock, visits, {}, 12.0)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    order = [page.index(text) for text in (conclusion(visits), "What reuse was worth", "<h2>Users", "class=map")]
    assert order == sorted(order)
    links, ids = re.findall(r"href='#([^']+)'", page), re.findall(r" id='([^']+)'", page)
    assert links
    assert set(links) <= set(ids)
    assert len(set(ids)) == len(ids)
    assert "<b>moods</b>" not in page  # what owners write is escaped
    assert "opposite" in page  # the scale of colours
    assert "cannot say" not in page
    lacking = replace(visits[0].found.matches[0], can_answer=False, missing=("neutral <1>",))
    found = replace(visits[0].found, matches=(lacking,))
    write_report(tmp_path / "report.html", dock, [replace(visits[0], found=found)], {}, 12.0)
    assert "cannot say neutral &lt;1&gt;" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)='?https?:", page)
