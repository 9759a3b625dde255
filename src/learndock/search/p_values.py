"""How sure a match is: intervals, p-values of one learnware, and of the best of a dock.

All of it comes from the *contrasts* in the task's spec (see ``spec/statistics.py``): in any direction they deviate as
the behaviour does between draws of examples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from learndock.spec.spec import Array, Spec
from learndock.spec.statistics import critical, deviation, tail

#: Probability of naming a learnware where none has anything to do with the task.
FALSE_ALARM = 0.05
#: Learnwares on which the best of permuted labels is simulated; of more, this many are sampled.
FAMILY = 20_000
CHANCES = 1999
#: Learnwares that permuted labels are compared with at once: their products stay in the processor's cache.
_BLOCK = 256


def interval_halfwidth(
    spec: Spec, behaviours: Array, cosines: NDArray[np.floating], weight: NDArray[np.floating]
) -> NDArray[np.float64] | None:
    """Return half of the 90% interval of the score for unit ``behaviours`` ``(m, k)``: ``(m,)``, or None.

    ``weight`` ``(m,)`` is what a behaviour's cosine counts in the score.

    The cosine moves, to first order, by what resampled examples add along v - cos * tau.
    """
    if spec.contrasts is None or not len(behaviours):
        return None
    along = (behaviours - cosines[:, None] * spec.unit_behaviour[None]).astype(np.float32)
    width = critical(0.05, len(spec.contrasts)) * deviation(spec.contrasts, along) / _length(spec)
    return np.asarray(width * weight, np.float64)


def match_p_values(spec: Spec, behaviours: Array, cosines: NDArray[np.floating]) -> NDArray[np.float64] | None:
    """Return the p-value of each cosine against behaviours of permuted labels, ``(m,)``, or None."""
    t = deviates(spec, behaviours, cosines)
    return None if t is None or spec.contrasts is None else tail(t, len(spec.contrasts))


def deviates(spec: Spec, behaviours: Array, cosines: NDArray[np.floating]) -> NDArray[np.float64] | None:
    """Return each cosine in units of its deviation with permuted labels (Student's t), ``(m,)``, or None."""
    if spec.contrasts is None or not len(behaviours):
        return None
    t = cosines.astype(np.float64) * _length(spec) / deviation(spec.contrasts, behaviours)
    return np.asarray(t, np.float64)


def p_value_of_best(spec: Spec, domain: Array, behaviour: Array, along: Array, seed: int = 0) -> float:
    """Return how often the same search does as well with permuted labels, over the N learnwares searched.

    ``domain`` ``(N,)`` is the domain's part of the scores and ``behaviour`` ``(N,)`` the behaviour's, in the same
    units; ``along`` ``(r, N)`` is what the r contrasts of ``spec`` give in the behaviour's place.

    Permuting labels leaves the domain as it is and replaces the behaviour by a mixture of the contrasts. Two statistics
    are compared, each by its maximum over all learnwares (max-T, Westfall and Young 1993): the score, in which
    learnwares of another domain hardly compete, and the behaviour alone in units of its deviation, for models of the
    same question about other inputs. The smaller p-value counts twice.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, 51]))
    if len(domain) > FAMILY:
        drawn = np.sort(generator.permutation(len(domain))[:FAMILY])
        drawn = np.union1d(drawn, [int((domain + behaviour).argmax())])
        domain, behaviour, along = domain[drawn], behaviour[drawn], along[:, drawn]
    draws = len(along)
    unit = np.sqrt(np.maximum(np.square(along, dtype=np.float64).mean(0), 1e-24)).astype(np.float32)
    mixtures = generator.standard_normal((CHANCES, draws)).astype(np.float32) / np.float32(draws**0.5)
    # Student's t in place of the normal: the deviation itself is known from a few contrasts only
    mixtures *= np.sqrt(draws / generator.chisquare(draws, CHANCES)).astype(np.float32)[:, None]
    ones = np.ones((CHANCES, 1), np.float32)
    by_score = _reaching(np.hstack([mixtures, ones]), np.vstack([along, domain]), float((domain + behaviour).max()))
    by_behaviour = _reaching(mixtures, along / unit, float((behaviour / unit).max()))
    return min(1.0, 2 * (1 + min(by_score, by_behaviour)) / (1 + CHANCES))


def _reaching(rows: Array, columns: Array, bar: float) -> int:
    """How many of ``rows`` ``(n, r)`` have a product with any of ``columns`` ``(r, m)`` that is at least ``bar``.

    Long columns come first, and rows that have reached the bar are compared no further: few learnwares decide most.
    """
    # What a row can reach with the longest column, by Cauchy and Schwarz; with room for rounding.
    lengths = np.linalg.norm(columns, axis=0)
    open_ = rows[np.linalg.norm(rows, axis=1) * lengths.max() * np.float32(1 + 1e-5) >= bar]
    reached = 0
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), _BLOCK):
        if not len(open_):
            break
        there = (open_ @ columns[:, order[start : start + _BLOCK]]).max(1) >= np.float32(bar)
        reached += int(there.sum())
        open_ = open_[~there]
    return reached


def _length(spec: Spec) -> float:
    """Length of ``behaviour`` in the units of the contrasts (unit root mean square)."""
    return float(np.sqrt(spec.behaviour.shape[0]))
