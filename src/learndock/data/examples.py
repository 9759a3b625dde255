"""Examples as they travel between rooms: opaque inputs, and targets where they are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.images import Image
from learndock.data.prompts import Prompt
from learndock.data.schema import Schema
from learndock.notebook import html_table

#: How many examples a notebook shows.
SHOWN = 5
#: One input. Only the readers and a space's encoder know what it is: a text is ``str``, a pair of texts
#: ``tuple[str, str]``, an image ``images.Image``, a prompt ``prompts.Prompt``; rooms between hand it on untouched.
Input = Any


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs in the order of their file, with targets where the file has labels.

    ``targets`` is ``(n,)``: int64 class indices for classification, float64 values for regression, completions (an
    object array of texts) for generation, or None.
    ``rows`` are 1-based row numbers in the source (header not counted), for messages.
    ``warnings`` are remarks of the reader that the person should see.

    Example:
        >>> schema = learndock.Schema("classification", ("no", "yes"), ("no", "yes"), "accuracy")
        >>> learndock.Examples(["not at all", "by all means"], np.array([0, 1]), schema)
        <Examples: 2 texts, no 1, yes 1>
    """

    inputs: Sequence[Input]
    targets: NDArray[Any] | None = None
    schema: Schema | None = None
    source: str = "examples"
    rows: Sequence[int] = field(default=())
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        source = "" if self.source == "examples" else f", from {self.source}"
        return f"<Examples: {self._described()}{source}>"

    def _repr_html_(self) -> str:
        few = range(min(len(self), SHOWN))
        rows = [(i + 1, _short(self.inputs[i]), self._label(i)) for i in few]
        return html_table(("", "input", "label"), rows, caption=self._described())

    def _described(self) -> str:
        names = {"text": "text", "image": "image", "generation": "prompt"}
        count = f"{len(self)} {names[self.kind]}{'' if len(self) == 1 else 's'}"
        if self.targets is None:
            return f"{count}, no labels"
        if self.schema is None or self.schema.type != "classification":
            return f"{count}, {'completions' if self.kind == 'generation' else 'values'}"
        counts = np.bincount(self.targets.astype(np.int64), minlength=self.schema.classes)
        return f"{count}, " + ", ".join(f"{label} {n}" for label, n in zip(self.schema.labels, counts, strict=False))

    def _label(self, index: int) -> str:
        if self.targets is None:
            return ""
        value = self.targets[index]
        return self.schema.labels[int(value)] if self.schema is not None and self.schema.classes else str(value)

    @property
    def kind(self) -> str:
        """Return what the inputs are: ``text`` (also pairs), ``image`` or ``generation``."""
        first = self.inputs[0] if len(self.inputs) else ""
        return "image" if isinstance(first, Image) else "generation" if isinstance(first, Prompt) else "text"

    def take(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> Examples:
        """Return the examples at ``indices``, in that order."""
        order = [int(i) for i in indices]
        return replace(
            self,
            inputs=[self.inputs[i] for i in order],
            targets=None if self.targets is None else self.targets[order],
            rows=[self.rows[i] for i in order] if len(self.rows) else (),
        )


def _short(value: Input, length: int = 120) -> str:
    if isinstance(value, tuple):
        return " | ".join(_short(part, length // 2) for part in value)
    text = value.text if isinstance(value, Prompt) else value if isinstance(value, str) else getattr(value, "name", "")
    return text if len(text) <= length else text[: length - 3] + "..."
