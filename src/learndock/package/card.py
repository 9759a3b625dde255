"""The card: ``README.md`` of a learnware, for people."""

from __future__ import annotations

import re
from dataclasses import dataclass

from learndock.data.schema import Schema

_FRONT = re.compile(r"\A---\r?\n.*?\r?\n---[ \t]*\r?\n", re.DOTALL)
_METRICS = {
    "accuracy": "accuracy",
    "exact_match": "share of exact matches",
    "f1": "F1 of the second label",
    "macro_f1": "macro F1",
    "matthews": "Matthews correlation",
    "mean_squared_error": "mean squared error",
    "pearson": "Pearson correlation",
    "pearson_spearman": "mean of Pearson and Spearman correlation",
    "spearman": "Spearman correlation",
    "token_f1": "mean F1 of words",
}


@dataclass(frozen=True)
class Card:
    """What the card's header says. ``score`` is on the owner's data, None where it had no labels."""

    name: str
    schema: Schema
    format: str
    description: str = ""
    base: str | None = None
    score: float | None = None
    examples: int = 0

    def text(self, existing: str | None = None) -> str:
        """Return the text of ``README.md``; a card that the model already had stays below the header.

        Its front matter, which other tools read, stays at the very top.
        """
        existing = (existing or "").replace("\r\n", "\n")
        front = _FRONT.match(existing)
        top, rest = (front.group(), existing[front.end() :]) if front else ("", existing)
        parts = [top.rstrip("\n"), self._header(), rest.strip()]
        return "\n\n".join(p for p in parts if p) + "\n"

    def _header(self) -> str:
        lines = [f"# {self.name}", ""]
        if self.description:
            lines += [self.description.strip(), ""]
        lines += ["| | |", "|---|---|", f"| task | {self.schema.type} |", f"| format | {self.format} |"]
        if self.base:
            lines.append(f"| base | {_cell(self.base)} |")
        lines.append(f"| metric | {_METRICS[self.schema.metric]} |")
        if self.score is not None:
            lines.append(
                f"| score on the owner's data | {self.score:.3f} on {self.examples} examples "
                "(the owner chose them; the model may have been trained on them) |"
            )
        # The license is in the front matter alone, where an edit changes it.
        lines += ["", *self._labels(), *self._use()]
        return "\n".join(lines)

    def _labels(self) -> list[str]:
        if self.schema.type == "generation":
            return []
        if self.schema.type == "regression":
            if not self.schema.labels:
                return []
            low, high = self.schema.labels
            return [f"The model puts out one number, from {low} to {high}.", ""]
        rows = [
            f"| {_cell(label)} | {_cell(description)} |"
            for label, description in zip(self.schema.labels, self.schema.descriptions, strict=True)
        ]
        return ["| label | what it means |", "|---|---|", *rows, ""]

    def _use(self) -> list[str]:
        predict = f"$ learndock predict {self.name} texts.jsonl -o predictions.jsonl"
        writes = f'$ learndock generate {self.name} "..."'
        return [
            "## Use",
            "",
            "```console",
            f"$ learndock get {self.name} -o model",
            writes if self.schema.type == "generation" else predict,
            "```",
            "",
            "The folder is a learnware: the model's own files, with `learnware.json` (what they are, with",
            "their hashes) and `specs/` (how the model behaves, so that a dock can find it).",
        ]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
