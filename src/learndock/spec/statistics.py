"""What the examples themselves say about how sure a behaviour is.

The behaviour is the mean of up to 16 small ones, of groups of examples that hold every label alike. Two questions
are answered from those, without another pass over the helper:

    how far would another draw of examples move it?   groups resampled
    what would it be if labels meant nothing?         labels exchanged within groups: their behaviours change sign

A spec keeps *contrasts*: sums of the groups with weights of zero mean and unit length, orthogonal to each other. A
contrast holds no part of the behaviour itself, and in any direction varies as a single group does, so the contrasts
give the owner of the spec a standard error, an interval and a p-value for any similarity. There are fewer of them
than groups, and of each number one bit is kept.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

CONTRASTS = 12
PERMUTATIONS = 999


def contrasts(groups: Float, seed: int) -> Float | None:
    """Orthogonal contrasts of the groups ``(G, k)``, in units of one group: ``(at most 12, k)``; None for one group."""
    count = len(groups)
    kept = min(CONTRASTS, count - 1)
    if kept < 1:
        return None
    generator = np.random.Generator(np.random.Philox(key=[seed, 22]))
    start = np.concatenate([np.ones((count, 1)), generator.standard_normal((count, kept))], 1)
    weights, _ = np.linalg.qr(start)
    found: Float = weights[:, 1:].T.astype(np.float32) @ groups
    return found


def p_value(groups: Float, seed: int) -> float:
    """Permutation p-value of a behaviour: do outputs depend on inputs at all, as the helper sees them?

    Labels exchanged within a group of ``groups`` ``(G, k)`` change its sign (for two labels exactly, for more in
    mean and variance). The statistic is the squared length of the mean; (1 + draws at least as long) / (1 + draws).
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, 23]))
    gram = (groups @ groups.T).astype(np.float64)
    signs = generator.choice([-1.0, 1.0], size=(PERMUTATIONS, len(groups)))
    lengths = np.einsum("dg,gh,dh->d", signs, gram, signs)
    # Rounding must not make the same labels longer than themselves
    return float((1 + (lengths >= gram.sum() * (1 - 1e-9)).sum()) / (1 + PERMUTATIONS))


def reliability(groups: Float) -> float:
    """Share of the behaviour's squared length that other examples would repeat, from 0 to 1.

    One minus the squared standard error of the mean of ``groups`` ``(G, k)`` over its squared length. A behaviour
    made of chance points somewhere too; its cosines are worth this much of what they seem.
    """
    count = len(groups)
    if count < 2:
        return 0.0
    mean = groups.mean(0, dtype=np.float64)
    noise = float(((groups - mean) ** 2).sum()) / (count - 1) / count
    length = float(mean @ mean)
    return min(max(1.0 - noise / length, 0.0), 1.0) if length > 0 else 0.0


def deviation(rows: Float, along: Float) -> NDArray[np.float64]:
    """Standard deviation of one group's behaviour along each of ``along`` ``(m, k)``, from contrasts: ``(m,)``."""
    square = ((rows @ along.T).astype(np.float64) ** 2).mean(0)
    return np.asarray(np.sqrt(np.maximum(square, 1e-24)), np.float64)


def tail(t: NDArray[np.float64], degrees: int) -> NDArray[np.float64]:
    """One-sided p-value of Student's t (Wallace 1959: within 0.002 from 4 degrees of freedom on)."""
    z = np.sign(t) * np.sqrt(degrees * np.log1p(t * t / degrees)) * (8 * degrees + 1) / (8 * degrees + 3)
    return np.array([0.5 * math.erfc(v / math.sqrt(2)) for v in np.atleast_1d(z)])


def critical(share: float, degrees: int) -> float:
    """The t that Student's distribution exceeds with probability ``share``, by bisection of ``tail``."""
    low, high = 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        if tail(np.array([middle]), degrees)[0] > share:
            low = middle
        else:
            high = middle
    return high


def pack_bits(rows: Float) -> tuple[NDArray[np.uint8], Float]:
    """Signs of ``rows`` ``(r, k)`` as bits ``(r, k/8)``, and a scale for each row.

    The scale is |row|^2 / sum |row_i|: the row of signs times it has the right inner product with the row itself.
    """
    total = np.abs(rows).sum(1, dtype=np.float64)
    square = np.square(rows, dtype=np.float64).sum(1)
    scales = np.divide(square, total, out=np.zeros_like(total), where=total > 0)
    return np.packbits(rows >= 0, axis=1), scales.astype(np.float32)


def unpack_bits(bits: NDArray[np.uint8], scales: Float) -> Float:
    """What ``pack_bits`` kept, ``(r, k)``."""
    signs = np.unpackbits(bits, axis=1).astype(np.float32) * 2 - 1
    return np.asarray(signs * scales[:, None], np.float32)
