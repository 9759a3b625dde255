"""``learndock route``: name the learnware that prompts should go to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from learndock.cli import options, show
from learndock.cli.common import open_existing


def route(
    prompts: Annotated[list[str] | None, typer.Argument(metavar="[PROMPT]...", help="Prompts of one task.")] = None,
    spec: Annotated[
        Path | None, typer.Option(help="In place of prompts: a spec of your task, made by `learndock spec task`.")
    ] = None,
    format: options.Format = None,  # noqa: A002 - the field's name
    task_type: options.TaskType = None,
    license: options.License = None,  # noqa: A002 - the field's name
    base: options.Base = None,
    owner: options.Owner = None,
    space: options.AnySpace = None,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Name the learnware whose inputs were most like these prompts. They are read on this machine.

    A service is sent the numbers of their domain. Where nothing fits, the exit code is 35.
    """
    from learndock import dock as docks
    from learndock.errors import NOTHING_FITS, UsageError
    from learndock.search import Filters
    from learndock.spec import make_domain, read_spec

    if bool(prompts) == (spec is not None):
        raise UsageError("give prompts, or --spec FILE", remedy='one of the two, as in: learndock route "a prompt"')
    if spec is not None and space is not None:
        raise UsageError("--space says how prompts are read, and --spec has a space", remedy="leave it out")
    filters = Filters(format=format, task=task_type, license=license, base=base, owner=owner)
    opened = open_existing(dock)
    asked = read_spec(spec) if spec is not None else make_domain(prompts or [], space=space)
    found = docks.route(opened, asked, filters=filters)
    if json:
        show.print_json(found.to_dict())
    else:
        show.say(f"{found.name}" if found.name else "Nothing here fits.")
        if found.reason:
            show.say(f"Not sure: {found.reason}." if found.name else f"Reason: {found.reason}.")
        if found.nearest and found.nearest[0].deprecated:
            show.say(f"{found.nearest[0].name} is {found.nearest[0].deprecated}.")
        if found.nearest:
            rows = [
                [i, f"{n.name}@v{n.version}", f"{n.score:.2f}", f"{n.similarity:.2f}"]
                for i, n in enumerate(found.nearest, 1)
            ]
            show.table(["", "learnware", "score", "similarity"], rows, right=["", "score", "similarity"])
    if found.name is None:
        raise typer.Exit(NOTHING_FITS)
