"""Help that answers at once: plain text, commands under the headings of who they are for."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class Grouped(TyperGroup):
    """A group of commands that lists them by heading, each with its whole first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands; typer calls this."""
        headings: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.commands[name]
            if not command.hidden:
                heading = getattr(command, "rich_help_panel", None)
                headings.setdefault(heading if isinstance(heading, str) else "Commands", []).append(
                    (name, command.get_short_help_str(limit=200))
                )
        for heading, rows in headings.items():
            with formatter.section(heading):
                formatter.write_dl(rows)
