"""People at a service: your tokens, and the users and organisations of its operator."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from learndock.cli import options, show
from learndock.cli.help import group

if TYPE_CHECKING:
    from learndock.dock.remote.session import Session

Name = Annotated[str, typer.Argument(help="Name of the user or organisation.")]


class Role(StrEnum):
    """What a user is in an organisation."""

    MEMBER = "member"
    ADMIN = "admin"
    NONE = "none"


tokens = group("List, make and revoke your tokens at a service.")
users = group("List, add, invite and remove the users of a service (operators).")
organisations = group("Make organisations, and say who belongs to them.")


@tokens.command("list")
def list_tokens(dock: options.Dock = None, json: options.Json = False) -> None:
    """List your tokens. A secret is shown once, at creation."""
    found = _session(dock).json("GET", "/tokens")["tokens"]
    if json:
        show.print_json({"tokens": [_times(t) for t in found]})
        return
    show.table(
        ["token", "name", "may", "expires"],
        [[t["id"], t["name"], t["scope"], show.day(t["expires"])] for t in found],
    )


@tokens.command("make")
def make_token(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[options.Scope, typer.Option(help="What it may do: read, write or admin.")] = options.Scope.READ,
    days: Annotated[float | None, typer.Option(help="Days until it expires. Default: the service's setting.")] = None,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Make a token. Its secret is shown once, now."""
    found = _session(dock).json("POST", "/tokens", {"name": name, "scope": scope.value, "days": days})
    if json:
        show.print_json(_times(found))
    else:
        show.say(f"{found['token']}  may {scope} until {show.day(found['expires'])}")


@tokens.command("revoke")
def revoke_token(
    token: Annotated[int, typer.Argument(help="Number of the token, from `learndock token list`.")],
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Revoke a token. It stops working at once."""
    _session(dock).json("DELETE", f"/tokens/{token}")
    _done(json, {"revoked": token}, f"token {token} is revoked")


@users.command("list")
def list_users(dock: options.Dock = None, json: options.Json = False) -> None:
    """List users and organisations."""
    found = _session(dock).json("GET", "/users")["owners"]
    if json:
        show.print_json({"users": [_times(o) for o in found]})
        return
    rows = [[o["name"], o["kind"], "yes" if o["operator"] else "", _bytes(o["quota"])] for o in found]
    show.table(["name", "kind", "operator", "quota"], rows, right=["quota"])


@users.command("add")
def add_user(
    name: Name,
    operator: Annotated[
        bool, typer.Option("--operator", help="They may add users and read the log of changes.")
    ] = False,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Add a user, and make the link by which they get their first token."""
    session = _session(dock)
    found = session.json("POST", "/users", {"name": name, "operator": operator})
    _link(session, found, json)


@users.command("invite")
def invite_user(name: Name, dock: options.Dock = None, json: options.Json = False) -> None:
    """Make a new link for a user who has lost their tokens."""
    session = _session(dock)
    _link(session, session.json("POST", f"/users/{name}/invite"), json)


@users.command("remove")
def remove_user(name: Name, dock: options.Dock = None, json: options.Json = False) -> None:
    """Remove a user or organisation that owns nothing."""
    _session(dock).json("DELETE", f"/users/{name}")
    _done(json, {"removed": name}, f"{name} is removed")


@users.command("quota")
def set_quota(
    name: Name,
    quota: Annotated[str, typer.Argument(metavar="SIZE", help="Such as 50GB, or default for the service's setting.")],
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Set how many bytes an owner may store."""
    from learndock.settings import size

    wanted = None if quota == "default" else size(quota, where="SIZE")
    found = _session(dock).json("PUT", f"/users/{name}/quota", {"quota": wanted})
    _done(json, found, f"{name} may store {_bytes(found['quota']) or 'what the service allows everyone'}")


@organisations.command("make")
def make_organisation(name: Name, dock: options.Dock = None, json: options.Json = False) -> None:
    """Make an organisation that you administer."""
    found = _session(dock).json("POST", "/organisations", {"name": name})
    _done(json, found, f"{name} is yours; `learndock organisation member {name} USER` adds people")


@organisations.command("members")
def list_members(name: Name, dock: options.Dock = None, json: options.Json = False) -> None:
    """List who belongs to an organisation of yours."""
    found = _session(dock).json("GET", f"/organisations/{name}/members")["members"]
    if json:
        show.print_json({"organisation": name, "members": found})
    else:
        show.table(["name", "role"], [[m["name"], m["role"]] for m in found])


@organisations.command("member")
def set_member(
    name: Name,
    member: Annotated[str, typer.Argument(help="Name of the user.")],
    role: Annotated[Role, typer.Option(help="member, admin, or none to remove them.")] = Role.MEMBER,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Set what a user is in an organisation: a member, an administrator, or nothing."""
    given = None if role is Role.NONE else role.value
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
            "a dock in a folder has no users", remedy="name a service with --dock http://host:port", about=place
        )
    return Session(place, token=credentials.token_for(place))


def _link(session: Session, found: dict[str, Any], json: bool) -> None:
    link = f"{session.url}#link={found['link']}"
    _done(
        json,
        {"user": found["user"], "link": link},
        f"Send {found['user']} this command, which works once and within an hour:\n    learndock login {link}",
    )


def _done(json: bool, found: Any, text: str) -> None:
    if json:
        show.print_json(found)
    else:
        for line in text.split("\n"):
            show.say(line)


def _times(found: dict[str, Any]) -> dict[str, Any]:
    """``found`` with its times as ISO 8601."""
    return {k: show.moment(v) if k in ("created", "expires") and v is not None else v for k, v in found.items()}


def _bytes(quota: int | None) -> str:
    return "" if quota is None else show.megabytes(quota)
