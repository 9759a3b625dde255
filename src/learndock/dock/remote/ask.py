"""What a service is sent of a task's spec, and its matches as ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from learndock.package.deprecation import Deprecation
from learndock.search.answer import Answers, Identification, Match
from learndock.search.route import Near, Route
from learndock.spec.domain import Domain
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


def sent_domain(domain: Domain) -> dict[str, Any]:
    """Return what a service is sent of inputs: numbers to five digits, how many inputs, and the space's id."""
    values = [float(f"{v:.5g}") for v in domain.unit_domain]
    return {"space": domain.space_id, "domain": values, "inputs": domain.n}


def routed(found: Any) -> Route:
    """Read the JSON form of a ``Route``.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    nearest = tuple(map(_near, found["nearest"]))
    expected, fits = found["expected"], found["fits"]
    return Route(
        name=None if found["name"] is None else str(found["name"]),
        id=None if found["id"] is None else str(found["id"]),
        fits=None if fits is None else bool(fits),
        sure=bool(found["sure"]),
        by=str(found["by"]),
        expected=None if expected is None else float(expected),
        inputs=int(found["inputs"]),
        searched=int(found["searched"]),
        nearest=nearest,
        reason=None if found["reason"] is None else str(found["reason"]),
    )


def _near(found: Any) -> Near:
    deprecated = found["deprecated"]
    return Near(
        id=str(found["id"]),
        name=str(found["name"]),
        score=float(found["score"]),
        similarity=float(found["similarity"]),
        reliability=float(found["reliability"]),
        version=int(found["version"]),
        latest=int(found["latest"]),
        deprecated=None if deprecated is None else Deprecation.from_dict(deprecated),
    )


def _match(found: Any) -> Match:
    def number(name: str) -> float:
        return float(found[name])

    def perhaps(name: str) -> float | None:
        return None if found[name] is None else float(found[name])

    interval, deprecated = found["interval"], found.get("deprecated")
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
        version=int(found.get("version", 1)),
        latest=int(found.get("latest", 1)),
        deprecated=None if deprecated is None else Deprecation.from_dict(deprecated),
    )
