"""The service's own tables; ``migrations`` makes them, and a test compares the two.

The dock's records describe the learnwares. These tables have the people, and the mutable side: repositories of files
that change commit by commit.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

#: SQLite counts up only INTEGER keys.
_Id = BigInteger().with_variant(Integer, "sqlite")


def _key() -> Column[int]:
    return Column("id", _Id, primary_key=True, autoincrement=True)


#: Users and organisations share one namespace: ``key`` is the name without case.
owners = Table(
    "owners",
    metadata,
    _key(),
    Column("name", String(96), nullable=False),
    Column("key", String(96), nullable=False, unique=True),
    Column("kind", String(12), nullable=False),  # user, organisation
    Column("operator", Boolean, nullable=False),
    Column("quota", BigInteger),  # bytes; null: the setting's
    Column("created", Float, nullable=False),  # times are seconds since 1970
)

memberships = Table(
    "memberships",
    metadata,
    Column("organisation", ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True),
    Column("member", ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String(8), nullable=False),  # member, admin
)

tokens = Table(
    "tokens",
    metadata,
    _key(),
    Column("owner", ForeignKey("owners.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("hash", String(64), nullable=False, unique=True),  # SHA-256 of the token
    Column("name", String(96), nullable=False),
    Column("scope", String(8), nullable=False),  # read, write, admin
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("once", Boolean, nullable=False),  # good for one exchange only: the first administrator's link
)

repositories = Table(
    "repositories",
    metadata,
    _key(),
    Column("owner", ForeignKey("owners.id"), nullable=False),
    Column("name", String(96), nullable=False),
    Column("key", String(200), nullable=False, unique=True),  # owner/name without case
    Column("private", Boolean, nullable=False),
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
    Column("head", String(40)),
    Column("digest", String(64)),  # the version that is published in the dock
    Column("note", Text),  # why the head is no learnware
    Index("repositories_owner", "owner"),
)

commits = Table(
    "commits",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("repository", ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("author", String(96), nullable=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("digest", String(64)),  # the learnware that its tree is, if it is one
    UniqueConstraint("repository", "sequence"),
)

tree = Table(
    "tree",
    metadata,
    Column("commit", ForeignKey("commits.id", ondelete="CASCADE"), primary_key=True),
    Column("path", String(512), primary_key=True),
    Column("sha256", String(64), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
)

#: Bytes that came through the service: what other clients want to know of them, and until when they stay uncommitted.
blobs = Table(
    "blobs",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("oid", String(40), nullable=False),  # SHA-1 of the git blob
    Column("lease", Float, nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", ForeignKey("owners.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("part_size", BigInteger),  # null: one stream that grows
    Column("stored", Boolean, nullable=False),
    Column("expires", Float, nullable=False),
)

parts = Table(
    "parts",
    metadata,
    Column("upload", ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("etag", String(64), nullable=False),
)

#: Who uploaded which blob: an owner may commit a blob that they uploaded, or that is in a tree they may read.
holdings = Table(
    "holdings",
    metadata,
    Column("owner", ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("expires", Float, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    _key(),
    Column("at", Float, nullable=False, index=True),
    Column("who", String(96), nullable=False),
    Column("token", BigInteger),
    Column("action", String(48), nullable=False),
    Column("what", Text, nullable=False),
)

#: One row, "visibility": a number that grows with each change of what there is or who may see it. All processes of a
#: service look at it (see ``Database.change``).
changes = Table(
    "changes",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("number", BigInteger, nullable=False),
)

#: What the head of a repository says of itself (see ``metadata``), read once per commit.
cards = Table(
    "cards",
    metadata,
    Column("repository", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("commit", String(40), nullable=False),  # the head that was read
    Column("digest", String(64)),  # the learnware that was published then
    Column("library", String(200)),
    Column("pipeline", String(200), index=True),
    Column("found", Text, nullable=False),  # JSON: tags, front matter, configuration, why a card cannot be read
)

card_tags = Table(
    "card_tags",
    metadata,
    Column("repository", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(200), primary_key=True, index=True),  # the tag without case
)

#: Files that pushes left out, because they are the state of a training run.
left_out = Table(
    "left_out",
    metadata,
    Column("repository", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("path", String(512), primary_key=True),
)

#: Names that a repository had before: they lead to it, and no other repository gets them while it is there.
former_names = Table(
    "former_names",
    metadata,
    Column("key", String(200), primary_key=True),  # owner/name without case
    Column("name", String(200), nullable=False),
    Column("repository", ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False, index=True),
)

#: One row: the key that signs short-lived addresses.
secrets = Table("secrets", metadata, Column("name", String(32), primary_key=True), Column("value", LargeBinary))
