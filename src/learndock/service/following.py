"""Repositories of learnwares: their commits follow the versions of the dock (see ``versions``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, and_, delete, select, update

from learndock.dock.protocol import Record
from learndock.dock.storage.records import Row
from learndock.package.manifest import CARD
from learndock.service.changes import Changes, Commit, Repository
from learndock.service.commits import files_of
from learndock.service.principal import Principal
from learndock.service.receiver import Blob
from learndock.service.repositories import Repositories
from learndock.service.tables import commits, repositories, tree


class LearnwareRepositories(Repositories):
    """The repositories of a service, of which some have the versions of a learnware."""

    def published(self, repository: Repository) -> dict[str, str]:
        """Return digest -> the newest commit that has the files of that version."""
        asked = (
            select(commits.c.digest, commits.c.id)
            .where(commits.c.repository == repository.id, commits.c.digest.is_not(None))
            .order_by(commits.c.sequence)
        )
        with self._database.read() as connection:
            return {row.digest: row.id for row in connection.execute(asked)}

    def cards(self) -> dict[int, str]:
        """Return the SHA-256 of the card that the head of a repository has, by id."""
        asked = select(repositories.c.id, tree.c.sha256).join(
            tree, and_(tree.c.commit == repositories.c.head, tree.c.path == CARD)
        )
        with self._database.read() as connection:
            return {row.id: row.sha256 for row in connection.execute(asked)}

    def committed(self) -> dict[int, tuple[str | None, set[str]]]:
        """Return, by id of a repository with commits: the version that its head has, and all versions with a commit."""
        asked = select(repositories.c.id, commits.c.digest, repositories.c.head == commits.c.id).join(
            commits, commits.c.repository == repositories.c.id
        )
        heads: dict[int, str | None] = {}
        found: dict[int, set[str]] = {}
        with self._database.read() as connection:
            for repository, digest, is_head in connection.execute(asked):
                found.setdefault(repository, set()).update([] if digest is None else [digest])
                if is_head:
                    heads[repository] = digest
        return {repository: (heads.get(repository), digests) for repository, digests in found.items()}

    def follow(
        self, who: Principal, name: str, versions: Sequence[Record], trees: Mapping[str, Mapping[str, Blob]]
    ) -> bool:
        """Give a repository a commit for each of the dock's ``versions``, and make ``latest`` its head.

        ``trees`` has the files of the versions without a commit, and of the latest. Commits of versions that are not
        among ``versions`` go. Returns False where the dock has other versions now; nothing was changed then.

        Raises:
            NotFound, Unauthorized, Forbidden: see ``get``.
            PackageError, QuotaExceeded: see ``commit``.
        """
        digests = {r.digest for r in versions}
        latest = next(r for r in versions if r.version == r.latest)
        with self._database.write() as connection:
            repository = self._get(connection, who, name, write=True)
            with self._storage.read() as records:
                rows = records.versions(repository.name)
            if [(r.number, r.digest, r.latest) for r in rows] != [(r.version, r.digest, r.latest) for r in versions]:
                return False
            row = next(r for r in rows if r.number == r.latest)
            card = trees[latest.digest].get(CARD)
            if not has_card(row, None if card is None else card.sha256):
                return False
            known = connection.execute(
                select(commits.c.id, commits.c.digest).where(commits.c.repository == repository.id)
            )
            there = {commit: digest for commit, digest in known if digest is not None}
            missing = [r for r in versions if r.digest not in there.values() and r is not latest]
            shown = files_of(connection, repository.head).get(CARD, (None, 0))[0]
            if missing or there.get(repository.head or "") != latest.digest or not has_card(row, shown):
                missing.append(latest)
            for record in missing:
                changes = Changes(add=trees[record.digest], replace=True)
                made = self._commit(connection, who, repository, changes, title=f"Publish v{record.version}")
                repository = self._get(connection, who, name, write=True)
                connection.execute(update(commits).where(commits.c.id == made.id).values(digest=record.digest))
            gone = [commit for commit, digest in there.items() if digest not in digests]
            if gone:
                gone += self._with_files_of(connection, repository, gone)
            connection.execute(delete(commits).where(commits.c.id.in_(gone)))
            connection.execute(
                update(repositories).where(repositories.c.id == repository.id).values(digest=latest.digest, note=None)
            )
        self.mark_changed()
        return True

    @staticmethod
    def _with_files_of(connection: Connection, repository: Repository, gone: Sequence[str]) -> list[str]:
        """Return the commits of no version that have a file which, of all versions, only those of ``gone`` have.

        Clients push large files in commits of their own, before the manifest comes.
        """
        of = select(tree.c.sha256).join(commits, commits.c.id == tree.c.commit)
        of = of.where(commits.c.repository == repository.id, commits.c.digest.is_not(None))
        kept = of.where(commits.c.id.not_in(gone))
        asked = (
            select(commits.c.id)
            .join(tree, tree.c.commit == commits.c.id)
            .where(commits.c.repository == repository.id, commits.c.digest.is_(None))
            .where(tree.c.sha256.in_(of.where(commits.c.id.in_(gone))), tree.c.sha256.not_in(kept))
            .distinct()
        )
        return list(connection.execute(asked).scalars())

    def commit_published(self, who: Principal, name: str, files: Mapping[str, Blob], digest: str) -> Commit | None:
        """Make the files of the published learnware ``digest`` the head, and record that they are it.

        The files were checked before they were published (see ``check_tree``): what is published must be committed.

        Leases or the dock keep the blobs, so gc needs no lock here, and it is not checked who may refer to them.
        Returns None, and changes nothing, where another version is ``latest`` in the dock now (see ``follow``).

        Raises:
            NotFound, Unauthorized, Forbidden: see ``get``.
            PackageError, QuotaExceeded: see ``commit``.
        """
        who.need("write")
        with self._database.write() as connection:
            repository = self._get(connection, who, name, write=True)
            with self._storage.read() as records:
                row = records.row(repository.name)
            card = files.get(CARD)
            if row is None or row.digest != digest or not has_card(row, None if card is None else card.sha256):
                return None
            changes = Changes(add=files, replace=True)
            title = f"Publish v{row.number}"
            made = self._commit(connection, who, repository, changes, title=title, checked=True)
            self._set_publication(connection, repository, made, digest, None)
        self.mark_changed()
        return made

    def confirm(self, repository: Repository, commit: Commit, digest: str) -> bool:
        """Record that a commit has the files of the version ``digest``; False where that is not ``latest`` any more."""
        with self._database.write() as connection:
            with self._storage.read() as records:
                row = records.row(repository.name)
            shown = files_of(connection, commit.id).get(CARD, (None, 0))[0]
            self._set_publication(connection, repository, commit, digest, None)
        self.mark_changed()
        return row is not None and row.digest == digest and has_card(row, shown)


def has_card(row: Row, sha256: str | None) -> bool:
    """Whether the present card of a learnware is the one with this SHA-256, or where it has none, that is None."""
    card = json.loads(row.about).get("card")
    if card is None:  # beside the content; it may be in it (as JSON, because parsing a manifest takes longer)
        card = next((f for f in json.loads(row.manifest)["files"] if f["path"] == CARD), None)
    # A card that was emptied is a file of no bytes, which a repository does not have.
    return (None if card is None or not card["size"] else card["sha256"]) == sha256
