"""The specs of a space in memory, with rows of length one, ready to be asked: the one way in which anything is ranked.

Answers do not depend on the order in which rows came. A table never changes: ``added`` and ``without`` return another
one, so that questions go on beside changes. Rows share their memory where they can.

A matrix product in float32 rounds by where a row is in the matrix. So it only chooses candidates, with room for its
rounding error, and their products are computed again in float64, row by row: equal specs have equal scores, and are in
the order of their ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from learndock.errors import SpecError
from learndock.search import consensus
from learndock.search.answer import CANDIDATES, Identification, Match, check_question
from learndock.search.p_values import FALSE_ALARM, interval_halfwidth, match_p_values, p_value_of_best
from learndock.search.score import DOMAIN_WEIGHT, Ranked, cosines, rank, trust, unit_rows
from learndock.search.shortlist import LEAST, Shortlist
from learndock.spec.spec import Array, Spec

#: Rows multiplied at once.
_BLOCK = 256
#: Rounding of float32 products of unit rows; among candidates that are so close, float64 decides.
_SLACK = 1e-5

Rows = NDArray[np.intp]
_Number = TypeVar("_Number", np.float32, np.float64)


class SpecTable:
    """Specs of one space: their learnwares' ids, domains ``(N, width)``, behaviours ``(N, k)``, reliability ``(N,)``.

    Domains and behaviours are given in any length, and kept with length one. ``rows`` is the row of each id.
    """

    def __init__(self, ids: Sequence[str], domain: Array, behaviour: Array, reliability: NDArray[np.float64]) -> None:
        self._ids = list(ids)
        self._domain, self._behaviour = unit_rows(domain), unit_rows(behaviour)
        self._reliability = np.asarray(reliability, np.float64)
        self._count = len(self._ids)
        self._shortlist: Shortlist | None = None
        self._basis: Array | None = None
        self.rows = {name: row for row, name in enumerate(self._ids)}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the learnwares, in the order of ``domain``, ``behaviour`` and ``reliability``."""
        return tuple(self.rows)

    @property
    def domain(self) -> Array:
        """Domains of length one, ``(N, width)``."""
        return self._domain[self._live]

    @property
    def behaviour(self) -> Array:
        """Behaviours of length one, ``(N, k)``."""
        return self._behaviour[self._live]

    @property
    def reliability(self) -> NDArray[np.float64]:
        """Reliabilities of the behaviours, ``(N,)``."""
        return self._reliability[self._live]

    @property
    def _live(self) -> Rows | slice:
        if len(self.rows) == self._count:
            return slice(self._count)
        return np.fromiter(self.rows.values(), np.intp, len(self.rows))

    @property
    def all_rows(self) -> Rows:
        """The rows of all learnwares, ``(N,)``."""
        return np.fromiter(self.rows.values(), np.intp, len(self.rows))

    def near_domain(self, unit_domain: Array, rows: Rows | None, most: int) -> Rows:
        """Return those of ``rows`` ``(m,)``, or of all, that may be among the ``most`` nearest by domain.

        Raises:
            SpecError: the width of ``unit_domain`` is another one.
        """
        if unit_domain.shape != self._domain.shape[1:]:
            raise SpecError(
                f"the domain has {len(unit_domain)} numbers, and this space {self._domain.shape[1]}",
                remedy="make it in the space whose id is sent",
            )
        if rows is None and len(self.rows) < self._count:
            rows = self.all_rows
        if self._count < LEAST:
            rows = self.all_rows if rows is None else rows
        else:
            if self._shortlist is None:
                self._shortlist = Shortlist(self._domain[: self._count], self._basis)
                self._basis = self._shortlist.basis
            rows = self._shortlist.candidates(unit_domain, rows, most)
        if len(rows) <= most:
            return rows
        many = len(rows) * 4 > self._count  # reading everything in order is faster than picking so many rows
        found = (self._domain[: self._count] @ unit_domain)[rows] if many else self._domain[rows] @ unit_domain
        nearest: Rows = rows[found >= np.partition(found, len(found) - most)[len(found) - most] - _SLACK]
        return nearest

    def parts(self, rows: Rows) -> tuple[list[str], Array, Array, NDArray[np.float64]]:
        """Return ids, unit domains ``(m, width)``, unit behaviours ``(m, k)`` and reliabilities of ``rows``."""
        ids = [self._ids[row] for row in rows]
        return ids, self._domain[rows], self._behaviour[rows], self._reliability[rows]

    def rows_of(self, ids: Iterable[str]) -> Rows:
        """Return the rows of those ``ids`` that are in the table, in order of rows: ``(m,)``."""
        return np.array(sorted(self.rows[name] for name in {*ids} if name in self.rows), dtype=np.intp)

    def added(self, other: SpecTable) -> SpecTable:
        """Return a table with the specs of ``other`` too; they go behind the others, into spare memory if there is."""
        if not self._count:
            return other
        new, more = SpecTable.__new__(SpecTable), len(other)
        end = self._count + more
        if len(self._ids) == self._count and end <= len(self._domain):
            new._ids, new._domain, new._behaviour = self._ids, self._domain, self._behaviour
            new._reliability = self._reliability
        else:  # no room, or another table has taken it
            room = max(end, self._count + self._count // 8 + 64)
            new._ids = self._ids[: self._count]
            new._domain = _grown(self._domain, self._count, room)
            new._behaviour = _grown(self._behaviour, self._count, room)
            new._reliability = _grown(self._reliability, self._count, room)
        new._domain[self._count : end], new._behaviour[self._count : end] = other.domain, other.behaviour
        new._reliability[self._count : end] = other.reliability
        new._ids.extend(other.ids)
        new._count = end
        new._shortlist, new._basis = None, self._basis
        new.rows = {**self.rows, **{name: self._count + i for i, name in enumerate(other.ids)}}
        return new

    def without(self, ids: Iterable[str]) -> SpecTable:
        """Return a table without ``ids``; their rows keep their memory until half of all rows are unused."""
        gone = set(ids)
        new = SpecTable.__new__(SpecTable)
        new.__dict__.update(self.__dict__)
        new.rows = {name: row for name, row in self.rows.items() if name not in gone}
        if len(new.rows) * 2 < self._count:
            return SpecTable(new.ids, new.domain, new.behaviour, new.reliability)
        return new

    def identify(self, spec: Spec, rows: Rows | None = None, *, top: int = 10, seed: int = 0) -> Identification:
        """Rank the learnwares at ``rows`` ``(m,)``, or all, for the task ``spec``.

        Returns the ``CANDIDATES`` best at least, for ``answerable`` to choose from.

        Raises:
            UsageError: ``spec`` is a model's, or ``top`` is below 1.
        """
        check_question(spec, top)
        rows = np.fromiter(self.rows.values(), np.intp, len(self.rows)) if rows is None else rows
        if not len(rows):
            return Identification(False, (), None, 0)
        domain, behaviour, along = self._products(spec, rows)
        best = self._best(spec, rows, domain, behaviour, max(top, CANDIDATES))
        owners = [self._ids[row].partition("/")[0] for row in best]
        ranked = rank(spec, self._domain[best], self._behaviour[best], self._reliability[best], owners)
        chance = None if along is None else p_value_of_best(spec, DOMAIN_WEIGHT * domain, behaviour, along, seed)
        fits = chance is None or chance <= FALSE_ALARM
        return Identification(fits, self._matches(spec, best, ranked, fits=fits), chance, len(rows))

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

    def _best(self, spec: Spec, rows: Rows, domain: Array, behaviour: Array, top: int) -> Rows:
        """The best ``top`` of ``rows``, by domain alone where the task carries no evidence; ties by id."""
        silent = consensus.without_evidence(spec)
        score = DOMAIN_WEIGHT * domain + (0 if silent else behaviour)
        if len(rows) > top:
            bar = np.partition(score, len(score) - top)[len(score) - top]
            rows = rows[score >= bar - _SLACK]
        exact = DOMAIN_WEIGHT * cosines(self._domain[rows], spec.unit_domain)
        if not silent:
            exact += trust(self._reliability[rows]) * cosines(self._behaviour[rows], spec.unit_behaviour)
        found = sorted(zip(-exact, (self._ids[r] for r in rows), rows.tolist(), strict=True))
        return np.array([row for _, _, row in found[:top]], dtype=np.intp)

    def _matches(self, spec: Spec, rows: Rows, ranked: Ranked, *, fits: bool) -> tuple[Match, ...]:
        """The matches at ``rows`` ``(m,)``, the best first; where nothing fits, their scores are without the domain."""
        half = interval_halfwidth(spec, self._behaviour[rows], ranked.behaviour, ranked.weight)
        p_values = match_p_values(spec, self._behaviour[rows], ranked.behaviour)
        score = ranked.score if fits else ranked.weight * ranked.behaviour
        return tuple(
            Match(
                id=self._ids[rows[i]],
                name=self._ids[rows[i]].partition("@")[0],
                score=float(score[i]),
                domain=float(ranked.domain[i]),
                behaviour=float(ranked.behaviour[i]),
                reliability=float(self._reliability[rows[i]]),
                consensus=None if ranked.consensus is None else float(ranked.consensus[i]),
                interval=None if half is None else (float(score[i] - half[i]), float(score[i] + half[i])),
                p_value=None if p_values is None else float(p_values[i]),
                ranked_by=float(ranked.key[i]),
            )
            for i in np.argsort(-ranked.key, kind="stable")
        )


def _grown(rows: NDArray[_Number], count: int, room: int) -> NDArray[_Number]:
    found = np.empty((room, *rows.shape[1:]), rows.dtype)
    found[:count] = rows[:count]
    return found
