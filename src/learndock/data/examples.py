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

#: One input. Only the readers and a space's encoder know what it is: a text is ``str``, a pair of texts
#: ``tuple[str, str]``, an image ``images.Image``, a prompt ``prompts.Prompt``; rooms between hand it on untouched.
Input = Any


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs in the order of their file, with targets where the file had labels.

    ``targets`` is ``(n,)``: int64 class indices for classification, float64 values for regression,
    completions (object array of texts) for generation, or None.
    ``rows`` are 1-based row numbers in the source (header not counted), for messages.
    ``warnings`` are remarks of the reader that the person should see.
    """

    inputs: Sequence[Input]
    targets: NDArray[Any] | None = None
    schema: Schema | None = None
    source: str = "examples"
    rows: Sequence[int] = field(default=())
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def kind(self) -> str:
        """What the inputs are: ``text`` (pairs too), ``image`` or ``generation``, as a space's description says it."""
        first = self.inputs[0] if len(self.inputs) else ""
        return "image" if isinstance(first, Image) else "generation" if isinstance(first, Prompt) else "text"

    def take(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> Examples:
        """The examples at ``indices``, in that order."""
        order = [int(i) for i in indices]
        return replace(
            self,
            inputs=[self.inputs[i] for i in order],
            targets=None if self.targets is None else self.targets[order],
            rows=[self.rows[i] for i in order] if len(self.rows) else (),
        )
