"""What a service does by itself: finish what a killed process left, run gc, and hash all bytes again periodically."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Row, and_, delete, exists, select

from learndock.dock.protocol import GcResult
from learndock.dock.storage.reserve import LEAST
from learndock.errors import LearndockError, NotFound
from learndock.files import CHUNK
from learndock.service.commits import UNCHECKED
from learndock.service.following import has_card
from learndock.service.principal import Principal
from learndock.service.repositories import BEGUN
from learndock.service.service import Service
from learndock.service.tables import blobs, owners, repositories, tree

log = logging.getLogger("learndock.upkeep")

_OWNED = (
    select(repositories, owners.c.name.label("owner_name"))
    .join(owners, owners.c.id == repositories.c.owner)
    .order_by(repositories.c.id)
)


class Upkeep:
    """The periodic work of a service; it runs beside requests."""

    def __init__(self, service: Service) -> None:
        self._service = service
        #: SHA-256 of the blobs that the last scrub found damaged.
        self.damaged: set[str] = set()
        #: Bytes that were hashed again, and blobs that were deleted, since the start.
        self.scrubbed = self.collected = 0

    def reconcile(self) -> int:
        """Finish what was committed and not published, or published and not committed; returns how many."""
        service = self._service
        done = service.moves.finish()
        with service.database.read() as connection:
            rows = connection.execute(_OWNED).all()
        published: dict[str, set[str]] = {}
        latest: dict[str, str] = {}
        for record in service.dock.records(every=True):
            published.setdefault(record.name, set()).add(record.digest)
            if record.version == record.latest:
                latest[record.name] = record.digest
        committed, cards = service.repositories.committed(), service.repositories.cards()
        begun = service.moves.begun()
        with service.storage.read() as records:
            shown = {row.name: row for row in records.rows()}
        for row in rows:
            name, owner = f"{row.owner_name}/{row.name}", _owner(row)
            try:
                repository = service.repositories.get(owner, name)
                if (repository.head, repository.digest, repository.note) != (row.head, row.digest, row.note):
                    continue  # a request is at it: it began before, and ended after, the rows were read
                if row.id in begun:
                    continue  # the dock did not move it yet, so that its versions are under another name
                if row.note == UNCHECKED and (name not in latest or service.is_head(owner, name, latest[name])):
                    service.publish(repository, service.repositories.resolve(repository))
                elif name in latest and (
                    committed.get(row.id) != (latest[name], published[name])
                    or (name in shown and not has_card(shown[name], cards.get(row.id)))
                ):
                    service.versions.in_step(owner, name)
                elif name not in latest and row.digest is not None:
                    # Taken out of the dock; its repository was to follow.
                    if not service.moves.forget(owner, repository):
                        continue
                else:
                    continue
                done += 1
            except LearndockError as error:
                log.error("cannot be finished", extra={"error": f"{name}: {error}"})
        return done

    def collect(self) -> GcResult:
        """Delete expired uploads, and blobs that no learnware, commit or lease refers to.

        Also empty repositories whose learnware never came: its uploads have expired.
        """
        service = self._service
        service.storage.reserve.spending(service.uploads.expire)
        service.xet.expire()
        service.storage.reserve.spending(self._forget_begun)
        found = service.dock.gc()
        self.collected += found.blobs
        now = time.time()
        # A row without its blob may be one whose blob is on its way: only those whose lease is over may go.
        over = and_(blobs.c.lease < now, ~exists().where(tree.c.sha256 == blobs.c.sha256))
        with service.database.read() as connection:
            rows = list(connection.execute(select(blobs.c.sha256).where(over)).scalars())
        gone = [s for s in rows if not service.storage.blobs.has(s)]
        with service.database.write() as connection:
            for start in range(0, len(gone), 500):
                connection.execute(delete(blobs).where(blobs.c.sha256.in_(gone[start : start + 500]), over))
        return found

    def _forget_begun(self) -> None:
        service = self._service
        over = time.time() - service.settings.upload_hours * 3600
        begun = _OWNED.where(repositories.c.note == BEGUN, repositories.c.head.is_(None), repositories.c.created < over)
        with service.database.read() as connection:
            rows = connection.execute(begun).all()
        for row in rows:
            name = f"{row.owner_name}/{row.name}"
            # One that the dock has is finished by ``reconcile``, and hidden by its repository until then.
            with contextlib.suppress(NotFound):  # its owner was first
                service.moves.forget(_owner(row), service.repositories.get(_owner(row), name))

    def scrub(self, *, wait: Callable[[float], object] = lambda _: None, seconds: float = 0.0) -> set[str]:
        """Hash every blob once, spread over ``seconds``; returns the damaged ones. ``wait`` sleeps."""
        store = self._service.storage.blobs
        digests = list(store.digests())
        found: set[str] = set()
        for sha256 in digests:
            with contextlib.suppress(NotFound):  # gc deleted it
                if not self._sound(sha256):
                    found.add(sha256)
                    log.error("damaged blob; restore it from a backup, or let its owner upload it again",
                              extra={"blob": sha256})  # fmt: skip
            if wait(seconds / max(1, len(digests))):
                break
        self.damaged = found
        return found

    def _sound(self, sha256: str) -> bool:
        hasher = hashlib.sha256()
        with self._service.storage.errors(), self._service.storage.blobs.open(sha256) as stream:
            while piece := stream.read(CHUNK):
                hasher.update(piece)
                self.scrubbed += len(piece)
        return hasher.hexdigest() == sha256

    def run(self, stop: threading.Event) -> None:
        """Do all of it at its times until ``stop`` is set."""
        settings = self._service.settings
        self._service.storage.reserve.keep()
        self._guarded("reconcile", self.reconcile)
        chores = [
            threading.Thread(target=self._repeat, args=(stop, hours, name, chore), daemon=True)
            for hours, name, chore in (
                (settings.gc_hours, "collect", self.collect),
                (settings.scrub_hours, "scrub", lambda: self.scrub(
                    wait=stop.wait, seconds=settings.scrub_hours * 3600)),
            )
            if hours > 0
        ]  # fmt: skip
        for chore in chores:
            chore.start()
        self._keep_reserve(stop)
        for chore in chores:
            chore.join(timeout=5)

    def _keep_reserve(self, stop: threading.Event) -> None:
        """Keep room back for deletions; where it was spent, or there is none, make some by collecting."""
        reserve, again, pause = self._service.storage.reserve, 0.0, 10.0
        while True:
            kept = reserve.keep() and reserve.room >= LEAST
            late = not kept and time.monotonic() >= again
            if late:
                log.error("the disk is full: nothing can be added")
                again, pause = time.monotonic() + pause, min(300.0, 2 * pause)
            if late or reserve.freed.is_set():
                reserve.freed.clear()
                self._guarded("collect", self.collect)
            if kept:
                pause = 10.0
            if stop.wait(2):
                return

    def _repeat(self, stop: threading.Event, hours: float, name: str, chore: Callable[[], object]) -> None:
        # Not at once: the start of a service should answer soon.
        while not stop.wait(60 if name == "scrub" else hours * 3600):
            self._guarded(name, chore)

    def _guarded(self, name: str, chore: Callable[[], object]) -> None:
        try:
            chore()
        except LearndockError as error:
            log.error("%s failed; it will be tried again", name, extra={"error": str(error)})


def _owner(row: Row[Any]) -> Principal:
    """Return the principal that may do everything with a repository: its owner."""
    return Principal(
        *(row.owner_name, row.owner, "admin"),
        owners=frozenset({row.owner_name.casefold()}),
        owner_ids=frozenset({row.owner}),
    )
