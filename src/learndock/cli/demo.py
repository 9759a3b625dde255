"""``learndock demo`` and ``learndock tour``: the journey of a user in a minute, and all of it in some minutes."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from learndock.cli import options, show


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to make.")] = Path("learndock-demo"),
    json: options.Json = False,
) -> None:
    """See learndock at work in a minute: find, test and use a model for 120 sentences that ship with it."""
    from learndock.demo import STEPS, lay_out, require_weights

    require_weights()
    folder = lay_out(out)
    started, done = time.perf_counter(), []
    if not json:
        show.say(f"Everything happens in {folder}/, and you can repeat each command there:")
        show.say()
        show.say(f"$ cd {folder}")
    with contextlib.chdir(folder):
        for step in STEPS:
            done.append(_take(step, json))
    seconds = time.perf_counter() - started
    if json:
        show.print_json({"folder": str(folder), "steps": done, "seconds": round(seconds, 1)})
        return
    show.say()
    show.say(f"Done in {seconds:.0f} s. answers.csv in {folder}/ has the model's answers. Next, with your own data:")
    show.say()
    show.say(f"    learndock identify --data YOUR.csv --dock {folder / 'dock'}")
    show.say()
    show.say("`learndock pack --help` shows how to publish a model of yours.")


def _take(step: Any, json: bool) -> dict[str, Any]:
    """Run a step as if it were typed; stop at the first that fails.

    Raises:
        Exit: the step failed and has said why.
    """
    from learndock.cli.outcome import outcome

    if not json:
        show.say()
        show.say(f"# {step.why}")
        show.say(f"$ {step.command}")
    printed, started = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(printed) if json else contextlib.nullcontext():
        code = outcome(step.arguments)
    if code:
        raise typer.Exit(code)
    return {"command": step.command, "seconds": round(time.perf_counter() - started, 1), "output": printed.getvalue()}


def tour(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the tour's files.")] = Path("out/tour"),
    json: options.Json = False,
) -> None:
    """Take the full journey on real texts and images, with a report. Needs the extras sklearn, torch and images."""
    from learndock.tour.journey import take_tour

    take_tour(
        out,
        say=(lambda _: None) if json else show.say,
        bar=lambda what: show.progress(what, quiet=json),
        json=show.print_json if json else None,
    )
