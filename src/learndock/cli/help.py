"""The tree of commands as a table that is read only as far as a call needs, and help as plain text.

Importing every command takes longer than ``learndock --help`` may. So the root group knows for each command a line of
help and the place of its code, and loads it when it is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

from learndock.cli.examples import EXAMPLES


class Entry(NamedTuple):
    """A command or a group of commands: whom it is for, its name, ``module:attribute``, and a line of help."""

    heading: str
    name: str
    where: str
    help: str


class Lazy(dict[str, Any]):
    """Commands by name, each loaded when it is asked for. ``items`` and ``values`` load all of them."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        super().__init__({e.name: None for e in entries})
        self.entries = {e.name: e for e in entries}

    def __getitem__(self, name: str) -> Any:
        if super().__getitem__(name) is None:
            self[name] = load(self.entries[name])
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """See ``dict.get``."""
        return self[name] if name in self else default  # noqa: SIM401 - this is that method

    def items(self) -> Any:
        """See ``dict.items``."""
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        """See ``dict.values``."""
        return [self[name] for name in self]


class Grouped(TyperGroup):
    """A group of commands that lists them by heading, each with its line of help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands; typer calls this."""
        headings: dict[str, list[tuple[str, str]]] = {}
        for heading, name, line in self._lines():
            headings.setdefault(heading, []).append((name, line))
        for heading, rows in headings.items():
            with formatter.section(heading):
                formatter.write_dl(rows)

    def _lines(self) -> Iterator[tuple[str, str, str]]:
        if isinstance(self.commands, Lazy):
            for entry in self.commands.entries.values():
                yield entry.heading, entry.name, entry.help
            return
        for name, command in self.commands.items():
            if not command.hidden:
                yield "Commands", name, command.get_short_help_str(limit=200)


def group(help: str) -> typer.Typer:  # noqa: A002 - typer's word
    """A group of commands for the table."""
    return typer.Typer(help=help, cls=Grouped, no_args_is_help=True, rich_markup_mode=None)


def load(entry: Entry) -> Any:
    """Import a command or a group, and make of it what typer runs, with its examples."""
    module, _, attribute = entry.where.partition(":")
    found = getattr(importlib.import_module(f"learndock.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_group(found)
    else:
        single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        single.command(entry.name)(found)
        command = typer.main.get_command(single)
    command.name = entry.name
    command.rich_help_panel = entry.heading
    _give_examples(command, (entry.name,))
    return command


def _give_examples(command: Any, words: tuple[str, ...]) -> None:
    inner: Mapping[str, Any] = getattr(command, "commands", {})
    for name, each in inner.items():
        _give_examples(each, (*words, name))
    if lines := EXAMPLES.get(" ".join(words)):
        # \b keeps typer from joining the lines
        command.epilog = "\b\nExamples:\n" + "\n".join(f"  learndock {line}" for line in lines)
