"""Commands around a dock behind an address: serve one, keep it safe, and be known to one."""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from learndock.cli import options, show

Url = Annotated[str, typer.Argument(metavar="URL", help="Address of the service: http://host:port.")]


def _serve(
    dock: options.Dock = None,
    config: Annotated[Path | None, typer.Option(help="File of settings (TOML); default: learndock.toml.")] = None,
    **flags: Any,
) -> None:
    """Serve a dock to others, until Ctrl-C; the first start prints a link for its operator."""
    import os

    # Before anything reads NumPy. Requests run side by side already; a product's own threads would wait for each
    # other, and burn what others need.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from learndock.cli.text import one_line
    from learndock.dock.storage.layout import default_folder, is_address
    from learndock.errors import UsageError
    from learndock.http import run

    if dock is not None and is_address(dock):
        raise UsageError("is served already", remedy="name the folder of a dock with --dock", about=dock)
    folder = default_folder() if dock is None else Path(dock).expanduser()
    run.serve(folder, flags, config, say=lambda text: show.note(one_line(text)))


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with a flag for each setting: typer reads the signature."""
    from learndock.settings import FIELDS, flag, shown, variable

    hints = typing.get_type_hints(command, include_extras=True)
    own = [
        p.replace(annotation=hints[p.name])
        for p in inspect.signature(command).parameters.values()
        if p.kind is not p.VAR_KEYWORD
    ]
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None,
                typer.Option(
                    flag(name),
                    help=f"{_sentence(field.metadata['about'])} [{variable(name)}; {shown(name, field.default)}]",
                    rich_help_panel="Settings",
                ),
            ],
        )
        for name, field in FIELDS.items()
    ]

    def with_settings(**values: Any) -> None:
        command(**values)

    with_settings.__doc__ = command.__doc__
    with_settings.__name__ = command.__name__.strip("_")
    with_settings.__annotations__ = {p.name: p.annotation for p in (*own, *added)}
    with_settings.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    return with_settings


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


serve = _with_settings(_serve)


def backup(
    out: Annotated[Path, typer.Argument(help="Folder to write; it must be empty or not exist.")],
    dock: options.Dock = None,
    config: Annotated[Path | None, typer.Option(help="File of settings (TOML); default: learndock.toml.")] = None,
    json: options.Json = False,
) -> None:
    """Copy a dock, and its service's people and repositories, while it is served; the copy is a dock itself."""
    with _server_extra():
        from learndock.service.backup import backup as make
    settings, folder = _settings(dock, config)
    with show.progress("backing up") as bar:
        count = make(settings, folder, out, progress=bar)
    if json:
        show.print_json({"backup": str(out), "blobs": count})
    else:
        show.say(f"{out}: {show.counted(count, 'blob')}, whole; `learndock verify --dock {out}` hashes it again")


def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder made by `learndock backup`.")],
    dock: options.Dock = None,
    config: Annotated[Path | None, typer.Option(help="File of settings (TOML); default: learndock.toml.")] = None,
    json: options.Json = False,
) -> None:
    """Make a dock of a backup, in a folder or where the settings say: so a dock moves to another store too."""
    with _server_extra():
        from learndock.service.backup import restore as make
    settings, folder = _settings(dock, config)
    with show.progress("restoring") as bar:
        count = make(settings, source, folder, progress=bar)
    if json:
        show.print_json({"dock": str(folder), "blobs": count})
    else:
        show.say(f"{folder}: restored, {show.counted(count, 'blob')}")


@contextlib.contextmanager
def _server_extra() -> Iterator[None]:
    from learndock.errors import MissingExtra

    try:
        yield
    except ImportError as error:
        raise MissingExtra("is needed for this", remedy='pip install "learndock[server]"', about=error.name) from None


def _settings(dock: str | None, config: Path | None) -> tuple[Any, Path]:
    from learndock.dock.storage.layout import default_folder
    from learndock.settings import FILE, load

    folder = default_folder() if dock is None else Path(dock).expanduser()
    return load({}, file=config or folder / FILE), folder


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of the service, or the link you were given.")],
    link: Annotated[str | None, typer.Option(help="Secret of the link, where the address does not hold it.")] = None,
    token: Annotated[str | None, typer.Option(help="A token that you have already; - reads it from input.")] = None,
    scope: Annotated[str, typer.Option(help="What the new token may: read, write or admin.")] = "write",
    days: Annotated[float | None, typer.Option(help="Days until it expires; default: the service's.")] = None,
    json: options.Json = False,
) -> None:
    """Be known to a service from now on: exchange a link for a token, or keep a token that you have."""
    import sys

    from learndock.dock.remote import credentials
    from learndock.dock.remote.session import Session
    from learndock.errors import UsageError

    address, _, fragment = url.partition("#")
    link = link or (fragment.removeprefix("link=") if fragment.startswith("link=") else None)
    if (link is None) == (token is None):
        raise UsageError(
            "give the link that you were given, or --token", remedy="an operator of the service makes links"
        )
    if link is not None:
        asked = {"link": link, "name": _machine(), "scope": scope, "days": days}
        token = Session(address, token=None).json("POST", "/tokens/exchange", asked)["token"]
    elif token == "-":
        token = sys.stdin.readline().strip()
    who = Session(address, token=token).json("GET", "/whoami")
    credentials.keep(address, token)
    if json:
        show.print_json({"url": credentials.base_url(address), "name": who["name"], "scope": who["scope"]})
    else:
        show.say(f"{credentials.base_url(address)}: you are {who['name']}, this token may {who['scope']}")


def logout(url: Url, json: options.Json = False) -> None:
    """Forget the token of a service."""
    from learndock.dock.remote import credentials

    credentials.keep(url, None)
    if json:
        show.print_json({"url": credentials.base_url(url)})
    else:
        show.say(f"{credentials.base_url(url)}: forgotten")


def _machine() -> str:
    import platform

    return f"learndock on {platform.node()}"[:96]
