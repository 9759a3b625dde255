"""``learndock import``: make learnwares of models that exist elsewhere, with what their source says of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from learndock.cli import options, show
from learndock.cli.help import group
from learndock.cli.learnwares import make_packed, pack, packed_json, say_packed

if TYPE_CHECKING:
    from learndock.package.imports import Found

    Opened = AbstractContextManager[Found]
else:
    Opened = object  # annotations are evaluated when commands are registered

app = group("Make learnwares of models that exist elsewhere.")

#: Not read from LEARNDOCK_DOCK: a setting for all commands must not publish.
To = Annotated[
    str | None,
    typer.Option("--dock", callback=options._dock, help="Publish it at once in this dock, a folder or an address."),
]


def packs(command: Callable[..., Opened]) -> Callable[..., None]:
    """Give a command the options of ``pack`` and ``--dock``, and make a learnware of the model that it opens."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    shared = [p for p in inspect.signature(pack).parameters.values() if p.name not in ("model_dir", "json")]
    last = [
        inspect.Parameter("dock", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=To),
        inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=options.Json),
    ]
    reading = {name for name in options.READING if name in {p.name for p in shared}}

    def run(**values: Any) -> None:
        from learndock.data import ReadOptions

        named = {p.name: values.pop(p.name) for p in own}
        dock, json = values.pop("dock"), values.pop("json")
        how = ReadOptions(**{name: values.pop(name) for name in reading})
        with command(**named) as found:
            _make(found, values, how, dock=dock, json=json)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared + last
    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _make(found: Found, values: dict[str, Any], reading: options.Reading, *, dock: str | None, json: bool) -> None:
    """Pack what was found, and publish it if a dock is named."""
    from learndock.dock import open_dock

    opened = None if dock is None else open_dock(dock)  # before minutes of work
    for remark in found.remarks:
        show.warn(remark)
    values["license_"] = values["license_"] if values["license_"] is not None else found.license
    values["description"] = values["description"] or found.description
    packed, examples = make_packed(found.folder, reading=reading, **values)
    license_ = packed.manifest.license
    if not json:
        say_packed(packed, examples)
        show.say(f"license: {license_ or 'not stated; --license says it'}")
        if found.tags:
            show.say(f"tags: {', '.join(found.tags)}")
    record = None
    if opened is not None:
        with show.progress(f"adding {packed.folder}") as bar:
            record = opened.add(packed.folder, progress=bar)
    if json:
        said = {"source": found.source, "license": license_, "tags": list(found.tags), "notes": list(found.remarks)}
        show.print_json({**packed_json(packed), **said, "added": None if record is None else record.id})
    elif record is None:
        show.next_step("add", packed.folder)
    else:
        show.say(f"added {record.id}")
        show.next_step("show", record.name, dock=dock)


@app.command("mlflow")
@packs
def mlflow(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Folder with an MLmodel file, a version in a file registry, runs:/... or models:/..."
        ),
    ],
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            "--with", metavar="FILE", help="File to put beside the model, e.g. the tokenizer.json of an ONNX graph."
        ),
    ] = None,
) -> Opened:
    """Make a learnware of a model of MLflow (scikit-learn saved with skops, ONNX or transformers); nothing is loaded.

    License, description and tags come from the registry or from MLmodel's metadata, unless an option says them.
    """
    from learndock.package.imports import open_mlflow

    return open_mlflow(source, beside=beside or ())


@app.command("hub")
@packs
def hub(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Folder of the hub's cache, a model folder with its card, or a name."),
    ],
    revision: Annotated[str | None, typer.Option("--revision", help="Commit, branch or tag. Default: main.")] = None,
) -> Opened:
    """Make a learnware of a model of a hub, with its card.

    The card's license, tags and base model stay, and what the configuration calls the labels decides their order.
    """
    from learndock.package.imports import open_hub

    return open_hub(source, revision=revision)
