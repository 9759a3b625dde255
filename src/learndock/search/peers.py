"""What to go by where a user's examples say nothing: the kind of inputs, and what learnwares of that kind agree on.

Sixteen examples a class leave some tasks without evidence: their behaviour is noise, and ranking by it picks models at
random, untrained ones among them. What remains is the domain, and the fact that trained models of one domain resemble
each other while noise resembles nothing. So where a task's ``evidence`` is above the level

    score = (12 * domain + 1/2 * behaviour + 1/2 * peers) / 13

with *peers* the cosine of a learnware's behaviour with the weighted sum of the others', each weighing as much as it is
near to the task's domain and reliable, and no owner more than one learnware would (who uploads a hundred copies still
has one voice). Where learnwares answer several questions about the same inputs, their crowd is of none: so those
that the examples lean to, however little, speak louder. Such a match is the closest there is, not evidence:
``Identification.fits`` does not look at it. The numbers are those of docs/research-log.md, sections 8, 25 and 31.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from learndock.spec.spec import Array, Spec

#: A task with a larger permutation p-value carries no evidence of its own.
LEVEL = 0.05
#: How far from the nearest domain (in cosine) a learnware's voice falls to 1/e.
NEAR = 0.2
DOMAIN_WEIGHT = 12.0
PEERS_SHARE = 0.5
#: How much louder a learnware speaks for each unit of its behaviour's t (cosine over its deviation with permuted
#: labels): a likelihood would have about t itself in the exponent, which is too sure of examples that say nothing.
LEAN = 0.25
#: No t counts for more than this.
CERTAIN = 3.0
#: What a behaviour's own cosine counts in the score.
BEHAVIOUR_WEIGHT = (1 - PEERS_SHARE) / (DOMAIN_WEIGHT + 1)
#: The nearest by domain, among whom peers are asked.
SHORTLIST = 200


def without_evidence(spec: Spec) -> bool:
    """Whether a task's own examples leave its behaviour to chance (unknown counts as evidence)."""
    return spec.evidence is not None and spec.evidence > LEVEL


def agreement(
    domain: NDArray[np.floating],
    behaviours: Array,
    reliability: NDArray[np.floating],
    owners: Sequence[str],
    leaning: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """Cosine of each of ``behaviours`` ``(m, k)`` (unit rows) with what the others say, ``(m,)``; 0 for one alone.

    ``domain`` ``(m,)`` are cosines with the task's domain; ``owners`` says whose each is; ``leaning`` ``(m,)`` is the t
    of each behaviour's cosine with the task's, where it is known.
    """
    if len(behaviours) == 0:
        return np.zeros(0)
    near = np.exp(-(domain.max() - domain) / NEAR).astype(np.float64)
    _, whose = np.unique(np.asarray(owners), return_inverse=True)
    # An owner's learnwares share one voice, as loud as the nearest of them
    loudest, total = np.zeros(whose.max() + 1), np.zeros(whose.max() + 1)
    np.maximum.at(loudest, whose, near)
    np.add.at(total, whose, near)
    lean = 1.0 if leaning is None else np.exp(LEAN * np.clip(leaning, -CERTAIN, CERTAIN))
    voice = lean * near * reliability * (loudest / np.maximum(total, 1e-12))[whose]
    crowd = (voice.astype(np.float32) @ behaviours).astype(np.float64)
    along = behaviours.astype(np.float64) @ crowd
    own = np.einsum("mk,mk->m", behaviours, behaviours, dtype=np.float64)
    rest = np.maximum(crowd @ crowd - 2 * voice * along + voice**2 * own, 0.0)
    apart = along - voice * own
    found: NDArray[np.float64] = np.divide(apart, np.sqrt(rest * own), out=np.zeros_like(apart), where=rest > 1e-12)
    return found


def score(
    domain: NDArray[np.floating], behaviour: NDArray[np.floating], peers: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The score of the module's head, in [-1, 1]."""
    found = DOMAIN_WEIGHT * domain + (1 - PEERS_SHARE) * behaviour + PEERS_SHARE * peers
    return np.asarray(found / (DOMAIN_WEIGHT + 1), np.float64)
