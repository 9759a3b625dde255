"""Work measured against a yardstick, so that a busy or slow machine changes no answer.

Processor time does not grow while a process waits for others; the yardstick, a fixed loop of Python timed beside it,
takes the speed of the machine out.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

_LOOP = "n = 0\nfor i in range(1_000_000):\n    n += i * i\n"


def yardstick() -> float:
    """Processor seconds of a million turns of a loop (about 0.05 s on one core of today); the least of five."""
    code = compile(_LOOP, "yardstick", "exec")
    return min(spent(lambda: exec(code, {})) for _ in range(5))


def spent(work: Callable[[], object]) -> float:
    """Processor seconds that ``work`` takes in this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def spent_by(command: Sequence[str | os.PathLike[str]], *, runs: int = 3) -> float:
    """Processor seconds, user and system, that a command and its children take; the least of ``runs``."""
    found = []
    for _ in range(runs):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"{command} ended with {process.returncode}"
        found.append(usage.ru_utime + usage.ru_stime)
    return min(found)


def spent_by_python(code: str, *, runs: int = 3) -> float:
    """Processor seconds of ``python -c code``; the least of ``runs``."""
    return spent_by([sys.executable, "-c", code], runs=runs)
