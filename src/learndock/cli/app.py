"""The command tree. Commands import what they use when they run, so that ``--help`` answers at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from learndock.cli import benches, demo, docking, people, reuse, serving, spaces, specs, writing
from learndock.cli.help import Grouped

app = typer.Typer(
    name="learndock",
    cls=Grouped,
    help="A dock for models: find the trained model that fits your task without sharing your data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # rich's help takes 0.1 s to import; tables and progress bars use it when they are drawn
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from learndock._version import VERSION

        typer.echo(f"learndock {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A dock for models: find the trained model that fits your task without sharing your data."""


_COMMANDS: tuple[tuple[str, str, Callable[..., None]], ...] = (
    ("Specifications", "spaces", spaces.spaces),
    ("Owners and operators", "pack", docking.pack),
    ("Owners and operators", "add", docking.add),
    ("Owners and operators", "list", docking.list_),
    ("Owners and operators", "show", docking.show_),
    ("Owners and operators", "remove", docking.remove),
    ("Owners and operators", "verify", docking.verify),
    ("Owners and operators", "rebuild", docking.rebuild),
    ("Owners and operators", "collect", docking.collect),
    ("Owners and operators", "serve", serving.serve),
    ("Owners and operators", "backup", serving.backup),
    ("Owners and operators", "restore", serving.restore),
    ("Owners and operators", "login", serving.login),
    ("Owners and operators", "logout", serving.logout),
    ("Users", "identify", reuse.identify),
    ("Users", "get", reuse.get),
    ("Users", "predict", reuse.predict),
    ("Users", "run", writing.run),
    ("Users", "merge", writing.merge),
    ("Users", "evaluate", reuse.evaluate),
    ("Users", "finetune", reuse.finetune),
    ("Users", "demo", demo.demo),
    ("Users", "tour", reuse.tour),
)

for panel, name, command in _COMMANDS:
    app.command(name, rich_help_panel=panel)(command)
app.add_typer(benches.app, name="bench", rich_help_panel="Researchers")
app.add_typer(people.tokens, name="token", rich_help_panel="People")
app.add_typer(people.users, name="user", rich_help_panel="People")
app.add_typer(people.organisations, name="organisation", rich_help_panel="People")
app.add_typer(spaces.app, name="space", rich_help_panel="Specifications")
app.add_typer(specs.app, name="spec", rich_help_panel="Specifications")
