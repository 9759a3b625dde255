"""The answer to a task spec: matches, whether anything fits, and what of the task each match cannot answer.

A learnware *can answer* a task if it is of the task's type and has at least as many classes. Names are no criterion: a
model that says "negative" answers a task that says "neg". Where a learnware has too few classes, the task's labels
that it does not name are reported as ``missing``. Matches that cannot answer rank behind those that can, but not behind
one whose behaviour shows no agreement with the labels where another shows some: that it has enough classes makes no
model fit.

This needs the names of the user's labels and the spec's settings, so it runs where they are: a service is sent neither,
and ``RemoteDock`` applies it to what comes back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from learndock.errors import UsageError
from learndock.notebook import html_table, number
from learndock.package.deprecation import Deprecation
from learndock.spec.spec import Spec

#: Matches that ``answerable`` may move: so many of the best are looked at, or ``top`` if that is more.
CANDIDATES = 200
#: p-value of a match's behaviour up to which it counts as agreement with the labels, when matches are reordered.
AGREEMENT = 0.05
#: Labels that a match shows.
SHOWN = 50
_PLAIN = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Answers:
    """What a learnware can say: the type of its task, how many classes, and the first ``SHOWN`` of their names."""

    task_type: str = ""
    classes: int = 0
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: Mapping[str, Any]) -> Answers:
        """Return what the task in a learnware's manifest says."""
        labels = tuple(str(label) for label in task.get("labels", ()))
        kind = str(task.get("type", ""))
        return cls(kind, len(labels) if kind == "classification" else 0, labels[:SHOWN])


@dataclass(frozen=True)
class Match:
    """One learnware, compared with the task.

    ``domain`` and ``behaviour`` are cosines in [-1, 1]; ``reliability`` in [0, 1] is that of the model's behaviour.
    ``score`` is (domain + trust * behaviour) / 2, and without the domain where nothing fits: inputs of the same kind
    are no evidence that a model answers the question. ``ranked_by`` is what the order is by: the score with its
    domain or, where the task's examples carry no evidence, the one of ``consensus``. ``consensus`` is then the cosine
    with what other learnwares of the domain do, else None. ``interval`` is (low, high) of the score, ``p_value`` that
    of the behaviour; both are None where the task's spec has no contrasts. ``can_answer`` and ``missing`` say whether
    the learnware has the task's type and enough classes, and what it lacks. ``version`` is the number of the version
    that was compared, ``latest`` that of the version which the name stands for.
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
    ranked_by: float
    answers: Answers = field(default_factory=Answers)
    can_answer: bool = True
    missing: tuple[str, ...] = ()
    version: int = 1
    latest: int = 1
    deprecated: Deprecation | None = None

    def __repr__(self) -> str:
        interval = "" if self.interval is None else f" [{self.interval[0]:.2f}, {self.interval[1]:.2f}]"
        lacks = "" if self.can_answer else f", cannot say {', '.join(self.missing)}"
        lacks += "" if self.deprecated is None else f", {self.deprecated}"
        return (
            f"<Match {self.name}@v{self.version}: score {self.score:.2f}{interval}, domain {self.domain:+.2f}, "
            f"behaviour {self.behaviour:+.2f}{lacks}>"
        )

    def _repr_html_(self) -> str:
        return _matches_table([self], "")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; ``answers`` is spread."""
        found = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items() if k != "answers"}
        return {**found, **asdict(self.answers), "labels": list(self.answers.labels)}


@dataclass(frozen=True)
class Identification:
    """The answer to one task spec.

    ``matches`` are ranked; where ``fits`` is False they are only the closest, not an answer. ``p_value_any`` is the
    p-value behind ``fits``: how often permuted labels find a learnware as similar in this dock. ``searched`` counts
    the learnwares whose spec was compared. ``reason`` is a known cause, in words, where nothing fits.
    """

    fits: bool
    matches: tuple[Match, ...]
    p_value_any: float | None
    searched: int
    reason: str | None = None

    def __repr__(self) -> str:
        if not self.fits:
            return f"<Identification: nothing fits among {self.searched} learnwares>"
        return (
            f"<Identification: {len(self.matches)} matches among {self.searched} learnwares, first {self.matches[0]!r}>"
        )

    def _repr_html_(self) -> str:
        chance = "" if self.p_value_any is None else f" (p = {self.p_value_any:.2g})"
        said = "Matches" if self.fits else "Nothing here fits; these are only the closest,"
        reason = "" if self.reason is None else f". {self.reason}"
        return _matches_table(self.matches, f"{said} among {self.searched} learnwares{chance}{reason}")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; the closest have a key of their own, so that they are not taken for an answer."""
        ranked = [m.to_dict() for m in self.matches]
        return {
            "fits": self.fits,
            "p_value_any": self.p_value_any,
            "searched": self.searched,
            "reason": self.reason,
            "matches": ranked if self.fits else [],
            "closest": [] if self.fits else ranked,
        }


def _matches_table(matches: Sequence[Match], caption: str) -> str:
    head = (
        *("", "learnware", "score", "90% interval", "domain", "behaviour", "reliability", "p-value"),
        *("labels", "cannot say"),
    )
    rows = [
        (
            place, f"{m.name}@v{m.version}" + ("" if m.deprecated is None else f" ({m.deprecated})"), number(m.score),
            "-" if m.interval is None else f"{m.interval[0]:.2f} to {m.interval[1]:.2f}",
            number(m.domain, "+.2f"), number(m.behaviour, "+.2f"), number(m.reliability), number(m.p_value, ".2g"),
            ", ".join(m.answers.labels[:6]) or m.answers.task_type, ", ".join(m.missing),
        )
        for place, m in enumerate(matches, 1)
    ]  # fmt: skip
    return html_table(head, rows, caption=caption)


def check_question(spec: Spec, top: int) -> None:
    """Refuse what no dock can rank for.

    Raises:
        UsageError: ``spec`` is a model's, or ``top`` is below 1.
    """
    if spec.kind != "task":
        raise UsageError(
            "identify takes a task spec, and this one is of a model", remedy="make one with `learndock spec task`"
        )
    if top < 1:
        raise UsageError(f"top is {top}", remedy="ask for at least 1")


def answerable(
    found: Identification, spec: Spec, top: int, answers: Callable[[Match], Answers] | None = None
) -> Identification:
    """Mark what each match cannot answer of the task ``spec``, rank those matches last, keep the first ``top``.

    Where nothing fits and the spec says what its helper could not read (``spaces/reading.py``), that is the reason.

    ``answers`` looks up what a match can say, where the match does not carry it yet.
    """
    looked_up = found.matches if answers is None else (replace(m, answers=answers(m)) for m in found.matches)
    marked = [_marked(match, spec.schema) for match in looked_up]
    agreement = found.fits and any(_agrees(match) for match in marked)
    # Stable: among equals the order stays
    marked.sort(key=lambda match: _rank(match, spec.schema, needs_agreement=agreement))
    reason = None if found.fits else _reason(spec)
    return replace(found, matches=tuple(marked[:top]), reason=reason)


def _reason(spec: Spec) -> str | None:
    reading = spec.settings.get("reading")
    remarks = reading.get("remarks") if isinstance(reading, Mapping) else None
    return "; ".join(map(str, remarks)) or None if isinstance(remarks, list | tuple) else None


def _agrees(match: Match) -> bool:
    return match.p_value is not None and match.p_value <= AGREEMENT


def _rank(match: Match, task: Mapping[str, Any], *, needs_agreement: bool) -> int:
    if match.can_answer:
        return 1 if needs_agreement and not _agrees(match) else 0
    return 1 if match.answers.task_type == task.get("type") else 2


def _marked(match: Match, task: Mapping[str, Any]) -> Match:
    missing = _missing(match.answers, str(task.get("type", "")), [str(label) for label in task.get("labels", ())])
    return replace(match, can_answer=not missing, missing=missing)


def _missing(answers: Answers, task_type: str, labels: Sequence[str]) -> tuple[str, ...]:
    """What a learnware cannot say of a task; empty where it can answer."""
    if not task_type or not answers.task_type:
        return ()
    if answers.task_type != task_type:
        return (task_type,)
    lacking = len(labels) - answers.classes
    if task_type != "classification" or lacking <= 0:
        return ()
    known = {_plain(label) for label in answers.labels}
    unnamed = tuple(label for label in labels if _plain(label) not in known)
    # Some of these may be among the learnware's classes under another name: how many it lacks is certain, not which
    return unnamed if len(unnamed) == lacking else (f"{lacking} of: {', '.join(unnamed)}",)


def _plain(label: str) -> str:
    return _PLAIN.sub("", label).casefold() or label
