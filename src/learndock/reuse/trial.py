"""Try the first few matches on the user's own examples: what a specification cannot know, they can.

A specification finds the learnwares of the right question among thousands without looking at any of them; which of the
few in front answers best, the user's examples say once the models are run on them, here. Neither knows all: sixteen
examples a class are a noisy test, and the score of the specs saw as little. So trials are ordered by both,

    accuracy on the examples + WEIGHT * score of the specs

(docs/research-log.md, section 24, has what each part brings).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from learndock.data.examples import Examples
from learndock.data.metrics import sign
from learndock.data.schema import Schema
from learndock.errors import DataError, LearndockError, NotFound, PackageError, UsageError
from learndock.package.learnware import open_learnware
from learndock.reuse.evaluate import evaluate
from learndock.search.ranking import Match

#: How many of the first matches are worth a download.
MOST = 5
#: What the score of the specs counts beside a score on the examples.
WEIGHT = 1.0


class Source(Protocol):
    """Where learnwares come from: a ``Dock``, in a folder or at a service."""

    def get(self, which: str, out: str | Path) -> Path:
        """Write the learnware ``which`` as a folder, every file checked."""


@dataclass(frozen=True)
class Trial:
    """A match that was run on the user's examples.

    ``score`` is in the metric of the user's schema over ``n`` examples; None where the learnware could not be tried,
    and ``why`` says what stood in the way: labels that are not the user's, an extra that is not installed.
    """

    match: Match
    score: float | None
    n: int
    why: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"id": self.match.id, "name": self.match.name, "score": self.score, "n": self.n, "why": self.why}


def try_matches(
    dock: Source,
    matches: Sequence[Match],
    examples: Examples,
    schema: Schema | None = None,
    *,
    mapping: Mapping[str, str] | None = None,
    most: int = MOST,
    report: Callable[[str, int, int], None] | None = None,
) -> tuple[Trial, ...]:
    """Run the first ``most`` of ``matches`` on the user's labelled examples; the best comes first, untried ones last.

    Models are fetched from ``dock`` into a temporary folder and leave it afterwards; examples go nowhere. ``schema``
    is the examples' own where none is given; ``mapping`` is that of ``evaluate``.

    Raises:
        DataError: the examples have no labels, or no schema.
    """
    schema = schema or examples.schema
    if schema is None:
        raise DataError(f"{examples.source}: trying needs labels, and a schema that says what they mean")
    found: list[Trial] = []
    chosen = list(matches[:most])
    for place, match in enumerate(chosen):
        if report is not None:
            report(f"trying {match.name}", place, len(chosen))
        found.append(_try(dock, match, examples, schema, mapping or {}))
    if report is not None:
        report("trying", len(chosen), len(chosen))
    return tuple(sorted(found, key=lambda t: -worth(schema, t.score, t.match.score)))


def _try(dock: Source, match: Match, examples: Examples, schema: Schema, mapping: Mapping[str, str]) -> Trial:
    with tempfile.TemporaryDirectory(prefix="learndock-") as folder:
        try:
            learnware = open_learnware(dock.get(match.id, Path(folder) / "learnware"), verify=False)
            return Trial(match, evaluate(learnware, examples, schema, mapping=mapping).score, len(examples))
        except (UsageError, PackageError, NotFound) as error:
            return Trial(match, None, len(examples), _first_sentence(error))


def _first_sentence(error: LearndockError) -> str:
    return str(error).split(";")[0].split(". ")[0]


def worth(schema: Schema, score: float | None, similarity: float) -> float:
    """What trials are ordered by: ``score`` on the examples (None: not tried, behind all others) and the specs'."""
    return similarity - 1000 if score is None else sign(schema.metric) * score + WEIGHT * similarity
