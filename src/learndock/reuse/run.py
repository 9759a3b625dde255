"""Let learnwares that write write: one, or several adapters on one base that is loaded once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from learndock.data.prompts import Prompt
from learndock.errors import ModelError, UsageError
from learndock.package.formats.registry import get_format
from learndock.package.learnware import Learnware
from learndock.package.safety import check_files

if TYPE_CHECKING:
    from learndock.package.formats._causal import CausalModel

ADAPTER = "causal-peft"
#: Formats of models that write.
WRITERS = ("causal", ADAPTER, "gguf")


def load_writer(learnware: Learnware) -> CausalModel:
    """A learnware that writes, loaded.

    Raises:
        UsageError: it classifies, or puts out numbers.
        UnsafeModel, ModelError, MissingExtra: see ``Learnware.load``.
    """
    from learndock.package.formats._causal import CausalModel

    _require_writer(learnware)
    found = learnware.load()
    assert isinstance(found, CausalModel)
    return found


def load_writers(learnwares: Mapping[str, Learnware]) -> dict[str, CausalModel]:
    """Adapters on one base, by name: the base is loaded once, and a switch between them copies nothing.

    Raises:
        UsageError: none is given, or one is no adapter of a language model.
        ModelError: their bases differ, or one does not fit.
    """
    from learndock.package.formats.causal_peft import stand_on

    if not learnwares:
        raise UsageError("no learnware is given")
    other = [name for name, found in learnwares.items() if found.manifest.format != ADAPTER]
    if other:
        raise UsageError(f"{', '.join(other)}: no adapter of a language model; only these share a base")
    for found in learnwares.values():
        check_files(found.folder)
    models = stand_on([(found.folder, found.schema, found.settings) for found in learnwares.values()])
    return dict(zip(learnwares, models, strict=True))


def write(model: CausalModel, prompt: str | Prompt, *, max_tokens: int) -> Iterator[str]:
    """What a model writes after ``prompt``, piece by piece.

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


def _require_writer(learnware: Learnware) -> None:
    form = learnware.manifest.format
    if form not in WRITERS:
        get_format(form)
        raise UsageError(
            f"{learnware.manifest.name}: a model of the format {form} writes nothing; use `learndock predict`"
        )
