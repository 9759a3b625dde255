"""What a match can answer of a task, where it ranks for that, and what its score says when nothing fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from learndock.search import Identification, Match, SpecTable
from learndock.search.answer import SHOWN, Answers, answerable
from learndock.spec import Spec
from tests.support.docking import make_spec


def match(name: str, task_type: str = "classification", *labels: str) -> Match:
    answers = Answers(task_type, len(labels) if task_type == "classification" else 0, labels)
    return Match(f"{name}@0", name, 0.5, 0.5, 0.5, 1.0, None, None, None, 0.5, answers)


def asked(task_type: str = "classification", *labels: str) -> Spec:
    return make_spec(np.random.default_rng(0), kind="task", schema={"type": task_type, "labels": list(labels)})


@pytest.mark.parametrize(
    ("task", "learnware", "missing"),
    [
        (("classification", "neg", "pos"), ("classification", "negative", "positive"), ()),
        (("classification", "neg", "pos"), ("classification", "neg", "neutral", "pos"), ()),
        (("classification", "neg", "neutral", "pos"), ("classification", "Pos", "NEG"), ("neutral",)),
        (
            ("classification", "neg", "neutral", "pos"),
            ("classification", "positive", "negative"),
            ("1 of: neg, neutral, pos",),
        ),
        (("classification", "a", "b", "c", "d"), ("classification", "a", "x"), ("2 of: b, c, d",)),
        (("classification", "very good", "bad"), ("regression", "0", "1"), ("classification",)),
        (("regression",), ("classification", "a", "b"), ("regression",)),
        (("regression", "0", "5"), ("regression",), ()),
        (("generation",), ("generation",), ()),
        (("generation",), ("classification", "a", "b"), ("generation",)),
        # What a service knows of a task: its type alone
        (("classification",), ("classification", "a", "b"), ()),
    ],
)
def test_what_a_learnware_cannot_say(task: Any, learnware: Any, missing: tuple[str, ...]) -> None:
    found = answerable(Identification(True, (match("a/b", *learnware),), 0.01, 1), asked(*task), 10).matches[0]
    assert (found.missing, found.can_answer) == (missing, not missing)
    assert (found.to_dict()["labels"], found.to_dict()["missing"]) == (list(learnware[1:]), list(missing))


def test_those_that_cannot_answer_rank_behind() -> None:
    kinds = {
        "a/scale": ("regression",),
        "a/two": ("classification", "x", "y"),
        "a/three": ("classification", "x", "y", "z"),
        "a/text": ("generation",),
        "a/four": ("classification", "x", "y", "z", "w"),
    }
    matches = tuple(match(name, *kind) for name, kind in kinds.items())
    found = answerable(Identification(True, matches, 0.01, 5), asked("classification", "p", "q", "r"), 10)
    assert [m.name for m in found.matches] == ["a/three", "a/four", "a/two", "a/scale", "a/text"]
    assert [m.can_answer for m in found.matches] == [True, True, False, False, False]
    assert answerable(found, asked("classification", "p", "q", "r"), 2).matches == found.matches[:2]


def test_classes_enough_do_not_stand_in_for_agreement() -> None:
    """A misspelt label makes two classes three: the model that agrees comes before one that only has three classes."""
    two = replace(match("a/two", "classification", "x", "y"), p_value=0.001)
    unrelated = replace(match("a/three", "classification", "u", "v", "w"), p_value=0.73)
    related = replace(match("a/four", "classification", "x", "y", "z", "w"), p_value=0.02)
    task = asked("classification", "good", "bad", "goood")
    found = answerable(Identification(True, (two, unrelated), 0.003, 2), task, 10)
    assert [m.name for m in found.matches] == ["a/two", "a/three"]
    assert [m.can_answer for m in found.matches] == [False, True]
    found = answerable(Identification(True, (two, unrelated, related), 0.003, 3), task, 10)
    assert [m.name for m in found.matches] == ["a/four", "a/two", "a/three"]


def test_many_labels_are_shown_in_part() -> None:
    labels = [f"class {i}" for i in range(SHOWN + 7)]
    answers = Answers.of({"type": "classification", "labels": labels})
    assert (answers.classes, answers.labels) == (SHOWN + 7, tuple(labels[:SHOWN]))
    assert Answers.of({"type": "regression", "labels": ["0", "5"]}) == Answers("regression", 0, ("0", "5"))


def test_a_no_never_reads_higher_than_a_yes() -> None:
    """Thirty questions about the inputs of one dock: half of them answered there, half of them by nothing there."""
    draw = np.random.default_rng(3)
    inputs = draw.normal(size=8)  # learnwares and tasks are of the same kind of inputs
    domains = (inputs + 0.2 * draw.normal(size=(40, 8))).astype(np.float32)
    behaviours = draw.normal(size=(40, 512)).astype(np.float32)
    table = SpecTable([f"o{i}/m@{i:064x}" for i in range(40)], domains, behaviours, np.full(40, 0.9))
    scores: dict[bool, list[float]] = {True: [], False: []}
    for question in range(30):
        behaviour = draw.normal(size=512)
        if question % 2:
            behaviour = 0.45 * behaviour + 0.2 * behaviours[question]
        spec = replace(
            make_spec(draw, kind="task", p_value=0.01 if question % 2 else [0.3, 0.04][question % 4 // 2]),
            domain=(inputs + 0.2 * draw.normal(size=8)).astype(np.float32),
            behaviour=(behaviour / np.sqrt((behaviour**2).mean())).astype(np.float32),
            contrasts=draw.normal(size=(12, 512)).astype(np.float32),
        )
        found = table.identify(spec)
        assert [m.ranked_by for m in found.matches] == sorted((m.ranked_by for m in found.matches), reverse=True)
        for m in found.matches:
            whole = (m.domain * found.fits + m.behaviour) / 2
            assert m.score == pytest.approx(whole, abs=1e-6), "the domain counts only where something fits"
        scores[found.fits].append(found.matches[0].score)
    assert len(scores[False]) >= 10
    assert len(scores[True]) >= 10
    assert max(scores[False]) < min(scores[True])
