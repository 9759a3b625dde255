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
    """Load a learnware that is a generative model: a language model, an adapter of one, or a GGUF file.

    Raises:
        UsageError: the learnware classifies, or predicts numbers.
        UnsafeModel, ModelError, MissingExtra: see ``Learnware.load``.

    Example:
        >>> learndock.load_generative_model(learndock.open_learnware("learnware"))
        Traceback (most recent call last):
        learndock.errors.UsageError: me/reviews: a model of the format sklearn does not generate text; ...
    """
    form = learnware.manifest.format
    if form not in GENERATIVE:
        get_format(form)
        raise UsageError(
            f"a model of the format {form} does not generate text",
            remedy="use `learndock predict`",
            about=learnware.manifest.name,
        )
    return cast(GenerativeModel, learnware.load())


def load_generative_models(learnwares: Mapping[str, Learnware]) -> dict[str, GenerativeModel]:
    """Load adapters of one base, by name. The base is loaded once, and switching between adapters copies nothing.

    Raises:
        UsageError: none is given, or one is not an adapter of a language model.
        ModelError: their bases differ, or one does not fit.

    Example:
        >>> opened = {name: learndock.open_learnware(name) for name in ("one", "two")}  # doctest: +SKIP
        >>> models = learndock.load_generative_models(opened)  # doctest: +SKIP
        >>> "".join(learndock.generate(models["one"], "What is the capital of Peru?"))  # doctest: +SKIP
        'Lima'
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
        raise UsageError("no learnware is given", remedy="name at least one adapter")
    other = [name for name, found in learnwares.items() if found.manifest.format != ADAPTER]
    if other:
        raise UsageError("not an adapter of a language model", remedy="only these share a base", about=", ".join(other))


def generate(model: GenerativeModel, prompt: str | Prompt, *, max_tokens: int = 128) -> Iterator[str]:
    """Generate the completion of a prompt, piece by piece.

    Args:
        model: see ``load_generative_model``.
        prompt: a text, which becomes one turn of the user, or a conversation.
        max_tokens: longest completion, in tokens of the model.

    Raises:
        UsageError: the prompt is empty.
        ModelError: the model generates nothing.

    Example:
        >>> model = learndock.load_generative_model(learndock.open_learnware("adapter"))  # doctest: +SKIP
        >>> for piece in learndock.generate(model, "What is the capital of Peru?"):  # doctest: +SKIP
        ...     print(piece, end="", flush=True)
        Lima
    """
    text = prompt if isinstance(prompt, str) else prompt.text
    if not text.strip():
        raise UsageError("the prompt is empty", remedy="write what the model is to answer")
    anything = False
    for piece in model.stream(prompt, max_tokens=max_tokens):
        anything = anything or bool(piece.strip())
        yield piece
    if not anything:
        raise ModelError(
            "the model wrote nothing for this prompt", remedy="is the prompt of the kind that it was trained on?"
        )
