"""The log of changes and who made them, written in the transaction that makes the change."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from learndock.errors import Forbidden
from learndock.service.database import Database
from learndock.service.principal import Principal
from learndock.service.tables import audit


@dataclass(frozen=True)
class Entry:
    """One change."""

    id: int
    at: float
    who: str
    token: int | None
    action: str
    what: str


def note(connection: Connection, who: Principal, action: str, what: str) -> None:
    """Log a change; ``what`` must not contain a secret."""
    connection.execute(insert(audit).values(at=time.time(), who=who.name, token=who.token, action=action, what=what))


def entries(database: Database, who: Principal, *, before: int | None = None, limit: int = 100) -> list[Entry]:
    """Return changes, newest first, with ids below ``before``.

    Raises:
        Forbidden: ``who`` is not an operator.
    """
    who.need("admin")
    if not who.operator:
        raise Forbidden("only an operator of this service may read its log", remedy="ask one")
    asked = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        asked = asked.where(audit.c.id < before)
    with database.read() as connection:
        return [Entry(e.id, e.at, e.who, e.token, e.action, e.what) for e in connection.execute(asked)]
