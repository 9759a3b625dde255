"""Identify at a dock behind an address: the task's spec goes out without the names of its labels, matches come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from learndock.dock.remote.dock import RemoteDock
from learndock.errors import ServiceError
from learndock.search.filters import Filters
from learndock.search.ranking import Identification, Match
from learndock.spec import Spec
from learndock.spec.file import spec_to_bytes


def ask(dock: RemoteDock, spec: Spec, *, top: int, filters: Filters, seed: int = 0) -> Identification:
    """The service's answer to a task spec.

    Raises:
        ServiceError: it is no answer to that.
        SpaceMismatch: the dock has specs, but none of this space.
    """
    found = dock.rank(spec_to_bytes(bare(spec)), top=top, filters=filters.to_dict(), seed=seed)
    return _identification(found, dock.url)


def bare(spec: Spec) -> Spec:
    """Keep what a search looks at; labels, their descriptions and the full vector stay at home."""
    return replace(spec, schema={"type": str(spec.schema.get("type", "classification"))}, settings={}, vector=None)


def _identification(found: Any, url: str | None) -> Identification:
    try:
        ranked = tuple(_match(m) for m in (*found["matches"], *found["closest"]))
        return Identification(
            bool(found["fits"]), ranked, None if found["p_value_any"] is None else float(found["p_value_any"]),
            int(found["searched"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        raise ServiceError("answers not as a learndock does", remedy="check the address", about=url) from None


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
    )
