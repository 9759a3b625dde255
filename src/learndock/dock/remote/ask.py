"""What a service is sent of a task's spec, and its matches as ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from learndock.search.answer import Answers, Identification, Match
from learndock.spec.spec import Spec


def redacted(spec: Spec) -> Spec:
    """Keep what a search compares; labels, their descriptions, settings and the full vector stay on this machine."""
    return replace(spec, schema={"type": str(spec.schema.get("type", "classification"))}, settings={}, vector=None)


def identification(found: Any) -> Identification:
    """Read the JSON form of an ``Identification``.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    chance, matches = found["p_value_any"], tuple(_match(m) for m in (*found["matches"], *found["closest"]))
    return Identification(
        bool(found["fits"]), matches, None if chance is None else float(chance), int(found["searched"])
    )


def _match(found: Any) -> Match:
    def number(name: str) -> float:
        return float(found[name])

    def perhaps(name: str) -> float | None:
        return None if found[name] is None else float(found[name])

    interval = found["interval"]
    return Match(
        id=str(found["id"]),
        name=str(found["name"]),
        score=number("score"),
        domain=number("domain"),
        behaviour=number("behaviour"),
        reliability=number("reliability"),
        consensus=perhaps("consensus"),
        interval=None if interval is None else (float(interval[0]), float(interval[1])),
        p_value=perhaps("p_value"),
        ranked_by=number("ranked_by"),
        answers=Answers(str(found["task_type"]), int(found["classes"]), tuple(map(str, found["labels"]))),
    )
