"""What cards say: tags and tasks to filter by. And what pushes left out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Take the step."""
    op.create_table(
        "cards",
        sa.Column("repository", _ID, nullable=False),
        sa.Column("commit", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("library", sa.String(length=200), nullable=True),
        sa.Column("pipeline", sa.String(length=200), nullable=True),
        sa.Column("found", sa.Text(), nullable=False),
        _to_repository("cards"),
        sa.PrimaryKeyConstraint("repository", name=op.f("cards_pkey")),
    )
    op.create_index(op.f("cards_pipeline"), "cards", ["pipeline"])
    op.create_table(
        "card_tags",
        sa.Column("repository", _ID, nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        _to_repository("card_tags"),
        sa.PrimaryKeyConstraint("repository", "key", name=op.f("card_tags_pkey")),
    )
    op.create_index(op.f("card_tags_key"), "card_tags", ["key"])
    op.create_table(
        "left_out",
        sa.Column("repository", _ID, nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        _to_repository("left_out"),
        sa.PrimaryKeyConstraint("repository", "path", name=op.f("left_out_pkey")),
    )


def _to_repository(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"{table}_repository_fkey")
    return sa.ForeignKeyConstraint(["repository"], ["repositories.id"], name=name, ondelete="CASCADE")
