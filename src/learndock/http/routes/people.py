"""People: whoami, tokens, users and organisations, and the log of changes."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field

from learndock.http.door import DoorRoute
from learndock.http.principal import Admin, Anyone, Reader, ServiceOf, Writer
from learndock.http.routes import PREFIX
from learndock.http.routes.learnwares import Owner
from learndock.http.schemas import FAILURES, BaseSchema, TokenSchema
from learndock.service.audit import entries
from learndock.service.people import Owner as OwnerRow

router = APIRouter(prefix=PREFIX, route_class=DoorRoute, tags=["people"], responses=FAILURES)
ScopeName = Literal["read", "write", "admin"]
TokenName = Annotated[str, Field(max_length=96)]
Days = Annotated[float | None, Field(default=None, gt=0, le=3650)]


class OrganisationSchema(BaseSchema):
    """A name, of an organisation or of a member, and the member's role."""

    name: str
    role: str


class Owned(BaseSchema):
    """How many learnwares all see, and how many only their owner sees."""

    public: int
    private: int


class WhoAmI(BaseSchema):
    """The user of the token; for an anonymous client ``known`` is false.

    ``learnwares`` counts those of the user and of their organisations.
    """

    known: bool
    name: str | None
    scope: ScopeName | None
    operator: bool
    organisations: list[OrganisationSchema]
    learnwares: Owned


class TokenRequest(BaseSchema):
    """A token to make; by default it expires after the number of days in the service's settings."""

    name: TokenName
    scope: ScopeName = "read"
    days: Days


class Exchange(BaseSchema):
    """The secret of a link, to be exchanged for a token."""

    link: str = Field(max_length=200)
    name: TokenName
    scope: ScopeName = "write"
    days: Days


class Tokens(BaseSchema):
    """Your tokens, without their secrets."""

    tokens: list[TokenSchema]


class OwnerSchema(BaseSchema):
    """A user or an organisation; ``quota`` in bytes, null for the service's setting."""

    name: str
    kind: str
    operator: bool
    quota: int | None
    created: float

    @classmethod
    def of(cls, found: OwnerRow) -> OwnerSchema:
        """Return the JSON of a user or an organisation."""
        return cls(name=found.name, kind=found.kind, operator=found.operator, quota=found.quota, created=found.created)


class Owners(BaseSchema):
    """Users and organisations, by name."""

    owners: list[OwnerSchema]


class UserRequest(BaseSchema):
    """A user to make."""

    name: str = Field(max_length=96)
    operator: bool = False
    quota: int | None = Field(default=None, ge=0, le=1 << 62)


class Invited(BaseSchema):
    """A user, and the secret that they exchange for a token within an hour: `learndock login --link`."""

    user: str
    link: str


class OrganisationRequest(BaseSchema):
    """An organisation to make; you will administer it."""

    name: str = Field(max_length=96)


class MemberRequest(BaseSchema):
    """The role of a member; null removes them."""

    role: Literal["member", "admin"] | None


class Members(BaseSchema):
    """Who belongs to an organisation."""

    members: list[OrganisationSchema]


class QuotaRequest(BaseSchema):
    """Bytes that an owner may store; null for the service's setting."""

    quota: int | None = Field(ge=0, le=1 << 62)


class AuditEntry(BaseSchema):
    """One change."""

    id: int
    at: float
    who: str
    token: int | None
    action: str
    what: str


class Audit(BaseSchema):
    """Changes, newest first."""

    entries: list[AuditEntry]


@router.get("/whoami")
def whoami(who: Anyone, service: ServiceOf) -> WhoAmI:
    """Return who you are to the service."""
    found = service.people.organisations(who) if who.known else []
    return WhoAmI(
        known=who.known,
        name=who.name or None,
        scope=who.scope,
        operator=who.operator,
        organisations=[OrganisationSchema(name=n, role=r) for n, r in found],
        learnwares=Owned(**service.repositories.owned(who)),
    )


@router.post("/tokens/exchange", status_code=201)
def exchange(asked: Exchange, service: ServiceOf) -> TokenSchema:
    """Exchange a link's secret for a token; the link works once."""
    return TokenSchema.of(service.people.exchange(asked.link, name=asked.name, scope=asked.scope, days=asked.days))


@router.get("/tokens")
def list_tokens(who: Reader, service: ServiceOf) -> Tokens:
    """List your tokens."""
    return Tokens(tokens=[TokenSchema.of(t) for t in service.people.tokens(who)])


@router.post("/tokens", status_code=201)
def make_token(asked: TokenRequest, who: Writer, service: ServiceOf) -> TokenSchema:
    """Make a token of yours, up to the scope of the one that asks; with scope write, until that one expires."""
    return TokenSchema.of(service.people.make_token(who, name=asked.name, scope=asked.scope, days=asked.days))


@router.delete("/tokens/{token}", status_code=204)
def revoke_token(token: Annotated[int, Path(ge=1, le=1 << 62)], who: Writer, service: ServiceOf) -> None:
    """Revoke a token of yours, at once; its scope is at most that of the one that asks."""
    service.storage.reserve.spending(lambda: service.people.revoke_token(who, token))


@router.get("/users")
def list_users(who: Admin, service: ServiceOf) -> Owners:
    """List all users and organisations (operators)."""
    return Owners(owners=[OwnerSchema.of(o) for o in service.people.users(who)])


@router.post("/users", status_code=201)
def add_user(asked: UserRequest, who: Admin, service: ServiceOf) -> Invited:
    """Make a user, and the link by which they get their first token (operators)."""
    user = service.people.add_user(who, asked.name, operator=asked.operator, quota=asked.quota)
    return Invited(user=user.name, link=service.people.invite(who, user.name))


@router.post("/users/{name}/invite", status_code=201)
def invite(name: Owner, who: Admin, service: ServiceOf) -> Invited:
    """Make a new link for a user who has lost their tokens (operators)."""
    return Invited(user=name, link=service.people.invite(who, name))


@router.delete("/users/{name}", status_code=204)
def remove_user(name: Owner, who: Admin, service: ServiceOf) -> None:
    """Remove a user or organisation that owns no repository (operators)."""
    service.people.remove_user(who, name)


@router.put("/users/{name}/quota")
def set_quota(name: Owner, asked: QuotaRequest, who: Admin, service: ServiceOf) -> OwnerSchema:
    """Set an owner's quota (operators)."""
    return OwnerSchema.of(service.people.set_quota(who, name, asked.quota))


@router.post("/organisations", status_code=201)
def add_organisation(asked: OrganisationRequest, who: Admin, service: ServiceOf) -> OwnerSchema:
    """Make an organisation, which you administer."""
    return OwnerSchema.of(service.people.add_organisation(who, asked.name))


@router.get("/organisations/{name}/members")
def list_members(name: Owner, who: Reader, service: ServiceOf) -> Members:
    """List the members of an organisation of yours."""
    return Members(members=[OrganisationSchema(name=n, role=r) for n, r in service.people.members(who, name)])


@router.put("/organisations/{name}/members/{member}", status_code=204)
def set_member(name: Owner, member: Owner, asked: MemberRequest, who: Admin, service: ServiceOf) -> None:
    """Set or remove a member of an organisation that you administer."""
    service.people.set_member(who, name, member, asked.role)


@router.get("/audit")
def audit(
    who: Admin,
    service: ServiceOf,
    before: Annotated[int | None, Query(ge=1, le=1 << 62)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Audit:
    """List changes and who made them, newest first (operators)."""
    found = entries(service.database, who, before=before, limit=limit)
    return Audit(
        entries=[AuditEntry(id=e.id, at=e.at, who=e.who, token=e.token, action=e.action, what=e.what) for e in found]
    )
