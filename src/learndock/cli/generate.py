"""Generative models: let one answer a prompt, and merge adapters."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from learndock.cli import options, show
from learndock.cli.common import learnware, open_existing


def generate(
    which: Annotated[str, typer.Argument(metavar="ID", help="owner/name in the dock, or the folder of a learnware.")],
    prompt: Annotated[str, typer.Argument(help="What to say to the model.")],
    max_tokens: Annotated[int, typer.Option(min=1, max=2048, help="Longest answer in tokens.")] = 128,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Let a language model answer a prompt. The answer is printed while it is generated."""
    from learndock.errors import UsageError
    from learndock.reuse import generate as pieces_of
    from learndock.reuse import load_generative_model

    if not prompt.strip():  # before the model is loaded
        raise UsageError("the prompt is empty", remedy="write what to say to the model")
    with learnware(which, dock) as opened:
        with show.progress(f"loading {opened.manifest.name}"):
            model = load_generative_model(opened)
        cut = model.left_out(prompt, max_tokens=max_tokens)
        if cut:
            show.warn(
                f"the prompt is longer than the model reads; its first {show.counted(cut, 'token')} were left out"
            )
        pieces = []
        for piece in pieces_of(model, prompt, max_tokens=max_tokens):
            pieces.append(piece)
            if not json:
                typer.echo(_printable(piece), nl=False)
        name = opened.manifest.name
    if json:
        show.print_json({"learnware": name, "completion": "".join(pieces), "tokens_left_out": cut})
    else:
        typer.echo("")


def _printable(text: str) -> str:
    """Replace control characters but line ends and tabs: a model must not move the cursor or set colours."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def merge(
    out: options.Out,
    which: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Two or more adapters on one base.")] = (
        None
    ),
    spec: Annotated[
        Path | None, typer.Option(help="In place of IDs: merge the adapters that match this task best, on one base.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=2, max=16, help="With --spec: how many adapters. Default: 3.")] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(help="Weight of each adapter, in order. Default: equal, or by their match with --spec."),
    ] = None,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Merge adapters of language models into one, by a weighted sum; pack it to specify and share it."""
    from learndock.errors import UsageError
    from learndock.reuse import merge_adapters

    if bool(which) == (spec is not None):
        raise UsageError("name two or more adapters, or give --spec FILE", remedy="give one of the two")
    if top is not None and spec is None:
        raise UsageError("--top counts the adapters that --spec finds", remedy="leave it out, or give --spec FILE")
    if spec is not None:
        which, scores = _matching(spec, dock, top or 3)
        weight = weight or scores
    assert which is not None
    if len(set(which)) != len(which):
        raise UsageError("an adapter is named twice", remedy="give it a larger weight instead")
    with ExitStack() as stack:
        opened = {name: stack.enter_context(learnware(name, dock)) for name in which}
        folder = merge_adapters(opened, out, weights=weight)
    if json:
        show.print_json({"folder": str(folder), "merged": which, "weights": weight})
    else:
        show.say(f"{folder}: {show.counted(len(which), 'adapter')} merged ({', '.join(which)}).")
        show.next_step("pack", folder, "--name", "OWNER/NAME", "--data", "DATA", "-o", "FOLDER")


def _matching(spec: Path, dock: str | None, top: int) -> tuple[list[str], list[float]]:
    """Ids of the first ``top`` adapters for a task that share the base of the best, and weights that sum to one.

    Raises:
        UsageError: nothing here fits, or fewer than two of the adapters that do are on one base.
    """
    from learndock.errors import UsageError
    from learndock.search import Filters
    from learndock.spec import read_spec

    opened = open_existing(dock)
    found = opened.identify(read_spec(spec), top=200, filters=Filters(format="causal-peft"))
    if not found.fits:
        raise UsageError("no adapter in this dock fits the task", remedy="name those to merge yourself")
    bases = {m.id: opened.get_record(m.id).manifest.base for m in found.matches}
    first = bases[found.matches[0].id]
    chosen = [m for m in found.matches if bases[m.id] == first and m.ranked_by > 0][:top]
    if len(chosen) < 2:
        raise UsageError(
            f"only {found.matches[0].name} fits and is on its base",
            remedy="use it as it is: `learndock get`",
        )
    total = sum(m.ranked_by for m in chosen)
    return [m.id for m in chosen], [m.ranked_by / total for m in chosen]
