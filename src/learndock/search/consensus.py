"""What to go by where a user's examples say nothing: the kind of inputs, and what learnwares of that kind agree on.

Sixteen examples a class leave some tasks without evidence: their behaviour is noise, and ranking by it picks models at
random, untrained ones among them. What remains is the domain, and the fact that trained models of one domain resemble
each other while noise resembles nothing. So where a task's ``p_value`` is above the level

    score = (12 * domain + (1 - share) * behaviour + share * consensus) / 13

with *consensus* the cosine of a learnware's behaviour with the weighted sum of the others', each weighing as much as it
is near to the task's domain and reliable, and no owner more than one learnware would (who uploads a hundred copies
still has one voice). Where the learnwares of a domain answer one question, that sum is its answer, and share is 3/4.
Where they answer several about the same inputs, it is the answer to none: share is 2/5 there, and those that the
examples lean to, however little, speak louder. Which it is shows in what they have in common (``one_question``).
Where few are near, theirs is no crowd's word, and share falls to 0. Such a match is the closest there is, not evidence:
``Identification.fits`` does not look at it. The numbers are those of docs/research-log.md, sections 8, 25 and 31.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learndock.spec.spec import Array, Spec

#: A task with a larger permutation p-value carries no evidence of its own.
LEVEL = 0.05
#: How far from the nearest domain (in cosine) a learnware's voice falls to 1/e.
NEAR = 0.2
DOMAIN_WEIGHT = 12.0
#: The share of the consensus beside the behaviour: where there are several questions, and where there is one.
SHARES = (0.4, 0.75)
#: Several questions, to one: what the first factor holds of all that learnwares have in common, and the second
#: factor's strength (mean cosine it would give every two of them). Either may say one; between, a mixture.
FIRST = (0.45, 0.55)
SECOND = (0.09, 0.07)
#: So many voices are no crowd, and so many are one in full; between, in proportion.
CROWD = (4, 8)
#: How much louder a learnware speaks, among several questions, for each unit of its behaviour's t (cosine over its
#: deviation with permuted labels). A likelihood would have t itself: too sure of examples that say nothing.
LEAN = 0.25
#: No t counts for more than this.
CERTAIN = 3.0
#: The nearest by domain, among whom the consensus is formed.
SHORTLIST = 200


@dataclass(frozen=True, eq=False)
class Heard:
    """What the others say of m learnwares: ``agreement`` ``(m,)``, cosines, and its ``share`` in the score."""

    agreement: NDArray[np.float64]
    share: float

    @property
    def own(self) -> float:
        """What a learnware's own behaviour counts in the score."""
        return (1 - self.share) / (DOMAIN_WEIGHT + 1)


def without_evidence(spec: Spec) -> bool:
    """Whether a task's own examples leave its behaviour to chance (unknown counts as evidence)."""
    return spec.p_value is not None and spec.p_value > LEVEL


def listen(
    domain: NDArray[np.floating],
    behaviours: Array,
    reliability: NDArray[np.floating],
    owners: Sequence[str],
    leaning: NDArray[np.floating] | None = None,
) -> Heard:
    """What the others say of each of ``behaviours`` ``(m, k)`` (unit rows); of one alone, nothing (0).

    ``domain`` ``(m,)`` are cosines with the task's domain; ``owners`` says whose each is; ``leaning`` ``(m,)`` is the t
    of each behaviour's cosine with the task's, where it is known.
    """
    if len(behaviours) == 0:
        return Heard(np.zeros(0), 0.0)
    near = np.exp(-(domain.max() - domain) / NEAR).astype(np.float64)
    _, whose = np.unique(np.asarray(owners), return_inverse=True)
    # An owner's learnwares share one voice, as loud as the nearest of them
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
    """To how many equally loud owners these voices come (inverse of Simpson's index)."""
    owners = np.bincount(whose, said)
    return float(owners.sum() ** 2 / max(np.square(owners).sum(), 1e-24))


def one_question(behaviours: Array, weights: NDArray[np.floating], whose: NDArray[np.integer]) -> float:
    """Whether learnwares answer one question (1) or several (0), by the factors of what they have in common.

    Eigenvalues of the cosines of ``behaviours`` ``(m, k)`` (unit rows), weighed by ``weights`` ``(m,)`` on either side,
    without those of a learnware or an owner (``whose``, ``(m,)``) with itself. One, where the first holds most, or
    where the second is so weak that there is no other question to be drowned.
    """
    cosines = (behaviours @ behaviours.T).astype(np.float64) * np.multiply.outer(weights, weights)
    cosines[whose[:, None] == whose[None]] = 0.0
    power, most = float(np.square(cosines).sum()), float(np.square(weights).sum())
    if power <= 1e-24:
        return 1.0
    factors = np.linalg.eigvalsh(cosines)
    first, second = factors[-1] ** 2 / power, factors[-2] / most
    return max(_between(first, *FIRST), _between(second, *SECOND))


def _between(value: float, none: float, whole: float) -> float:
    """How far ``value`` is on the way from ``none`` to ``whole``, in [0, 1]."""
    return float(np.clip((value - none) / (whole - none), 0, 1))


def _agreement(behaviours: Array, voice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of each behaviour with the sum of the others', weighed by ``voice`` ``(m,)``."""
    crowd = (voice.astype(np.float32) @ behaviours).astype(np.float64)
    along = behaviours.astype(np.float64) @ crowd
    own = np.einsum("mk,mk->m", behaviours, behaviours, dtype=np.float64)
    rest = np.maximum(crowd @ crowd - 2 * voice * along + voice**2 * own, 0.0)
    apart = along - voice * own
    found: NDArray[np.float64] = np.divide(apart, np.sqrt(rest * own), out=np.zeros_like(apart), where=rest > 1e-12)
    return found


def score(domain: NDArray[np.floating], behaviour: NDArray[np.floating], heard: Heard) -> NDArray[np.float64]:
    """The score of the module's head, in [-1, 1]."""
    found = DOMAIN_WEIGHT * domain + (1 - heard.share) * behaviour + heard.share * heard.agreement
    return np.asarray(found / (DOMAIN_WEIGHT + 1), np.float64)
