"""Identify: rank the learnwares of a dock for a task spec, and say honestly when nothing fits.

score     mean of the two cosines, domain and behaviour: one inner product of joined vectors, so that an
          index needs to know neither
interval  90% bootstrap interval of the score over the user's examples (behaviour part)
evidence  p-value of the behaviour's similarity against permuted labels, for this learnware alone
fits      whether the best of all learnwares beats the best that permuted labels find in this dock
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.dock import Dock, SpecTable
from learndock.errors import SpaceMismatch, UsageError
from learndock.index import ExactIndex, Index
from learndock.spec import Spec
from learndock.spec.sketch import fold
from learndock.spec.spec import Array, unit
from learndock.spec.statistics import projected_deviation, tail

#: Weight of the domain beside the behaviour. Between 0.5 and 2 the ranking hardly moves (docs/research-log.md).
DOMAIN_WEIGHT = 1.0
#: Chance of naming a learnware where none has anything to do with the task.
FALSE_ALARM = 0.05
#: Standard deviations on either side of a 90% interval.
NORMAL_90 = 1.645
#: Learnwares on which the best of chance is simulated; more are sampled down to this many.
FAMILY = 20_000
CHANCES = 999


@dataclass(frozen=True)
class Match:
    """One learnware, beside the task it was asked for.

    ``score``, ``domain`` and ``behaviour`` are cosines in [-1, 1]; ``interval`` is (low, high) of the score,
    ``evidence`` a p-value; both are None where the task's spec carries no resampling.
    """

    id: str
    name: str
    score: float
    domain: float
    behaviour: float
    interval: tuple[float, float] | None
    evidence: float | None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class Identification:
    """The answer to one task spec.

    ``matches`` are ranked; where ``fits`` is False they are merely the closest, and no answer. ``chance`` is
    the p-value behind ``fits``: how often permuted labels find a learnware as similar in this dock. ``searched``
    counts the learnwares whose spec could be compared.
    """

    fits: bool
    matches: tuple[Match, ...]
    chance: float | None
    searched: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; the closest stand apart from matches, so that nobody takes them for an answer."""
        ranked = [m.to_dict() for m in self.matches]
        return {
            "fits": self.fits,
            "chance": self.chance,
            "searched": self.searched,
            "matches": ranked if self.fits else [],
            "closest": [] if self.fits else ranked,
        }


def joined(domain: Array, behaviour: Array) -> Array:
    """``(n, width + k)`` unit rows whose inner products are scores, from unit parts ``(n, width)``, ``(n, k)``."""
    weight = DOMAIN_WEIGHT / (1 + DOMAIN_WEIGHT)
    return np.concatenate([domain * np.float32(weight**0.5), behaviour * np.float32((1 - weight) ** 0.5)], axis=1)


def index_of(table: SpecTable) -> Index:
    """An exact index over a dock's specs of one space."""
    index = ExactIndex(table.domain.shape[1] + table.behaviour.shape[1])
    index.add(list(table.ids), joined(_unit_rows(table.domain), _unit_rows(table.behaviour)))
    return index


def identify(
    dock: Dock, spec: Spec, *, top: int = 10, allowed: Collection[str] | None = None, seed: int = 0
) -> Identification:
    """Rank the learnwares of ``dock`` for the task ``spec``; ``allowed`` limits the ids that are looked at.

    Raises:
        UsageError: ``spec`` is a model's, or ``top`` is below 1.
        SpaceMismatch: the dock has specs, but none of this space; the message says what differs.
    """
    if spec.kind != "task":
        raise UsageError("identify takes a task spec; this one is of a model (see `learndock spec task`)")
    if top < 1:
        raise UsageError(f"top is {top}; ask for at least 1")
    table = dock.vectors(spec.space_id)
    if not len(table):
        _explain_empty(dock, spec)
        return Identification(False, (), None, 0)
    query = joined(spec.unit_domain[None], spec.unit_behaviour[None])[0]
    found = index_of(table).search(query, top, allowed=allowed)
    rows = {name: row for row, name in enumerate(table.ids)}
    places = [rows[name] for name, _ in found]
    domain = _unit_rows(table.domain[places]) @ spec.unit_domain
    behaviours = _unit_rows(table.behaviour[places])
    behaviour = behaviours @ spec.unit_behaviour
    half = interval_halfwidth(spec, behaviours, behaviour)
    evidence = match_evidence(spec, behaviours, behaviour)
    matches = tuple(
        Match(
            id=full,
            name=full.split("@")[0],
            score=float(score),
            domain=float(domain[i]),
            behaviour=float(behaviour[i]),
            interval=None if half is None else (float(score - half[i]), float(score + half[i])),
            evidence=None if evidence is None else float(evidence[i]),
        )
        for i, (full, score) in enumerate(found)
    )
    family = [rows[name] for name in allowed if name in rows] if allowed is not None else list(range(len(table)))
    chance = chance_of_best(spec, _unit_rows(table.behaviour), places, family, seed)
    return Identification(chance is None or chance <= FALSE_ALARM, matches, chance, len(family))


def interval_halfwidth(spec: Spec, behaviours: Array, cosines: Array) -> NDArray[np.float64] | None:
    """Half of the 90% interval of the score for unit ``behaviours`` ``(m, k)``: ``(m,)``, or None.

    The cosine moves, to first order, by what a resampled behaviour adds along v - cos * tau.
    """
    if spec.spread is None or not len(behaviours):
        return None
    width = spec.spread.shape[1]
    along = fold(behaviours - cosines[:, None] * spec.unit_behaviour[None], width)
    deviation = projected_deviation(spec.spread, along) / _length(spec)
    return NORMAL_90 * deviation / (1 + DOMAIN_WEIGHT)


def match_evidence(spec: Spec, behaviours: Array, cosines: Array) -> NDArray[np.float64] | None:
    """p-value of each cosine against behaviours of permuted labels, ``(m,)``, or None."""
    if spec.null is None or not len(behaviours):
        return None
    deviation = projected_deviation(spec.null, fold(behaviours, spec.null.shape[1]))
    return tail(cosines.astype(np.float64) * _length(spec) / np.maximum(deviation, 1e-12), len(spec.null))


def chance_of_best(
    spec: Spec, behaviours: Array, places: Sequence[int], family: Sequence[int], seed: int
) -> float | None:
    """How often permuted labels find, somewhere in the dock, a learnware as convincing as the ranked ones.

    ``behaviours`` ``(N, k)`` are all of the dock's, ``places`` the ranked rows, ``family`` the rows searched.
    The null rows of the spec span what permuted labels give; Gaussian mixtures of them stand for further
    permutations, and the best of each over the family is compared (max-T, Westfall and Young 1993).
    """
    if spec.null is None or not len(places):
        return None
    generator = np.random.Generator(np.random.Philox(key=[seed, 51]))
    if len(family) > FAMILY:
        drawn = generator.permutation(len(family))[:FAMILY]
        family = sorted({*(family[int(i)] for i in drawn), *places})
    draws, width = spec.null.shape
    along = fold(behaviours[list(family)], width)
    deviation = np.maximum(projected_deviation(spec.null, along), 1e-12)
    cosines = behaviours[list(places)] @ spec.unit_behaviour
    own = np.maximum(projected_deviation(spec.null, fold(behaviours[list(places)], width)), 1e-12)
    best = float((cosines * _length(spec) / own).max())
    mixtures = generator.standard_normal((CHANCES, draws)).astype(np.float32) / np.float32(draws**0.5)
    # Student's t in place of the normal: the deviation itself is known from a few draws only
    freedom = np.sqrt(draws / generator.chisquare(draws, CHANCES))
    strongest = ((mixtures @ spec.null) @ along.T / deviation).max(1) * freedom
    return float((1 + (strongest >= best).sum()) / (1 + CHANCES))


def _length(spec: Spec) -> float:
    """Length of ``behaviour`` in the units of spread and null (unit root mean square)."""
    return float(np.sqrt(spec.behaviour.shape[0]))


def _unit_rows(rows: Array) -> Array:
    return np.stack([unit(r) for r in rows]) if len(rows) else rows


def _explain_empty(dock: Dock, spec: Spec) -> None:
    """Say what differs where a dock has specs, but of other spaces only.

    Raises:
        SpaceMismatch
    """
    for space_id, (name, count) in dock.spaces().items():
        raise SpaceMismatch(
            f"no learnware of this dock has a spec of this task's space ({spec.space.get('name')}, recipe "
            f"{spec.space.get('recipe')}, id {spec.space_id[:12]}); {count} have one of {name} (id {space_id[:12]}). "
            "Make the task's spec with the dock's space and recipe"
        )
