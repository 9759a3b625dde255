"""The log of what was changed, by whom, written in the transaction that changes it."""

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
    """Write down what is being changed; no secret may be in ``what``."""
    connection.execute(insert(audit).values(at=time.time(), who=who.name, token=who.token, action=action, what=what))


def entries(database: Database, who: Principal, *, before: int | None = None, limit: int = 100) -> list[Entry]:
    """Changes, newest first, with ids below ``before``.

    Raises:
        Forbidden: ``who`` is no operator.
    """
    who.need("admin")
    if not who.operator:
        raise Forbidden("only an operator of this service may read its log", remedy="ask one")
    asked = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        asked = asked.where(audit.c.id < before)
    with database.read() as connection:
        return [Entry(e.id, e.at, e.who, e.token, e.action, e.what) for e in connection.execute(asked)]
