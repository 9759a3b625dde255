"""Identify: rank the learnwares of a dock for a task spec, and say honestly when nothing fits.

score     mean of the domain's cosine and of the behaviour's times the trust in the model's (``trust``): one inner
          product of joined vectors, so that an index needs to know neither; where the user's examples carry no
          evidence, see ``consensus``
interval  90% interval of the score over resampled examples of the user (behaviour part)
evidence  p-value of the behaviour's similarity against permuted labels, for this learnware alone
fits      whether the best of all learnwares beats the best that permuted labels find in this dock
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.dock import LocalDock
from learndock.errors import SpaceMismatch, UsageError
from learndock.index import ExactIndex, Index
from learndock.notebook import html_table, number
from learndock.search import consensus
from learndock.search.filters import EVERY, Filters
from learndock.spec import Spec
from learndock.spec.spec import Array, difference
from learndock.spec.statistics import critical, deviation, tail

#: Weight of the domain beside the behaviour. Between 0.5 and 2 the ranking hardly moves (docs/research-log.md).
DOMAIN_WEIGHT = 1.0
#: A behaviour that repeats this much is trusted whole. Those of shuffled and hardly trained models are mostly below,
#: those of models trained on 60% noise above. Beyond, reliability says how well the helper sees a question, not how
#: good a model is (docs/research-log.md, sections 25 and 31).
REPEATS = 0.6
#: Chance of naming a learnware where none has anything to do with the task.
FALSE_ALARM = 0.05
#: Learnwares on which the best of chance is simulated; more are sampled down to this many.
FAMILY = 20_000
CHANCES = 1999
#: Learnwares that chances are compared with at once: their products stay in the processor's cache.
_BLOCK = 256


@dataclass(frozen=True)
class Match:
    """One learnware, beside the task it was asked for.

    ``domain`` and ``behaviour`` are cosines in [-1, 1], ``reliability`` in [0, 1] is of the model's behaviour, and
    ``score`` is (domain + trust * behaviour) / 2. ``consensus`` is None but for a task whose examples carry no
    evidence: there it is the cosine with what other learnwares of the domain do, and the score that of ``consensus``.
    ``interval`` is (low, high) of the score, ``p_value`` a
    p-value of the behaviour; both are None where the task's spec carries no contrasts.
    """

    id: str
    name: str
    score: float
    domain: float
    behaviour: float
    reliability: float
    consensus: float | None
    interval: tuple[float, float] | None
    p_value: float | None

    def __repr__(self) -> str:
        interval = "" if self.interval is None else f" [{self.interval[0]:.2f}, {self.interval[1]:.2f}]"
        return (
            f"<Match {self.name}: score {self.score:.2f}{interval}, domain {self.domain:+.2f}, "
            f"behaviour {self.behaviour:+.2f}>"
        )

    def _repr_html_(self) -> str:
        return _matches_table([self], "")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class Identification:
    """The answer to one task spec.

    ``matches`` are ranked; where ``fits`` is False they are merely the closest, and no answer. ``p_value_any`` is
    the p-value behind ``fits``: how often permuted labels find a learnware as similar in this dock. ``searched``
    counts the learnwares whose spec could be compared.
    """

    fits: bool
    matches: tuple[Match, ...]
    p_value_any: float | None
    searched: int

    def __repr__(self) -> str:
        if not self.fits:
            return f"<Identification: nothing fits among {self.searched} learnwares>"
        return (
            f"<Identification: {len(self.matches)} matches among {self.searched} learnwares, first {self.matches[0]!r}>"
        )

    def _repr_html_(self) -> str:
        chance = "" if self.p_value_any is None else f" (p = {self.p_value_any:.2g})"
        said = "Matches" if self.fits else "Nothing here fits; these are only the closest,"
        return _matches_table(self.matches, f"{said} among {self.searched} learnwares{chance}")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; the closest stand apart from matches, so that nobody takes them for an answer."""
        ranked = [m.to_dict() for m in self.matches]
        return {
            "fits": self.fits,
            "p_value_any": self.p_value_any,
            "searched": self.searched,
            "matches": ranked if self.fits else [],
            "closest": [] if self.fits else ranked,
        }


def _matches_table(matches: Sequence[Match], caption: str) -> str:
    head = ("", "learnware", "score", "90% interval", "domain", "behaviour", "reliability", "p-value")
    rows = [
        (
            place, m.name, number(m.score),
            "-" if m.interval is None else f"{m.interval[0]:.2f} to {m.interval[1]:.2f}",
            number(m.domain, "+.2f"), number(m.behaviour, "+.2f"), number(m.reliability), number(m.p_value, ".2g"),
        )
        for place, m in enumerate(matches, 1)
    ]  # fmt: skip
    return html_table(head, rows, caption=caption)


def trust(reliability: NDArray[np.floating]) -> NDArray[np.float64]:
    """What models' behaviours count, in [0, 1]: whole where they repeat with other examples, less for noise."""
    return np.minimum(np.asarray(reliability, np.float64) / REPEATS, 1.0)


def joined(domain: Array, behaviour: Array) -> Array:
    """Rows ``(n, width + k)`` whose inner products are scores, from ``(n, width)`` and ``(n, k)``.

    Domains are of unit length; behaviours too on the task's side, and as long as they are trusted on the models'.
    """
    weight = DOMAIN_WEIGHT / (1 + DOMAIN_WEIGHT)
    return np.concatenate([domain * np.float32(weight**0.5), behaviour * np.float32((1 - weight) ** 0.5)], axis=1)


def identify(
    dock: Any,  # a Dock; the next change makes this its method
    spec: Spec,
    *,
    top: int = 10,
    filters: Filters = EVERY,
    allowed: Collection[str] | None = None,
    seed: int = 0,
) -> Identification:
    """Rank the learnwares of ``dock`` for the task ``spec``; ``filters``, and the ids ``allowed``, limit which ones.

    A dock behind an address is sent the spec, without the names of its labels.

    Raises:
        UsageError: ``spec`` is a model's, or ``top`` is below 1.
        SpaceMismatch: the dock has specs, but none of this space; the message says what differs.
    """
    if spec.kind != "task":
        raise UsageError("identify takes a task spec", remedy="this one is of a model (see `learndock spec task`)")
    if top < 1:
        raise UsageError(f"top is {top}", remedy="ask for at least 1")
    from learndock.dock.remote.dock import RemoteDock

    if isinstance(dock, RemoteDock):
        from learndock.search.asking import ask

        if allowed is not None:
            raise UsageError("allowed is for a dock in a folder", remedy="narrow what a service looks at with filters")
        return ask(dock, spec, top=top, filters=filters, seed=seed)
    if not filters.empty:
        taken = {r.id for r in dock.records() if filters.take(r)}
        allowed = taken if allowed is None else taken & set(allowed)
    table = dock.vectors(spec.space_id)
    if not len(table):
        _explain_empty(dock, spec)
        return Identification(False, (), None, 0)
    domains = _unit_rows(table.domain)
    trusted = _unit_rows(table.behaviour) * trust(table.reliability)[:, None].astype(np.float32)
    silent = consensus.without_evidence(spec)
    query = joined(spec.unit_domain[None], spec.unit_behaviour[None] * np.float32(not silent))[0]
    index: Index = ExactIndex(len(query))
    index.add(table.ids, joined(domains, trusted))
    found = index.search(query, max(top, consensus.SHORTLIST) if silent else top, allowed=allowed)
    rows = {name: row for row, name in enumerate(table.ids)}
    places = [rows[name] for name, _ in found]
    ranked = rank(
        spec,
        domains[places],
        _unit_rows(table.behaviour[places]),
        table.reliability[places],
        [table.ids[p].split("/")[0] for p in places],
    )
    order = np.argsort(-ranked.score, kind="stable")[:top]
    places, ranked = [places[i] for i in order], ranked.take(order)
    found_ids = [table.ids[place] for place in places]
    matches = matches_of(spec, found_ids, ranked, _unit_rows(table.behaviour[places]), table.reliability[places])
    family = np.array(sorted(rows[n] for n in allowed if n in rows) if allowed is not None else range(len(table)), int)
    chance = p_value_of_best(spec, domains[family], trusted[family], seed)
    fits = bool(matches) and (chance is None or chance <= FALSE_ALARM)
    return Identification(fits, matches, chance, len(family))


def matches_of(
    spec: Spec, ids: Sequence[str], ranked: Ranked, behaviours: Array, reliability: NDArray[np.floating]
) -> tuple[Match, ...]:
    """The matches of m ranked learnwares: unit ``behaviours`` ``(m, k)``, ``reliability`` ``(m,)``, in their order."""
    behaviour = ranked.behaviour
    half = interval_halfwidth(spec, behaviours, behaviour, ranked.weight)
    evidence = match_p_values(spec, behaviours, behaviour)
    return tuple(
        Match(
            id=name,
            name=name.split("@")[0],
            score=float(ranked.score[i]),
            domain=float(ranked.domain[i]),
            behaviour=float(behaviour[i]),
            reliability=float(reliability[i]),
            consensus=None if ranked.consensus is None else float(ranked.consensus[i]),
            interval=None if half is None else (float(ranked.score[i] - half[i]), float(ranked.score[i] + half[i])),
            p_value=None if evidence is None else float(evidence[i]),
        )
        for i, name in enumerate(ids)
    )


@dataclass(frozen=True, eq=False)
class Ranked:
    """What a task's spec says of m learnwares: ``(m,)`` each, ``consensus`` only where it was asked for.

    ``weight`` is what a behaviour's cosine counts in its score.
    """

    score: NDArray[np.float64]
    domain: NDArray[np.float64]
    behaviour: NDArray[np.float64]
    weight: NDArray[np.float64]
    consensus: NDArray[np.float64] | None

    def take(self, order: NDArray[np.intp]) -> Ranked:
        """Some of them, in that order."""
        asked = None if self.consensus is None else self.consensus[order]
        return Ranked(self.score[order], self.domain[order], self.behaviour[order], self.weight[order], asked)


def rank(
    spec: Spec, domains: Array, behaviours: Array, reliability: NDArray[np.floating], owners: Sequence[str]
) -> Ranked:
    """Score learnwares for the task ``spec``: unit rows ``(m, width)`` and ``(m, k)``, and whose each is."""
    domain = (domains @ spec.unit_domain).astype(np.float64)
    behaviour = (behaviours @ spec.unit_behaviour).astype(np.float64)
    if consensus.without_evidence(spec):
        heard = consensus.listen(domain, behaviours, reliability, owners, _deviates(spec, behaviours, behaviour))
        weight = np.full(len(domain), heard.own)
        return Ranked(consensus.score(domain, behaviour, heard), domain, behaviour, weight, heard.agreement)
    weight = trust(reliability) / (1 + DOMAIN_WEIGHT)
    score = DOMAIN_WEIGHT / (1 + DOMAIN_WEIGHT) * domain + weight * behaviour
    return Ranked(score, domain, behaviour, weight, None)


def interval_halfwidth(
    spec: Spec, behaviours: Array, cosines: NDArray[np.floating], weight: NDArray[np.floating]
) -> NDArray[np.float64] | None:
    """Half of the 90% interval of the score for unit ``behaviours`` ``(m, k)``: ``(m,)``, or None.

    ``weight`` ``(m,)`` is what a behaviour's cosine counts in the score.

    The cosine moves, to first order, by what resampled examples add along v - cos * tau.
    """
    if spec.contrasts is None or not len(behaviours):
        return None
    along = (behaviours - cosines[:, None] * spec.unit_behaviour[None]).astype(np.float32)
    width = critical(0.05, len(spec.contrasts)) * deviation(spec.contrasts, along) / _length(spec)
    return np.asarray(width * weight, np.float64)


def match_p_values(spec: Spec, behaviours: Array, cosines: NDArray[np.floating]) -> NDArray[np.float64] | None:
    """p-value of each cosine against behaviours of permuted labels, ``(m,)``, or None."""
    t = _deviates(spec, behaviours, cosines)
    return None if t is None or spec.contrasts is None else tail(t, len(spec.contrasts))


def _deviates(spec: Spec, behaviours: Array, cosines: NDArray[np.floating]) -> NDArray[np.float64] | None:
    """Each cosine in units of its deviation with permuted labels (Student's t), ``(m,)``, or None."""
    if spec.contrasts is None or not len(behaviours):
        return None
    t = cosines.astype(np.float64) * _length(spec) / deviation(spec.contrasts, behaviours)
    return np.asarray(t, np.float64)


def p_value_of_best(spec: Spec, domains: Array, behaviours: Array, seed: int = 0) -> float | None:
    """How often the same search does as well with permuted labels, over the learnwares searched; None if unknown.

    ``domains`` ``(N, width)`` and ``behaviours`` ``(N, k)`` are the rows that scores are made of. Permuting labels
    leaves the domain as it is and replaces the behaviour by a mixture of the contrasts. Two statistics are
    compared, each by its maximum over all learnwares (max-T, Westfall and Young 1993): the score, in which
    learnwares of another domain hardly compete, and the behaviour alone in units of its deviation, for models of
    the same question asked of other inputs. The smaller p-value counts twice.
    """
    if spec.contrasts is None or not len(behaviours):
        return None
    generator = np.random.Generator(np.random.Philox(key=[seed, 51]))
    if len(behaviours) > FAMILY:
        drawn = np.sort(generator.permutation(len(behaviours))[:FAMILY])
        best = int((domains @ spec.unit_domain * DOMAIN_WEIGHT + behaviours @ spec.unit_behaviour).argmax())
        drawn = np.union1d(drawn, [best])
        domains, behaviours = domains[drawn], behaviours[drawn]
    cosines, alike = behaviours @ spec.unit_behaviour, DOMAIN_WEIGHT * (domains @ spec.unit_domain)
    return p_value_among(generator, alike, cosines, spec.contrasts @ behaviours.T / np.float32(_length(spec)))


def p_value_among(generator: np.random.Generator, alike: Array, cosines: Array, along: Array) -> float:
    """The p-value of ``p_value_of_best``, from what it needs of N learnwares.

    ``alike`` ``(N,)`` is the domain's part of the scores, ``cosines`` ``(N,)`` those of the behaviours, ``along``
    ``(r, N)`` the same with the r contrasts, in units of the behaviour's length.
    """
    draws = len(along)
    unit = np.sqrt(np.maximum(np.square(along, dtype=np.float64).mean(0), 1e-24)).astype(np.float32)
    mixtures = generator.standard_normal((CHANCES, draws)).astype(np.float32) / np.float32(draws**0.5)
    # Student's t in place of the normal: the deviation itself is known from a few contrasts only
    mixtures *= np.sqrt(draws / generator.chisquare(draws, CHANCES)).astype(np.float32)[:, None]
    ones = np.ones((CHANCES, 1), np.float32)
    by_score = _reaching(np.hstack([mixtures, ones]), np.vstack([along, alike]), float((alike + cosines).max()))
    by_behaviour = _reaching(mixtures, along / unit, float((cosines / unit).max()))
    return min(1.0, 2 * (1 + min(by_score, by_behaviour)) / (1 + CHANCES))


def _reaching(rows: Array, columns: Array, bar: float) -> int:
    """How many of ``rows`` ``(n, r)`` have a product with any of ``columns`` ``(r, m)`` that is at least ``bar``.

    Columns of great length come first, and rows that have reached the bar take no further part: most chances are
    decided by few learnwares.
    """
    # Reach of a row: what it can have with the longest column, by Cauchy and Schwarz; with room for rounding.
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


def _unit_rows(rows: Array) -> Array:
    found: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def _explain_empty(dock: LocalDock, spec: Spec) -> None:
    """Say what differs where a dock has specs, but of other spaces only.

    Raises:
        SpaceMismatch
    """
    for record in dock.records():
        for entry in record.manifest.specs:
            what = "; ".join(difference(spec.space, dock.spec(record.id, entry.space_id).space))
            raise SpaceMismatch(
                f"no learnware of this dock has a spec of this task's space: for one, {record.name} differs in {what}. "
                "Make the task's spec with the dock's space and recipe"
            )
