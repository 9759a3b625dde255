"""What ``learndock demo`` does: lay out a folder, then run the commands that a person would type there.

    lay_out (rows, schema, two learnwares) -> add -> list -> identify -> evaluate -> predict

Each step is a command line. The caller runs it as it runs any other, so the demo shows what the commands really print.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from learndock.errors import UsageError

#: Where the files of the demo are in the package; ``learndock.demo.build`` makes them.
FILES = Path(__file__).parent / "files"
CHOSEN = "corner-shop/review-mood"


@dataclass(frozen=True)
class Step:
    """A command of the demo, as arguments of ``learndock``, and why it is run."""

    why: str
    arguments: tuple[str, ...]

    @property
    def command(self) -> str:
        """The line to type in the demo's folder."""
        return " ".join(("learndock", *self.arguments))


_DOCK = ("--dock", "dock")
STEPS = (
    Step(
        "A shop publishes its model with its specification. Its training data stays with the shop.",
        ("add", "learnwares/review-mood", *_DOCK),
    ),
    Step("A clinic publishes another model, for another task.", ("add", "learnwares/injury-region", *_DOCK)),
    Step("Both are in the dock now.", ("list", *_DOCK)),
    Step(
        "You have 120 labelled sentences. Which model fits your task? Your data stays on this machine.",
        ("identify", "--data", "feedback.csv", "--schema", "schema.json", *_DOCK),
    ),
    Step("How well does it do on your own labels?", ("evaluate", CHOSEN, "feedback.csv", *_DOCK)),
    Step(
        "Let it label the sentences that have no labels yet.",
        ("predict", CHOSEN, "inbox.csv", "-o", "answers.csv", *_DOCK),
    ),
)


def require_weights() -> None:
    """Check that the helper's weights are on this machine.

    Raises:
        WeightsMissing: they are not; the remedy is the command that installs them.
    """
    from learndock.spaces import get_space

    space = get_space()
    for file in space.files:
        if space.find(file) is None:
            space.read(file)


def lay_out(out: Path) -> Path:
    """Copy the rows, the schema and the learnwares to the folder ``out``, and return it.

    Raises:
        UsageError: something is there already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError("is there already", remedy="remove it, or name another folder with --out", about=out)
    shutil.copytree(FILES, out, dirs_exist_ok=True)
    return out
