"""Scores of learnwares for a task: domain and behaviour, and what they are ordered by.

score      (domain + trust * behaviour) / 2, the mean of two cosines
ranked by  the same or, where the task's examples carry no evidence, the score of ``consensus``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learndock.search import consensus
from learndock.search.p_values import deviates
from learndock.spec.spec import Array, Spec

#: Weight of the domain beside the behaviour. Between 0.5 and 2 the ranking hardly moves (docs/research-log.md).
DOMAIN_WEIGHT = 1.0
#: A behaviour of this reliability or more is trusted fully. Those of shuffled and hardly trained models are mostly
#: below, those of models trained with 60% label noise above. Beyond it, reliability says how well the helper sees a
#: question, not how good a model is (docs/research-log.md, sections 25 and 31).
REPEATS = 0.6


@dataclass(frozen=True, eq=False)
class Ranked:
    """What a task's spec says of m learnwares, ``(m,)`` each; ``key`` is what they are ordered by.

    ``consensus`` is None where the task's examples carry evidence. ``weight`` is what a behaviour's cosine counts in
    ``score``.
    """

    key: NDArray[np.float64]
    score: NDArray[np.float64]
    domain: NDArray[np.float64]
    behaviour: NDArray[np.float64]
    weight: NDArray[np.float64]
    consensus: NDArray[np.float64] | None


def trust(reliability: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how much models' behaviours count, in [0, 1]: min(reliability / ``REPEATS``, 1)."""
    return np.minimum(np.asarray(reliability, np.float64) / REPEATS, 1.0)


def rank(
    spec: Spec, domains: Array, behaviours: Array, reliability: NDArray[np.floating], owners: Sequence[str]
) -> Ranked:
    """Score learnwares for the task ``spec``: unit rows ``(m, width)`` and ``(m, k)``, and the owner of each."""
    domain, behaviour = cosines(domains, spec.unit_domain), cosines(behaviours, spec.unit_behaviour)
    weight = trust(reliability) / (1 + DOMAIN_WEIGHT)
    score = DOMAIN_WEIGHT / (1 + DOMAIN_WEIGHT) * domain + weight * behaviour
    if not consensus.without_evidence(spec):
        return Ranked(score, score, domain, behaviour, weight, None)
    heard = consensus.listen(domain, behaviours, reliability, owners, deviates(spec, behaviours, behaviour))
    return Ranked(consensus.score(domain, behaviour, heard), score, domain, behaviour, weight, heard.agreement)


def cosines(rows: Array, vector: Array) -> NDArray[np.float64]:
    """Return the products of unit ``rows`` ``(m, k)`` with a unit ``vector`` ``(k,)``, row by row in float64.

    Unlike a matrix product's, the result for a row does not depend on where the row is.
    """
    return np.asarray((rows.astype(np.float64) * vector).sum(1), np.float64)


def unit_rows(rows: Array) -> Array:
    """Return rows of length one; zero rows stay zero."""
    found: Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-30))
    return found
