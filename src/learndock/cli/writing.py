"""Commands for learnwares that write: let one answer a prompt, and merge several."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from learndock.cli import options, show
from learndock.cli.common import learnware


def run(
    which: Annotated[str, typer.Argument(metavar="ID", help="owner/name in the dock, or the folder of a learnware.")],
    prompt: Annotated[str, typer.Argument(help="What to say to the model.")],
    max_tokens: Annotated[int, typer.Option(min=1, max=2048, help="Longest answer in tokens.")] = 128,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Let a language model answer a prompt; the answer appears as it is written."""
    from learndock.errors import UsageError
    from learndock.reuse import load_writer, write

    if not prompt.strip():  # before the model is loaded
        raise UsageError("the prompt is empty; say something to the model")
    with learnware(which, dock) as opened:
        with show.progress(f"loading {opened.manifest.name}"):
            model = load_writer(opened)
        cut = model.prompt(prompt, max_tokens)[1]
        if cut:
            show.warn(
                f"the prompt is longer than the model reads; its first {show.counted(cut, 'token')} were left out"
            )
        pieces = []
        for piece in write(model, prompt, max_tokens=max_tokens):
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
    which: Annotated[list[str], typer.Argument(metavar="ID...", help="Two or more adapters on one base.")],
    out: options.Out,
    weight: Annotated[
        list[float] | None, typer.Option(help="Weight of an adapter, in order; default: each the same.")
    ] = None,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Merge adapters of language models into one, by a weighted sum; pack it to specify and share it."""
    from learndock.errors import UsageError
    from learndock.reuse import merge_adapters

    if len(set(which)) != len(which):
        raise UsageError("an adapter is named twice; give it a larger weight instead")
    with ExitStack() as stack:
        opened = {name: stack.enter_context(learnware(name, dock)) for name in which}
        folder = merge_adapters(opened, out, weights=weight)
    if json:
        show.print_json({"folder": str(folder), "merged": which})
    else:
        show.say(f"{folder}: {show.counted(len(which), 'adapter')} merged. Pack it with `learndock pack {folder}`")
