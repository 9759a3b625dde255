"""What the examples themselves say about how sure a behaviour is: bootstrap, permuted labels, p-values.

Both come from the per-example contributions, without another pass over the helper.

    spread   behaviours of resampled examples, less the behaviour: how much another draw would move it
    null     behaviours of the same inputs under permuted labels: what no dependence looks like

A spec keeps a few rows of each, folded to 128 numbers, so that whoever holds it can give any similarity an
interval and a p-value without seeing an example.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from learndock.data.schema import Schema
from learndock.spec.onepass import Contributions, Shares, balanced_weights
from learndock.spec.sketch import fold

FOLDED = 128
SPREAD_DRAWS = 24
NULL_DRAWS = 40
PERMUTATIONS = 199


def resample(found: Contributions, schema: Schema, draws: int, seed: int) -> NDArray[np.float32]:
    """Behaviours of ``draws`` bootstrap samples less the behaviour, ``(draws, k)``.

    Examples are drawn again within their class, so that every sample keeps the balance that weights rely on.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, 21]))
    n = len(found.own)
    groups = np.zeros(n, np.intp) if schema.type == "regression" else found.shares.argmax(1)
    counts = np.zeros((draws, n), np.float32)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        picks = rows[generator.integers(len(rows), size=(draws, len(rows)))]
        for draw in range(draws):
            np.add.at(counts[draw], picks[draw], 1)
    # A class of m examples varies by a factor (m-1)/m too little when drawn from itself
    least = min(int((groups == g).sum()) for g in np.unique(groups))
    correction = math.sqrt(least / (least - 1)) if least > 1 else 1.0
    moved: NDArray[np.float32] = ((counts - 1) @ found.own) * np.float32(correction / n)
    return moved


def permute(found: Contributions, schema: Schema, draws: int, seed: int) -> NDArray[np.float32]:
    """Behaviours of ``draws`` permutations of the labels, ``(draws, k)``.

    Needs ``found.by_label``. Where gradients exist for a few labels of each example only, labels are drawn from
    those, the own one as often as chance would, and weights are balanced anew.
    """
    assert found.by_label is not None
    generator = np.random.Generator(np.random.Philox(key=[seed, 22]))
    n, columns, size = found.by_label.shape
    known = ~np.isnan(found.by_label[:, :, 0])
    complete = bool(known.all())
    weights = np.zeros((draws, n, columns), np.float32)
    relabelled = None if complete else _relabel(found.shares, known, draws, generator)
    for draw in range(draws):
        shares = found.shares[generator.permutation(n)] if relabelled is None else np.eye(columns)[relabelled[draw]]
        weights[draw] = balanced_weights(schema, shares)
    flat = np.nan_to_num(found.by_label, nan=0.0)
    if complete:
        behaviours = weights.reshape(draws, -1) @ flat.reshape(-1, size)
    else:
        # Anchors sum to zero, so sum_c w_c g_c is 1/p times the label's own anchor; w of that label is
        # (1/p)(1 - 1/columns)
        chosen = np.where(weights > 0, weights * (columns / (columns - 1)), 0).astype(np.float32)
        behaviours = chosen.reshape(draws, -1) @ flat.reshape(-1, size)
    scaled: NDArray[np.float32] = (behaviours / np.float32(n)).astype(np.float32)
    return scaled


def _relabel(shares: Shares, known: NDArray[np.bool_], draws: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Labels ``(draws, n)`` among those in ``known`` ``(n, columns)``, each class about as often as it really is.

    Examples choose one after the other, in random order and in all draws at once: other labels in proportion to
    how many of them are left. Were classes of other sizes than in truth, behaviours would be longer.
    """
    n, columns = shares.shape
    own = shares.argmax(1)
    keep = generator.random((draws, n)) < shares.mean(0)[own]
    order = np.argsort(generator.random((draws, n)), axis=1)
    left = np.tile(np.bincount(own, minlength=columns).astype(float), (draws, 1))
    places = np.arange(draws)
    chosen = np.zeros((draws, n), np.intp)
    for rows in order.T:
        chance = known[rows] * np.maximum(left, 1e-6)
        chance[places, own[rows]] = 0
        steps = chance.cumsum(1)
        drawn = (steps <= (generator.random(draws) * steps[:, -1])[:, None]).sum(1)
        label = np.where(keep[places, rows], own[rows], drawn)
        chosen[places, rows] = label
        left[places, label] -= 1
    return chosen


def evidence(behaviour: NDArray[np.float32], permuted: NDArray[np.float32]) -> float:
    """Permutation p-value of a behaviour's length: do outputs depend on inputs at all, as the helper sees them?

    ``behaviour`` ``(k,)``, ``permuted`` ``(draws, k)``; (1 + draws at least as long) / (1 + draws).
    """
    length = float(behaviour @ behaviour)
    longer = int((np.einsum("dk,dk->d", permuted, permuted) >= length).sum())
    return (1 + longer) / (1 + len(permuted))


def folded(rows: NDArray[np.float32], unit: float) -> NDArray[np.float32]:
    """Rows ``(draws, k)`` in units of the behaviour, folded to ``(draws, 128)``."""
    return fold(rows, min(FOLDED, rows.shape[1])) / np.float32(unit)


def projected_deviation(
    rows: NDArray[np.float32], along: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard deviation of ``rows`` ``(draws, f)`` along each of ``along`` ``(m, f)``, all folded.

    Returns ``(m,)`` twice: as it is, and less the noise of folding. A folded inner product has noise of variance
    |row|^2 |along|^2 / f of its own; its expectation is taken off, but never more than four fifths.
    """
    width = rows.shape[1]
    square = ((rows @ along.T) ** 2).mean(0).astype(np.float64)
    noise = float((rows**2).sum(1).mean()) * (along.astype(np.float64) ** 2).sum(1) / width
    raw = np.maximum(square, 1e-24)
    return np.sqrt(raw), np.sqrt(np.maximum(raw - noise, 0.2 * raw))


def tail(t: NDArray[np.float64], degrees: int) -> NDArray[np.float64]:
    """One-sided p-value of Student's t with ``degrees`` of freedom (Wallace 1959, within 0.002)."""
    z = np.sign(t) * np.sqrt(degrees * np.log1p(t * t / degrees)) * (8 * degrees + 1) / (8 * degrees + 3)
    return np.array([0.5 * math.erfc(v / math.sqrt(2)) for v in np.atleast_1d(z)])
