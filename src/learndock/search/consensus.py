"""Rank for tasks without evidence: by domain, and by agreement among the learnwares of that domain.

Sixteen examples per class leave some tasks without evidence: their behaviour is noise, and ranking by it picks models
at random, untrained ones among them. What remains is the domain, and the fact that trained models of one domain
resemble each other while noise resembles nothing. So where a task's ``p_value`` is above ``LEVEL``, learnwares are
ordered by

    (12 * domain + (1 - share) * behaviour + share * consensus) / 13

*Consensus* is the cosine of a learnware's behaviour with the weighted sum of the others'. Each weighs more the nearer
it is to the task's domain and the more reliable it is, and all learnwares of an owner weigh as much as one would, so
that uploading a hundred copies gains nothing. If the learnwares of a domain answer one question, the sum is its
answer, and share is 3/4. If they answer several questions about the same inputs, the sum is the answer to none: share
is 2/5, and learnwares that the examples lean to, however little, weigh more. Their common factors show which case it
is (``one_question``). With few learnwares nearby there is no consensus, and share falls to 0. Such an order is the best
guess, not evidence: ``Identification.fits`` and ``Match.score`` ignore it. The constants are from
docs/research-log.md, sections 8, 25 and 31.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learndock.spec.spec import Array, Spec

#: A task with a larger permutation p-value carries no evidence of its own.
LEVEL = 0.05
#: Distance (in cosine) from the nearest domain at which a learnware's weight falls to 1/e.
NEAR = 0.2
DOMAIN_WEIGHT = 12.0
#: Share of the consensus beside the behaviour: for several questions, and for one.
SHARES = (0.4, 0.75)
#: From several questions to one: the first factor's part of all that learnwares have in common, and the second
#: factor's strength (the mean cosine it gives each pair). Either may indicate one question; in between, a mixture.
FIRST = (0.45, 0.55)
SECOND = (0.09, 0.07)
#: Number of equally weighing owners from which a consensus begins to count, and from which it counts fully.
CROWD = (4, 8)
#: How much more (in log) a learnware weighs, among several questions, per unit of its behaviour's t (cosine over its
#: deviation with permuted labels). A likelihood would use t itself, which trusts examples without evidence too much.
LEAN = 0.25
#: Largest t that counts.
CERTAIN = 3.0
#: Number of learnwares, nearest by domain, that form the consensus.
SHORTLIST = 200


@dataclass(frozen=True, eq=False)
class Heard:
    """Agreement of m learnwares with the others: ``agreement`` ``(m,)``, cosines, and its ``share`` in the order."""

    agreement: NDArray[np.float64]
    share: float

    @property
    def own(self) -> float:
        """Weight of a learnware's own behaviour in the order."""
        return (1 - self.share) / (DOMAIN_WEIGHT + 1)


def without_evidence(spec: Spec) -> bool:
    """Whether a task's behaviour may be chance, by its p-value; an unknown p-value counts as evidence."""
    return spec.p_value is not None and spec.p_value > LEVEL


def listen(
    domain: NDArray[np.floating],
    behaviours: Array,
    reliability: NDArray[np.floating],
    owners: Sequence[str],
    leaning: NDArray[np.floating] | None = None,
) -> Heard:
    """Return the agreement of each of ``behaviours`` ``(m, k)`` (unit rows) with the others; 0 for one alone.

    ``domain`` ``(m,)`` are cosines with the task's domain, ``owners`` the owner of each. ``leaning`` ``(m,)`` is the t
    of each behaviour's cosine with the task's, if it is known.
    """
    if len(behaviours) == 0:
        return Heard(np.zeros(0), 0.0)
    near = np.exp(-(domain.max() - domain) / NEAR).astype(np.float64)
    _, whose = np.unique(np.asarray(owners), return_inverse=True)
    # An owner's learnwares share one weight, that of the nearest of them
    loudest, total = np.zeros(whose.max() + 1), np.zeros(whose.max() + 1)
    np.maximum.at(loudest, whose, near)
    np.add.at(total, whose, near)
    voice = near * (loudest / np.maximum(total, 1e-12))[whose]
    nearest = np.argsort(-near, kind="stable")[:SHORTLIST]
    loud = (voice * np.sqrt(np.maximum(reliability, 0)))[nearest]
    one = one_question(behaviours[nearest], loud, whose[nearest])
    lean = 0.0 if leaning is None else (1 - one) * LEAN * np.clip(leaning, -CERTAIN, CERTAIN)
    said = voice * reliability
    share = _between(_voices(said, whose), *CROWD) * (SHARES[0] + (SHARES[1] - SHARES[0]) * one)
    return Heard(_agreement(behaviours, said * np.exp(lean)), share)


def _voices(said: NDArray[np.float64], whose: NDArray[np.integer]) -> float:
    """Number of equally weighing owners that these weights amount to (inverse of Simpson's index)."""
    owners = np.bincount(whose, said)
    return float(owners.sum() ** 2 / max(np.square(owners).sum(), 1e-24))


def one_question(behaviours: Array, weights: NDArray[np.floating], whose: NDArray[np.integer]) -> float:
    """Return whether learnwares answer one question (1) or several (0), by the factors that they have in common.

    The factors are eigenvalues of the cosines of ``behaviours`` ``(m, k)`` (unit rows), weighted by ``weights``
    ``(m,)`` on both sides, with those within an owner (``whose``, ``(m,)``) set to 0. It is one question if the first
    factor dominates, or if the second is too weak to be another question.
    """
    cosines = (behaviours @ behaviours.T).astype(np.float64) * np.multiply.outer(weights, weights)
    cosines[whose[:, None] == whose[None]] = 0.0
    power, most = float(np.square(cosines).sum()), float(np.square(weights).sum())
    if power <= 1e-24:
        return 1.0
    factors = np.linalg.eigvalsh(cosines)
    first, second = factors[-1] ** 2 / power, factors[-2] / most
    return max(_between(first, *FIRST), _between(second, *SECOND))


def _between(value: float, low: float, high: float) -> float:
    """Where ``value`` is between ``low`` (0) and ``high`` (1), clipped."""
    return float(np.clip((value - low) / (high - low), 0, 1))


def _agreement(behaviours: Array, voice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of each behaviour with the sum of the others', weighted by ``voice`` ``(m,)``."""
    crowd = (voice.astype(np.float32) @ behaviours).astype(np.float64)
    along = behaviours.astype(np.float64) @ crowd
    own = np.einsum("mk,mk->m", behaviours, behaviours, dtype=np.float64)
    rest = np.maximum(crowd @ crowd - 2 * voice * along + voice**2 * own, 0.0)
    apart = along - voice * own
    found: NDArray[np.float64] = np.divide(apart, np.sqrt(rest * own), out=np.zeros_like(apart), where=rest > 1e-12)
    return found


def score(domain: NDArray[np.floating], behaviour: NDArray[np.floating], heard: Heard) -> NDArray[np.float64]:
    """Return what learnwares are ordered by (see the module), in [-1, 1]."""
    found = DOMAIN_WEIGHT * domain + (1 - heard.share) * behaviour + heard.share * heard.agreement
    return np.asarray(found / (DOMAIN_WEIGHT + 1), np.float64)
