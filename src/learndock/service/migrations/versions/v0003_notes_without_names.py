"""Notes of repositories named other owners' learnwares, which may have become private since: the names go."""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

#: The one sentence that named another's learnware (see ``dock.gate``).
_NAMED = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(?= \(cosine )")


def upgrade() -> None:
    """Take the step."""
    repositories = sa.table("repositories", sa.column("id", sa.BigInteger), sa.column("note", sa.Text))
    connection = op.get_bind()
    asked = sa.select(repositories.c.id, repositories.c.note).where(repositories.c.note.contains(" (cosine "))
    for number, note in connection.execute(asked).all():
        kept = _NAMED.sub("another owner's learnware", note)
        connection.execute(sa.update(repositories).where(repositories.c.id == number).values(note=kept))
