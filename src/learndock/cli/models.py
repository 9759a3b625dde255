"""Use a learnware: predict, evaluate, and tune it for your task."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from learndock.cli import options, show
from learndock.cli.common import learnware, new_file, read_data, read_schema

Which = Annotated[str, typer.Argument(metavar="ID", help="owner/name in the dock, or the folder of a learnware.")]
PREVIEW = 5
DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="Examples: csv, tsv, jsonl, parquet, ...")]


@options.reads_data(labels=False)
def predict(
    which: Which,
    data: DataArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="File to write: .csv, .tsv, .jsonl or .parquet. Default: show the first answers."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    dock: options.Dock = None,
    json: options.Json = False,
    *,
    reading: options.Reading,
) -> None:
    """Run a learnware on your inputs. The file it writes keeps your own columns."""
    from learndock.errors import UsageError
    from learndock.reuse import write_predictions
    from learndock.reuse.answers import answer
    from learndock.reuse.predict import predict_with_remarks

    if out is not None:
        new_file(out, force)
    elif force:
        raise UsageError("--force is about a file to replace", remedy="name it with --out")
    with learnware(which, dock) as opened:
        examples = read_data(data, None, reading, labels=False)
        with show.progress("predicting") as bar:
            predictions, remarks = predict_with_remarks(opened, examples.inputs, progress=bar)
        for remark in remarks:
            show.warn(remark)
        if out is not None:
            write_predictions(
                out, opened, examples.inputs, predictions, rows=examples.rows, source=data, options=reading
            )
        found = [answer(opened.schema, p) for p in predictions]
    if json:
        rows = {} if out is not None else {"predictions": found}
        show.print_json({"file": out and str(out), "rows": len(examples), **rows})
        return
    _preview(examples, found[:PREVIEW])
    counts = Counter(f["prediction"] for f in found if "probabilities" in f)
    kinds = ": " + ", ".join(f"{n:,} {label}" for label, n in counts.most_common(6)) if counts else ""
    where = "" if out is None else f" in {out}"
    show.say(f"{show.counted(len(examples), 'prediction')}{where}{kinds}{', ...' if len(counts) > 6 else ''}.")
    if out is None:
        how = options.typed(reading)
        show.next_step("predict", which, data, *how, "-o", "answers.csv", dock=dock, why="To keep them")
    else:
        show.next_step("evaluate", which, "LABELLED.csv", dock=dock, why="To check it on labelled rows")


def _preview(examples: Any, first: list[dict[str, Any]]) -> None:
    """The first inputs with their answers."""
    rows = [
        [row, show.short(show.input_text(given), 44), show.short(str(found["prediction"]), 60), _surest(found)]
        for row, given, found in zip(examples.rows, examples.inputs, first, strict=False)
    ]
    show.table(
        ["row", "input", "prediction", "probability"],
        rows,
        right=["row", "probability"],
        wrap=["input", "prediction"],
    )


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
    """Score a learnware on your labelled examples, beside what a constant answer would score."""
    from learndock.reuse import evaluate as measure
    from learndock.reuse.evaluate import rename_labels

    pairs = options.pairs(mapping)
    with learnware(which, dock) as opened:
        wanted = read_schema(schema) or rename_labels(opened.schema, pairs)
        # Without the user's own schema, a number is never read as a place among the learnware's labels
        examples = read_data(data, wanted, reading, places=schema is not None)
        with show.progress("predicting") as bar:
            found = measure(opened, examples, schema=wanted, mapping=pairs, progress=bar)
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
    if found.counts and found.recall:
        show.table(
            ["label", "examples", "found (recall)"],
            [[k, n, "-" if found.recall[k] is None else f"{found.recall[k]:.3f}"] for k, n in found.counts.items()],
            right=["examples", "found (recall)"],
        )
    show.say(f"{name}: {found.metric} {found.score:.3f} on {found.n} examples.")
    if found.confusion is not None and found.counts:
        right, constant = int(found.confusion.trace()), max(found.counts.values())
        show.say(f"It is right on {right} of {found.n}; always saying the commonest label is right on {constant}.")
    show.next_step("predict", which, "NEW.csv", "-o", "answers.csv", dock=dock)


@options.reads_data()
def finetune(
    which: Which,
    data: DataArgument,
    out: options.Out,
    name: Annotated[str, typer.Option(help="owner/name of the new learnware.")],
    schema: options.Schema = None,
    description: Annotated[str, typer.Option(help="A sentence about it.")] = "",
    hold_out: Annotated[
        float,
        typer.Option(
            min=0, max=0.5, help="Share of the examples that scores before and after are measured on; 0 for none."
        ),
    ] = 0.2,
    space: options.AnySpace = None,
    seed: options.Seed = 0,
    dock: options.Dock = None,
    json: options.Json = False,
    *,
    reading: options.Reading,
) -> None:
    """Tune a learnware on your examples, also for labels other than its own. Makes a new learnware.

    A part of the examples is held out, and shows what tuning brought. The model is not tuned on that part.
    """
    from learndock.reuse import finetune as tune
    from learndock.reuse.held_out import compare, hold_out_rows

    with learnware(which, dock) as opened:
        examples = read_data(data, read_schema(schema), reading)
        assert examples.schema is not None
        kept, held = hold_out_rows(examples, hold_out, seed=seed)
        with show.progress("tuning") as bar:
            manifest = tune(
                opened, kept, out, schema=examples.schema, name=name, space=space, description=description, seed=seed,
                progress=bar,
            )  # fmt: skip
        scores = None if held is None else compare(opened, out, held)
    if json:
        show.print_json(
            {
                "id": manifest.id,
                "folder": str(out),
                "tuned_on": len(kept),
                "held_out": 0 if held is None else len(held),
                "metric": examples.schema.metric,
                "before": scores and scores.before,
                "after": scores and scores.after,
            }
        )
        return
    show.say(f"{out}: {manifest.name}, tuned on {show.counted(len(kept), 'example')}")
    if held is None or scores is None:
        show.say("No example was held out, so nothing says yet how well it does; evaluate it on others.")
    else:
        before = f"{scores.before:.3f} before" if scores.before is not None else f"not comparable before ({scores.why})"
        show.say(f"{examples.schema.metric} on {len(held)} held-out examples: {before}, {scores.after:.3f} after.")
    show.next_step("add", out, dock=dock)
