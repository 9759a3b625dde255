"""Run the first few matches on the user's own examples, and order them by what was seen.

A specification finds the learnwares of the right task among thousands without looking at the user's examples. Which
of the first few answers best, the examples say once the models run on them, on the user's machine. Each alone is
noisy: 16 examples per class are a small test, and the score of the specifications is made from the same few examples.
So trials are ordered by both,

    accuracy on the examples + WEIGHT * score of the specifications

(docs/research-log.md, section 24, has what each part brings).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learndock.data.examples import Examples
from learndock.data.metrics import sign
from learndock.data.schema import Schema
from learndock.dock import Dock
from learndock.errors import DataError, NotFound, PackageError, UsageError
from learndock.notebook import html_table, number
from learndock.package.learnware import open_learnware
from learndock.reuse.evaluate import evaluate
from learndock.search.answer import Match

#: How many of the first matches are worth a download.
MOST = 5
#: What the score of the specs counts beside a score on the examples.
WEIGHT = 1.0


@dataclass(frozen=True)
class Trial:
    """A match that was run on the user's examples.

    ``score`` is in the metric of the user's schema over ``n`` examples. It is None where the learnware could not be
    tried; ``why`` then says what prevented it: labels that differ from the user's, or an extra that is not installed.
    """

    match: Match
    score: float | None
    n: int
    why: str | None = None

    def __repr__(self) -> str:
        said = f"not tried ({self.why})" if self.score is None else f"{self.score:.3f} on {self.n} examples"
        return f"<Trial {self.match.name}: {said}>"

    def _repr_html_(self) -> str:
        row = (self.match.name, number(self.score, ".3f"), self.n, number(self.match.score), self.why or "")
        return html_table(("learnware", "score on your examples", "examples", "score of the specs", "not tried"), [row])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"id": self.match.id, "name": self.match.name, "score": self.score, "n": self.n, "why": self.why}


def try_matches(
    dock: Dock,
    matches: Sequence[Match],
    examples: Examples,
    schema: Schema | None = None,
    *,
    mapping: Mapping[str, str] | None = None,
    most: int = MOST,
    report: Callable[[str, int, int], None] | None = None,
) -> tuple[Trial, ...]:
    """Run the first ``most`` of ``matches`` on the user's labelled examples, here; return them ordered, best first.

    Models are fetched from ``dock`` into a temporary folder, which is deleted afterwards. The examples are sent
    nowhere.

    Args:
        dock: where the learnwares are fetched from: a folder or a service.
        matches: as in ``Identification.matches``.
        examples: inputs with labels.
        schema: the user's task; by default the one of ``examples``.
        mapping: the user's label for a label of a learnware, see ``evaluate``.
        most: how many matches to fetch and run.
        report: called with (what is done now, matches done, matches in all).

    Returns:
        One trial per match that was chosen; those that could not be tried come last.

    Raises:
        DataError: the examples have no labels, or no schema is known.
        Corrupt, ServiceError: a learnware could not be fetched.

    Example:
        >>> few = learndock.read_examples("few.csv")
        >>> dock = learndock.open_dock("my-dock")
        >>> found = learndock.identify(dock, learndock.make_spec(few))
        >>> learndock.try_matches(dock, found.matches, few)
        (<Trial me/reviews: 1.000 on 16 examples>,)
    """
    schema = schema or examples.schema
    if schema is None:
        raise DataError("trying needs labels, and a schema that says what they mean", about=examples.source)
    found: list[Trial] = []
    chosen = list(matches[:most])
    for place, match in enumerate(chosen):
        if report is not None:
            report(f"trying {match.name}", place, len(chosen))
        found.append(_try(dock, match, examples, schema, mapping or {}))
    if report is not None:
        report("trying", len(chosen), len(chosen))
    return tuple(sorted(found, key=lambda t: -worth(schema, t.score, t.match.ranked_by)))


def _try(dock: Dock, match: Match, examples: Examples, schema: Schema, mapping: Mapping[str, str]) -> Trial:
    with tempfile.TemporaryDirectory(prefix="learndock-") as folder:
        try:
            learnware = open_learnware(dock.get(match.id, Path(folder) / "learnware"), verify=False)
            return Trial(match, evaluate(learnware, examples, schema, mapping=mapping).score, len(examples))
        except (UsageError, PackageError, NotFound) as error:
            return Trial(match, None, len(examples), error.what)


def worth(schema: Schema, score: float | None, similarity: float) -> float:
    """Return the value that trials are ordered by; ``score`` None (not tried) comes behind all others."""
    return similarity - 1000 if score is None else sign(schema.metric) * score + WEIGHT * similarity
