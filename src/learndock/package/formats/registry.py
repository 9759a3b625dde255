"""Which formats are installed, and which of them a folder is.

Formats come through the entry point ``learndock.formats``, built-in ones too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from learndock.data.examples import Input
from learndock.data.schema import Schema
from learndock.errors import PackageError
from learndock.package.formats import Format
from learndock.package.manifest import Base

GROUP = "learndock.formats"
#: Tried in this order: an adapter's folder may hold files of its base too. Others follow, by name.
ORDER = ("causal-peft", "peft", "gguf", "causal", "timm", "transformers", "onnx", "sklearn")


@runtime_checkable
class OnBase(Protocol):
    """A format whose models need a base model, which does not travel with them."""

    def bind(self, folder: Path, base: str | None) -> Base:
        """Find the base (by the name or folder ``base``, or as the model's files name it) and hash it.

        May rewrite the name of the base in the files of ``folder``, where it was a path of this machine.

        Raises:
            ModelError: it is not on this machine and cannot be fetched.
        """
        ...


@runtime_checkable
class Settles(Protocol):
    """A format with settings that only a look at the running model tells."""

    def settle(self, folder: Path, schema: Schema, settings: dict[str, Any], inputs: Sequence[Input]) -> dict[str, Any]:
        """``settings`` completed, after running the model on a few of the owner's inputs."""
        ...


@runtime_checkable
class Named(Protocol):
    """A format of classifiers whose columns have names of their own.

    ``pack`` compares the names with the schema's labels and hands the order to ``load`` as ``settings["columns"]``: for
    each label its column.
    """

    def label_names(self, folder: Path, schema: Schema, settings: dict[str, Any]) -> list[str]:
        """What the model's files call its columns, in order; ``LABEL_0``, ``LABEL_1``, ... where they say nothing.

        ``settings`` are those of ``check``, with the manifest's ``base`` where there is one.

        Raises:
            ModelError: the files contradict themselves.
        """
        ...


@cache
def formats() -> dict[str, Format]:
    """All installed formats by name, in the order in which they are tried.

    Raises:
        PackageError: an installed format does not do what a format must do.
    """
    found: dict[str, Format] = {}
    for entry in entry_points(group=GROUP):
        made = entry.load()()
        if not isinstance(made, Format) or made.name != entry.name:
            raise PackageError(f"the format {entry.name} ({entry.value}) is not a learndock format", remedy="remove it")
        found[entry.name] = made
    names = [n for n in ORDER if n in found] + sorted(n for n in found if n not in ORDER)
    return {name: found[name] for name in names}


def get_format(name: str) -> Format:
    """The format called ``name``.

    Raises:
        PackageError: it is not installed.
    """
    try:
        return formats()[name]
    except KeyError:
        raise PackageError(
            f'the format "{name}" is not installed here', remedy=f"installed: {', '.join(formats())}"
        ) from None


def detect(folder: str | Path) -> Format:
    """The format of a model folder.

    Raises:
        PackageError: no format knows it; the message says what each one looks for.
    """
    folder = Path(folder)
    for found in formats().values():
        if found.recognises(folder):
            return found
    wanted = "; ".join(f"{name}: {getattr(f, 'looks_for', 'see its documentation')}" for name, f in formats().items())
    raise PackageError(f"no model that a format knows ({wanted})", about=folder)
