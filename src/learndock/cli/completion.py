"""``learndock completion``: what a shell runs to complete commands and options."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated, Any

import typer

#: The variable by which the script asks for completions, as typer names it.
VARIABLE = "_LEARNDOCK_COMPLETE"


class Shell(StrEnum):
    """The shells whose completion is supported."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Your shell.")]) -> None:
    """Print the script that completes learndock's commands and options in your shell.

    bash reads it from ~/.local/share/bash-completion/completions/learndock, zsh from a folder of fpath, fish from
    ~/.config/fish/completions. To try it in this shell only: source <(learndock completion bash)
    """
    from typer.completion import completion_init, get_completion_script  # type: ignore[attr-defined]

    completion_init()
    typer.echo(get_completion_script(prog_name="learndock", complete_var=VARIABLE, shell=shell.value))


def complete(command: Any) -> int | None:
    """Answer a shell that asks for completions; None where no shell asks."""
    if VARIABLE not in os.environ:
        return None
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
    try:
        command.main(args=[], prog_name="learndock", complete_var=VARIABLE, standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
