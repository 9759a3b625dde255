"""The command tree: who each command is for, and where its code is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from learndock.cli.help import Entry, Grouped, Lazy

ANALYSTS = "Find and use a model (analysts)"
OWNERS = "Publish a model (owners)"
OPERATORS = "Run a dock for others (operators)"
RESEARCHERS = "Specifications and evidence (researchers)"
SHELL = "This command line"

ENTRIES = (
    Entry(ANALYSTS, "demo", "demo:demo", "See it work in a minute, with data that ships with learndock."),
    Entry(ANALYSTS, "identify", "identify:identify", "Find the learnwares that fit your task."),
    Entry(ANALYSTS, "route", "route:route", "Name the learnware that a prompt should go to."),
    Entry(ANALYSTS, "evaluate", "models:evaluate", "Score a learnware on your labelled examples."),
    Entry(ANALYSTS, "predict", "models:predict", "Run a learnware on your inputs."),
    Entry(ANALYSTS, "finetune", "models:finetune", "Tune a learnware on your examples."),
    Entry(ANALYSTS, "get", "learnwares:get", "Write a learnware as a folder that other tools load."),
    Entry(ANALYSTS, "list", "learnwares:list_", "List the learnwares of a dock."),
    Entry(ANALYSTS, "search", "learnwares:search", "Find learnwares by words in names, descriptions and labels."),
    Entry(ANALYSTS, "show", "learnwares:show_", "Show one learnware: its task, files and specifications."),
    Entry(ANALYSTS, "generate", "generate:generate", "Let a language model answer a prompt."),
    Entry(ANALYSTS, "merge", "generate:merge", "Merge adapters of language models into one."),
    Entry(ANALYSTS, "mcp", "mcp:mcp", "Serve a dock to an agent (Model Context Protocol)."),
    Entry(OWNERS, "pack", "learnwares:pack", "Make a learnware of a trained model."),
    Entry(OWNERS, "import", "imports:app", "Make learnwares of models of MLflow or a hub."),
    Entry(OWNERS, "add", "learnwares:add", "Publish learnwares in a dock."),
    Entry(OWNERS, "versions", "versions:versions", "List the versions of a learnware and their tags."),
    Entry(OWNERS, "tag", "versions:tag", "Tag a version, such as stable, or move latest."),
    Entry(OWNERS, "untag", "versions:untag", "Take a tag away."),
    Entry(OWNERS, "edit", "versions:edit", "Edit a learnware's card: license, description, tags."),
    Entry(OWNERS, "deprecate", "versions:deprecate", "Say that a learnware should not be used any more."),
    Entry(OWNERS, "move", "versions:move", "Give a learnware another name or owner."),
    Entry(OWNERS, "remove", "learnwares:remove", "Take a learnware, or one version of it, out of a dock."),
    Entry(OWNERS, "visibility", "account:visibility", "See or set who may see a learnware of yours at a service."),
    Entry(OWNERS, "login", "account:login", "Log in to a service."),
    Entry(OWNERS, "logout", "account:logout", "Forget the token of a service."),
    Entry(OWNERS, "whoami", "account:whoami", "Show which dock you use, and who you are there."),
    Entry(OWNERS, "token", "people:tokens", "List, make and revoke your tokens at a service."),
    Entry(OPERATORS, "serve", "serve:serve", "Serve a dock to others."),
    Entry(OPERATORS, "verify", "operate:verify", "Hash every stored file again."),
    Entry(OPERATORS, "gc", "operate:gc", "Delete unreferenced files."),
    Entry(OPERATORS, "rebuild", "operate:rebuild", "Rebuild the database from the files of a dock."),
    Entry(OPERATORS, "backup", "operate:backup", "Copy a dock while it is served."),
    Entry(OPERATORS, "restore", "operate:restore", "Restore a backup into a folder or into configured storage."),
    Entry(OPERATORS, "operator-link", "operate:operator_link", "Let in the operator who has lost their token."),
    Entry(OPERATORS, "user", "people:users", "List, add, invite and remove users of a service."),
    Entry(OPERATORS, "organisation", "people:organisations", "Make organisations and set their members."),
    Entry(RESEARCHERS, "spec", "specs:app", "Make, show and compare specifications."),
    Entry(RESEARCHERS, "spaces", "spaces:spaces", "List installed spaces, and what is missing for them."),
    Entry(RESEARCHERS, "space", "spaces:app", "Author and install spaces."),
    Entry(RESEARCHERS, "tour", "demo:tour", "Take the full journey on real texts and images (minutes)."),
    Entry(RESEARCHERS, "bench", "bench:app", "Measure whether specifications find the right model."),
    Entry(SHELL, "completion", "completion:completion", "Print a script that completes commands in your shell."),
)


class Root(Grouped):
    """The root group, whose commands are loaded one by one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": Lazy(ENTRIES)})


app = typer.Typer(
    name="learndock",
    cls=Root,
    help="A dock for models: find the trained model that fits your task without sharing your data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # rich's help takes 0.1 s to import; progress bars use it when they are drawn
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="New here? `learndock demo` shows it in a minute. `learndock COMMAND --help` has examples.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from learndock._version import VERSION

        typer.echo(f"learndock {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("-V", "--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A dock for models: find the trained model that fits your task without sharing your data."""
