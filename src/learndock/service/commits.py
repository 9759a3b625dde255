"""Trees and commits in their tables: the files of a commit, what a tree may be, and a new commit."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from learndock.errors import PackageError, QuotaExceeded
from learndock.service.announced import check_count
from learndock.service.changes import Commit, Repository
from learndock.service.holdings import Holdings
from learndock.service.principal import Principal
from learndock.service.tables import commits, owners, repositories, tree
from learndock.settings import Settings

#: The note of a head that was committed and not yet looked at.
UNCHECKED = "not yet checked"
#: path -> (SHA-256, size).
Files = Mapping[str, tuple[str, int]]


def files_of(connection: Connection, commit: str | None) -> dict[str, tuple[str, int]]:
    """Return the files of a commit; none for None."""
    if commit is None:
        return {}
    found = connection.execute(select(tree.c.path, tree.c.sha256, tree.c.size).where(tree.c.commit == commit))
    return {path: (sha256, size) for path, sha256, size in found}


def check_tree(
    connection: Connection, repository: Repository, files: Files, *, holdings: Holdings, settings: Settings
) -> None:
    """Check that a repository may have these files, path -> (SHA-256, size).

    Raises:
        PackageError: too many, two that differ only in case, or one that is a file and a folder.
        QuotaExceeded: more bytes than its owner may keep.
    """
    check_count(len(files), settings.max_files, repository.name)
    folded = {p.casefold() for p in files}
    if len(folded) != len(files):
        raise PackageError("two paths differ only in upper and lower case", remedy="rename one")
    folders = {"/".join(p.split("/")[:i]) for p in folded for i in range(1, p.count("/") + 1)}
    for path in sorted(folded & folders):
        raise PackageError("is a file and a folder", remedy="rename one", about=path)
    owner, allowed = connection.execute(
        select(owners.c.id, owners.c.quota).where(owners.c.key == repository.owner.casefold())
    ).one()
    allowed = settings.quota if allowed is None else allowed
    used, new = holdings.used(connection, owner), dict(files.values())
    known = set(
        connection.execute(
            select(tree.c.sha256)
            .join(commits, commits.c.id == tree.c.commit)
            .join(repositories, repositories.c.id == commits.c.repository)
            .where(repositories.c.owner == owner, tree.c.sha256.in_(new))
        ).scalars()
    )
    more = sum(size for sha256, size in new.items() if sha256 not in known)
    if used + more > allowed:
        raise QuotaExceeded(
            f"{repository.owner} stores {used} bytes, and {more} more would exceed the quota of {allowed}",
            remedy="delete something first, or ask the operator for a larger quota",
        )


def insert_commit(
    connection: Connection,
    repository: Repository,
    who: Principal,
    files: Files,
    *,
    title: str,
    body: str,
) -> Commit:
    """Make the files the new head of a repository."""
    last = connection.execute(
        select(func.coalesce(func.max(commits.c.sequence), 0)).where(commits.c.repository == repository.id)
    ).scalar_one()
    made = {
        "repository": repository.id,
        "sequence": int(last) + 1,
        "author": who.name,
        "title": title[:500],
        "body": body[:20_000],
        "created": time.time(),
    }
    text = json.dumps([made, repository.head, sorted(files.items())], sort_keys=True)
    commit = hashlib.sha256(text.encode()).hexdigest()[:40]
    connection.execute(insert(commits).values(id=commit, **made))
    rows = [{"commit": commit, "path": p, "sha256": sha256, "size": size} for p, (sha256, size) in files.items()]
    if rows:
        connection.execute(insert(tree), rows)
    connection.execute(
        update(repositories)
        .where(repositories.c.id == repository.id)
        .values(head=commit, changed=made["created"], note=UNCHECKED)
    )  # fmt: skip
    return commit_of(connection, commit)


def commit_of(connection: Connection, commit: str) -> Commit:
    """Return the commit with this id."""
    return to_commit(connection.execute(select(commits).where(commits.c.id == commit)).one())


def to_commit(row: Row[Any]) -> Commit:
    """Return a row of the table as a value."""
    return Commit(row.id, row.sequence, row.author, row.title, row.body, row.created, row.digest)
