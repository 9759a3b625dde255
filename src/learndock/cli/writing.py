"""Commands for learnwares that write: let one answer a prompt, and merge several."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from learndock.cli import options, show
from learndock.cli.common import learnware, open_existing


def run(
    which: Annotated[str, typer.Argument(metavar="ID", help="owner/name in the dock, or the folder of a learnware.")],
    prompt: Annotated[str, typer.Argument(help="What to say to the model.")],
    max_tokens: Annotated[int, typer.Option(min=1, max=2048, help="Longest answer in tokens.")] = 128,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Let a language model answer a prompt; the answer appears as it is written."""
    from learndock.errors import UsageError
    from learndock.reuse import generate, load_generative_model

    if not prompt.strip():  # before the model is loaded
        raise UsageError("the prompt is empty", remedy="say something to the model")
    with learnware(which, dock) as opened:
        with show.progress(f"loading {opened.manifest.name}"):
            model = load_generative_model(opened)
        cut = model.left_out(prompt, max_tokens=max_tokens)
        if cut:
            show.warn(
                f"the prompt is longer than the model reads; its first {show.counted(cut, 'token')} were left out"
            )
        pieces = []
        for piece in generate(model, prompt, max_tokens=max_tokens):
            pieces.append(piece)
            if not json:
                typer.echo(_printable(piece), nl=False)
        name = opened.manifest.name
    if json:
        show.print_json({"learnware": name, "completion": "".join(pieces), "tokens_left_out": cut})
    else:
        typer.echo("")


def _printable(text: str) -> str:
    """A stranger's model may write what a terminal obeys: all but line ends and tabs is shown, and not done."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def merge(
    out: options.Out,
    which: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Two or more adapters on one base.")] = (
        None
    ),
    spec: Annotated[
        Path | None, typer.Option(help="In place of IDs: the adapters that match this task best, on one base.")
    ] = None,
    top: Annotated[int, typer.Option(min=2, max=16, help="How many of them.")] = 3,
    weight: Annotated[
        list[float] | None,
        typer.Option(help="Weight of an adapter, in order; default: each the same, or as they match --spec."),
    ] = None,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Merge adapters of language models into one, by a weighted sum; pack it to specify and share it."""
    from learndock.errors import UsageError
    from learndock.reuse import merge_adapters

    if bool(which) == (spec is not None):
        raise UsageError("name two or more adapters, or give --spec FILE", remedy="one of the two")
    if spec is not None:
        which, scores = _matching(spec, dock, top)
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
        show.say(f"Pack it with `learndock pack {folder}`")


def _matching(spec: Path, dock: str | None, top: int) -> tuple[list[str], list[float]]:
    """Ids of the first ``top`` adapters for a task that share the base of the best, and weights that sum to one.

    Raises:
        UsageError: nothing here fits, or fewer than two of the adapters that do stand on one base.
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
            f"only {found.matches[0].name} stands on its base",
            remedy="there is nothing to merge it with (`learndock get` it)",
        )
    total = sum(m.ranked_by for m in chosen)
    return [m.id for m in chosen], [m.ranked_by / total for m in chosen]
