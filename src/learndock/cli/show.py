"""What a person sees: tables, sentences and progress; what a machine reads: one JSON document."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from learndock.cli.text import one_line, plain
from learndock.progress import Progress


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
    """A line on standard error, out of the way of whoever reads the output."""
    sys.stderr.write(f"warning: {one_line(text)}\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
    """Print rows as a table that fits the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        # Text, not str: a label such as [red] is a label, and no markup
        drawn.add_row(*(Text("" if v is None else plain(str(v))) for v in row))
    console = Console()
    # Wide tables piped into a file or a pager must not be folded at 80 columns
    if not console.is_terminal:
        console = Console(width=160)
    console.print(drawn)


@contextmanager
def progress(what: str, *, quiet: bool = False) -> Iterator[Progress | None]:
    """A bar on standard error while something runs; none where nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield None
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


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage of long work, on standard error; where nobody watches, a line when a stage ends."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: note(f"{what}: done") if done == total else None
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


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def percent(value: float | None) -> str:
    """A p-value for people."""
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
