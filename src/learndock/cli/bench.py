"""Commands of researchers: the tables, made by one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from learndock.cli import options, show
from learndock.cli.help import group

if TYPE_CHECKING:
    from learndock.bench.size import Size

app = group("Measure whether specifications find the right model.")


Only = Annotated[
    list[str] | None, typer.Option(help="One experiment; may be given several times. OUT keeps the others.")
]


@app.command("text")
def text(
    data: Annotated[Path, typer.Option(help="Folder with tasks.json and NAME.train.jsonl.gz, NAME.test.jsonl.gz.")],
    out: Annotated[Path, typer.Option(help="Folder for tables, figures and results.json. A run resumes there.")],
    quick: Annotated[bool, typer.Option("--quick", help="3 tasks, 1 seed, no networks; under two minutes.")] = False,
    short: Annotated[bool, typer.Option("--short", help="All tasks, no networks; about half an hour.")] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=100, help="How many random draws of the user's examples.")
    ] = None,
    only: Only = None,
    space: options.Space = "minilm-l6",
    json: options.Json = False,
) -> None:
    """Build graded learnwares of every task, let every method choose, and write what it shows."""
    from learndock.bench.run import bench_text
    from learndock.bench.size import FULL, QUICK, SHORT

    size = _size(FULL, QUICK if quick else None, SHORT if short else None, seeds)
    with show.stages() as report:
        results = bench_text(data, out, size=size, report=report, space=space, only=only)
    _tell(results, out, json)


@app.command("vision")
def vision(
    data: Annotated[Path, typer.Option(help="Folder with tasks.json and NAME.train.parquet, NAME.test.parquet.")],
    out: Annotated[Path, typer.Option(help="Folder for tables, figures and results.json. A run resumes there.")],
    quick: Annotated[bool, typer.Option("--quick", help="4 tasks, 1 seed, no networks; a few minutes.")] = False,
    short: Annotated[bool, typer.Option("--short", help="All tasks, fewer learnwares, no networks.")] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=100, help="How many random draws of the user's examples.")
    ] = None,
    only: Only = None,
    space: options.Space = "efficientnet-lite0",
    json: options.Json = False,
) -> None:
    """The same for images: a folder's tasks, scikit-learn's digits, and other questions of the same images."""
    from learndock.bench.run import bench_vision
    from learndock.bench.size import IMAGES, IMAGES_QUICK, IMAGES_SHORT

    size = _size(IMAGES, IMAGES_QUICK if quick else None, IMAGES_SHORT if short else None, seeds)
    with show.stages() as report:
        results = bench_vision(data, out, size=size, report=report, space=space, only=only)
    _tell(results, out, json)


@app.command("llm")
def llm(
    data: Annotated[Path, typer.Option(help="Folder with llm (GSM8K, PubMedQA) and text (tasks.json).")],
    out: Annotated[Path, typer.Option(help="Folder for tables, figures and results.json. A run resumes there.")],
    quick: Annotated[bool, typer.Option("--quick", help="3 tasks, 1 seed; a few minutes.")] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=100, help="How many random draws of the user's examples.")
    ] = None,
    only: Only = None,
    space: options.Space = "smollm2-135m",
    json: options.Json = False,
) -> None:
    """The same for language models: adapters of graded quality on the helper of a space of prompts."""
    from learndock.bench.run import bench_llm
    from learndock.bench.size import WRITERS, WRITERS_QUICK

    size = _size(WRITERS, WRITERS_QUICK if quick else None, None, seeds)
    with show.stages() as report:
        results = bench_llm(data, out, size=size, report=report, space=space, only=only)
    _tell(results, out, json)


def _size(full: Size, quick: Size | None, short: Size | None, seeds: int | None) -> Size:
    """The size that was asked for, with its own number of draws unless one is given.

    Raises:
        UsageError: two sizes were asked for.
    """
    from dataclasses import replace

    from learndock.errors import UsageError

    if quick and short:
        raise UsageError("--quick and --short are two sizes", remedy="give one")
    size = quick or short or full
    return replace(size, seeds=seeds or size.seeds)


def _tell(results: dict[str, Any], out: Path, json: bool) -> None:
    if json:
        show.print_json(results)
        return
    _print(results)
    show.say()
    show.say(f"All tables and figures: {out / 'report.md'}")


def _print(results: dict[str, Any]) -> None:
    for name, found in results["experiments"].items():
        rows = [
            [method, *(m.get(k) for k in ("mean_score", "gap_closed", "top1_own_dataset", "regret"))]
            for method, m in found["methods"].items()
            if isinstance(m.get("gap_closed"), float)
        ]
        if rows:
            show.say()
            show.say(name)
            cells = [[r[0], *("" if v is None else f"{v:.3f}" for v in r[1:])] for r in rows]
            show.table(["method", "mean score", "gap closed", "own first", "regret"], cells)
