"""Commands of people behind an address: their tokens, and the users of an operator."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from learndock.cli import options, show
from learndock.cli.help import Grouped

if TYPE_CHECKING:
    from learndock.dock.remote.session import Session

Scope = Annotated[str, typer.Option(help="What it may: read, write or admin.")]
Name = Annotated[str, typer.Argument(help="Name of the user or organisation.")]

tokens = typer.Typer(cls=Grouped, help="Tokens of yours, at the dock behind an address.", no_args_is_help=True)
users = typer.Typer(cls=Grouped, help="Users of a service (operators).", no_args_is_help=True)
organisations = typer.Typer(cls=Grouped, help="Organisations, and who belongs to them.", no_args_is_help=True)


@tokens.command("list")
def list_tokens(dock: options.Dock = None, json: options.Json = False) -> None:
    """List your tokens; what they are is told only when they are made."""
    found = _session(dock).json("GET", "/tokens")["tokens"]
    if json:
        show.print_json(found)
        return
    show.table(
        ["token", "name", "may", "expires"],
        [[t["id"], t["name"], t["scope"], _day(t["expires"])] for t in found],
    )


@tokens.command("make")
def make_token(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Scope = "read",
    days: Annotated[float | None, typer.Option(help="Days until it expires; default: the service's.")] = None,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Make a token; it is shown once."""
    found = _session(dock).json("POST", "/tokens", {"name": name, "scope": scope, "days": days})
    if json:
        show.print_json(found)
    else:
        show.say(f"{found['token']}  may {scope} until {_day(found['expires'])}")


@tokens.command("revoke")
def revoke_token(
    token: Annotated[int, typer.Argument(help="Its number, as `learndock token list` shows it.")],
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """End a token, at once."""
    _session(dock).json("DELETE", f"/tokens/{token}")
    _done(json, {"revoked": token}, f"token {token} is ended")


@users.command("list")
def list_users(dock: options.Dock = None, json: options.Json = False) -> None:
    """List users and organisations."""
    found = _session(dock).json("GET", "/users")["owners"]
    if json:
        show.print_json(found)
        return
    rows = [[o["name"], o["kind"], "yes" if o["operator"] else "", _bytes(o["quota"])] for o in found]
    show.table(["name", "kind", "operator", "may keep"], rows)


@users.command("add")
def add_user(
    name: Name,
    operator: Annotated[bool, typer.Option("--operator", help="May make users and read the log of changes.")] = False,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Make a user, and the link by which they get their first token."""
    session = _session(dock)
    found = session.json("POST", "/users", {"name": name, "operator": operator})
    _link(session, found, json)


@users.command("invite")
def invite_user(name: Name, dock: options.Dock = None, json: options.Json = False) -> None:
    """Make another link for a user who has lost their tokens."""
    session = _session(dock)
    _link(session, session.json("POST", f"/users/{name}/invite"), json)


@users.command("remove")
def remove_user(name: Name, dock: options.Dock = None, json: options.Json = False) -> None:
    """Remove a user or organisation that owns nothing any more."""
    _session(dock).json("DELETE", f"/users/{name}")
    _done(json, {"removed": name}, f"{name} is removed")


@users.command("quota")
def set_quota(
    name: Name,
    quota: Annotated[int, typer.Argument(metavar="BYTES", help="What they may keep; -1 for the service's setting.")],
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Say how much an owner may keep."""
    found = _session(dock).json("PUT", f"/users/{name}/quota", {"quota": None if quota < 0 else quota})
    _done(json, found, f"{name} may keep {_bytes(found['quota']) or 'what the service says'}")


@organisations.command("make")
def make_organisation(name: Name, dock: options.Dock = None, json: options.Json = False) -> None:
    """Make an organisation, which you administer."""
    found = _session(dock).json("POST", "/organisations", {"name": name})
    _done(json, found, f"{name} is yours; `learndock organisation member {name} USER` adds people")


@organisations.command("members")
def list_members(name: Name, dock: options.Dock = None, json: options.Json = False) -> None:
    """List who belongs to an organisation of yours."""
    found = _session(dock).json("GET", f"/organisations/{name}/members")["members"]
    if json:
        show.print_json(found)
    else:
        show.table(["name", "role"], [[m["name"], m["role"]] for m in found])


@organisations.command("member")
def set_member(
    name: Name,
    member: Annotated[str, typer.Argument(help="Name of the user.")],
    role: Annotated[str, typer.Option(help="member, admin, or none to let them go.")] = "member",
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Make a user a member or an administrator of an organisation, or neither."""
    given = None if role == "none" else role
    _session(dock).json("PUT", f"/organisations/{name}/members/{member}", {"role": given})
    _done(json, {"organisation": name, "member": member, "role": given}, f"{member}: {role} of {name}")


def _session(dock: str | None) -> Session:
    from learndock.dock.remote import credentials
    from learndock.dock.remote.session import Session
    from learndock.dock.storage.layout import default_folder, is_address
    from learndock.errors import UsageError

    place = str(default_folder()) if dock is None else dock
    if not is_address(place):
        raise UsageError(
            "a folder has no people", remedy="name the address of a service with --dock http://host:port", about=place
        )
    return Session(place, token=credentials.token_for(place))


def _link(session: Session, found: dict[str, Any], json: bool) -> None:
    link = f"{session.url}#link={found['link']}"
    _done(
        json,
        {"user": found["user"], "link": link},
        f"{found['user']} gets in, within an hour, by: learndock login {link}",
    )


def _done(json: bool, found: Any, text: str) -> None:
    if json:
        show.print_json(found)
    else:
        show.say(text)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _bytes(quota: int | None) -> str:
    return "" if quota is None else show.megabytes(quota)
