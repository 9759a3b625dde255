"""``learndock mcp``: the tools of ``tools.py`` for agents, as a Model Context Protocol server over stdio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from learndock.cli import options
from learndock.cli.common import open_existing

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from learndock.cli.tools import Tools

T = TypeVar("T")
INSTRUCTIONS = (
    "Find a trained model (a learnware) that fits a task. Call identify with a file of labelled examples (16 per class "
    "are enough) or a spec file in the user's folder; the examples stay on this machine. Where fits is false, nothing "
    "fits: say so, and do not recommend what is under closest."
)


def mcp(
    folder: Annotated[
        Path, typer.Option(help="The only folder whose files an agent may name. Default: the current one.")
    ] = Path(),
    space: options.AnySpace = None,
    dock: options.Dock = None,
) -> None:
    """Serve a dock to an agent over stdio (Model Context Protocol): tools identify, route, show and list.

    An agent's program starts this command. Examples stay on this machine; a dock at an address is sent the spec
    without the names of its labels, and for route the domain's numbers.
    """
    from learndock.errors import MissingExtra, UsageError

    try:
        import mcp.server.mcpserver  # noqa: F401
    except ImportError:
        raise MissingExtra("serving agents needs mcp", remedy='pip install "learndock[mcp]"') from None
    if not folder.is_dir():
        raise UsageError("is not a folder", remedy="name one with --folder", about=folder)
    from learndock.cli.tools import Tools

    server(Tools(open_existing(dock), folder, space=space)).run("stdio")


def server(tools: Tools) -> MCPServer[Any]:
    """Return the server whose tools are those of ``tools``; their errors are told to the agent in one sentence."""
    from mcp.server.mcpserver import MCPServer
    from mcp.types import ToolAnnotations

    from learndock._version import VERSION
    from learndock.search import Filters

    found: MCPServer[Any] = MCPServer("learndock", instructions=INSTRUCTIONS, version=VERSION, log_level="WARNING")
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)

    @found.tool(annotations=reads)
    def identify(
        path: str,
        text: str = "text",
        label: str = "label",
        schema: str | None = None,
        top: int = 5,
        format: str | None = None,  # noqa: A002 - the field's name
        base: str | None = None,
        license: str | None = None,  # noqa: A002 - the field's name
    ) -> dict[str, Any]:
        """Rank the learnwares that fit a task, and say whether any does.

        path: labelled examples (csv, tsv, jsonl, parquet, ...) with the columns text and label, or a .spec file, in
        the folder of this server. schema: a JSON file that says what the labels mean. Filters: format (e.g. peft),
        base model, license. The examples stay on this machine.
        """
        filters = Filters(format=format, base=base, license=license)
        return _said(lambda: tools.identify(path, text=text, label=label, schema=schema, top=top, filters=filters))

    @found.tool(annotations=reads)
    def route(prompts: list[str], format: str | None = None, base: str | None = None) -> dict[str, Any]:  # noqa: A002
        """Name the one learnware whose inputs were most like these prompts (no labels needed, so less certain)."""
        return _said(lambda: tools.route(prompts, filters=Filters(format=format, base=base)))

    @found.tool(annotations=reads)
    def show(name: str) -> dict[str, Any]:
        """Show one learnware, owner/name: its task, labels, files and specs."""
        return _said(lambda: tools.show(name))

    @found.tool(name="list", annotations=reads)
    def list_(
        text: str = "",
        limit: int = 50,
        format: str | None = None,  # noqa: A002 - the field's name
        owner: str | None = None,
    ) -> dict[str, Any]:
        """List learnwares: those whose name, description or labels have every word of text, or all."""
        return _said(lambda: tools.list(text=text, limit=limit, filters=Filters(format=format, owner=owner)))

    return found


def _said(question: Callable[[], T]) -> T:
    """Return the answer; an error becomes the agent's, message and remedy.

    Raises:
        ToolError: the question has no answer.
    """
    from mcp.server.mcpserver.exceptions import ToolError

    from learndock.errors import LearndockError

    try:
        return question()
    except LearndockError as error:
        raise ToolError(f"{type(error).__name__}: {error}") from None
    except OSError as error:
        raise ToolError(f"the file cannot be read ({error.strerror})") from None
