"""The index that is always right: every vector is multiplied. The oracle of all others."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from learndock.errors import Conflict, NotFound, SpecError, UsageError
from learndock.spec.spec import Array

#: Products of vectors of at most this length stay within float32.
MAX_LENGTH = 1e18
_FIRST_ROWS = 64
#: One unit in the last place of float32, twice, for the matrix product's rounding errors.
_ROUNDING = 2 * float(np.finfo(np.float32).eps)


class ExactIndex:
    """Float32 vectors in one matrix that doubles as it fills; the last row moves into a removed one's place.

    A matrix product in float32 rounds by where a row happens to lie. So it only chooses candidates, with room
    for its rounding error, and their products are taken again in float64, row by row: equal vectors have
    equal products, and answers do not depend on the order of additions.
    """

    def __init__(self, width: int) -> None:
        if width < 1:
            raise UsageError(f"an index needs vectors of at least one number, not {width}")
        self.width = width
        self._matrix: Array = np.empty((0, width), dtype=np.float32)
        self._lengths: Array = np.empty(0, dtype=np.float32)
        self._ids: list[str] = []
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: Sequence[str], vectors: Array) -> None:
        """See ``Index.add``."""
        rows = np.asarray(vectors, dtype=np.float32)
        if rows.shape != (len(ids), self.width):
            raise SpecError(f"{len(ids)} vectors of {self.width} numbers expected, the shape is {rows.shape}")
        lengths = self._checked_lengths(rows, ids)
        if len(set(ids)) != len(ids):
            raise Conflict("an id stands twice among those to add")
        for name in ids:
            if name in self._places:
                raise Conflict("is in the index already", about=name)
        start, end = len(self), len(self) + len(ids)
        self._grow(end)
        self._matrix[start:end] = rows
        self._lengths[start:end] = lengths
        self._ids.extend(ids)
        self._places.update(zip(ids, range(start, end), strict=True))

    def remove(self, ids: Sequence[str]) -> None:
        """See ``Index.remove``."""
        for name in ids:
            if name not in self._places:
                raise NotFound("not in the index", about=name)
        for name in dict.fromkeys(ids):
            self._remove(name)

    def search(self, query: Array, top: int, *, allowed: Collection[str] | None = None) -> list[tuple[str, float]]:
        """See ``Index.search``."""
        if top < 1:
            raise UsageError(f"at least the first 1 can be asked for, not {top}")
        vector = np.asarray(query, dtype=np.float32)
        if vector.shape != (self.width,):
            raise SpecError(f"a query of {self.width} numbers expected, the shape is {vector.shape}")
        length = float(self._checked_lengths(vector[None, :], ("query",))[0])
        places = self._candidates(vector, length, top, self._allowed(allowed))
        products = (self._matrix[places].astype(np.float64) * vector.astype(np.float64)).sum(axis=1)
        found = [(self._ids[place], float(product)) for place, product in zip(places, products, strict=True)]
        return sorted(found, key=lambda match: (-match[1], match[0]))[:top]

    def _allowed(self, allowed: Collection[str] | None) -> NDArray[np.intp] | None:
        """Rows of the allowed ids ``(m,)``; None for all."""
        if allowed is None:
            return None
        return np.array(sorted({self._places[name] for name in allowed if name in self._places}), dtype=np.intp)

    def _candidates(self, vector: Array, length: float, top: int, rows: NDArray[np.intp] | None) -> NDArray[np.intp]:
        """Rows among which the best ``top`` are for certain ``(m,)``."""
        n = len(self)
        if rows is None:
            rows = np.arange(n, dtype=np.intp)
        if len(rows) <= top:
            return rows
        few = len(rows) < n // 4
        products = self._matrix[rows] @ vector if few else (self._matrix[:n] @ vector)[rows]
        # |computed - true| <= width * eps * |x| |q|, whatever order the sum was taken in.
        error = self._lengths[rows].astype(np.float64) * (length * self.width * _ROUNDING)
        bar = np.partition(products - error, len(rows) - top)[len(rows) - top]
        best: NDArray[np.intp] = rows[products + error >= bar]
        return best

    def _checked_lengths(self, rows: Array, ids: Sequence[str]) -> Array:
        """Euclidean lengths of ``rows`` ``(n, width)``: ``(n,)``."""
        lengths = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
        for place in np.flatnonzero(~(lengths <= MAX_LENGTH)).tolist():
            finite = bool(np.isfinite(rows[place]).all())
            raise SpecError(f"its vector {'is too long' if finite else 'holds NaN or infinity'}", about=ids[place])
        return np.asarray(lengths, dtype=np.float32)

    def _grow(self, needed: int) -> None:
        room = len(self._matrix)
        if needed <= room:
            return
        room = max(needed, 2 * room, _FIRST_ROWS)
        matrix = np.empty((room, self.width), dtype=np.float32)
        matrix[: len(self)] = self._matrix[: len(self)]
        lengths = np.empty(room, dtype=np.float32)
        lengths[: len(self)] = self._lengths[: len(self)]
        self._matrix, self._lengths = matrix, lengths

    def _remove(self, name: str) -> None:
        place = self._places.pop(name)
        last = len(self._ids) - 1
        if place != last:
            moved = self._ids[last]
            self._matrix[place], self._lengths[place] = self._matrix[last], self._lengths[last]
            self._ids[place] = moved
            self._places[moved] = place
        self._ids.pop()
