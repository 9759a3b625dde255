"""What a model format promises, and how one is found.

A format knows how one kind of model folder is recognised, checked without running anything from it, loaded,
and tuned further. Built-in formats come through the same entry point (``learndock.formats``) as other
people's. Nothing here knows what an input is: a model takes the inputs that the readers made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from learndock.data.examples import Examples, Input
from learndock.data.schema import Schema
from learndock.progress import Progress as Progress

#: Tokens that a model generates at most, unless the caller says otherwise.
MAX_NEW_TOKENS = 128


class Model(Protocol):
    """A model that is ready to predict."""

    def predict(self, inputs: Sequence[Input], *, progress: Progress | None = None) -> NDArray[Any]:
        """Class probabilities ``(n, classes)`` whose rows sum to one, or values ``(n,)`` for regression.

        For generation an object array ``(n,)`` of what the model writes.

        Classes are in the order of the learnware's schema.
        """
        ...


@runtime_checkable
class Format(Protocol):
    """One kind of model folder."""

    name: str

    def recognises(self, folder: Path) -> bool:
        """Whether the folder's files look like this format; reads names and JSON only."""
        ...

    def check(self, folder: Path, schema: Schema) -> dict[str, Any]:
        """Check the files without loading a model; return settings for the manifest (may be empty).

        Runs without the format's optional libraries, so that a dock can check what it cannot load.

        Raises:
            UnsafeModel: a file could run code when loaded.
            ModelError: a file is missing, damaged or contradicts the schema.
        """
        ...

    def load(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> Model:
        """Load the model; executes nothing that came with the folder.

        Raises:
            UnsafeModel, ModelError, MissingExtra
        """
        ...

    def finetune(
        self,
        folder: Path,
        schema: Schema,
        settings: dict[str, Any],
        examples: Examples,
        target: Schema,
        out: Path,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """Tune the model on ``examples`` of the task ``target`` and write the model folder ``out``.

        ``target`` may have other labels than ``schema``: the model then gets a new output layer.

        Raises:
            ModelError: this format, or this model, cannot be tuned further; the message says what can.
            MissingExtra
        """
        ...


def remarks_of(model: Model) -> tuple[str, ...]:
    """What a model has to say about its last predictions, such as how many texts it read only in part."""
    found: Callable[[], tuple[str, ...]] | None = getattr(model, "remarks", None)
    return () if found is None else found()
