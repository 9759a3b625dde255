"""Options that several commands share, once each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from learndock.data import ReadOptions

    Reading = ReadOptions
else:
    Reading = object  # annotations are evaluated when commands are registered, long before data is read


def _dock(value: str | None) -> str | None:
    """Refuse an address without its scheme: it would name a folder.

    Raises:
        UsageError: what is named is meant as an address, and is not one.
    """
    from learndock.dock.storage.layout import refuse_half_address

    if value is not None:
        refuse_half_address(value)
    return value


def folder_of(dock: str | None, verb: str) -> Path:
    """The folder of the dock for what is done on the machine that has it.

    Raises:
        UsageError: ``dock`` is an address.
    """
    from learndock.dock.storage.layout import default_folder, is_address
    from learndock.errors import UsageError

    if dock is not None and is_address(dock):
        raise UsageError(
            f"cannot {verb} a dock at an address",
            remedy="run this on the machine that has the dock, and name its folder with --dock",
            about=dock,
        )
    return default_folder() if dock is None else Path(dock).expanduser()


def _config(value: Path | None) -> Path | None:
    """Refuse a file of settings that is not there.

    Raises:
        UsageError: it is not there.
    """
    from learndock.errors import UsageError

    if value is not None and not value.is_file():
        raise UsageError("no such file of settings", remedy="check the path, or leave --config out", about=value)
    return value


class Order(StrEnum):
    """How a list is sorted."""

    ADDED = "added"
    NAME = "name"
    SIZE = "size"


class Scope(StrEnum):
    """What a token may do."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class Kind(StrEnum):
    """What a learnware answers with."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    GENERATION = "generation"


Dock = Annotated[
    str | None,
    typer.Option(
        "--dock",
        envvar="LEARNDOCK_DOCK",
        callback=_dock,
        help="Folder or address (http://host:port) of the dock. Default: a folder in your user data.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(callback=_config, help="File of settings (TOML). Default: learndock.toml in the dock's folder."),
]
#: Which learnwares are looked at.
Format = Annotated[
    str | None, typer.Option("--format", help="Only learnwares in this format, e.g. onnx.", rich_help_panel="Filters")
]
TaskType = Annotated[
    Kind | None,
    typer.Option("--task-type", help="Only learnwares for this type of task.", rich_help_panel="Filters"),
]
License = Annotated[
    str | None, typer.Option("--license", help="Only learnwares under this license.", rich_help_panel="Filters")
]
Base = Annotated[
    str | None, typer.Option("--base", help="Only learnwares on this base model.", rich_help_panel="Filters")
]
Owner = Annotated[str | None, typer.Option("--owner", help="Only learnwares of this owner.", rich_help_panel="Filters")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Data = Annotated[
    Path,
    typer.Option("--data", help="Examples: csv, tsv, jsonl (also .gz), parquet, datasets folder, images by class."),
]
Schema = Annotated[
    str | None,
    typer.Option("--schema", help="Task description (JSON); FILE#NAME picks one of several. Default: from labels."),
]
#: How DATA is read: parameter -> (annotation, default). ``reads_data`` gives them to a command, ``ReadOptions`` takes
#: them.
READING: dict[str, tuple[Any, Any]] = {
    "text": (Annotated[str, typer.Option("--text", help="Column of the text.")], "text"),
    "text_pair": (Annotated[str, typer.Option("--text-pair", help="Column of the second text.")], "text_pair"),
    "image": (Annotated[str | None, typer.Option("--image", help="Column of the image, bytes or a path.")], None),
    "label": (Annotated[str, typer.Option("--label", help="Column of the label.")], "label"),
    "separator": (
        Annotated[str | None, typer.Option("--separator", help="Separator of a csv file. Default: detected.")],
        None,
    ),
    "quotes": (
        Annotated[
            bool | None,
            typer.Option(
                "--quotes/--no-quotes",
                help="Whether quotation marks of a csv file quote. Default: they do, unless that merges rows.",
            ),
        ],
        None,
    ),
    "encoding": (
        Annotated[str | None, typer.Option("--encoding", help="Encoding of a text file. Default: UTF-8, or detected.")],
        None,
    ),
    "sheet": (Annotated[str | None, typer.Option("--sheet", help="Sheet of a workbook. Default: the only one.")], None),
}


def reads_data(*, labels: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of ``READING`` and hand them to it as its parameter ``reading``."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "reading"]
        given = {name: found for name, found in READING.items() if labels or name != "label"}

        def run(**values: Any) -> None:
            from learndock.data import ReadOptions

            how = {name: values.pop(name) for name in given if name in values}
            command(**values, reading=ReadOptions(**how))

        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in given.items()
        ]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + added
        run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def typed(reading: ReadOptions) -> list[str]:
    """The options that say how DATA is read, as a person types them again; those with their default are left out."""
    words: list[str] = []
    for name, (_, default) in READING.items():
        value = getattr(reading, name)
        if value == default:
            continue
        flag = "--" + name.replace("_", "-")
        words += [flag if value else f"--no-{name}"] if isinstance(value, bool) else [flag, str(value)]
    return words


Space = Annotated[str, typer.Option("--space", help="Space: a name (see `learndock spaces`) or its folder.")]
AnySpace = Annotated[
    str | None,
    typer.Option(
        "--space", help="Space: a name (see `learndock spaces`) or its folder. Default: chosen by the inputs."
    ),
]
Recipe = Annotated[str, typer.Option("--recipe", help="one-pass (seconds) or paper (minutes, needs torch).")]
Full = Annotated[bool, typer.Option("--full", help="Keep the complete parameter vector beside its sketch.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Random seed.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Where to write.")]
Mapping = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="THEIRS=YOURS", help="Rename a model's label to yours, e.g. neg=negative."),
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
