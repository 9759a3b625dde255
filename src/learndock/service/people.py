"""Users, organisations, and the tokens by which they are known.

A token is 256 random bits behind ``ldk_``; the database has only its SHA-256. There are no passwords: the first start
makes a link for the operator, who makes links for users. A link is exchanged for a token once.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from learndock.errors import Conflict, Forbidden, NotFound, PackageError, Unauthorized, UsageError
from learndock.package.manifest import check_name
from learndock.service.audit import note
from learndock.service.database import Database
from learndock.service.principal import SCOPES, Principal, Scope
from learndock.service.tables import memberships, owners, repositories, tokens

DAY = 86_400.0
MARK = "ldk_"
LINK_SECONDS = 3600.0
Role = Literal["member", "admin"]


@dataclass(frozen=True)
class Owner:
    """A user or an organisation; ``quota`` is in bytes, or None for the one of the settings."""

    id: int
    name: str
    kind: str
    operator: bool
    quota: int | None
    created: float


@dataclass(frozen=True)
class Token:
    """A token as its owner sees it; ``secret`` is set only when it is made."""

    id: int
    name: str
    scope: Scope
    created: float
    expires: float
    secret: str | None = None


#: Addresses of the service and of the hub's protocol begin so: ``/api/...``, ``/datasets/owner/name``; or browsers,
#: proxies and crawlers ask for them. (Names that begin with a point are no names anyway.)
RESERVED = frozenset(
    {"about", "agents", "api", "assets", "buckets", "collections", "datasets", "docs", "explore", "favicon.ico",
     "health", "help", "index.html", "join", "kernels", "learnware", "learnwares", "login", "logout", "metrics",
     "models", "new", "organizations", "papers", "ready", "resolve", "robots.txt", "search", "security.txt",
     "settings", "share", "sitemap.xml", "spaces", "static", "status", "tasks", "token", "tokens", "users", "v1", "v2"}
)  # fmt: skip


def check_owner_name(name: str) -> str:
    """Return ``name`` if it can be the owner in ``owner/name``.

    Raises:
        UsageError: it cannot.
    """
    try:
        check_name(f"{name}/x")
    except PackageError:
        raise UsageError(f'"{name}" cannot be a name', remedy='use letters, digits, ".", "_" and "-"') from None
    if name.casefold() in RESERVED:
        raise UsageError(f'"{name}" is reserved: addresses of the service begin so', remedy="choose another name")
    return name


def digest(token: str) -> str:
    """Return what the database stores of a token. Its 256 random bits make a plain hash safe against search."""
    return hashlib.sha256(token.encode()).hexdigest()


class People:
    """Users, organisations and tokens of a database."""

    def __init__(self, database: Database, *, token_days: int) -> None:
        self._database = database
        self._token_days = token_days

    # -- who is asking ------------------------------------------------------------------------------------

    def principal(self, token: str) -> Principal:
        """Return the user whose token this is.

        Raises:
            Unauthorized: it is unknown, expired or revoked.
        """
        return self._principal(tokens.c.hash == digest(token))

    def principal_of(self, token: int) -> Principal:
        """Return the user whose token has this number, for a signed address.

        Raises:
            Unauthorized: it is unknown, expired or revoked.
        """
        return self._principal(tokens.c.id == token)

    def _principal(self, which: ColumnElement[bool]) -> Principal:
        with self._database.read() as connection:
            found = connection.execute(
                select(tokens.c.id, tokens.c.scope, tokens.c.expires, owners.c.id, owners.c.name, owners.c.operator)
                .join(owners, owners.c.id == tokens.c.owner)
                .where(which, tokens.c.once.is_(False))
            ).one_or_none()
            if found is None or found[2] <= time.time():
                raise Unauthorized(
                    "the token is unknown, expired or revoked", remedy="get another with `learndock login`"
                )
            token_id, scope, _, owner_id, name, operator = found
            others = connection.execute(
                select(owners.c.id, owners.c.key, memberships.c.role)
                .join(memberships, memberships.c.organisation == owners.c.id)
                .where(memberships.c.member == owner_id)
            ).all()
        return Principal(
            name=name,
            id=owner_id,
            scope=scope,
            owners=frozenset({name.casefold(), *(key for _, key, _ in others)}),
            owner_ids=frozenset({owner_id, *(i for i, _, _ in others)}),
            administers=frozenset(key for _, key, role in others if role == "admin"),
            operator=operator,
            token=token_id,
        )

    # -- tokens -------------------------------------------------------------------------------------------

    def make_token(self, who: Principal, *, name: str, scope: Scope, days: float | None = None) -> Token:
        """Make a token of the same user; no token makes one that reaches further than itself.

        One whose scope is write makes tokens for other tools, which expire with it at the latest: a token that was
        stolen cannot be prolonged. One whose scope is read makes none.

        Raises:
            Forbidden: ``scope`` is more than that of the token that asks, which may be too little for any.
        """
        who.need("write")
        who.need(scope)
        with self._database.write() as connection:
            until = self._until(days)
            if who.scope != "admin":
                own = connection.execute(select(tokens.c.expires).where(tokens.c.id == who.token)).scalar_one()
                until = min(until, own)
            made = self._insert_token(connection, who.id, name, scope, until)
            note(connection, who, "token.make", f"{made.id} {scope}")
        return made

    def tokens(self, who: Principal) -> list[Token]:
        """The user's tokens, without their secrets."""
        with self._database.read() as connection:
            found = connection.execute(
                select(tokens).where(tokens.c.owner == who.id, tokens.c.once.is_(False)).order_by(tokens.c.id)
            )
            return [Token(t.id, t.name, t.scope, t.created, t.expires) for t in found]

    def revoke_token(self, who: Principal, token: int) -> None:
        """Revoke a token of the same user, at once; it may reach no further than the one that asks.

        Raises:
            Forbidden: the token that asks may only read.
            NotFound: the user has no such token.
        """
        who.need("write")
        within = SCOPES[: SCOPES.index(who.scope or "read") + 1]
        mine = (tokens.c.id == token, tokens.c.owner == who.id, tokens.c.scope.in_(within))
        with self._database.write() as connection:
            gone = connection.execute(delete(tokens).where(*mine)).rowcount
            if not gone:
                raise NotFound(f"you have no token {token}", remedy="`learndock token list` shows them")
            note(connection, who, "token.revoke", str(token))

    def first_link(self, *, again: bool = False) -> str | None:
        """Make a link's secret for the operator; None where an operator has a token, unless ``again``.

        A new secret invalidates earlier ones. ``again`` is for an operator who lost the token and runs the machine.
        """
        with self._database.write() as connection:
            there = connection.execute(select(owners.c.id).where(owners.c.operator).order_by(owners.c.id)).scalars()
            operators = list(there)
            known = connection.execute(
                select(func.count())
                .select_from(tokens)
                .where(tokens.c.owner.in_(operators), tokens.c.once.is_(False), tokens.c.expires > time.time())
            ).scalar_one()
            if known and not again:
                return None
            operator = operators[0] if operators else self._insert_owner(connection, "admin", "user", operator=True)
            connection.execute(delete(tokens).where(tokens.c.owner == operator, tokens.c.once))
            return self._insert_token(
                connection, operator, "first start", "admin", time.time() + LINK_SECONDS, once=True
            ).secret

    def invite(self, who: Principal, name: str) -> str:
        """Make a link's secret for the user ``name``; it can be exchanged once, within an hour.

        Raises:
            Forbidden: ``who`` is not an operator.
            NotFound: there is no such user.
        """
        self._need_operator(who)
        with self._database.write() as connection:
            user = self._owner(connection, name, kind="user")
            made = self._insert_token(connection, user.id, "invitation", "admin", time.time() + LINK_SECONDS, once=True)
            note(connection, who, "user.invite", user.name)
            assert made.secret is not None
            return made.secret

    def exchange(self, link: str, *, name: str, scope: Scope, days: float | None = None) -> Token:
        """Exchange a link's secret for a token; the link works once.

        Raises:
            Unauthorized: the link is unknown, spent or expired.
        """
        with self._database.write() as connection:
            found = connection.execute(
                delete(tokens)
                .where(tokens.c.hash == digest(link), tokens.c.once, tokens.c.expires > time.time())
                .returning(tokens.c.owner)
            ).scalar_one_or_none()
            if found is None:
                raise Unauthorized("the link is unknown, used or older than an hour", remedy="ask for another")
            made = self._insert_token(connection, found, name, scope, self._until(days))
            owner = connection.execute(select(owners.c.name).where(owners.c.id == found)).scalar_one()
            note(connection, Principal(name=owner, token=made.id), "token.exchange", str(made.id))
            return made

    # -- users and organisations --------------------------------------------------------------------------

    def add_user(self, who: Principal, name: str, *, operator: bool = False, quota: int | None = None) -> Owner:
        """Make a user.

        Raises:
            Forbidden: ``who`` is not an operator.
            Conflict: the name is taken.
        """
        self._need_operator(who)
        return self._add(who, name, "user", operator=operator, quota=quota)

    def add_organisation(self, who: Principal, name: str) -> Owner:
        """Make an organisation that ``who`` administers.

        Raises:
            Conflict: the name is taken.
        """
        return self._add(who, name, "organisation")

    def set_member(self, who: Principal, organisation: str, member: str, role: Role | None) -> None:
        """Make a user a member, an administrator, or (None) neither.

        Raises:
            NotFound: ``who`` does not administer such an organisation, or there is no such user.
            Conflict: it would be left without an administrator.
        """
        if organisation.casefold() not in who.administers:
            raise NotFound("you administer no such organisation", about=organisation)
        with self._database.write() as connection:
            group, user = self._owner(connection, organisation, kind="organisation"), self._owner(connection, member)
            connection.execute(
                delete(memberships).where(memberships.c.organisation == group.id, memberships.c.member == user.id)
            )
            if role is not None:
                connection.execute(insert(memberships).values(organisation=group.id, member=user.id, role=role))
            left = connection.execute(
                select(func.count())
                .select_from(memberships)
                .where(memberships.c.organisation == group.id, memberships.c.role == "admin")
            ).scalar_one()
            if not left:
                raise Conflict(
                    "an organisation needs an administrator",
                    remedy="name another administrator first",
                    about=organisation,
                )
            note(connection, who, "organisation.member", f"{group.name} {user.name} {role or 'none'}")

    def members(self, who: Principal, organisation: str) -> list[tuple[str, str]]:
        """Return (name, role) of the members.

        Raises:
            NotFound: ``who`` is not a member of such an organisation.
        """
        if not who.owns(organisation):
            raise NotFound("you belong to no such organisation", about=organisation)
        with self._database.read() as connection:
            group = self._owner(connection, organisation, kind="organisation")
            found = connection.execute(
                select(owners.c.name, memberships.c.role)
                .join(memberships, memberships.c.member == owners.c.id)
                .where(memberships.c.organisation == group.id)
                .order_by(owners.c.key)
            )
            return [(name, role) for name, role in found]

    def organisations(self, who: Principal) -> list[tuple[str, str]]:
        """Return (name, role) of the organisations that ``who`` belongs to."""
        with self._database.read() as connection:
            found = connection.execute(
                select(owners.c.name, memberships.c.role)
                .join(memberships, memberships.c.organisation == owners.c.id)
                .where(memberships.c.member == who.id)
                .order_by(owners.c.key)
            )
            return [(name, role) for name, role in found]

    def users(self, who: Principal) -> list[Owner]:
        """Return all users and organisations.

        Raises:
            Forbidden: ``who`` is not an operator.
        """
        self._need_operator(who)
        with self._database.read() as connection:
            return [_to_owner(row) for row in connection.execute(select(owners).order_by(owners.c.key))]

    def set_quota(self, who: Principal, name: str, quota: int | None) -> Owner:
        """Set an owner's quota in bytes; None for the one of the settings.

        Raises:
            Forbidden: ``who`` is not an operator.
            NotFound: there is no such owner.
        """
        self._need_operator(who)
        with self._database.write() as connection:
            owner = self._owner(connection, name)
            connection.execute(update(owners).where(owners.c.id == owner.id).values(quota=quota))
            note(connection, who, "quota.set", f"{owner.name} {quota}")
            return self._owner(connection, name)

    def remove_user(self, who: Principal, name: str) -> None:
        """Remove a user or organisation that owns no repository, and all its tokens.

        Raises:
            Forbidden: ``who`` is not an operator.
            NotFound: there is none.
            Conflict: it owns repositories still, or it is who asks.
        """
        self._need_operator(who)
        with self._database.write() as connection:
            owner = self._owner(connection, name)
            if owner.id == who.id:
                raise Conflict("you cannot remove yourself", remedy="ask another operator")
            left = connection.execute(
                select(func.count()).select_from(repositories).where(repositories.c.owner == owner.id)
            ).scalar_one()
            if left:
                raise Conflict(f"owns {left} repositories", remedy="delete them first", about=owner.name)
            connection.execute(delete(owners).where(owners.c.id == owner.id))
            note(connection, who, "user.remove", owner.name)

    # -- inside -------------------------------------------------------------------------------------------

    def _until(self, days: float | None) -> float:
        """Return the time at which a token of so many days expires, by default of as many as the setting says."""
        if days is None:
            days = self._token_days
        elif not 0 < days <= 3650:
            raise UsageError(f"a token cannot expire in {days} days", remedy="give a number above 0 and at most 3650")
        return time.time() + days * DAY

    def _need_operator(self, who: Principal) -> None:
        who.need("admin")
        if not who.operator:
            raise Forbidden("only an operator of this service may do that", remedy="ask one")

    def _add(self, who: Principal, name: str, kind: str, *, operator: bool = False, quota: int | None = None) -> Owner:
        check_owner_name(name)
        with self._database.write() as connection:
            taken = connection.execute(select(owners.c.name).where(owners.c.key == name.casefold())).scalar()
            if taken is not None:
                raise Conflict("the name is taken", remedy="choose another", about=taken)
            owner = self._insert_owner(connection, name, kind, operator=operator, quota=quota)
            if kind == "organisation":
                connection.execute(insert(memberships).values(organisation=owner, member=who.id, role="admin"))
            note(connection, who, f"{kind}.add", name)
            return self._owner(connection, name)

    def _owner(self, connection: Connection, name: str, *, kind: str | None = None) -> Owner:
        row = connection.execute(select(owners).where(owners.c.key == name.casefold())).one_or_none()
        if row is None or (kind is not None and row.kind != kind):
            raise NotFound(f"there is no such {kind or 'user or organisation'}", about=name)
        return _to_owner(row)

    def _insert_owner(
        self, connection: Connection, name: str, kind: str, *, operator: bool = False, quota: int | None = None
    ) -> int:
        made = connection.execute(
            insert(owners)
            .values(name=name, key=name.casefold(), kind=kind, operator=operator, quota=quota, created=time.time())
            .returning(owners.c.id)
        )
        return int(made.scalar_one())

    def _insert_token(
        self, connection: Connection, owner: int, name: str, scope: Scope, expires: float, *, once: bool = False
    ) -> Token:
        if scope not in SCOPES:
            raise UsageError(f'"{scope}" is not a scope', remedy="choose read, write or admin")
        secret, now = MARK + secrets.token_urlsafe(32), time.time()
        made = connection.execute(
            insert(tokens)
            .values(owner=owner, hash=digest(secret), name=name, scope=scope, created=now, expires=expires, once=once)
            .returning(tokens.c.id)
        )
        return Token(int(made.scalar_one()), name, scope, now, expires, secret)


def _to_owner(row: Row[Any]) -> Owner:
    return Owner(row.id, row.name, row.kind, row.operator, row.quota, row.created)
