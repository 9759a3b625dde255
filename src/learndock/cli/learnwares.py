"""Learnwares of a dock: make one, publish, find, show, get and remove it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from learndock.cli import many, options, remembered, show
from learndock.cli.common import open_existing, read_data, read_schema, warn_cut, with_referrers
from learndock.cli.repositories import Repository, repositories

if TYPE_CHECKING:
    from learndock.dock import Dock
    from learndock.dock.summary import Summary
    from learndock.package import Packed
    from learndock.search import Filters

Which = Annotated[str, typer.Argument(metavar="ID", help="owner/name, or owner/name@v2, @TAG or @DIGITS.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Show at most so many.")]
Sort = Annotated[
    options.Order, typer.Option("--sort", help="Order: added (oldest first), name or size (largest first).")
]


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
    expect: Annotated[
        Path | None,
        typer.Option(help="JSON list of what your own program answers for DATA; a model that differs is refused."),
    ] = None,
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
    packed, examples = make_packed(
        model_dir, name=name, data=data, out=out, schema=schema, description=description, license_=license_, base=base,
        mapping=mapping, in_order=in_order, expect=expect, scores=scores, ignore=ignore, space=space, recipe=recipe,
        full=full, seed=seed, reading=reading,
    )  # fmt: skip
    if json:
        show.print_json(packed_json(packed))
        return
    say_packed(packed, examples)
    show.next_step("add", out)


def make_packed(
    model_dir: Path,
    *,
    name: str,
    data: Path,
    out: Path,
    schema: str | None,
    in_order: bool,
    expect: Path | None,
    mapping: list[str] | None,
    license_: str | None,
    ignore: Sequence[str] | None,
    reading: options.Reading,
    **how: Any,
) -> tuple[Packed, int]:
    """Make the learnware that the options of ``pack`` ask for; also return the number of examples.

    Raises:
        UsageError: the options contradict each other.
    """
    from learndock.errors import UsageError
    from learndock.package import pack as make

    if in_order and schema is None:
        raise UsageError("--in-order is about the labels of a schema", remedy="give --schema FILE with them in order")
    # Labels only score the model: an owner who has none left needs none
    examples = read_data(data, read_schema(schema), reading, labels=None)
    with show.progress(f"packing {name}") as bar:
        packed = make(
            model_dir,
            out,
            name=name,
            examples=examples,
            license=license_,
            mapping=options.pairs(mapping),
            in_order=in_order,
            expected=None if expect is None else _answers(expect),
            ignore=ignore or (),
            progress=bar,
            **how,
        )
    warn_cut(packed.spec.settings)
    for remark in packed.remarks:
        show.warn(remark)
    return packed, len(examples)


def say_packed(packed: Packed, examples: int) -> None:
    """Print what was made, which column is which label, and the score."""
    manifest = packed.manifest
    show.say(f"{packed.folder}: {manifest.name} ({manifest.format}, {len(manifest.files)} files)")
    if packed.columns is not None:
        show.say(f"The model's columns, {_BY[packed.columns.by]}:")
        pairs = packed.columns.pairs(manifest.task_schema)
        for column, theirs, label in pairs[:_COLUMNS]:
            show.say(f"  {column}  {theirs} = {label}")
        if len(pairs) > _COLUMNS:
            show.say(f"  ... {len(pairs) - _COLUMNS} more")
    if packed.score is not None:
        show.say(f"{manifest.task_schema.metric} on your {examples} examples: {packed.score:.3f}")


def _answers(path: Path) -> list[Any]:
    """The list in a JSON file."""
    from learndock.errors import DataError
    from learndock.package.json_file import read_json

    found = read_json(path, error=DataError)
    if not isinstance(found, list):
        raise DataError("not a JSON list", remedy='write one, as in ["no", "yes"]', about=path)
    return found


#: So many columns are printed; `--json` has them all.
_COLUMNS = 20
_BY = {"names": "matched by name", "map": "as --map says", "order": "in the order of --schema"}


def packed_json(packed: Packed) -> dict[str, Any]:
    """Return what was made, as JSON."""
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
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="LEARNWARE...", help="Folders made by `learndock pack`.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="DIR|FILE",
            help="Publish every learnware that is a folder in DIR, or that a line of FILE names.",
        ),
    ] = None,
    vouch: Annotated[
        bool,
        typer.Option(
            "--vouch",
            help="Admit a specification that was flagged as a copy or as a hub (similar to everything). "
            "Only on the dock's folder.",
        ),
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Only you and your organisation see them. Only at a service.")
    ] = False,
    after: Annotated[
        str | None, typer.Option("--after", metavar="VERSION", help="Publish only if this version is latest, e.g. v1.")
    ] = None,
    supersedes: Annotated[
        str | None, typer.Option("--supersedes", metavar="NAME", help="Another learnware of yours that this replaces.")
    ] = None,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Publish learnwares in the dock. Each is published completely, or not at all.

    Other content under a name that is there becomes its next version. Of several, one that fails does not stop the
    others, and what is there already is skipped.
    """
    from learndock.dock import open_dock
    from learndock.dock.summary import Summary
    from learndock.errors import UsageError

    chosen = [*(folders or []), *(many.folders_of(source) if source is not None else ())]
    if not chosen:
        raise UsageError("no learnware is named", remedy="give the folder of one, or --from DIR for all in a folder")
    if len(chosen) > 1 and (after or supersedes):
        raise UsageError("--after and --supersedes are about one learnware", remedy="add it by itself")
    opened = open_dock(dock)
    _check_flags(opened, vouch=vouch, private=private)
    how: dict[str, Any] = {"after": after, "supersedes": supersedes}
    how |= {name: True for name, given in (("vouched", vouch), ("private", private)) if given}
    if len(chosen) > 1:
        _add_many(opened, chosen, how, dock=dock, json=json)
        return
    with show.progress(f"adding {chosen[0]}") as bar:
        record = opened.add(chosen[0], progress=bar, **how)
    if json:
        show.print_json({"learnwares": [as_json(Summary.of(record))]})
        return
    show.say(f"added {record.id}" + (" (private)" if record.private else ""))
    if record.version != record.latest:
        show.say(f"  It is v{record.version}, which was there; latest is still v{record.latest}.")
    elif record.version > 1:
        show.say(f"  It is v{record.version}, and latest now.")
    show.next_step("list", dock=dock)


def _add_many(opened: Dock, folders: Sequence[Path], how: dict[str, Any], *, dock: str | None, json: bool) -> None:
    """Publish several learnwares, and exit with the code of the first failure."""
    from learndock.dock.summary import Summary
    from learndock.errors import exit_code

    found = many.publish_each(
        opened, folders, lambda folder: opened.add(folder, **how), private=how.get("private", False)
    )
    failed = [outcome for outcome in found if outcome.error is not None]
    if json:
        learnwares = [as_json(Summary.of(o.record)) for o in found if o.record is not None]
        show.print_json({"learnwares": learnwares, "failed": [o.to_json() for o in failed]})
    else:
        many.summarise(found, len(folders))
    if failed:
        if not json:
            show.say("Run the same command again when that is settled: what is there is not sent again.")
        assert failed[0].error is not None
        raise typer.Exit(exit_code(failed[0].error))
    if not json:
        show.next_step("list", dock=dock)


def _check_flags(opened: Dock, *, vouch: bool, private: bool) -> None:
    """Check that the dock can do what is asked of it.

    Raises:
        UsageError: ``vouch`` at a service, or ``private`` in a folder.
    """
    from learndock.dock import LocalDock
    from learndock.dock.remote.dock import RemoteDock
    from learndock.errors import UsageError

    if vouch and not isinstance(opened, LocalDock):
        raise UsageError(
            "only the operator of a dock can vouch for a specification",
            remedy="the operator runs `learndock add --vouch` on the dock's folder",
        )
    if private and not isinstance(opened, RemoteDock):
        raise UsageError("a dock in a folder has nothing private", remedy="name a service with --dock http://...")


def list_(
    format: options.Format = None,  # noqa: A002 - the field's name
    task_type: options.TaskType = None,
    license: options.License = None,  # noqa: A002 - the field's name
    base: options.Base = None,
    owner: options.Owner = None,
    text: Annotated[
        str | None,
        typer.Option("--text", help="Only with these words in name, description or labels.", rich_help_panel="Filters"),
    ] = None,
    sort: Sort = options.Order.ADDED,
    limit: Limit = None,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """List the learnwares of the dock that you may see."""
    from learndock.search import Filters

    filters = Filters(format=format, task=task_type, license=license, base=base, owner=owner)
    _list(filters, text or "", sort, limit, dock, json)


def search(
    text: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Words; all of them must occur.")],
    sort: Sort = options.Order.NAME,
    limit: Limit = 50,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Find learnwares by words in their names, descriptions, labels and what these mean.

    `learndock identify` finds them by your examples, whatever their cards say.
    """
    from learndock.search import Filters

    _list(Filters(), " ".join(text), sort, limit, dock, json)


def _list(filters: Filters, text: str, sort: options.Order, limit: int | None, dock: str | None, json: bool) -> None:
    opened = open_existing(dock)
    found = opened.summaries(text, filters=filters)
    count = len(found) if filters.empty and not text else len(opened)
    if sort is options.Order.NAME:
        found.sort(key=lambda r: r.name.casefold())
    elif sort is options.Order.SIZE:
        found.sort(key=lambda r: -r.bytes)
    shown = found[:limit]
    known = repositories(opened)
    if json:
        show.print_json(
            {"learnwares": [as_json(r, known.get(r.name)) for r in shown], "found": len(found), "of": count}
        )
        return
    if not found:
        show.say(_nothing(opened, count))
        return
    rows = [
        [
            r.name,
            f"v{r.version}" + ("" if r.deprecated is None else ", deprecated"),
            r.digest[:8],
            r.format,
            _labels(r),
            r.license or "not stated",
            *([_seen(r.private), _since(known.get(r.name))] if known else []),
            show.megabytes(r.bytes),
        ]
        for r in shown
    ]
    more = ["seen by", "since"] if known else []
    columns = ["learnware", "version", "digest", "format", "labels", "license", *more, "size"]
    show.table(columns, rows, right=["size"], wrap=["labels"])
    if len(shown) < len(found):
        show.say(f"{len(shown)} of {len(found)}; --limit shows more.")


def _nothing(opened: Dock, count: int) -> str:
    if count:
        return f"None of the {show.counted(count, 'learnware')} of this dock is like that."
    url = getattr(opened, "url", None)
    if url is None:
        return "The dock is empty; `learndock add` fills it."
    return f"There is no learnware at {url} that you may see; `learndock whoami` shows who you are there."


def _labels(found: Summary) -> str:
    labels = found.task.get("labels")
    return ", ".join(map(str, labels[:6] if isinstance(labels, list | tuple) else ())) or str(found.task["type"])


def _seen(private: bool | None) -> str:
    return "" if private is None else "owner" if private else "all"


def _since(repository: Repository | None) -> str:
    return "" if repository is None else repository.created[:10]


def show_(which: Which, dock: options.Dock = None, json: options.Json = False) -> None:
    """Show one learnware: its task, files and specifications."""
    from learndock.dock.summary import Summary

    opened = open_existing(dock)
    record = opened.get_record(which)
    manifest, repository = record.manifest, repositories(opened, record.name).get(record.name)
    if json:
        show.print_json({**as_json(Summary.of(record), repository), "manifest": manifest.model_dump(mode="json")})
        return
    show.say(f"{record.id}")
    latest = "" if record.version == record.latest else f", latest is v{record.latest}"
    show.say(f"  version  v{record.version}{latest}" + (f", tagged {', '.join(record.tags)}" if record.tags else ""))
    if record.deprecated is not None:
        show.say(f"  {record.deprecated}")
    if record.supersedes is not None:
        show.say(f"  replaces {record.supersedes}")
    if record.description:
        show.say(f"  {record.description}")
    show.say(f"  format   {manifest.format}" + (f" on {manifest.base.name}" if manifest.base else ""))
    show.say(f"  license  {record.license or 'not stated'}")
    if record.private is not None:
        since = "" if repository is None else f", since {_since(repository)}"
        show.say(f"  seen by  {_seen(record.private)}{since}")
    task = manifest.task_schema
    show.say(f"  task     {task.type}, metric {task.metric}")
    for label, description in zip(task.labels, task.descriptions, strict=True):
        show.say(f"             {label}" + (f": {description}" if description != label else ""))
    show.say(f"  specs    {', '.join(f'{s.space} ({s.space_id[:12]})' for s in manifest.specs) or 'none'}")
    show.table(
        ["file", "size", "sha256"],
        [[f.path, show.megabytes(f.size), f.sha256[:12]] for f in manifest.files],
        right=["size"],
    )


def get(
    which: Which,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder to write. Default: the name.")] = None,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Write a learnware as a folder that the usual tools load. Every file is checked on the way."""
    from learndock.dock.summary import Summary

    opened = open_existing(dock)
    record = opened.get_record(which)
    with show.progress(f"getting {which}") as bar:
        folder = opened.get(record.id, out or Path(record.name.partition("/")[2]), progress=bar)
    remembered.remember(remembered.place_of(opened), record.name, record.version)
    asked = which.partition("@")[0]
    if asked != record.name:
        show.warn(f"{asked} is {record.name} now")
    if record.deprecated is not None:
        show.warn(f"{record.name} is {record.deprecated}")
    if json:
        show.print_json({"id": record.id, "version": record.version, "folder": str(folder)})
        return
    show.say(f"{folder}: {record.reference}, {show.megabytes(Summary.of(record).bytes)}")
    show.next_step("predict", folder, "NEW.csv", "-o", "answers.csv")


def remove(which: Which, dock: options.Dock = None, json: options.Json = False) -> None:
    """Take a learnware, or with @v2 one version of it, out of the dock and delete its files.

    A number is never given again: what is published under the name later continues the count.
    """
    from learndock.dock import LocalDock
    from learndock.dock.summary import Summary

    opened = open_existing(dock)
    done = opened.remove(which)
    record = done.record
    if isinstance(opened, LocalDock):  # a service deletes unreferenced files by itself
        with_referrers(opened).gc()
    if json:
        remaining = [r.reference for r in done.remaining]
        show.print_json({**as_json(Summary.of(record)), "remaining": remaining})
        return
    show.say(f"removed {record.reference if done.remaining or '@' in which else record.name}")
    if done.remaining:
        latest = done.remaining[0].latest
        show.say(f"  there remain {', '.join(f'v{r.version}' for r in done.remaining)}; latest is v{latest}")


def as_json(found: Summary, repository: Repository | None = None) -> dict[str, Any]:
    """A learnware as JSON; ``private`` and ``created`` are null where the dock does not know them."""
    return {
        "id": found.id,
        "name": found.name,
        "version": found.digest,
        "number": found.version,
        "published": found.published_at or None,
        "deprecated": None if found.deprecated is None else found.deprecated.to_dict(),
        "format": found.format,
        "task": found.task,
        "license": found.license,
        "description": found.description,
        "spaces": found.spaces,
        "bytes": found.bytes,
        "private": found.private,
        "created": None if repository is None else repository.created,
    }
