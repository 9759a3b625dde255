"""Options that several commands share, once each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Dock = Annotated[
    str | None,
    typer.Option(
        "--dock",
        envvar="LEARNDOCK_DOCK",
        help="Folder or address (http://host:port) of the dock; default: a folder in your user data.",
    ),
]
#: Which learnwares ``identify`` looks at.
Format = Annotated[str | None, typer.Option("--format", help="Only of this format.", rich_help_panel="Filters")]
TaskType = Annotated[
    str | None,
    typer.Option("--task-type", help="Only for classification, or for regression.", rich_help_panel="Filters"),
]
License = Annotated[str | None, typer.Option("--license", help="Only under this licence.", rich_help_panel="Filters")]
Base = Annotated[str | None, typer.Option("--base", help="Only on this base model.", rich_help_panel="Filters")]
Owner = Annotated[str | None, typer.Option("--owner", help="Only of this owner.", rich_help_panel="Filters")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Data = Annotated[
    Path,
    typer.Option("--data", help="Examples: csv, tsv, jsonl (also .gz), parquet, datasets folder, images by class."),
]
Schema = Annotated[
    str | None,
    typer.Option("--schema", help="Task description (JSON); FILE#NAME picks one of several. Default: from labels."),
]
Text = Annotated[str, typer.Option("--text", help="Column of the text.", rich_help_panel="Columns")]
Pair = Annotated[str, typer.Option("--text-pair", help="Column of the second text.", rich_help_panel="Columns")]
Image = Annotated[
    str | None, typer.Option("--image", help="Column of the image, bytes or a path.", rich_help_panel="Columns")
]
Label = Annotated[str, typer.Option("--label", help="Column of the label.", rich_help_panel="Columns")]
Space = Annotated[str, typer.Option("--space", help="Space: a name (see `learndock spaces`) or its folder.")]
AnySpace = Annotated[
    str | None,
    typer.Option("--space", help="Space: a name (see `learndock spaces`) or its folder. Default: by the inputs."),
]
Recipe = Annotated[str, typer.Option("--recipe", help="one-pass (seconds) or paper (minutes, needs torch).")]
Full = Annotated[bool, typer.Option("--full", help="Keep the whole parameter vector beside its sketch.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Where to write.")]
Mapping = Annotated[
    list[str] | None, typer.Option("--map", metavar="THEIRS=YOURS", help="A label of the model under your name.")
]


def pairs(mapping: list[str] | None) -> dict[str, str]:
    """A model's labels and the user's names for them, as ``--map`` gives them.

    Raises:
        UsageError: something else was given.
    """
    from learndock.errors import UsageError

    found = [m.partition("=") for m in mapping or []]
    if any(not (theirs and sign and ours) for theirs, sign, ours in found):
        raise UsageError("--map takes THEIRS=YOURS, a label of the model and your name for it")
    return {theirs: ours for theirs, _, ours in found}
