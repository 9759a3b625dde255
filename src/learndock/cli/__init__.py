"""The command line: one verb, one function of the library."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``learndock``; ``arguments`` are those of the process where none are given.

    Raises:
        SystemExit: always; its code is the exit code.
    """
    from learndock.cli.outcome import outcome

    raise SystemExit(outcome(arguments))
