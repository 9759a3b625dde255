"""Generate text with one model, or with several adapters that share a base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from learndock.data.prompts import Prompt
from learndock.errors import ModelError, UsageError
from learndock.package.formats.generation import ADAPTER, GENERATIVE, GenerativeModel, load_on_one_base
from learndock.package.formats.registry import get_format
from learndock.package.learnware import Learnware
from learndock.package.safety import check_files


def load_generative_model(learnware: Learnware) -> GenerativeModel:
    """Load a learnware that is a generative model.

    Raises:
        UsageError: it classifies, or puts out numbers.
        UnsafeModel, ModelError, MissingExtra: see ``Learnware.load``.
    """
    form = learnware.manifest.format
    if form not in GENERATIVE:
        get_format(form)
        raise UsageError(
            f"{learnware.manifest.name}: a model of the format {form} writes nothing; use `learndock predict`"
        )
    return cast(GenerativeModel, learnware.load())


def load_generative_models(learnwares: Mapping[str, Learnware]) -> dict[str, GenerativeModel]:
    """Load adapters of one base, by name: the base is loaded once, and a switch between them copies nothing.

    Raises:
        UsageError: none is given, or one is not an adapter of a language model.
        ModelError: their bases differ, or one does not fit.
    """
    require_adapters(learnwares)
    for found in learnwares.values():
        check_files(found.folder)
    models = load_on_one_base([(found.folder, found.schema, found.settings) for found in learnwares.values()])
    return dict(zip(learnwares, models, strict=True))


def require_adapters(learnwares: Mapping[str, Learnware]) -> None:
    """Refuse what cannot share a base.

    Raises:
        UsageError: no learnware, or one that is not an adapter of a language model.
    """
    if not learnwares:
        raise UsageError("no learnware is given")
    other = [name for name, found in learnwares.items() if found.manifest.format != ADAPTER]
    if other:
        raise UsageError(f"{', '.join(other)}: not an adapter of a language model; only these share a base")


def generate(model: GenerativeModel, prompt: str | Prompt, *, max_tokens: int) -> Iterator[str]:
    """Yield what a model writes after ``prompt``, piece by piece.

    Raises:
        UsageError: the prompt is empty.
        ModelError: the model writes nothing.
    """
    text = prompt if isinstance(prompt, str) else prompt.text
    if not text.strip():
        raise UsageError("the prompt is empty; say something to the model")
    anything = False
    for piece in model.stream(prompt, max_tokens=max_tokens):
        anything = anything or bool(piece.strip())
        yield piece
    if not anything:
        raise ModelError("the model wrote nothing for this prompt; is the prompt of the kind that it was trained on?")
