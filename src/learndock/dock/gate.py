"""Against poisoned specs: whether a newcomer's numbers would stand in the way of the learnwares that are there.

A spec is what its owner says it is; nobody can see from its numbers whether a model behaves like that. But three kinds
of numbers harm a dock whatever the model, and can be told:

not canonical   domain and behaviour have unit root mean square, as every recipe makes them (so that no length, large
                or tiny, counts for anything)
copies          the behaviour of another owner's learnware again, or its mirror image: it would stand beside the
                original in every answer
hubs            near to everything, as an average over many learnwares is: first or close to it for users whose task it
                knows nothing about

Hubs are told by *sentinels*: learnwares of other owners that are apart from each other, so that an honest newcomer
is near to a few of them at most. A newcomer's mean similarity to all of them is compared with the sentinels' own to
each other. Where the dock has too few learnwares that are apart, nothing is a hub yet; ``Dock.verify`` looks at all of
them again. The numbers below are those of ``benchmarks/poison.py``; a newcomer near to a few other tasks passes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from learndock.errors import SuspectSpec
from learndock.search.score import unit_rows
from learndock.spec.spec import Array

#: Cosine of two behaviours from which on, in either direction, one is a copy of the other.
SAME = 0.999
#: How far a root mean square may be from 1 (float16 keeps three digits).
TOLERANCE = 0.02
#: Numbers of a behaviour that are compared first: a part of a sketch is a smaller sketch.
OUTLINE = 64
_CLOSE = 0.99

#: Learnwares that sentinels are chosen among, at most so many of one owner.
SAMPLE = 256
SAMPLE_OF_OWNER = 32
#: Similarity (mean of both cosines) above which two learnwares are not apart.
APART = 0.55
LEAST_SENTINELS = 12
#: A hub's mean similarity to the sentinels is this many times the median of theirs to each other, ...
HUB = 1.35
#: ... and at least this; similarities by chance stay below.
HUB_FLOOR = 0.25
#: The same of the domains alone, which decide for users whose few examples say nothing (``search.consensus``).
HUB_DOMAIN = 1.28
HUB_DOMAIN_FLOOR = 0.5


@dataclass(frozen=True, eq=False)
class Newcomer:
    """What the gate looks at: ``domain`` ``(D,)`` and ``behaviour`` ``(k,)`` of a spec in the space ``space_id``."""

    name: str
    space_id: str
    domain: Array
    behaviour: Array

    @property
    def owner(self) -> str:
        """The part of the name before the slash."""
        return _owner(self.name)


class Neighbours(Protocol):
    """What the gate asks of the place where the dock's specs are."""

    def outlines(self, space_id: str, length: int) -> tuple[Sequence[str], Array]:
        """Names of all learnwares with a spec in the space, by name, and the first ``length`` numbers of each
        behaviour, ``(N, length)`` (fewer where a behaviour has fewer)."""
        ...

    def parts(self, space_id: str, names: Sequence[str]) -> tuple[Array, Array]:
        """Domains ``(n, D)`` and behaviours ``(n, k)`` of some of them, in that order."""
        ...


def check_newcomer(newcomer: Newcomer, neighbours: Neighbours) -> None:
    """Let a spec in, or say why not.

    Raises:
        SuspectSpec: not canonical, a copy of another owner's, or a hub.
    """
    check_canonical(newcomer)
    names, outlines = neighbours.outlines(newcomer.space_id, OUTLINE)
    own = f"{newcomer.owner}/"
    others = [place for place, name in enumerate(names) if not name.startswith(own)]
    if len(others) < len(names):
        names, outlines = [names[place] for place in others], outlines[others]
    if not names:
        return
    _refuse_copy(newcomer, names, outlines, neighbours)
    sentinels = choose_sentinels(newcomer.space_id, names, neighbours)
    if sentinels is not None:
        found = sentinels.ask(newcomer.domain[None], newcomer.behaviour[None])[0]
        if found.hub:
            raise SuspectSpec(
                f"{found.describe()}, so it would come up for tasks it knows nothing about. Make the "
                "spec on inputs of one task, or ask who keeps the dock to vouch for it (`learndock add --vouch`)",
                about=newcomer.name,
            )


def check_canonical(newcomer: Newcomer) -> None:
    """Check the lengths of both parts.

    Raises:
        SuspectSpec: one has not the unit root mean square that every recipe gives it.
    """
    for what, part in (("domain", newcomer.domain), ("behaviour", newcomer.behaviour)):
        found = float(np.sqrt(np.mean(np.square(part, dtype=np.float64))))
        if not abs(found - 1) <= TOLERANCE:
            raise SuspectSpec(
                f"its {what} has the root mean square {found:.3g} and not 1, so no recipe made it",
                remedy="make the spec again with `learndock spec model`",
                about=newcomer.name,
            )


def _refuse_copy(newcomer: Newcomer, names: Sequence[str], outlines: Array, neighbours: Neighbours) -> None:
    close = np.flatnonzero(np.abs(unit_rows(outlines) @ unit_rows(newcomer.behaviour[None, :OUTLINE])[0]) > _CLOSE)
    if not len(close):
        return
    chosen = [names[i] for i in close.tolist()]
    _, behaviours = neighbours.parts(newcomer.space_id, chosen)
    cosines = unit_rows(behaviours) @ unit_rows(newcomer.behaviour[None])[0]
    nearest = int(np.abs(cosines).argmax())
    if abs(cosines[nearest]) > SAME:
        what = "behaves as" if cosines[nearest] > 0 else "is the mirror image of"
        raise SuspectSpec(
            # The other may be private: a service decides by ``about`` whether its name is shown.
            f"the spec of {newcomer.name} {what} {{about}} (cosine {cosines[nearest]:+.4f}), which is another owner's",
            remedy="where the model is yours too, make the spec on examples of your own, or ask the operator of the "
            "dock to vouch for it (`learndock add --vouch`)",
            about=chosen[nearest],
        )


@dataclass(frozen=True)
class Centrality:
    """Mean similarity to sentinels, of the whole and of the domains alone; ``usual`` is theirs to each other."""

    own: float
    usual: float
    own_domain: float
    usual_domain: float
    sentinels: int

    @property
    def hub(self) -> bool:
        """Whether it is near to everything."""
        whole = self.own > max(HUB_FLOOR, HUB * self.usual)
        return whole or self.own_domain > max(HUB_DOMAIN_FLOOR, HUB_DOMAIN * self.usual_domain)

    def describe(self) -> str:
        """The same in words."""
        return (
            f"its spec is near to everything: {self.own:.2f} on average to {self.sentinels} learnwares that have "
            f"little in common (theirs to each other is {self.usual:.2f}), {self.own_domain:.2f} in the domain alone "
            f"({self.usual_domain:.2f})"
        )


@dataclass(frozen=True, eq=False)
class Sentinels:
    """Learnwares apart from each other: their names, domains ``(s, D)`` and behaviours ``(s, k)``, rows of length 1."""

    names: tuple[str, ...]
    domains: Array
    behaviours: Array

    @cached_property
    def usual(self) -> tuple[float, float]:
        """Medians of each one's mean similarity to the others: of the whole, and of the domains."""
        domains, behaviours = self.domains @ self.domains.T, self.behaviours @ self.behaviours.T
        return _median_apart((domains + behaviours) / 2), _median_apart(domains)

    def ask(self, domains: Array, behaviours: Array) -> list[Centrality]:
        """How near each of ``domains`` ``(n, D)`` and ``behaviours`` ``(n, k)`` is to everything."""
        domain = (unit_rows(domains) @ self.domains.T).mean(1)
        whole = (domain + (unit_rows(behaviours) @ self.behaviours.T).mean(1)) / 2
        return [
            Centrality(w, self.usual[0], d, self.usual[1], len(self.names))
            for w, d in zip(whole.tolist(), domain.tolist(), strict=True)
        ]

    def of_others(self, owner: str) -> Sentinels | None:
        """Without those of ``owner``; None where too few are left."""
        kept = [i for i, name in enumerate(self.names) if _owner(name) != owner]
        if len(kept) < LEAST_SENTINELS:
            return None
        return Sentinels(tuple(self.names[i] for i in kept), self.domains[kept], self.behaviours[kept])


def _median_apart(alike: NDArray[np.floating]) -> float:
    return float(np.median((alike.sum(1) - np.diag(alike)) / (len(alike) - 1)))


def choose_sentinels(space_id: str, names: Sequence[str], neighbours: Neighbours) -> Sentinels | None:
    """Sentinels among the learnwares ``names``; None where fewer than ``LEAST_SENTINELS`` are apart.

    The choice depends on the names alone, not on who came first.
    """
    sample = _sample(names)
    if len(sample) < LEAST_SENTINELS:
        return None
    domains, behaviours = (unit_rows(part) for part in neighbours.parts(space_id, sample))
    alike = (domains @ domains.T + behaviours @ behaviours.T) / 2
    chosen: list[int] = []
    for place in range(len(sample)):
        if not (alike[place, chosen] > APART).any():
            chosen.append(place)
    if len(chosen) < LEAST_SENTINELS:
        return None
    return Sentinels(tuple(sample[i] for i in chosen), domains[chosen], behaviours[chosen])


def hubs(space_id: str, neighbours: Neighbours) -> Iterator[tuple[str, Centrality]]:
    """Learnwares of the space that are hubs by what is in the dock now, which came before anybody could tell."""
    names, _ = neighbours.outlines(space_id, OUTLINE)
    sentinels = choose_sentinels(space_id, names, neighbours)
    if sentinels is None:
        return
    asked: dict[str, Sentinels | None] = {}
    for start in range(0, len(names), SAMPLE):
        some = names[start : start + SAMPLE]
        parts = neighbours.parts(space_id, some)
        for place, name in enumerate(some):
            owner = _owner(name)
            if owner not in asked:
                own = any(_owner(n) == owner for n in sentinels.names)
                asked[owner] = sentinels.of_others(owner) if own else sentinels
            others = asked[owner]
            if others is not None:
                found = others.ask(*(part[place : place + 1] for part in parts))[0]
                if found.hub:
                    yield name, found


def _owner(name: str) -> str:
    return name.partition("/")[0]


def _sample(names: Sequence[str]) -> list[str]:
    chosen: list[str] = []
    counts: dict[str, int] = {}
    order = np.argsort([zlib.crc32(name.encode()) for name in names], kind="stable")
    for name in (names[place] for place in order.tolist()):
        owner = _owner(name)
        if counts.get(owner, 0) < SAMPLE_OF_OWNER:
            counts[owner] = counts.get(owner, 0) + 1
            chosen.append(name)
            if len(chosen) == SAMPLE:
                break
    return chosen
