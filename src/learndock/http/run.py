"""What ``learndock serve`` does: from settings to a running process."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from learndock.errors import MissingExtra, UnsafeModel, UsageError
from learndock.http.address import EVERY_ADDRESS, is_loopback, reachable
from learndock.settings import FILE, Settings, load


def serve(folder: Path, flags: Mapping[str, Any], config: Path | None, *, say: Callable[[str], None]) -> None:
    """Serve the dock in ``folder`` until the process is stopped.

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
            say(f"first start: within an hour, on your machine, {login_command(running.url, link)}")
        for line in warnings_of(settings):
            say(line)
        look_for_rubbish_seldom()
        running.run()
    finally:
        service.close()


def warnings_of(settings: Settings) -> Iterator[str]:
    """Yield what an operator should know of the settings before others use the service."""
    if settings.public_url or is_loopback(settings.host):
        return
    if settings.host in EVERY_ADDRESS:
        yield (
            "it listens on every address of this machine; on other machines put the machine's name in place of "
            "127.0.0.1, or set --public-url so that links name it"
        )
    yield (
        "addresses in its answers, signed ones too, are made from the Host header that a client sends; set "
        "--public-url to the address that clients should use"
    )


def login_command(url: str, link: str) -> str:
    """Return the command by which an operator logs in with a link."""
    return f"learndock login '{url}#link={link}' --scope admin"


def operator_link(folder: Path, config: Path | None) -> str:
    """Make a link for the operator of the dock in ``folder``, also while it is served.

    Returns the command that logs in with it.

    It is for an operator who lost the token: a person who may write the dock's database may make one.

    Raises:
        MissingExtra: the extra ``server`` is not installed.
        NotFound: there is no dock.
        UsageError: the dock was never served.
    """
    settings = load({}, file=config or folder / FILE)
    try:
        from learndock.service.people import People
        from learndock.service.service import open_database, open_home
    except ImportError as error:
        raise MissingExtra("is needed for this", remedy='pip install "learndock[server]"', about=error.name) from None
    dock = open_home(settings, folder, create=False)
    if not settings.database and not dock.storage.served:
        raise UsageError("was never served, so it has no operator", remedy="start `learndock serve`", about=folder)
    database = open_database(settings, dock)
    try:
        link = People(database, token_days=settings.token_days).first_link(again=True)
    finally:
        database.close()
    assert link is not None
    return login_command(settings.public_url.rstrip("/") or f"http://{reachable(settings.host)}:{settings.port}", link)


def look_for_rubbish_seldom() -> None:
    """Run Python's cycle collector less often: all requests wait while it goes through the records in memory.

    With 10,000 learnwares and 200 readers, p95 was 437 ms before, and 174 ms without the collector. Reference counting
    frees nearly all objects.
    """
    gc.set_threshold(20_000, 20, 20)


def refuse_pickles() -> None:
    """Refuse, for the rest of this process, every pickle that names a class or a function."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "pickle.find_class":
            raise UnsafeModel(f"a pickle wants {arguments[0]}.{arguments[1]}", remedy="a server unpickles nothing")

    sys.addaudithook(hook)
