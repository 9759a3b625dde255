"""The sketch: a short random projection of a parameter vector that keeps inner products.

A count-sketch (Charikar, Chen and Farach-Colton 2002): every coordinate is added, with a random sign, to one
of ``size`` buckets. Its error on the cosine of two vectors is about (1 - rho^2)/sqrt(size), as small as a dense
Gaussian projection's, at one addition a coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from learndock.spaces.philox import sketch_tables
from learndock.spaces.space import Space


@dataclass(frozen=True, eq=False)
class Sketch:
    """The tables of one count-sketch, sorted by bucket so that a sketch is one gather and one segmented sum.

    ``order`` ``(count,)`` lists the coordinates bucket by bucket, ``signs`` ``(count,)`` their signs in that
    order, ``starts`` ``(filled,)`` where each bucket in ``buckets`` begins.
    """

    size: int
    order: NDArray[np.int32]
    signs: NDArray[np.float32]
    starts: NDArray[np.intp]
    buckets: NDArray[np.int32]

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sketch ``(n, count)`` vectors to ``(n, size)``."""
        found = np.zeros((len(vectors), self.size), np.float32)
        gathered = np.empty(len(self.order), np.float32)
        for row, vector in zip(found, vectors, strict=True):
            # Row by row: the gathered copy of one vector stays in the cache
            np.take(vector, self.order, out=gathered, mode="clip")
            np.multiply(gathered, self.signs, out=gathered)
            row[self.buckets] = np.add.reduceat(gathered, self.starts)
        return found


@cache
def count_sketch(seed: int, count: int, size: int) -> Sketch:
    """The count-sketch of ``count`` coordinates into ``size`` buckets; the same on every machine."""
    bucket, sign = sketch_tables(seed, count, size)
    order = np.argsort(bucket, kind="stable").astype(np.int32)
    buckets, starts = np.unique(bucket[order], return_index=True)
    return Sketch(size, order, sign[order].astype(np.float32), starts, buckets)


def space_sketch(space: Space) -> Sketch:
    """The sketch that a space prescribes."""
    described = space.description["sketch"]
    return count_sketch(described["seed"], space.size, described["size"])


def fold(sketches: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Fold ``(n, k)`` sketches into the valid smaller ones ``(n, size)`` (index modulo ``size``)."""
    n, k = sketches.shape
    folded: NDArray[np.float32] = sketches.reshape(n, k // size, size).sum(1)
    return folded
