"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("who", sa.String(length=96), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=True),
        sa.Column("action", sa.String(length=48), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_pkey")),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("audit_at"), ["at"], unique=False)

    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("oid", sa.String(length=40), nullable=False),
        sa.Column("lease", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("blobs_pkey")),
    )
    op.create_table(
        "owners",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("key", sa.String(length=96), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("operator", sa.Boolean(), nullable=False),
        sa.Column("quota", sa.BigInteger(), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("owners_pkey")),
        sa.UniqueConstraint("key", name=op.f("owners_key_key")),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("secrets_pkey")),
    )
    op.create_table(
        "holdings",
        sa.Column("owner", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"], name=op.f("holdings_owner_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner", "sha256", name=op.f("holdings_pkey")),
    )
    op.create_table(
        "memberships",
        sa.Column("organisation", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("member", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.ForeignKeyConstraint(["member"], ["owners.id"], name=op.f("memberships_member_fkey"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["organisation"], ["owners.id"], name=op.f("memberships_organisation_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("organisation", "member", name=op.f("memberships_pkey")),
    )
    op.create_table(
        "repositories",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("owner", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("changed", sa.Float(), nullable=False),
        sa.Column("head", sa.String(length=40), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"], name=op.f("repositories_owner_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("repositories_pkey")),
        sa.UniqueConstraint("key", name=op.f("repositories_key_key")),
    )
    with op.batch_alter_table("repositories", schema=None) as batch_op:
        batch_op.create_index("repositories_owner", ["owner"], unique=False)

    op.create_table(
        "tokens",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("owner", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("scope", sa.String(length=8), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("once", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"], name=op.f("tokens_owner_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("tokens_pkey")),
        sa.UniqueConstraint("hash", name=op.f("tokens_hash_key")),
    )
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("tokens_owner"), ["owner"], unique=False)

    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("part_size", sa.BigInteger(), nullable=True),
        sa.Column("stored", sa.Boolean(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"], name=op.f("uploads_owner_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("uploads_pkey")),
    )
    with op.batch_alter_table("uploads", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("uploads_owner"), ["owner"], unique=False)

    op.create_table(
        "commits",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("repository", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("author", sa.String(length=96), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["repository"], ["repositories.id"], name=op.f("commits_repository_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("commits_pkey")),
        sa.UniqueConstraint("repository", "sequence", name=op.f("commits_repository_sequence_key")),
    )
    op.create_table(
        "parts",
        sa.Column("upload", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("etag", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["upload"], ["uploads.id"], name=op.f("parts_upload_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("upload", "number", name=op.f("parts_pkey")),
    )
    op.create_table(
        "tree",
        sa.Column("commit", sa.String(length=40), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["commit"], ["commits.id"], name=op.f("tree_commit_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("commit", "path", name=op.f("tree_pkey")),
    )
    with op.batch_alter_table("tree", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("tree_sha256"), ["sha256"], unique=False)
