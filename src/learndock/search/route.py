"""Route: the one learnware that a prompt, several prompts or a task's spec should go to, in under a millisecond.

By domain alone (prompts have no labels) the answer is the learnware whose inputs were most like these. That finds the
topic; learnwares that answer different questions about the same texts cannot be told apart by it, and the answer says
so: ``sure`` is False where the next one is nearly as near. With a labelled task's spec the ``SHORTLIST`` nearest
domains are compared by behaviour too.

A mean of n inputs is nearer to its domain the larger n is. With cosine c between two inputs of one domain, the cosine
of the mean of n inputs with the domain is about sqrt(n c / (1 + (n - 1) c)). Where the nearest learnware is below
``NEAR`` of that, nothing fits. c differs between spaces (``COHESION``, measured by ``benchmarks/route_text.py``); for
other spaces nothing is known, and ``fits`` is None. docs/agents.md has how often this is right.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.package.deprecation import Deprecation
from learndock.search.consensus import without_evidence
from learndock.search.p_values import FALSE_ALARM, match_p_values
from learndock.search.score import DOMAIN_WEIGHT, cosines, trust
from learndock.search.table import Rows, SpecTable
from learndock.spec.domain import Domain
from learndock.spec.spec import Spec

#: Cosine between two inputs of one domain, by the name of the space: the squared median cosine of one text with its
#: task's domain, over 15 tasks.
COHESION = {"minilm-l6": 0.19, "smollm2-135m": 0.75}
#: Share of the expected cosine below which nothing fits.
NEAR = 0.75
#: Difference to the next learnware from which the answer is sure.
MARGIN = 0.05
#: Learnwares nearest by domain that are compared by behaviour, where there is a spec with labels.
SHORTLIST = 32


@dataclass(frozen=True)
class Near:
    """A learnware near the question: ``similarity`` is the cosine of the domains, ``score`` what the order is by.

    ``version`` is the number of the version that was compared, ``latest`` that which the name stands for.
    """

    id: str
    name: str
    score: float
    similarity: float
    reliability: float
    version: int = 1
    latest: int = 1
    deprecated: Deprecation | None = None


@dataclass(frozen=True)
class Route:
    """Where to send a prompt: ``name`` is the learnware, or None where nothing fits; ``reason`` says why in words.

    ``fits`` is None where nobody measured how near is near in this space. ``sure`` is whether the next learnware is at
    least ``MARGIN`` behind. ``by`` is ``domain``, or ``domain and behaviour`` for a spec with labels. ``expected`` is
    the similarity that as many inputs of a learnware's own domain have. ``nearest`` are the first few, ranked.
    """

    name: str | None
    id: str | None
    fits: bool | None
    sure: bool
    by: str
    expected: float | None
    inputs: int
    searched: int
    nearest: tuple[Near, ...]
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "nearest": [asdict(n) for n in self.nearest]}


def route(table: SpecTable, asked: Domain | Spec, rows: Rows | None = None, *, space: str = "", top: int = 5) -> Route:
    """Name the learnware at ``rows`` ``(m,)``, or of all, for ``asked``; ``space`` is the name of its space.

    A model's spec counts as its domain alone: whatever answers about such inputs.
    """
    by_behaviour = isinstance(asked, Spec) and asked.kind == "task" and not without_evidence(asked)
    cohesion = COHESION.get(space)
    n = max(asked.n, 1)
    expected = None if cohesion is None else float(np.sqrt(n * cohesion / (1 + (n - 1) * cohesion)))
    searched = len(table if rows is None else rows)
    by = "domain and behaviour" if by_behaviour else "domain"
    if not searched:
        nothing = "no learnware here has a spec in this space and passes the filters"
        return Route(None, None, False, False, by, expected, asked.n, 0, (), nothing)
    rows = table.near_domain(asked.unit_domain, rows, max(SHORTLIST if by_behaviour else 0, top, 2))
    ids, domain, behaviour, reliability = table.parts(rows)
    similarity = cosines(domain, asked.unit_domain)
    score, p_values = similarity, None
    if isinstance(asked, Spec) and by_behaviour:
        agreement = cosines(behaviour, asked.unit_behaviour)
        score = (DOMAIN_WEIGHT * similarity + trust(reliability) * agreement) / (1 + DOMAIN_WEIGHT)
        p_values = match_p_values(asked, behaviour, agreement)
    order = sorted(range(len(ids)), key=lambda i: (-score[i], ids[i]))
    best = order[0]
    fits, reason = _verdict(float(similarity[best]), expected, p_values, best)
    sure = len(order) == 1 or float(score[best] - score[order[1]]) >= MARGIN
    if fits is not False and not sure:
        level = sum(score[best] - score[i] < MARGIN for i in order)
        reason = f"{level} learnwares are nearly as near; labelled examples tell them apart (`learndock identify`)"
    nearest = tuple(_near(ids[i], score[i], similarity[i], reliability[i]) for i in order[:top])
    name, which = (None, None) if fits is False else (nearest[0].name, nearest[0].id)
    return Route(name, which, fits, bool(sure and fits), by, expected, asked.n, searched, nearest, reason)


def _verdict(
    similarity: float, expected: float | None, p_values: NDArray[np.float64] | None, best: int
) -> tuple[bool | None, str | None]:
    """Whether the best fits, and why not."""
    if p_values is not None:
        if float(p_values[best]) * len(p_values) <= FALSE_ALARM:
            return True, None
        return False, "no learnware of this domain agrees with the labels better than chance"
    if expected is None:
        return None, "how near a fitting learnware is has not been measured in this space"
    if similarity >= NEAR * expected:
        return True, None
    return False, f"the nearest has a similarity of {similarity:.2f}, and {expected:.2f} is usual for what fits"


def _near(which: str, score: float, similarity: float, reliability: float) -> Near:
    return Near(which, which.partition("@")[0], float(score), float(similarity), float(reliability))
