"""Who is asking, and how far their token reaches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from learndock.errors import Forbidden, Unauthorized

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")


@dataclass(frozen=True)
class Principal:
    """A user with a token, or an anonymous client.

    ``owners`` are the names (without case) whose private repositories they may see and change: their own name and
    their organisations. ``administers`` are the organisations that they may change. An ``operator`` may make users
    and read the log of changes, but does not see private learnwares.
    """

    name: str = ""
    id: int = 0
    scope: Scope | None = None
    owners: frozenset[str] = frozenset()
    owner_ids: frozenset[int] = field(default=frozenset(), repr=False)
    administers: frozenset[str] = frozenset()
    operator: bool = False
    token: int = 0

    @property
    def known(self) -> bool:
        """Whether the client showed a token."""
        return self.scope is not None

    def need(self, scope: Scope) -> None:
        """Check that the token reaches as far as ``scope``.

        Raises:
            Unauthorized: there is no token.
            Forbidden: its scope is smaller.
        """
        if self.scope is None:
            raise Unauthorized("this needs a token", remedy="get one with `learndock login`")
        if SCOPES.index(self.scope) < SCOPES.index(scope):
            raise Forbidden(
                f"this token may {self.scope}, this needs {scope}", remedy="log in with a token of that scope"
            )

    def owns(self, owner: str) -> bool:
        """Return whether ``owner`` is this user, or an organisation of theirs."""
        return owner.casefold() in self.owners


NOBODY = Principal()
