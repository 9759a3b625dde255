"""Refuse poisoned specs: those whose numbers would crowd out the learnwares that a dock already has.

An owner can put any numbers into a spec, and the numbers do not show whether a model behaves like that. Three kinds
of numbers harm a dock whatever the model is, and can be detected:

not canonical   every recipe gives domain and behaviour unit root mean square, so that no spec gains by its length
copies          the behaviour of another owner's learnware, or its mirror image, would appear beside the original in
                every answer
hubs            a spec that is similar to everything, such as an average of many, would rank first or near it for
                tasks that its model knows nothing about

A hub is detected by *sentinels*: learnwares of other owners with little in common, so that an honest newcomer is
similar to a few of them at most. Its mean similarity to all of them is compared with theirs to each other. A dock with
too few such learnwares has no hubs yet; ``LocalDock.verify`` checks all learnwares again. The thresholds below were
chosen with ``benchmarks/poison.py``; a newcomer that is similar to a few other tasks passes.
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

#: Absolute cosine of two behaviours from which one counts as a copy of the other.
SAME = 0.999
#: How far a root mean square may be from 1 (float16 keeps three digits).
TOLERANCE = 0.02
#: Numbers of each behaviour that are compared first; a part of a sketch is a smaller sketch.
OUTLINE = 64
_CLOSE = 0.99

#: Learnwares that sentinels are chosen from, and how many of them may be one owner's.
SAMPLE = 256
SAMPLE_OF_OWNER = 32
#: Similarity (mean of both cosines) above which two learnwares have much in common.
APART = 0.55
LEAST_SENTINELS = 12
#: A hub's mean similarity to the sentinels is at least this many times the median of theirs to each other, ...
HUB = 1.35
#: ... and at least this; chance similarities are smaller.
HUB_FLOOR = 0.25
#: The same for the domains alone, which rank for tasks without evidence (``search.consensus``).
HUB_DOMAIN = 1.28
HUB_DOMAIN_FLOOR = 0.5


@dataclass(frozen=True, eq=False)
class Newcomer:
    """A spec that is to be added: ``domain`` ``(D,)`` and ``behaviour`` ``(k,)`` in the space ``space_id``."""

    name: str
    space_id: str
    domain: Array
    behaviour: Array

    @property
    def owner(self) -> str:
        """The part of the name before the slash."""
        return _owner(self.name)


class Neighbours(Protocol):
    """What the gate needs to know of a dock's specs."""

    def outlines(self, space_id: str, length: int) -> tuple[Sequence[str], Array]:
        """Return the names of all learnwares with a spec in the space, sorted, and the first ``length`` numbers of each
        behaviour: ``(N, length)``, or fewer columns where behaviours are shorter.

        A name stands for the version that ``identify`` ranks; ``name@vN`` for another one, which may be copied too.
        """
        ...

    def parts(self, space_id: str, names: Sequence[str]) -> tuple[Array, Array]:
        """Return the domains ``(n, D)`` and behaviours ``(n, k)`` of ``names``, in that order."""
        ...


def check_newcomer(newcomer: Newcomer, neighbours: Neighbours) -> None:
    """Check a spec that is to be added.

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
                f"{found.describe()}, so it would match tasks that its model knows nothing about",
                remedy="make the spec on inputs of one task, or ask the operator of the dock to vouch for it "
                "(`learndock add --vouch`)",
                about=newcomer.name,
            )


def check_canonical(newcomer: Newcomer) -> None:
    """Check that both parts have unit root mean square, as every recipe makes them.

    Raises:
        SuspectSpec: one has not.
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
            about=chosen[nearest].partition("@")[0],
        )


@dataclass(frozen=True)
class Centrality:
    """Mean similarity to the sentinels, of both parts and of the domain alone; ``usual`` is theirs to each other."""

    own: float
    usual: float
    own_domain: float
    usual_domain: float
    sentinels: int

    @property
    def hub(self) -> bool:
        """Whether it is similar to everything."""
        overall = self.own > max(HUB_FLOOR, HUB * self.usual)
        return overall or self.own_domain > max(HUB_DOMAIN_FLOOR, HUB_DOMAIN * self.usual_domain)

    def describe(self) -> str:
        """Return the same in words."""
        return (
            f"its spec is similar to everything: {self.own:.2f} on average to {self.sentinels} learnwares that have "
            f"little in common (theirs to each other is {self.usual:.2f}), {self.own_domain:.2f} in the domain alone "
            f"({self.usual_domain:.2f})"
        )


@dataclass(frozen=True, eq=False)
class Sentinels:
    """Learnwares with little in common: names, domains ``(s, D)`` and behaviours ``(s, k)``, rows of length 1."""

    names: tuple[str, ...]
    domains: Array
    behaviours: Array

    @cached_property
    def usual(self) -> tuple[float, float]:
        """Medians of each one's mean similarity to the others: of both parts, and of the domains."""
        domains, behaviours = self.domains @ self.domains.T, self.behaviours @ self.behaviours.T
        return _median_apart((domains + behaviours) / 2), _median_apart(domains)

    def ask(self, domains: Array, behaviours: Array) -> list[Centrality]:
        """Return how similar each of ``domains`` ``(n, D)`` and ``behaviours`` ``(n, k)`` is to all sentinels."""
        domain = (unit_rows(domains) @ self.domains.T).mean(1)
        overall = (domain + (unit_rows(behaviours) @ self.behaviours.T).mean(1)) / 2
        return [
            Centrality(w, self.usual[0], d, self.usual[1], len(self.names))
            for w, d in zip(overall.tolist(), domain.tolist(), strict=True)
        ]

    def of_others(self, owner: str) -> Sentinels | None:
        """Return the sentinels of other owners than ``owner``; None where too few are left."""
        kept = [i for i, name in enumerate(self.names) if _owner(name) != owner]
        if len(kept) < LEAST_SENTINELS:
            return None
        return Sentinels(tuple(self.names[i] for i in kept), self.domains[kept], self.behaviours[kept])


def _median_apart(alike: NDArray[np.floating]) -> float:
    return float(np.median((alike.sum(1) - np.diag(alike)) / (len(alike) - 1)))


def choose_sentinels(space_id: str, names: Sequence[str], neighbours: Neighbours) -> Sentinels | None:
    """Choose sentinels among the learnwares ``names``; None where fewer than ``LEAST_SENTINELS`` qualify.

    The choice depends on the names alone, not on the order of addition; each name counts once.
    """
    sample = _sample([name for name in names if "@" not in name])
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
    """Yield the learnwares of a space that are hubs now, although they were none when they were added."""
    names = [name for name in neighbours.outlines(space_id, OUTLINE)[0] if "@" not in name]
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
