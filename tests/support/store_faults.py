"""Mixed writes to a real service while its stores fail: nothing that was acknowledged may be lost.

    with site(place) as shop:          PostgreSQL, an S3 server, a proxy before each, and `learndock serve`
        shop.work(writes=1000)         writers and, beside them, one fault after the other
        shop.check()                   what was acknowledged is there, what was not is there completely or not at all

Shared by ``tests/http/test_store_faults.py``, which takes a few writes, and ``benchmarks/soak_stores.py``.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from learndock.package.manifest import Manifest
from learndock.service.service import open_home
from tests.support import engines
from tests.support.docking import make_learnware
from tests.support.faults import Faults, faults
from tests.support.processes import Serving, server_flags, settings_of
from tests.support.serving import Answer, Refused

API = "/api/v1"
#: Seconds after which a service must write again once its stores are back.
RECOVERS = 30.0
FAULTS = (
    "PostgreSQL restarted", "S3 answers 503", "S3 refuses connections", "S3 slow", "S3 cuts connections",
    "PostgreSQL cuts connections", "PostgreSQL slow", "PostgreSQL refuses connections",
)  # fmt: skip


@dataclass
class Known:
    """What a writer knows of one name: the values that each part may have; more than one where it was not told."""

    digest: set[str | None] = field(default_factory=lambda: {None})
    private: set[bool] = field(default_factory=lambda: {False})
    notes: set[str] = field(default_factory=set)


class Writer(threading.Thread):
    """One user with their own names, one write after the other, each tried again until it is answered."""

    def __init__(self, shop: Shop, user: str, number: int) -> None:
        super().__init__(daemon=True)
        self.shop, self.user, self.draw = shop, user, random.Random(number)
        self.token = shop.server.user(shop.operator, user)
        self.known: dict[str, Known] = {}
        self.plain = f"{user}/plain"
        self.failed: list[str] = []
        self.count = 0

    def run(self) -> None:
        try:
            self._tried(lambda: self._ask("POST", "/repositories", {"name": self.plain}), lambda _: None)
            while self.shop.next_write():
                self._one()
        except BaseException as error:
            self.failed.append(f"{self.user}: {type(error).__name__}: {error}")
            raise

    def _one(self) -> None:
        there = [n for n, k in self.known.items() if k.digest != {None}]
        verbs = ["publish"] if len(there) < 3 else ["publish", "version", "delete", *["commit"] * 2, *["privacy"] * 4]
        verb = self.draw.choice(verbs)
        self.count += 1
        if verb == "publish":
            name = f"{self.user}/m{self.count}"
            self._publish(name, Known())
        elif verb == "version":
            self._publish(self.draw.choice(there), None)
        elif verb == "privacy":
            name, private = self.draw.choice(there), self.draw.random() < 0.5
            known = self.known[name]
            known.private |= {private}
            self._tried(
                lambda: self._ask("PATCH", f"/repositories/{name}", {"private": private}),
                lambda _: setattr(known, "private", {private}),
            )
        elif verb == "delete":
            name = self.draw.choice(there)
            known = self.known[name]
            known.digest |= {None}
            self._tried(
                lambda: self._ask("DELETE", f"/learnwares/{name}"),
                lambda _: setattr(known, "digest", {None}),
                also=(404,),
            )
        else:
            self._commit()

    def _publish(self, name: str, new: Known | None) -> None:
        place = self.shop.place / "made" / f"{self.user}-{self.count}"
        folder = make_learnware(place, name, seed=self.count, numbers=50)
        manifest = Manifest.from_folder(folder)
        known = self.known.setdefault(name, new or Known())
        known.digest |= {manifest.digest}

        def published(_: Answer) -> None:
            known.digest = {manifest.digest}
            if new is not None:
                known.private = {False}

        self._tried(lambda: self.shop.server.publish(folder, self.token), published)

    def _commit(self) -> None:
        path, content = f"f{self.count}.txt", f"{self.user} {self.count}".encode()
        known = self.known.setdefault(self.plain, Known())

        def commit() -> Answer:
            sha256 = self.shop.server.upload(content, self.token)
            return self._ask("POST", f"/repositories/{self.plain}/commits", {"title": "x", "add": {path: sha256}})

        self._tried(commit, lambda _: known.notes.add(path))

    def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        return self.shop.server.ask(method, f"{API}{path}", body, token=self.token)

    def _tried(self, write: Callable[[], Answer], done: Callable[[Answer], object], also: tuple[int, ...] = ()) -> None:
        """Send a write until it is answered with success; every other answer must say when to try again."""
        until = time.monotonic() + 120
        while True:
            try:
                answer = write()
            except Refused as refused:
                answer = refused.answer
            except (OSError, http.client.HTTPException) as error:
                answer = Answer(0, {}, repr(error))
            self.shop.answers[answer.status] += 1
            if answer.status in (200, 201, 204, *also):
                done(answer)
                self.shop.done += 1
                return
            if answer.status == 0 and self.shop.killing:
                pass  # nobody knows whether it was done
            elif answer.status not in (429, 503):
                self.failed.append(f"{self.user}: {answer}")
            elif "retry-after" not in answer.headers:
                self.failed.append(f"{self.user}: no Retry-After: {answer}")
            if time.monotonic() > until:
                self.failed.append(f"{self.user}: not within two minutes: {answer}")
                return
            time.sleep(self.draw.uniform(0.05, 0.3))


@dataclass
class Stores:
    """A PostgreSQL, and the proxies before it and before an S3 server."""

    database: engines.Postgres
    to_database: Faults
    to_objects: Faults


@dataclass
class Shop:
    """A service, its stores, and what is done to them."""

    place: Path
    flags: tuple[str, ...]
    server: Serving
    #: What fails; None where the things of the service are in its folder.
    stores: Stores | None = None
    killing: bool = False
    operator: str = ""
    done: int = 0
    rounds: int = 0
    answers: collections.Counter[int] = field(default_factory=collections.Counter)
    recovered: dict[str, float] = field(default_factory=dict)
    writers: list[Writer] = field(default_factory=list)
    say: Callable[[str], object] = lambda _: None
    _left: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_write(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def work(
        self, writes: int, *, writers: int, seconds: float, rest: float = 1.0, kinds: Sequence[str] = FAULTS
    ) -> None:
        """Do ``writes`` writes, and beside them one fault after the other, each for ``seconds`` and at least once."""
        self._begin(writes, writers)
        while self.rounds < len(kinds) or any(w.is_alive() for w in self.writers):
            if self.rounds < len(kinds):
                with self._lock:  # there is something to do beside each fault
                    self._left = max(self._left, writers)
            self._one_fault(kinds[self.rounds % len(kinds)], seconds)
            time.sleep(rest)
            self.rounds += 1
        self._end()

    def _begin(self, writes: int, writers: int) -> None:
        self.operator = self.server.operator()
        self._left = writes
        self.writers = [Writer(self, f"user{n}", n) for n in range(writers)]
        for writer in self.writers:
            writer.start()

    def _end(self) -> None:
        for writer in self.writers:
            writer.join(timeout=180)
            assert not writer.is_alive()

    def kill(self, kills: int, *, writers: int, within: tuple[float, float], seed: int = 0) -> None:
        """Kill the server at random moments of mixed writes, and start it again at once."""
        draw, self.killing = random.Random(seed), True
        self._begin(1 << 30, writers)
        port = self.server.port
        for _ in range(kills):
            time.sleep(draw.uniform(*within))
            self.server.process.kill()
            self.server.process.wait()
            self.server = Serving(self.server.folder, *self.flags, port=port)
            before, begun = self.done, time.monotonic()
            while self.done == before:
                assert time.monotonic() - begun < RECOVERS, "nothing is written again"
                time.sleep(0.05)
            self.rounds += 1
            self.recovered["killed"] = max(self.recovered.get("killed", 0.0), round(time.monotonic() - begun, 1))
            self.say(f"killed {self.rounds:3d} times, {self.done:5d} writes")
        self._left = 0
        self._end()

    def _one_fault(self, name: str, seconds: float) -> None:
        assert self.stores is not None
        where = self.stores.to_objects if name.startswith("S3") else self.stores.to_database
        if name == "PostgreSQL restarted":
            self.stores.database.stop()
            time.sleep(seconds / 3)
            self.stores.database.start()
        else:
            kind = name.partition(" ")[2]
            where.fault = {"answers 503": "busy", "refuses connections": "refuse", "slow": "slow"}.get(kind, "cut")  # type: ignore[assignment]
            time.sleep(seconds)
            where.fault = "pass"
        begun = time.monotonic()
        while self.server.get(f"{API}/ready").status != 200:
            assert time.monotonic() - begun < RECOVERS, f"{name}: not ready again"
            time.sleep(0.1)
        before = self.done
        while self.done == before and any(w.is_alive() for w in self.writers):
            assert time.monotonic() - begun < RECOVERS, f"{name}: nothing is written again"
            time.sleep(0.05)
        self.recovered[name] = max(self.recovered.get(name, 0.0), round(time.monotonic() - begun, 1))
        self.say(f"{name:30s} {self.done:5d} writes, answers {dict(sorted(self.answers.items()))}")

    def check(self) -> None:
        """Everything that was acknowledged is there; what was not is there completely or not at all."""
        failed = [f for w in self.writers for f in w.failed]
        assert not failed, "\n".join([*failed[:10], *self.server.lines[-20:]])
        self._look(self.server)
        self.server.end()
        self.server = Serving(self.place / "again" if self.flags else self.server.folder, *self.flags)
        self.server.ready()
        self._look(self.server)
        self.server.end(signal.SIGTERM)
        folder = self.place / "looking" if self.flags else self.server.folder
        dock = open_home(settings_of(self.flags), folder, create=False)
        assert [p.message for p in dock.verify() if p.severity == "error"] == []

    def _look(self, server: Serving) -> None:
        for writer in self.writers:
            for name, known in writer.known.items():
                if name == writer.plain:
                    tree = server.get(f"{API}/repositories/{name}/tree/main", token=writer.token).body["files"]
                    assert known.notes <= {f["path"] for f in tree}, f"{name}: acknowledged and lost"
                    continue
                found = server.get(f"{API}/learnwares/{name}", token=writer.token)
                digest = found.body["digest"] if found.status == 200 else None
                assert digest in known.digest, f"{name}: {digest}, acknowledged was {known.digest}"
                shown = server.get(f"{API}/learnwares/{name}").status == 200
                if digest is not None:
                    assert (not shown) in known.private, f"{name}: shown {shown}, private {known.private}"
                    for file in found.body["manifest"]["files"]:
                        path = f"{API}/learnwares/{name}/files/{file['path']}"
                        head = server.ask("HEAD", path, token=writer.token)
                        if head.status != 200:
                            head = server.get(path, token=writer.token)
                        assert head.status == 200, f"{name}: {file['path']}: {head}"
                else:
                    assert not shown


@contextlib.contextmanager
def shop(place: Path) -> Iterator[Shop]:
    """A service on PostgreSQL, which syncs as in earnest, and an S3 server, each behind a proxy."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(engines.restartable_postgres(fsync="on"))
        s3 = stack.enter_context(engines.seaweed())
        to_database = stack.enter_context(faults(database.port, seed=1))
        to_objects = stack.enter_context(faults(int(s3.endpoint.rpartition(":")[2]), seed=2))
        url = f"postgresql://tests@127.0.0.1:{to_database.port}/postgres"
        flags = server_flags(url, f"http://127.0.0.1:{to_objects.port}")
        stores = Stores(database, to_database, to_objects)
        found = Shop(place, flags, Serving(place / "dock", *flags, port=engines.free_port()), stores)
        try:
            yield found
        finally:
            found.server.process.kill()
            found.server.process.wait()


@contextlib.contextmanager
def shop_in_a_folder(place: Path) -> Iterator[Shop]:
    """A service whose things are in its folder."""
    found = Shop(place, (), Serving(place / "dock", port=engines.free_port()))
    try:
        yield found
    finally:
        found.server.process.kill()
        found.server.process.wait()
