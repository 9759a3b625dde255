"""``learndock`` as a user types it, for tests: in this process where speed counts, in its own where that matters."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learndock.cli import main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output; nothing else may stand there."""
        assert self.code in (0, 33, 35), self.err
        return json.loads(self.out, parse_constant=lambda name: f"{name} is no JSON")

    @property
    def warnings(self) -> list[str]:
        """The warnings on standard error."""
        return [line for line in self.err.splitlines() if line.startswith("warning: ")]

    @property
    def complaint(self) -> str:
        """The one line on standard error that is neither a warning nor progress."""
        lines = [line for line in self.err.splitlines() if not line.startswith(("warning: ", "... "))]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("learndock: ")
        return lines[0]


def learndock(*arguments: str | Path) -> Ended:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(a) for a in arguments])
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return Ended(code, out.getvalue(), err.getvalue())


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    """Start the installed ``learndock`` in a process of its own."""
    return subprocess.Popen(
        [executable(), *map(str, arguments)],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
    )


def finish(process: subprocess.Popen[str]) -> Ended:
    """Wait for a started command."""
    out, err = process.communicate(timeout=120)
    return Ended(process.returncode, out, err)


def executable() -> str:
    """The installed ``learndock``, beside the Python that runs the tests."""
    found = Path(sys.executable).with_name("learndock")
    assert os.access(found, os.X_OK), f"{found} is not installed"
    return str(found)
