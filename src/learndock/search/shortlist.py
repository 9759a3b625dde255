"""Which rows can be among the nearest to a vector, from their first few principal components.

With an orthonormal basis P and what it leaves over, x = P P'x + rest(x), the Cauchy-Schwarz inequality bounds a product
by its short part: |x.q - P'x.P'q| <= |rest(x)| |rest(q)|. So rows whose upper bound is below the k-th best lower bound
cannot be among the k best, and the search reads a sixth of the memory. Nothing is approximated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from learndock.spec.spec import Array

COMPONENTS = 64
#: Rows from which a short search pays.
LEAST = 2000
#: Rows whose components choose the basis.
SAMPLE = 4000
#: Rounding of float32 products of unit rows.
_SLACK = 1e-5


class Shortlist:
    """Short parts ``(N, COMPONENTS)`` of unit rows, and the lengths ``(N,)`` of what they leave over."""

    def __init__(self, rows: Array, basis: Array | None = None) -> None:
        self.basis = _basis(rows) if basis is None else basis
        self._short: Array = rows @ self.basis
        self._rest = _rest(self._short)

    def candidates(self, unit: Array, rows: NDArray[np.intp] | None, most: int) -> NDArray[np.intp]:
        """Return those of ``rows`` ``(m,)``, or of all, that may be among the ``most`` nearest to ``unit``."""
        asked: Array = unit @ self.basis
        short = self._short @ asked
        reach = self._rest * _rest(asked[None])[0]
        if rows is not None:
            short, reach = short[rows], reach[rows]
        lower = short - reach
        bar = np.partition(lower, len(lower) - most)[len(lower) - most] if len(lower) > most else -np.inf
        found = np.flatnonzero(short + reach >= bar - _SLACK)
        picked: NDArray[np.intp] = found if rows is None else rows[found]
        return picked


def _rest(short: Array) -> NDArray[np.float32]:
    found = 1 - np.einsum("nk,nk->n", short, short, dtype=np.float64)
    rest: NDArray[np.float32] = np.sqrt(np.maximum(found, 0)).astype(np.float32) + np.float32(1e-4)
    return rest


def _basis(rows: Array) -> Array:
    """The principal directions of a sample of ``rows`` ``(N, width)``: ``(width, COMPONENTS)``, orthonormal."""
    # Drawn, because every second row may be one owner's
    drawn = np.random.Generator(np.random.Philox(key=[0, 31])).permutation(len(rows))[:SAMPLE]
    sample = rows[np.sort(drawn)].astype(np.float64)
    found: Array = np.linalg.eigh(sample.T @ sample)[1][:, -COMPONENTS:].astype(np.float32)
    return np.ascontiguousarray(found)
