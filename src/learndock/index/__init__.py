"""Finding the nearest of many vectors. An index knows ids and numbers, nothing of learnwares."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from learndock.index.exact import ExactIndex
from learndock.spec.spec import Array

__all__ = ["ExactIndex", "Index"]


class Index(Protocol):
    """Vectors under ids, asked for those with the largest inner product.

    The same vectors give the same answer, to the last bit and in the same order, however they came in.
    """

    def __len__(self) -> int:
        """Number of vectors."""
        ...

    def add(self, ids: Sequence[str], vectors: Array) -> None:
        """Add ``vectors`` ``(n, width)``, one for each id: all, or none where one is refused.

        Raises:
            SpecError: another width, NaN, infinity, or too large to multiply.
            Conflict: an id is there already, or twice among ``ids``.
        """
        ...

    def remove(self, ids: Sequence[str]) -> None:
        """Remove the vectors of ``ids``: all, or none where one is unknown.

        Raises:
            NotFound: an id is not there.
        """
        ...

    def search(self, query: Array, top: int, *, allowed: Collection[str] | None = None) -> list[tuple[str, float]]:
        """The ``top`` ids with the largest inner product with ``query`` ``(width,)``, best first.

        Equal products stand in the order of their ids. With ``allowed``, only those ids are looked at.

        Raises:
            SpecError: another width, NaN, infinity, or too large to multiply.
            UsageError: ``top`` is below 1.
        """
        ...
