"""Commands of users: find the learnware that fits, and make it work for one's own task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from learndock.cli import options, show
from learndock.cli.common import learnware, new_file, open_existing, read_data, read_schema, warn_cut

Which = Annotated[str, typer.Argument(metavar="ID", help="owner/name in the dock, or the folder of a learnware.")]
PREVIEW = 5
DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="Examples: csv, tsv, jsonl, parquet, ...")]


@options.reads_data()
def identify(
    spec: Annotated[Path | None, typer.Option(help="Spec of your task, made by `learndock spec task`.")] = None,
    data: Annotated[Path | None, typer.Option(help="Labelled examples; the spec is made from them here.")] = None,
    schema: options.Schema = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many matches.")] = 10,
    format: options.Format = None,  # noqa: A002 - the field's name
    task_type: options.TaskType = None,
    license: options.License = None,  # noqa: A002 - the field's name
    base: options.Base = None,
    owner: options.Owner = None,
    space: options.AnySpace = None,
    recipe: options.Recipe = "one-pass",
    seed: options.Seed = 0,
    trials: Annotated[
        int, typer.Option("--try", min=0, max=100, help="Run so many of the first matches on your examples, here.")
    ] = 0,
    mapping: options.Mapping = None,
    dock: options.Dock = None,
    json: options.Json = False,
    *,
    reading: options.Reading,
) -> None:
    """Find the learnwares that fit your task. Your examples stay here; nothing about them is stored."""
    from learndock.errors import UsageError
    from learndock.search import Filters
    from learndock.spec import make_spec, read_spec

    if (spec is None) == (data is None):
        raise UsageError("give --spec FILE, or --data DATA with --schema S", remedy="one of the two")
    if trials and data is None:
        raise UsageError("--try runs models on your examples", remedy="give --data DATA with --schema S")
    pairs = options.pairs(mapping)
    opened = open_existing(dock)
    if spec is not None:
        asked = read_spec(spec)
    else:
        assert data is not None
        examples = read_data(data, read_schema(schema), reading)
        with show.progress("making the spec") as bar:
            asked = make_spec(examples, space=space, recipe=recipe, seed=seed, progress=bar)
        warn_cut(asked.settings)
    filters = Filters(format=format, task=task_type, license=license, base=base, owner=owner)
    found = opened.identify(asked, top=max(top, trials), filters=filters, seed=seed)
    tried = None
    if trials:
        from learndock.reuse import try_matches

        with show.stages() as report:
            tried = try_matches(opened, found.matches, examples, mapping=pairs, most=trials, report=report)
    if json:
        more = {} if tried is None else {"tried": [t.to_dict() for t in tried]}
        show.print_json({**found.to_dict(), "p_value": asked.p_value, **more})
        return
    _print_matches(found, asked, filters)
    if tried:
        _print_trials(tried, examples)


def _print_matches(found: Any, asked: Any, filters: Any) -> None:
    if not found.searched:
        show.say("The dock is empty." if filters.empty else "The dock has no learnware of that kind.")
        return
    if not found.fits:
        show.say(
            f"Nothing in this dock fits: none of {found.searched} learnwares answers your examples better than the "
            f"same search does with their labels shuffled (p = {show.percent(found.p_value_any)})."
        )
        if found.reason:
            show.say(found.reason)
        show.say("The closest, for what it is worth:")
    show.table(
        ["", "learnware", "score", "90% interval", "domain", "behaviour", "reliable", "p-value"],
        [
            [
                i + 1,
                m.name,
                f"{m.score:.3f}",
                "-" if m.interval is None else f"{m.interval[0]:.2f} to {m.interval[1]:.2f}",
                f"{m.domain:+.2f}",
                f"{m.behaviour:+.2f}",
                f"{m.reliability:.2f}",
                show.percent(m.p_value),
            ]
            for i, m in enumerate(found.matches)
        ],
        right=["score", "domain", "behaviour", "reliable", "p-value"],
    )
    for match in found.matches:
        if not match.can_answer:
            show.say(f"{match.name} cannot answer all of your task: it has no {', '.join(match.missing)}")
    show.say("domain: knows your kind of inputs. behaviour: answers as your labels do. Both are cosines, 1 is alike.")
    if asked.p_value is not None and asked.p_value > 0.05:
        show.say("Your examples alone say little, so the order is by domain and by what learnwares of it agree on.")
        show.warn(
            f"your {asked.n} examples alone do not show that labels depend on inputs (p = {asked.p_value:.2f}); "
            "add examples, or say in --schema what the labels mean"
        )


def _print_trials(tried: Any, examples: Any) -> None:
    show.say()
    show.say(f"Tried on your {len(examples)} examples, the best first:")
    show.table(
        ["", "learnware", examples.schema.metric, "score", "not tried"],
        [
            [i + 1, t.match.name, "-" if t.score is None else f"{t.score:.3f}", f"{t.match.score:.3f}", t.why or ""]
            for i, t in enumerate(tried)
        ],
        right=[examples.schema.metric, "score"],
    )


def get(
    which: Annotated[str, typer.Argument(metavar="ID", help="owner/name, or owner/name@version.")],
    out: options.Out,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Write a learnware as a folder that the usual tools load; every file is checked on the way."""
    opened = open_existing(dock)
    with show.progress(f"getting {which}") as bar:
        folder = opened.get(which, out, progress=bar)
    if json:
        show.print_json({"id": opened.get_record(which).id, "folder": str(folder)})
    else:
        show.say(f"{folder}")


@options.reads_data(labels=False)
def predict(
    which: Which,
    data: DataArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="File to write: .csv, .tsv, .jsonl or .parquet. Default: show the first rows."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    dock: options.Dock = None,
    json: options.Json = False,
    *,
    reading: options.Reading,
) -> None:
    """Run a learnware on your inputs. The file it writes keeps the columns of your own."""
    from learndock.reuse import write_predictions
    from learndock.reuse.answers import answer
    from learndock.reuse.predict import predict_with_remarks

    if out is not None:
        new_file(out, force)
    with learnware(which, dock) as opened:
        examples = read_data(data, None, reading, labels=False)
        with show.progress("predicting") as bar:
            predictions, remarks = predict_with_remarks(opened, examples.inputs, progress=bar)
        if out is not None:
            write_predictions(
                out, opened, examples.inputs, predictions, rows=examples.rows, source=data, options=reading
            )
        for remark in remarks:
            show.warn(remark)
        first = [answer(opened.schema, p) for p in predictions[:PREVIEW]]
        if json:
            rows = {"predictions": [answer(opened.schema, p) for p in predictions]} if out is None else {}
            show.print_json({"file": out and str(out), "rows": len(examples), **rows})
            return
    _preview(examples, first)
    if out is not None:
        show.say(f"{out}: {show.counted(len(examples), 'prediction')}")
    else:
        keep = show.command("predict", which, data)
        show.say(f"{show.counted(len(examples), 'prediction')}. Keep them: {keep} -o FILE.csv")


def _preview(examples: Any, first: list[dict[str, Any]]) -> None:
    """The first inputs with their answers."""
    rows = [
        [row, show.short(show.input_text(given), 48), found["prediction"], _surest(found)]
        for row, given, found in zip(examples.rows, examples.inputs, first, strict=False)
    ]
    show.table(["row", "input", "prediction", "probability"], rows, right=["row", "probability"])


def _surest(found: dict[str, Any]) -> str:
    return f"{max(found['probabilities'].values()):.2f}" if found.get("probabilities") else ""


@options.reads_data()
def evaluate(
    which: Which,
    data: DataArgument,
    schema: options.Schema = None,
    mapping: options.Mapping = None,
    dock: options.Dock = None,
    json: options.Json = False,
    *,
    reading: options.Reading,
) -> None:
    """Score a learnware on your labelled examples."""
    from learndock.reuse import evaluate as measure
    from learndock.reuse.evaluate import rename_labels

    pairs = options.pairs(mapping)
    with learnware(which, dock) as opened:
        wanted = read_schema(schema) or rename_labels(opened.schema, pairs)
        # Without the user's own schema, a number is never read as a place among the learnware's labels
        examples = read_data(data, wanted, reading, places=schema is not None)
        with show.progress("predicting") as bar:
            found = measure(opened, examples, wanted, mapping=pairs, progress=bar)
        name = opened.manifest.name
    for remark in found.remarks:
        show.warn(remark)
    if json:
        show.print_json(
            {
                "learnware": name,
                "metric": found.metric,
                "score": found.score,
                "n": found.n,
                "labels": list(found.labels),
                "counts": found.counts and dict(found.counts),
                "recall": found.recall and dict(found.recall),
                "confusion": None if found.confusion is None else found.confusion.tolist(),
            }
        )
        return
    show.say(f"{name}: {found.metric} {found.score:.3f} on {found.n} examples")
    if found.counts and found.recall:
        show.table(
            ["label", "examples", "recall"],
            [[k, n, "-" if found.recall[k] is None else f"{found.recall[k]:.3f}"] for k, n in found.counts.items()],
            right=["examples", "recall"],
        )


@options.reads_data()
def finetune(
    which: Which,
    data: DataArgument,
    out: options.Out,
    name: Annotated[str, typer.Option(help="owner/name of the new learnware.")],
    schema: options.Schema = None,
    description: Annotated[str, typer.Option(help="A sentence about it.")] = "",
    space: options.AnySpace = None,
    seed: options.Seed = 0,
    dock: options.Dock = None,
    json: options.Json = False,
    *,
    reading: options.Reading,
) -> None:
    """Tune a learnware on your examples, also for other labels than its own; gives a new learnware."""
    from learndock.reuse import finetune as tune

    with learnware(which, dock) as opened:
        examples = read_data(data, read_schema(schema), reading)
        with show.progress("tuning") as bar:
            manifest = tune(
                opened,
                examples,
                out,
                name=name,
                space=space,
                description=description,
                seed=seed,
                progress=bar,
            )
    if json:
        show.print_json({"id": manifest.id, "folder": str(out)})
    else:
        show.say(f"{out}: {manifest.id}")


def tour(
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the tour leaves its files.")] = Path("out/tour"),
    json: options.Json = False,
) -> None:
    """The whole journey on real texts and images, with a report (needs the extras sklearn, torch and images)."""
    from learndock.tour.journey import take_tour

    quiet = json
    take_tour(
        out,
        say=(lambda _: None) if quiet else show.say,
        bar=lambda what: show.progress(what, quiet=quiet),
        json=show.print_json if json else None,
    )
