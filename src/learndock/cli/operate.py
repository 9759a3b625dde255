"""Keep a dock sound: verify, rebuild, delete what is unreferenced, back up and restore."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from learndock.cli import options, show
from learndock.cli.common import open_existing, open_to_operate, with_referrers


def verify(
    which: Annotated[str | None, typer.Argument(metavar="ID", help="One learnware. Default: all.")] = None,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Hash every stored file again, and compare the files with the database."""
    from learndock.dock import LocalDock
    from learndock.errors import STATUS, Corrupt

    opened = open_existing(dock)
    with show.progress("verifying") as bar:
        if which is not None:
            problems = opened.verify(which, progress=bar)
        elif isinstance(opened, LocalDock):
            problems = with_referrers(opened).verify(progress=bar)
        else:  # every learnware that the service shows to you
            problems = [p for record in opened.records() for p in opened.verify(record.id, progress=bar)]
    errors = [p for p in problems if p.severity == "error"]
    if json:
        found = [{"severity": p.severity, "about": p.about, "message": p.message} for p in problems]
        show.print_json({"sound": not errors, "problems": found})
    else:
        for problem in problems:
            show.say(f"{problem.severity}: {problem.about}: {problem.message}")
        show.say("sound" if not errors else show.counted(len(errors), "error"))
    if errors:
        raise typer.Exit(STATUS[Corrupt][0])


def rebuild(dock: options.Dock = None, json: options.Json = False) -> None:
    """Rebuild the database from the files of the dock."""
    with show.progress("rebuilding") as bar:
        count = open_to_operate(dock, "rebuild").rebuild(progress=bar)
    if json:
        show.print_json({"learnwares": count})
    else:
        show.say(f"rebuilt: {show.counted(count, 'learnware')}")


def gc(dock: options.Dock = None, json: options.Json = False) -> None:
    """Delete unreferenced files and the leftovers of interrupted commands."""
    found = open_to_operate(dock, "gc").gc()
    if json:
        show.print_json({"blobs": found.blobs, "unfinished": found.unfinished, "leased": found.leased})
        return
    show.say(f"deleted {show.counted(found.blobs, 'unreferenced file')} and {found.unfinished} unfinished")
    if found.leased:
        show.say(f"kept {show.counted(found.leased, 'file')} that are being read; run it again later")


def backup(
    out: Annotated[Path, typer.Argument(help="Folder to write; it must be empty or not exist.")],
    dock: options.Dock = None,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Copy a dock, with the people and repositories of its service, while it is served.

    The copy is a dock itself.
    """
    with _server_extra():
        from learndock.service.backup import backup as make
    settings, folder = _settings(dock, config, "back up")
    with show.progress("backing up") as bar:
        count = make(settings, folder, out, progress=bar)
    if json:
        show.print_json({"backup": str(out), "blobs": count})
    else:
        show.say(f"{out}: backup of {folder}, {show.counted(count, 'blob')}")
        show.next_step("verify", "--dock", out, why="To hash it again")


def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder made by `learndock backup`.")],
    dock: options.Dock = None,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Restore a backup into a folder or into configured storage. This is also the way to migrate a dock."""
    with _server_extra():
        from learndock.service.backup import restore as make
    settings, folder = _settings(dock, config, "restore")
    with show.progress("restoring") as bar:
        count = make(settings, source, folder, progress=bar)
    if json:
        show.print_json({"dock": str(folder), "blobs": count})
    else:
        show.say(f"{folder}: restored, {show.counted(count, 'blob')}")


def operator_link(dock: options.Dock = None, config: options.Config = None, json: options.Json = False) -> None:
    """Make a link for the operator of a service who has lost their token. Run it on the machine of the dock."""
    from learndock.http.run import operator_link as make

    command = make(options.folder_of(dock, "make an operator's link for"), config)
    if json:
        show.print_json({"command": command})
        return
    show.say("This command logs in as the operator. It works once and within an hour:")
    show.say(f"    {command}")
    show.say("If the service answers at another address or port, put that before #link= (--config knows its settings).")


@contextlib.contextmanager
def _server_extra() -> Iterator[None]:
    from learndock.errors import MissingExtra

    try:
        yield
    except ImportError as error:
        raise MissingExtra("is needed for this", remedy='pip install "learndock[server]"', about=error.name) from None


def _settings(dock: str | None, config: Path | None, verb: str) -> tuple[Any, Path]:
    from learndock.settings import FILE, load

    folder = options.folder_of(dock, verb)
    return load({}, file=config or folder / FILE), folder
