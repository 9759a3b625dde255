"""How a command ends: an exit code, and on standard error at most one line that says why.

Everything that can go wrong passes here, the outermost edge of the journey: our errors, the arguments, what the
system says of a file, a reader who has gone, Ctrl-C, and bugs.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Sequence
from typing import Any

from learndock.cli.completion import complete
from learndock.cli.text import one_line
from learndock.errors import LearndockError, StorageFull, UsageError, exit_code

STOPPED = 130
READER_GONE = 141
BUG = 70
NO_MEMORY = 71

#: What a person can do about what the system says.
_REMEDIES = {
    errno.ENOENT: "make its folder first, or name another place",
    errno.ENOTDIR: "a part of the path is a file; name another place",
    errno.EISDIR: "name a file in it",
    errno.EEXIST: "remove it, or name another place",
    errno.ENOTEMPTY: "remove it, or name another place",
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EROFS: "name a place that can be written",
    errno.ENAMETOOLONG: "name a shorter one",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def outcome(arguments: Sequence[str] | None = None) -> int:
    """Run the command that ``arguments`` name; returns the exit code, after saying what went wrong."""
    _print_anything()
    debug = bool(os.environ.get("LEARNDOCK_DEBUG"))
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return _ended(STOPPED, "stopped")
    except (BrokenPipeError, SystemExit):  # typer makes the one of the other, and exits for nothing else
        return _reader_gone()
    except LearndockError as error:
        # A person wants the sentence; who wants the place sets LEARNDOCK_DEBUG and sees where it came from
        if debug:
            raise
        return _ended(exit_code(error), f"{type(error).__name__}: {error}")
    except OSError as error:
        if debug:
            raise
        known = of_system(error)
        return _ended(exit_code(known), f"{type(known).__name__}: {known}")
    except MemoryError:
        return _ended(NO_MEMORY, "MemoryError: not enough memory for this; give it more, or fewer examples")
    except Exception as error:
        if hasattr(error, "format_message"):
            return _bad_arguments(error)
        if debug:
            raise
        found = f"{type(error).__name__}: {error}"
        return _ended(
            BUG, f"this is a bug in learndock; run with LEARNDOCK_DEBUG=1 to see where, and report it ({found})"
        )


def of_system(error: OSError) -> LearndockError:
    """What the system said of a file, in our words."""
    place = error.filename2 or error.filename or "writing the output"
    what = f"{os.fsdecode(place) if isinstance(place, str | bytes | os.PathLike) else place}: "
    what += error.strerror or str(error) or type(error).__name__
    if error.errno in _FULL:
        return StorageFull(f"{what}", remedy="free some room and try again (nothing was changed)")
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return LearndockError(f"{what}", remedy="see that the disk is sound, then try again")
    return UsageError(f"{what}", remedy=f"{remedy}")


def _run(arguments: Sequence[str] | None) -> int:
    command = _commands()
    if arguments is None and (answered := complete(command)) is not None:
        return answered
    found = command.main(
        args=None if arguments is None else list(arguments), prog_name="learndock", standalone_mode=False
    )
    # Python would write the rest at exit, where nothing can report that the disk is full or the reader gone
    sys.stdout.flush()
    status = found if isinstance(found, int) else 0
    return _ended(STOPPED, "stopped") if status == STOPPED else status


@functools.cache
def _commands() -> Any:
    """Typer reads every command's signature: 50 ms, once for who calls more than one command."""
    from typer.main import get_command

    from learndock.cli.app import app

    return get_command(app)


def _bad_arguments(error: Exception) -> int:
    """Typer's refusals format themselves; with no arguments at all what it says is the help."""
    status = int(getattr(error, "exit_code", 2))
    message = str(getattr(error, "format_message")())  # noqa: B009 - not in the type
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(message + "\n")
        return status
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "learndock"
    return _ended(status, f"UsageError: {message.rstrip('.')} (see `{command} --help`)")


def _ended(status: int, line: str) -> int:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"learndock: {one_line(line)}\n")
        sys.stderr.flush()
    _let_go()
    return status


def _reader_gone() -> int:
    _let_go()
    return READER_GONE


def _let_go() -> None:
    """Send to /dev/null what has no reader: Python flushes once more at exit, and complains."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def _print_anything() -> None:
    """Names of files and labels may hold what the terminal's encoding does not know."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
