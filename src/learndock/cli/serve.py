"""``learndock serve``: a dock for others, with a flag for each setting."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any

import typer

from learndock.cli import options, show


def _serve(
    dock: options.Dock = None,
    config: options.Config = None,
    **flags: Any,
) -> None:
    """Serve a dock to others, until Ctrl-C. The first start prints a link for its operator."""
    import os

    # Before anything reads NumPy. Requests run side by side already; a product's own threads would wait for each
    # other, and burn what others need.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from learndock.cli.text import one_line
    from learndock.http import run

    run.serve(options.folder_of(dock, "serve"), flags, config, say=lambda text: show.note(one_line(text)))


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with a flag for each setting: typer reads the signature."""
    from learndock.settings import FIELDS, flag, shown, variable

    hints = typing.get_type_hints(command, include_extras=True)
    own = [
        p.replace(annotation=hints[p.name])
        for p in inspect.signature(command).parameters.values()
        if p.kind is not p.VAR_KEYWORD
    ]
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None,
                typer.Option(
                    flag(name),
                    help=_help(field.metadata["about"], variable(name), shown(name, field.default)),
                    rich_help_panel="Settings",
                ),
            ],
        )
        for name, field in FIELDS.items()
    ]

    def with_settings(**values: Any) -> None:
        command(**values)

    with_settings.__doc__ = command.__doc__
    with_settings.__name__ = command.__name__.strip("_")
    with_settings.__annotations__ = {p.name: p.annotation for p in (*own, *added)}
    with_settings.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    return with_settings


def _help(about: str, variable: str, default: str) -> str:
    """The help of a setting: what it means, its variable, and its default where it has one."""
    first = about.split(maxsplit=1)[0]
    sentence = about if "://" in first else about[:1].upper() + about[1:]
    return f"{sentence}. [{variable}" + (f", default {default}]" if default else "]")


serve = _with_settings(_serve)
