"""Who is asking, and how far their token reaches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from learndock.errors import Forbidden, Unauthorized

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")


@dataclass(frozen=True)
class Principal:
    """Nobody, or a user with a token.

    ``owners`` are the names (without case) whose private things they may see and change: their own, and those of
    their organisations. ``administers`` are the organisations that they may change. An ``operator`` keeps the
    service: may make users and see the audit log, but sees no private learnware for that.
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
        """Whether a token was shown."""
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
        """Whether the things of ``owner`` are theirs, or their organisation's."""
        return owner.casefold() in self.owners


NOBODY = Principal()
