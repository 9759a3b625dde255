"""From settings to a running process: what ``learndock serve`` does."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from learndock.errors import MissingExtra, UnsafeModel
from learndock.settings import FILE, load


def serve(folder: Path, flags: Mapping[str, Any], config: Path | None, *, say: Callable[[str], None]) -> None:
    """Serve the dock in ``folder`` until the process is told to stop.

    Raises:
        MissingExtra: the extra ``server`` is not installed.
        UsageError: a setting cannot be used, or the address is taken.
    """
    settings = load(flags, file=config or folder / FILE)
    refuse_pickles()
    try:
        from learndock.http import logs
        from learndock.http.serve import start
        from learndock.service.service import open_service
    except ImportError as error:
        raise MissingExtra("is needed to serve", remedy='pip install "learndock[server]"', about=error.name) from None
    logs.install(settings.log)
    service = open_service(settings, folder)
    try:
        running = start(service)
        say(f"serving {service.folder} at {running.url}")
        link = service.people.first_link()
        if link is not None:
            say(
                f"first start: within an hour, on your machine, learndock login {running.url}#link={link} --scope admin"
            )
        look_for_rubbish_seldom()
        running.run()
    finally:
        service.close()


def look_for_rubbish_seldom() -> None:
    """Let Python look for cycles less often: it holds everybody up for as long as it looks through all records.

    At 10,000 learnwares 200 readers had to wait for 437 ms (p95) before and 174 ms with no looking at all; the common
    end of an object, nobody refers to it, needs none.
    """
    gc.set_threshold(20_000, 20, 20)


def refuse_pickles() -> None:
    """From now on nothing in this process can unpickle what names a class or a function."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "pickle.find_class":
            raise UnsafeModel(f"a pickle wants {arguments[0]}.{arguments[1]}", remedy="a server unpickles nothing")

    sys.addaudithook(hook)
