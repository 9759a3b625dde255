"""What a generative model promises, and how adapters that share a base are loaded.

The public side of the formats ``causal``, ``causal-peft`` and ``gguf``; how they do it is in ``_causal``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.schema import Schema
from learndock.package.formats import MAX_NEW_TOKENS, Progress

#: The format of adapters, several of which can share a base.
ADAPTER = "causal-peft"
#: Formats of generative models.
GENERATIVE = ("causal", ADAPTER, "gguf")


@runtime_checkable
class GenerativeModel(Protocol):
    """A loaded language model that writes texts, and says how likely it finds given ones."""

    @property
    def schema(self) -> Schema:
        """Return the task that the model was packed for."""
        ...

    def predict(self, inputs: Sequence[Input], *, progress: Progress | None = None) -> NDArray[Any]:
        """Return what the model answers: see ``Model``."""
        ...

    def score(
        self, inputs: Sequence[Input], completions: Sequence[str], *, progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """Return the log-probability of each completion after each prompt, its end included: ``(n, completions)``.

        Options of ``generation_config.json`` have no part in it.
        """
        ...

    def generate(
        self, inputs: Sequence[Input], *, max_tokens: int = MAX_NEW_TOKENS, progress: Progress | None = None
    ) -> NDArray[Any]:
        """Return what the model writes after each prompt, the likeliest token each time: an object array ``(n,)``."""
        ...

    def stream(self, prompt: Input, *, max_tokens: int = MAX_NEW_TOKENS) -> Iterator[str]:
        """Yield what the model writes after one prompt, piece by piece, as it comes."""
        ...

    def left_out(self, prompt: Input, *, max_tokens: int = MAX_NEW_TOKENS) -> int:
        """Return how many tokens of a prompt's beginning do not fit into the model's context."""
        ...


def load_on_one_base(adapters: Sequence[tuple[Path, Schema, dict[str, Any]]]) -> list[GenerativeModel]:
    """Load adapters ``(folder, schema, settings)`` of one base, which is loaded once.

    Raises:
        ModelError: their bases differ, or an adapter does not fit.
        MissingExtra
    """
    from learndock.package.formats.causal_peft import stand_on

    return list(stand_on(list(adapters)))
