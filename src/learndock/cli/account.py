"""You at a service: log in and out, see who you are, and say who may see your learnwares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from learndock.cli import options, show

if TYPE_CHECKING:
    from learndock.dock.remote.dock import RemoteDock

Url = Annotated[str, typer.Argument(metavar="URL", help="Address of the service: http://host:port.")]


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of the service, or the link you were given.")],
    link: Annotated[str | None, typer.Option(help="Secret of the link, if the address does not contain it.")] = None,
    token: Annotated[str | None, typer.Option(help="A token that you have already; - reads it from input.")] = None,
    scope: Annotated[
        options.Scope, typer.Option(help="What the new token may do: read, write or admin.")
    ] = options.Scope.WRITE,
    days: Annotated[
        float | None, typer.Option(help="Days until the new token expires. Default: the service's setting.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Log in to a service: exchange a link for a token, or keep a token that you have."""
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
        asked = {"link": link, "name": _machine(), "scope": scope.value, "days": days}
        token = Session(address, token=None).json("POST", "/tokens/exchange", asked)["token"]
    elif scope is not options.Scope.WRITE or days is not None:
        raise UsageError("--scope and --days are for a new token", remedy="leave them out with --token")
    elif token == "-":
        token = sys.stdin.readline().strip()
    who = Session(address, token=token).json("GET", "/whoami")
    credentials.keep(address, token)
    if json:
        show.print_json({"url": credentials.base_url(address), "name": who["name"], "scope": who["scope"]})
        return
    show.say(f"{credentials.base_url(address)}: you are {who['name']}, and this token has the scope {who['scope']}")
    show.next_step("list", "--dock", credentials.base_url(address))


def logout(url: Url, json: options.Json = False) -> None:
    """Forget the token of a service."""
    from learndock.dock.remote import credentials

    credentials.keep(url, None)
    if json:
        show.print_json({"url": credentials.base_url(url)})
    else:
        show.say(f"{credentials.base_url(url)}: token forgotten")


def whoami(dock: options.Dock = None, json: options.Json = False) -> None:
    """Show which dock your commands use, and who you are there."""
    from learndock.dock.remote.dock import RemoteDock
    from learndock.dock.storage.layout import default_folder, is_address

    if dock is None or not is_address(dock):
        folder = str(default_folder() if dock is None else dock)
        if json:
            show.print_json({"dock": folder, "kind": "folder", "known": None, "name": None, "scope": None})
            return
        show.say(f"{folder}: a dock in a folder, which needs no login")
        show.say("`learndock whoami --dock http://host:port` says who you are at a service.")
        return
    opened = RemoteDock(dock)
    who = opened.session.json("GET", "/whoami")
    if json:
        show.print_json({"dock": opened.url, "kind": "service", **who})
        return
    if not who["known"]:
        show.say(f"{opened.url}: you are not logged in, and see what is public")
        show.next_step("login", opened.url, why="To log in")
        return
    show.say(f"{opened.url}: you are {who['name']}" + (", an operator" if who["operator"] else ""))
    show.say(f"  token          scope {who['scope']}")
    for organisation in who["organisations"]:
        show.say(f"  organisation   {organisation['name']} ({organisation['role']})")
    if (owned := who.get("learnwares")) is not None:  # a service of 0.1.0 does not say
        show.say(f"  learnwares     {owned['public']} that all see, {owned['private']} private")


def visibility(
    which: Annotated[str, typer.Argument(metavar="ID", help="owner/name of a learnware.")],
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Who may see it. Default: show what holds now.")
    ] = None,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """See or set who may see a learnware at a service: its owner alone, or everyone."""
    from learndock.cli.repositories import repositories, set_private
    from learndock.errors import NotFound

    opened = _service(dock)
    if private is not None:
        found: Any = set_private(opened, which, private)
    else:
        found = repositories(opened, which).get(which)
        if found is None:
            raise NotFound(
                "not at this service, or not for you", remedy="`learndock list` shows what is there", about=which
            )
    if json:
        show.print_json({"name": found.name, "private": found.private})
    else:
        owner = found.name.partition("/")[0]
        show.say(f"{found.name} is " + (f"private: only {owner} sees it" if found.private else "public: all see it"))


def _service(dock: str | None) -> RemoteDock:
    """The dock, which must be a service.

    Raises:
        UsageError: it is a folder.
    """
    from learndock.dock.remote.dock import RemoteDock
    from learndock.dock.storage.layout import default_folder, is_address
    from learndock.errors import UsageError

    if dock is None or not is_address(dock):
        raise UsageError(
            "is a dock in a folder: who can read the folder sees everything",
            remedy="name a service with --dock http://host:port",
            about=default_folder() if dock is None else dock,
        )
    return RemoteDock(dock)


def _machine() -> str:
    import platform

    return f"learndock on {platform.node()}"[:96]
