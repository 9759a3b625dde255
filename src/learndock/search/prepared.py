"""The specs of a space, kept ready in memory by whoever answers often.

Gives what ``identify`` gives, for rows that are normalised once and multiplied in one pass: 10,000 learnwares of 4,096
numbers are 180 MB, and a question reads them once. A value is never changed; additions and removals give another one
that shares the rows, so that questions go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from learndock.errors import UsageError
from learndock.search import consensus
from learndock.search.ranking import (
    DOMAIN_WEIGHT,
    FALSE_ALARM,
    FAMILY,
    Identification,
    matches_of,
    p_value_among,
    rank,
    trust,
)
from learndock.spec import Spec
from learndock.spec.spec import Array

#: Rows multiplied at once.
_BLOCK = 256
#: Rounding of float32 products of unit rows; among candidates that are so close, float64 decides.
_SLACK = 1e-5

Rows = NDArray[np.intp]
_Number = TypeVar("_Number", np.float32, np.float64)


class Prepared:
    """Rows of unit length: ``ids``, domains ``(N, width)``, behaviours ``(N, k)``, reliability ``(N,)``."""

    def __init__(self, ids: Sequence[str], domain: Array, behaviour: Array, reliability: NDArray[np.float64]) -> None:
        self._ids = list(ids)
        self._domain, self._behaviour = _unit(domain), _unit(behaviour)
        self._reliability = np.asarray(reliability, np.float64)
        self._count = len(self._ids)
        self.rows = {name: row for row, name in enumerate(self._ids)}

    def __len__(self) -> int:
        return len(self.rows)

    def added(self, ids: Sequence[str], domain: Array, behaviour: Array, reliability: NDArray[np.float64]) -> Prepared:
        """These too. The rows are put behind those that are there, in room that nobody looks at yet."""
        if not self._count:
            return Prepared(ids, domain, behaviour, reliability)
        new, end = Prepared.__new__(Prepared), self._count + len(ids)
        if len(self._ids) == self._count and end <= len(self._domain):
            new._ids, new._domain, new._behaviour = self._ids, self._domain, self._behaviour
            new._reliability = self._reliability
        else:  # no room, or another value has taken it
            room = max(end, self._count + self._count // 8 + 64)
            new._ids = self._ids[: self._count]
            new._domain, new._behaviour = (
                _grown(self._domain, self._count, room),
                _grown(self._behaviour, self._count, room),
            )
            new._reliability = _grown(self._reliability, self._count, room)
        new._domain[self._count : end], new._behaviour[self._count : end] = _unit(domain), _unit(behaviour)
        new._reliability[self._count : end] = reliability
        new._ids.extend(ids)
        new._count = end
        new.rows = {**self.rows, **{name: self._count + i for i, name in enumerate(ids)}}
        return new

    def without(self, ids: Sequence[str]) -> Prepared:
        """These no more. Their rows stay until half of all are such."""
        gone = set(ids)
        rows = {name: row for name, row in self.rows.items() if name not in gone}
        if len(rows) * 2 < self._count:
            kept = np.fromiter(rows.values(), np.intp, len(rows))
            return Prepared(list(rows), self._domain[kept], self._behaviour[kept], self._reliability[kept])
        new = Prepared.__new__(Prepared)
        new.__dict__.update(self.__dict__)
        new.rows = rows
        return new

    def identify(self, spec: Spec, rows: Rows, *, top: int = 10, seed: int = 0) -> Identification:
        """Rank the learnwares at ``rows`` ``(m,)`` for the task ``spec``: what ``search.identify`` says of them.

        Raises:
            UsageError: ``spec`` is a model's, or ``top`` is below 1.
        """
        if spec.kind != "task":
            raise UsageError("identify takes a task spec", remedy="this one is of a model (see `learndock spec task`)")
        if top < 1:
            raise UsageError(f"top is {top}", remedy="ask for at least 1")
        if not len(rows):
            return Identification(False, (), None, 0)
        domain, behaviour, along = self._products(spec, rows)
        silent = consensus.without_evidence(spec)
        score = DOMAIN_WEIGHT * domain + (0 if silent else behaviour)
        best = self._best(spec, rows, score, max(top, consensus.SHORTLIST) if silent else top, silent=silent)
        behaviours, reliability = self._behaviour[best], self._reliability[best]
        names = [self._ids[row] for row in best]
        ranked = rank(spec, self._domain[best], behaviours, reliability, [n.split("/")[0] for n in names])
        order = np.argsort(-ranked.score, kind="stable")[:top]
        chosen = [names[i] for i in order]
        matches = matches_of(spec, chosen, ranked.take(order), behaviours[order], reliability[order])
        chance = None if along is None else self._chance(domain, behaviour, along, seed)
        return Identification(chance is None or chance <= FALSE_ALARM, matches, chance, len(rows))

    def _products(self, spec: Spec, rows: Rows) -> tuple[Array, Array, Array | None]:
        """Of ``rows``: the domains' cosines, the trusted behaviours', and their products with the contrasts."""
        asked = spec.unit_behaviour[:, None]
        if spec.contrasts is not None:
            length = np.float32(np.sqrt(spec.behaviour.shape[0]))
            asked = np.hstack([asked, spec.contrasts.T / length])
        asked = np.ascontiguousarray(asked)
        found = np.empty((self._count, asked.shape[1]), np.float32)
        for start in range(0, self._count, _BLOCK):
            end = min(start + _BLOCK, self._count)
            np.matmul(self._behaviour[start:end], asked, out=found[start:end])
        trusted = found[rows] * trust(self._reliability[rows])[:, None].astype(np.float32)
        domain: Array = (self._domain[: self._count] @ spec.unit_domain)[rows]
        return domain, trusted[:, 0], None if spec.contrasts is None else np.ascontiguousarray(trusted[:, 1:].T)

    def _best(self, spec: Spec, rows: Rows, score: Array, top: int, *, silent: bool) -> list[int]:
        """The best ``top`` of ``rows``; equal ones stand in the order of their ids."""
        if len(rows) > top:
            bar = np.partition(score, len(score) - top)[len(score) - top]
            rows = rows[score >= bar - _SLACK]
        exact = DOMAIN_WEIGHT * (self._domain[rows].astype(np.float64) * spec.unit_domain).sum(1)
        if not silent:
            cosines = (self._behaviour[rows].astype(np.float64) * spec.unit_behaviour).sum(1)
            exact = exact + trust(self._reliability[rows]) * cosines
        found = sorted(zip(-exact, (self._ids[r] for r in rows), rows.tolist(), strict=True))
        return [row for _, _, row in found[:top]]

    def _chance(self, domain: Array, behaviour: Array, along: Array, seed: int) -> float:
        generator = np.random.Generator(np.random.Philox(key=[seed, 51]))
        alike = DOMAIN_WEIGHT * domain
        if len(domain) > FAMILY:
            drawn = np.sort(generator.permutation(len(domain))[:FAMILY])
            drawn = np.union1d(drawn, [int((alike + behaviour).argmax())])
            alike, behaviour, along = alike[drawn], behaviour[drawn], along[:, drawn]
        return p_value_among(generator, alike, behaviour, along)


def _unit(rows: Array) -> Array:
    found: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def _grown(rows: NDArray[_Number], count: int, room: int) -> NDArray[_Number]:
    found = np.empty((room, *rows.shape[1:]), rows.dtype)
    found[:count] = rows[:count]
    return found
