"""Matches tried on the user's own examples: the order, what cannot be tried, and that examples are needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from learndock.data import Examples, Schema
from learndock.dock import Dock, open_dock
from learndock.errors import DataError, NotFound
from learndock.package import pack
from learndock.reuse import try_matches
from learndock.search import Match
from learndock.spaces import Space
from tests.support import models


def match(name: str, score: float) -> Match:
    return Match(name, name.split("@")[0], score, score, score, 1.0, None, None, None, score)


@pytest.fixture(scope="module")
def examples() -> Examples:
    inputs, targets = models.texts(32, 3)
    return Examples(inputs, targets, models.SENTIMENT)


@pytest.fixture(scope="module")
def dock(tiny_space: Space, examples: Examples, tmp_path_factory: pytest.TempPathFactory) -> Dock:
    """One that answers right, one whose labels are the wrong way round, one of other labels."""
    place = tmp_path_factory.mktemp("trial")
    dock = open_dock(place / "dock")
    moods = Schema("classification", ("calm", "angry"), ("calm", "angry"), "accuracy")
    turned = models.fitted_pipeline()
    turned[-1].coef_ *= -1
    turned[-1].intercept_ *= -1
    right, wrong = models.write_sklearn(place / "model"), models.write_sklearn(place / "turned", turned)
    for name, model, schema in (
        ("a/right", right, models.SENTIMENT),
        ("a/wrong", wrong, models.SENTIMENT),
        ("a/other", right, moods),
    ):
        out = place / name.replace("/", "-")
        pack(model, out, name=name, examples=examples, schema=schema, space=tiny_space, in_order=True)
        dock.add(out)
    return dock


def test_the_best_on_the_examples_comes_first(dock: Dock, examples: Examples) -> None:
    said: list[tuple[str, int, int]] = []
    ranked = [match("a/other", 0.9), match("a/wrong", 0.8), match("a/right", 0.7), match("a/never", 0.1)]
    found = try_matches(dock, ranked, examples, most=3, report=lambda *what: said.append(what))
    assert [t.match.name for t in found] == ["a/right", "a/wrong", "a/other"]
    right, wrong, other = found
    assert (right.score, wrong.score, other.score) == (1.0, 0.0, None)
    assert "calm" in str(other.why)
    assert said[-1] == ("trying", 3, 3)


def test_examples_that_cannot_tell_leave_the_order_to_the_specs(dock: Dock, examples: Examples) -> None:
    for first, second in ((0.5, 0.4), (0.4, 0.5)):
        twice = [match("a/right", first), match(f"a/right@{dock.get_record('a/right').digest}", second)]
        found = try_matches(dock, twice, examples)
        assert [t.match.score for t in found] == [0.5, 0.4]


def test_what_is_gone_is_told_and_labels_are_needed(dock: Dock, examples: Examples, tmp_path: Path) -> None:
    (gone,) = try_matches(dock, [match("a/gone", 0.5)], examples)
    assert gone.score is None
    assert "a/gone" in str(gone.why)
    with pytest.raises(DataError, match="needs examples with labels"):
        try_matches(dock, [match("a/right", 0.5)], Examples(examples.inputs, None, models.SENTIMENT))
    with pytest.raises(DataError, match="a schema"):
        try_matches(dock, [match("a/right", 0.5)], Examples(examples.inputs, np.zeros(32, int)))
    with pytest.raises(NotFound):
        dock.get_record("a/gone")
