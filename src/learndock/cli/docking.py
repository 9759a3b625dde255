"""Commands of owners and operators: make a learnware, and keep a dock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from learndock.cli import options, show
from learndock.cli.common import open_existing, open_to_operate, read_data, read_schema, warn_cut, with_referrers

Which = Annotated[str, typer.Argument(metavar="ID", help="owner/name, or owner/name@version.")]


@options.reads_data()
def pack(
    model_dir: Annotated[Path, typer.Argument(help="Folder of the trained model.")],
    name: Annotated[str, typer.Option(help="owner/name of the learnware.")],
    data: options.Data,
    out: options.Out,
    schema: options.Schema = None,
    description: Annotated[str, typer.Option(help="A sentence about the model.")] = "",
    license_: Annotated[str | None, typer.Option("--license", help="License of the model (an SPDX name).")] = None,
    base: Annotated[str | None, typer.Option(help="Base model of an adapter, if its configuration is wrong.")] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="COLUMN=LABEL", help="Which label a column of the model is, e.g. LABEL_0=sports."
        ),
    ] = None,
    in_order: Annotated[
        bool, typer.Option("--in-order", help="The labels of --schema are in the order of the model's columns.")
    ] = False,
    scores: Annotated[
        str | None,
        typer.Option(help="What an ONNX graph puts out: logits, probabilities, sigmoids or log-probabilities."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Leave matching files out, e.g. optimizer.pt or 'checkpoint-*'."),
    ] = None,
    space: options.AnySpace = None,
    recipe: options.Recipe = "one-pass",
    full: options.Full = False,
    seed: options.Seed = 0,
    json: options.Json = False,
    *,
    reading: options.Reading,
) -> None:
    """Make a learnware of a trained model: manifest, card, model files, and a spec from its predictions."""
    from learndock.errors import UsageError
    from learndock.package import pack as make

    if in_order and schema is None:
        raise UsageError(
            "--in-order is about the labels of a schema", remedy="give --schema FILE with them in that order"
        )
    # Labels only score the model: an owner who has none left needs none
    examples = read_data(data, read_schema(schema), reading, labels=None)
    with show.progress(f"packing {name}") as bar:
        packed = make(
            model_dir,
            out,
            name=name,
            examples=examples,
            space=space,
            recipe=recipe,
            description=description,
            license=license_,
            base=base,
            mapping=options.pairs(mapping),
            in_order=in_order,
            scores=scores,
            ignore=ignore or (),
            full=full,
            seed=seed,
            progress=bar,
        )
    warn_cut(packed.spec.settings)
    for remark in packed.remarks:
        show.warn(remark)
    if json:
        show.print_json(_packed(packed))
        return
    manifest = packed.manifest
    show.say(f"{out}: {manifest.name} ({manifest.format}, {len(manifest.files)} files)")
    if packed.columns is not None:
        show.say(f"The model's columns, {_BY[packed.columns.by]}:")
        pairs = packed.columns.pairs(manifest.task_schema)
        for column, theirs, label in pairs[:_COLUMNS]:
            show.say(f"  {column}  {theirs} = {label}")
        if len(pairs) > _COLUMNS:
            show.say(f"  ... {len(pairs) - _COLUMNS} more")
    if packed.score is not None:
        show.say(f"{manifest.task_schema.metric} on your {len(examples)} examples: {packed.score:.3f}")
    show.say(f"Put it into a dock with `learndock add {out}`")


#: So many columns are printed; `--json` has them all.
_COLUMNS = 20
_BY = {"names": "matched by name", "map": "as --map says", "order": "in the order of --schema"}


def _packed(packed: Any) -> dict[str, Any]:
    manifest, columns = packed.manifest, packed.columns
    rows = () if columns is None else columns.pairs(manifest.task_schema)
    return {
        "id": packed.id,
        "folder": str(packed.folder),
        "format": manifest.format,
        "files": len(manifest.files),
        "metric": manifest.task_schema.metric,
        "score": packed.score,
        "columns": [{"column": column, "name": theirs, "label": label} for column, theirs, label in rows],
        "columns_by": None if columns is None else columns.by,
        "remarks": list(packed.remarks),
    }


def add(
    folder: Annotated[Path, typer.Argument(metavar="LEARNWARE", help="Folder made by `learndock pack`.")],
    vouch: Annotated[
        bool, typer.Option("--vouch", help="Let its spec in although it is a copy of another's, or near to everything.")
    ] = False,
    dock: options.Dock = None,
    private: Annotated[bool, typer.Option("--private", help="Show it to its owner alone (at an address).")] = False,
    json: options.Json = False,
) -> None:
    """Put a learnware into the dock: all of it, or nothing."""
    from learndock.dock import LocalDock, open_dock
    from learndock.dock.remote.dock import RemoteDock
    from learndock.errors import UsageError

    opened = open_dock(dock)
    with show.progress(f"adding {folder}") as bar:
        if vouch:
            if not isinstance(opened, LocalDock):
                raise UsageError(
                    "only the operator of a dock can vouch for a spec: `learndock add --vouch` on its folder"
                )
            record = opened.add(folder, vouched=True, progress=bar)
        elif private:
            if not isinstance(opened, RemoteDock):
                raise UsageError(
                    "a dock in a folder has nothing private", remedy="name a service with --dock http://..."
                )
            record = opened.add(folder, private=True, progress=bar)
        else:
            record = opened.add(folder, progress=bar)
    if json:
        show.print_json(_record(record))
    else:
        show.say(f"added {record.id}")


def list_(dock: options.Dock = None, json: options.Json = False) -> None:
    """List the learnwares of the dock."""
    records = open_existing(dock).records()
    if json:
        show.print_json([_record(r) for r in records])
        return
    if not records:
        show.say("The dock is empty; `learndock add` fills it.")
        return
    show.table(
        ["learnware", "version", "format", "task", "license", "size"],
        [
            [
                r.name,
                r.digest[:12],
                r.manifest.format,
                ", ".join(r.manifest.task["labels"][:6]) or r.manifest.task["type"],
                r.manifest.license,
                show.megabytes(sum(f.size for f in r.manifest.files)),
            ]
            for r in records
        ],
        right=["size"],
    )


def show_(which: Which, dock: options.Dock = None, json: options.Json = False) -> None:
    """Show one learnware: its task, files and specs."""
    record = open_existing(dock).get_record(which)
    manifest = record.manifest
    if json:
        show.print_json({**_record(record), "manifest": manifest.model_dump(mode="json")})
        return
    show.say(f"{record.id}")
    if manifest.description:
        show.say(f"  {manifest.description}")
    show.say(f"  format   {manifest.format}" + (f" on {manifest.base.name}" if manifest.base else ""))
    show.say(f"  license  {manifest.license or 'not stated'}")
    task = manifest.task_schema
    show.say(f"  task     {task.type}, metric {task.metric}")
    for label, description in zip(task.labels, task.descriptions, strict=True):
        show.say(f"             {label}" + (f": {description}" if description != label else ""))
    show.say(f"  specs    {', '.join(f'{s.space} ({s.space_id[:12]})' for s in manifest.specs) or 'none'}")
    show.table(["file", "size", "sha256"], [[f.path, show.megabytes(f.size), f.sha256[:12]] for f in manifest.files])


def remove(which: Which, dock: options.Dock = None, json: options.Json = False) -> None:
    """Take a learnware out of the dock and delete its files; its name never stands for other content again."""
    from learndock.dock import LocalDock

    opened = open_existing(dock)
    record = opened.remove(which)
    if isinstance(opened, LocalDock):  # a service deletes unreferenced files by itself
        with_referrers(opened).gc()
    if json:
        show.print_json(_record(record))
    else:
        show.say(f"removed {record.id}")


def verify(
    which: Annotated[str | None, typer.Argument(metavar="[ID]", help="One learnware; default: all.")] = None,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Hash everything again and compare disk and database."""
    from learndock.dock import LocalDock
    from learndock.errors import STATUS, Corrupt

    opened = open_existing(dock)
    with show.progress("verifying") as bar:
        if which is not None:
            problems = opened.verify(which, progress=bar)
        elif isinstance(opened, LocalDock):
            problems = with_referrers(opened).verify(progress=bar)
        else:  # every learnware that the service shows to you
            problems = [p for record in opened.records() for p in opened.verify(record.id, progress=bar)]
    errors = [p for p in problems if p.severity == "error"]
    if json:
        found = [{"severity": p.severity, "about": p.about, "message": p.message} for p in problems]
        show.print_json({"sound": not errors, "problems": found})
    else:
        for problem in problems:
            show.say(f"{problem.severity}: {problem.about}: {problem.message}")
        show.say("sound" if not errors else show.counted(len(errors), "error"))
    if errors:
        raise typer.Exit(STATUS[Corrupt][0])


def rebuild(dock: options.Dock = None, json: options.Json = False) -> None:
    """Make the database anew from the files of the dock."""
    with show.progress("rebuilding") as bar:
        count = open_to_operate(dock, "rebuild").rebuild(progress=bar)
    if json:
        show.print_json({"learnwares": count})
    else:
        show.say(f"rebuilt: {show.counted(count, 'learnware')}")


def collect(dock: options.Dock = None, json: options.Json = False) -> None:
    """Delete what nobody refers to: files of removed learnwares, and what interrupted commands left."""
    found = open_to_operate(dock, "gc").gc()
    if json:
        show.print_json({"blobs": found.blobs, "unfinished": found.unfinished, "leased": found.leased})
        return
    show.say(f"deleted {show.counted(found.blobs, 'file')} that nobody refers to, {found.unfinished} unfinished")
    if found.leased:
        show.say(f"kept {show.counted(found.leased, 'file')} that somebody is reading; collect again later")


def _record(record: Any) -> dict[str, Any]:
    manifest = record.manifest
    return {
        "id": record.id,
        "name": record.name,
        "version": record.digest,
        "format": manifest.format,
        "task": manifest.task,
        "license": manifest.license,
        "description": manifest.description,
        "spaces": [s.space for s in manifest.specs],
        "bytes": sum(f.size for f in manifest.files),
    }
