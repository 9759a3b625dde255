"""What a person sees: tables, sentences and progress; what a machine reads: one JSON document."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from learndock.cli.tables import draw
from learndock.cli.text import one_line, plain
from learndock.progress import Progress

#: Seconds between two lines of progress where standard error is no terminal.
SECONDS = 2.0


def print_json(value: Any) -> None:
    """One JSON document on standard output; numbers that JSON cannot say become null."""
    text = json.dumps(_sayable(value), indent=1, ensure_ascii=not _unicode(), allow_nan=False, default=str)
    sys.stdout.write(text + "\n")


def _sayable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _sayable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(v) for v in value]
    return value


def _unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"


def say(text: str = "") -> None:
    """A line for people on standard output."""
    sys.stdout.write(plain(text) + "\n")


def note(text: str = "") -> None:
    """A line for people on standard error, where standard output is for a machine."""
    sys.stderr.write(plain(text) + "\n")


def warn(text: str) -> None:
    """A line on standard error, apart from the output that programs read."""
    sys.stderr.write(f"warning: {one_line(text)}\n")


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    wrap: Sequence[str] = (),
) -> None:
    """Print rows as a table that fits the terminal; columns named in ``wrap`` may be broken into lines for that.

    A table that goes into a file or a pager is as wide as it is, unless COLUMNS says how wide it may be.
    """
    given = [["" if v is None else one_line(str(v)) for v in row] for row in rows]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else None
    for line in draw(columns, given, right=right, wrap=wrap, width=limit):
        sys.stdout.write(line + "\n")


@contextmanager
def progress(what: str, *, quiet: bool = False) -> Iterator[Progress | None]:
    """A bar on standard error while something runs; where that is no terminal, a line every few seconds."""
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        yield _lines(what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(what: str) -> Progress:
    """Progress as lines on standard error, at most one every ``SECONDS``; short work prints none."""
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS and done < total:
            last = now
            note(f"... {what}: {done:,} of {total:,}")

    return report


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage of long work, on standard error; where that is no terminal, lines."""
    if not sys.stderr.isatty():
        running: dict[str, Progress] = {}

        def tell(what: str, done: int, total: int) -> None:
            running.setdefault(what, _lines(what))(done, total)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield report


def command(*words: object) -> str:
    """A command of learndock as a person types it."""
    return shlex.join(["learndock", *map(str, words)])


def short(text: str, length: int) -> str:
    """The beginning of ``text`` on one line, at most ``length`` characters."""
    line = one_line(text)
    return line if len(line) <= length else line[: length - 3] + "..."


def input_text(value: Any) -> str:
    """An input for people: a text, a pair of texts, the prompt, or an image's name."""
    return " | ".join(value) if isinstance(value, tuple) else str(getattr(value, "text", value))


def counted(count: int, thing: str) -> str:
    """``3 files``, ``1 file``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def moment(seconds: float) -> str:
    """A time of a service (seconds since 1970) as ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def day(seconds: float) -> str:
    """The date of a time of a service, in UTC."""
    return moment(seconds)[:10]


def next_step(*words: object, dock: str | None = None, why: str = "Next") -> None:
    """Say which command to type next; ``dock`` is added where the environment does not name it already."""
    if dock is not None and dock != os.environ.get("LEARNDOCK_DOCK"):
        words = (*words, "--dock", dock)
    say(f"{why}: {command(*words)}")


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def p_value(value: float | None) -> str:
    """A p-value for people."""
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
