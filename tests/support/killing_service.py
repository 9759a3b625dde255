"""What a service does to the disk, call by call: killed at each, and what the next start makes of it.

Shared by ``test_service_crash.py``, which takes a sample, and ``benchmarks/kill_points_service.py``, which takes all.
The functions are those that the HTTP routes call, in their order, in one thread: nothing else of a service writes.
"""

from __future__ import annotations

import collections
import contextlib
import mmap
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from learndock.dock.admission import Admitted, admit
from learndock.dock.storage.gc import referenced
from learndock.errors import Conflict, LearndockError, NotFound
from learndock.files import sha256_bytes
from learndock.package.manifest import MANIFEST, Manifest
from learndock.package.safety import check_files
from learndock.service import database as database_module
from learndock.service.backup import backup, restore
from learndock.service.changes import Changes
from learndock.service.commits import UNCHECKED
from learndock.service.principal import NOBODY, Principal
from learndock.service.receiver import Blob
from learndock.service.service import Service, open_service
from learndock.service.upkeep import Upkeep
from learndock.service.uploads import MIN_PART
from learndock.settings import Settings
from tests.support.docking import make_learnware
from tests.support.killing import CALLS, count_calls, run_traced

SETTINGS = Settings()
#: What a reader sees: of each repository with files its name, is it private, its version, its files.
State = tuple[tuple[str, bool, str | None, tuple[tuple[str, str], ...]], ...]

#: A step that a later learndock might bring: SQLite makes the table anew, others refer to it.
STEP = '''"""Another column."""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", HEAD, None, None


def upgrade() -> None:
    with op.batch_alter_table("repositories", recreate="always") as table:
        table.add_column(sa.Column("stars", sa.Integer(), nullable=False, server_default="0"))
'''


class Here:
    """Looks at strangers' files in this process: the one apart takes a second to start, and writes nothing."""

    def check_files(self, folder: Path) -> None:
        check_files(folder, complete=False)

    def check_learnware(self, folder: Path) -> None:
        admit(folder)

    def admit(self, folder: Path) -> Admitted:
        return admit(folder)

    def close(self) -> None:
        """Nothing is open."""


class Told:
    """How many steps were acknowledged, told without a call of the system: it outlives who is killed."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    def step(self) -> None:
        self._memory[0] += 1

    def reset(self) -> None:
        self._memory[0] = 0

    @property
    def steps(self) -> int:
        return self._memory[0]


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Service]:
    service = open_service(SETTINGS, folder)
    service.inspector = here = Here()  # type: ignore[assignment]
    service.dock.admit = here.admit
    try:
        yield service
    finally:
        service.close()


# -- the service that everything is done to ------------------------------------------------------------------


@dataclass(frozen=True)
class Small:
    """A folder with a served dock, a backup of it, learnwares that are not in it, and the one who owns all."""

    folder: Path
    ada: Principal

    @property
    def new(self) -> Path:
        return self.folder / "new"


def make_small(folder: Path) -> Small:
    """A private learnware and a public one, a plain model, and what expires: for each verb something to do."""
    with opened(folder / "dock") as service:
        link = service.people.first_link()
        boss = service.people.principal(str(service.people.exchange(str(link), name="t", scope="admin").secret))
        service.people.add_user(boss, "ada")
        token = service.people.exchange(service.people.invite(boss, "ada"), name="t", scope="write")
        small = Small(folder, service.people.principal(str(token.secret)))
        for name in ("kept", "gone", "old"):
            publish(small, service, make_learnware(folder / name, f"ada/{name}"), private=name == "kept")
        service.delete(small.ada, "ada/old")
        service.repositories.create(small.ada, "ada/plain")
        add = {name: service.uploads.put(small.ada, name.encode()) for name in ("README.md", "notes.txt")}
        service.commit(small.ada, "ada/plain", Changes(add=add), title="first")
    make_learnware(folder / "new", "ada/new")
    make_learnware(folder / "over", "ada/plain")
    expire(folder / "dock")
    backup(SETTINGS, folder / "dock", folder / "saved")
    return small


def prepare_collect(small: Small, place: Path) -> None:
    """Something of everything that time takes away."""
    with opened(place / "dock") as service:
        uploads = service.uploads
        for content in (b"one", b"two"):
            uploads.put(small.ada, content)  # blobs of nobody
        for content in (b"begun", b"half sent"):
            begun = uploads.begin(small.ada, sha256_bytes(content), len(content))
            with uploads.receive(small.ada, begun, offset=0) as receiver:
                receiver.write(content[:3])
        begun = uploads.begin(small.ada, sha256_bytes(b"x" * 9), 9, part_size=MIN_PART)
        with uploads.receive_part(small.ada, begun, 1) as receiver:
            receiver.write(b"x" * 9)
        service.delete(small.ada, "ada/gone")
    expire(place / "dock")


def prepare_finish(small: Small, place: Path) -> None:
    """What killed processes leave: a head that was not looked at, a learnware without its commit, half a deletion."""
    with opened(place / "dock") as service:
        for path in (small.folder / "over", small.new):
            send_all(small, service, path, lambda: None)
        files = Manifest.from_folder(small.folder / "over").files
        add = {f.path: service.holdings.blob(small.ada, f.sha256) for f in files}
        add[MANIFEST] = service.uploads.put(small.ada, (small.folder / "over" / MANIFEST).read_bytes())
        service.repositories.commit(small.ada, "ada/plain", Changes(add=add, delete=["notes.txt"]), title="a learnware")
        service.repositories.create(small.ada, "ada/new", private=True)
        service.dock.add(small.new)
        service.dock.remove("ada/gone")


def expire(folder: Path) -> None:
    """Let the time of everything that has one be over."""
    with contextlib.closing(sqlite3.connect(folder / "service.sqlite", isolation_level=None)) as database:
        for change in ("uploads SET expires", "holdings SET expires", "blobs SET lease", "repositories SET created"):
            database.execute(f"UPDATE {change} = 1.0")
    for file in folder.glob(".*.part"):
        os.utime(file, (1, 1))


# -- what clients do -----------------------------------------------------------------------------------------


def send(small: Small, service: Service, content: bytes, *, parts: bool = False) -> None:
    """Upload bytes as ``transfer`` does: on from where an attempt before broke off, in two requests."""
    uploads, who, sha256 = service.uploads, small.ada, sha256_bytes(content)
    there = [u for u in uploads.unfinished(who, sha256, len(content)) if u.part_size is None and not parts]
    found = there[0] if there else uploads.begin(who, sha256, len(content), part_size=MIN_PART if parts else None)
    if parts and not found.stored:
        with uploads.receive_part(who, found, 1) as receiver:
            receiver.write(content)
        found = uploads.complete(who, found)
    while not found.stored:
        found = uploads.find(who, found.id)
        middle = len(content) // 2
        until = middle if found.offset < middle else len(content)
        with uploads.receive(who, found, offset=found.offset) as receiver:
            receiver.write(content[found.offset : until])
        found = uploads.finish(who, found)


def send_all(small: Small, service: Service, folder: Path, told: Callable[[], None]) -> None:
    for file in Manifest.from_folder(folder).files:
        send(small, service, (folder / file.path).read_bytes(), parts=file.path.endswith(".safetensors"))
        told()


def publish(
    small: Small, service: Service, folder: Path, told: Callable[[], None] = lambda: None, *, private: bool = False
) -> None:
    """What ``learndock add`` asks of a service."""
    send_all(small, service, folder, told)
    service.add(small.ada, (folder / MANIFEST).read_bytes(), private=private)


def push(small: Small, service: Service, folder: Path, told: Callable[[], None]) -> None:
    """What the hub's tools ask: a repository, large files, then a commit with the small ones in it."""
    with contextlib.suppress(Conflict):
        service.repositories.create(small.ada, "ada/new", private=True)
    told()
    add: dict[str, Blob] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content, name = path.read_bytes(), path.relative_to(folder).as_posix()
        if path.suffix == ".safetensors":
            send(small, service, content)
            told()
            add[name] = service.holdings.blob(small.ada, sha256_bytes(content))
        else:
            add[name] = service.uploads.put_pieces(small.ada, len(content), lambda content=content: iter((content,)))  # type: ignore[misc]
    service.commit(small.ada, "ada/new", Changes(add=add), title="push")


# -- looking -------------------------------------------------------------------------------------------------


def look(small: Small, folder: Path, also: Callable[[Service], object] = lambda _: None) -> State:
    """Start the service that a killed process left: all that it has is whole, and its parts agree."""
    with opened(folder) as service:
        Upkeep(service).reconcile()
        also(service)
        return seen(small, service)


def seen(small: Small, service: Service) -> State:
    assert [p for p in service.dock.verify() if p.severity == "error"] == []
    assert Upkeep(service).scrub() == set()
    records = {r.name: r for r in service.catalogue.records(small.ada)}
    public = {r.name for r in service.catalogue.records(NOBODY)}
    assert set(records) == {r.name for r in service.dock.records()}
    found, shown = [], set()
    for repository in service.repositories.find(small.ada, limit=1000):
        record = records.pop(repository.name, None)
        if repository.head is None:
            assert (repository.digest, record) == (None, None), f"{repository.name}: a learnware without files"
            continue
        assert repository.note != UNCHECKED
        head = service.repositories.resolve(repository)
        files = {path: entry.sha256 for path, entry in service.repositories.tree(head).items()}
        if record is None:
            assert repository.digest is None, f"{repository.name}: the dock does not have it"
        else:
            assert repository.digest == record.digest == head.digest, f"{repository.name}: another version"
            listed = {f.path: f.sha256 for f in record.manifest.files}
            assert files == {**listed, MANIFEST: files[MANIFEST]}, f"{repository.name}: other files than the learnware"
        assert all(service.storage.blobs.has(sha256) for sha256 in files.values())
        if record is not None and not repository.private:
            shown.add(repository.name)
        found.append((repository.name, repository.private, repository.digest, tuple(sorted(files.items()))))
    assert records == {}, "learnwares that belong to nobody"
    assert public == shown, "seen by all"
    return tuple(found)


def clear_away(small: Small, folder: Path) -> State:
    """Collect, once the time of everything is over: nothing stays that nobody refers to. Returns what does."""
    with contextlib.closing(sqlite3.connect(folder / "service.sqlite")) as database:
        late = time.time() + SETTINGS.upload_hours * 3600 + 60
        for column, table in (("expires", "uploads"), ("expires", "holdings"), ("lease", "blobs")):
            (last,) = database.execute(f"SELECT max({column}) FROM {table}").fetchone()
            assert last is None or last < late, f"{table}: kept for ever"
    expire(folder)
    with opened(folder) as service:
        Upkeep(service).collect()
        needed = referenced(service.storage) | service.repositories.referred()
        assert set(service.storage.blobs.digests()) == needed, "blobs of nobody"
        with service.database.read() as connection:

            def count(query: str) -> Any:
                return connection.exec_driver_sql(query).scalar()

            assert count("SELECT count(*) FROM uploads") == count("SELECT count(*) FROM parts") == 0
            assert count("SELECT count(*) FROM holdings") == 0
            assert count("SELECT count(*) FROM blobs WHERE sha256 NOT IN (SELECT sha256 FROM tree)") == 0
            assert count("SELECT count(*) FROM repositories WHERE head IS NULL AND note IS NOT NULL") == 0
        state = seen(small, service)
    check_folder(folder)
    return state


def check_folder(folder: Path) -> None:
    """Nothing lies there but what a dock has."""
    database = (folder / "records.sqlite").resolve().name
    known = {"blobs", "collecting", "dock.json", "learnwares", "leases", "lock", "records.sqlite", "service.json"}
    known |= {"service.sqlite", "staging", "uploads", database}
    known |= {f"{name}-{part}" for name in (database, "service.sqlite") for part in ("wal", "shm")}
    assert {p.name for p in folder.iterdir()} <= known, sorted({p.name for p in folder.iterdir()} - known)
    for part in ("staging", "uploads", "leases"):
        assert not [p for p in (folder / part).rglob("*") if p.is_file()], f"something is left in {part}"
    assert not list((folder / "learnwares").glob("*/.*"))


# -- the verbs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verb:
    """``work`` is killed. ``check`` looks at what it left, does what is missing, and raises where something is wrong.

    ``check`` gets what was before and what comes of it, how many steps were acknowledged, and whether all.
    """

    work: Callable[[Small, Path, Callable[[], None]], object]
    check: Callable[[Small, Path, State, State, int, bool], None]
    prepare: Callable[[Small, Path], object] = lambda small, place: None
    around: Callable[[Small], contextlib.AbstractContextManager[object]] = lambda small: contextlib.nullcontext()
    changing: bool = True


def _serving(do: Callable[[Small, Service, Callable[[], None]], object]) -> Callable[..., object]:
    def work(small: Small, place: Path, told: Callable[[], None]) -> None:
        with opened(place / "dock") as service:
            do(small, service, told)

    return work


def _whole_or_not(
    work: Callable[..., object], acknowledged: Callable[[Small, Service, int], object] = lambda *_: None
) -> Callable[..., None]:
    def check(small: Small, place: Path, before: State, after: State, steps: int, done: bool) -> None:
        dock = place / "dock"
        there = look(small, dock, lambda service: acknowledged(small, service, steps))
        assert there in (before, after), "neither before nor after"
        assert there == after or not done, "acknowledged and lost"
        if there != after or before == after:
            work(small, place, lambda: None)
            assert look(small, dock) == after, "done again, it is something else"
        assert clear_away(small, dock) == after

    return check


def _sent(folder: str) -> Callable[[Small, Service, int], None]:
    def acknowledged(small: Small, service: Service, steps: int) -> None:
        for file in Manifest.from_folder(small.folder / folder).files[:steps]:
            service.holdings.blob(small.ada, file.sha256)

    return acknowledged


def _pushed(small: Small, service: Service, steps: int) -> None:
    if steps >= 1:
        service.repositories.get(small.ada, "ada/new")
    if steps >= 2:
        service.holdings.blob(small.ada, sha256_bytes((small.new / "model.safetensors").read_bytes()))


def _kept(folder: str, **private: bool) -> Verb:
    work = _serving(lambda small, service, told: publish(small, service, small.folder / folder, told, **private))
    return Verb(work, _whole_or_not(work, _sent(folder)))


def _of(do: Callable[[Small, Service, Callable[[], None]], object], *more: Any, **options: Any) -> Verb:
    work = _serving(do)
    return Verb(work, _whole_or_not(work, *more), **options)


def _delete(small: Small, service: Service, told: object) -> None:
    with contextlib.suppress(NotFound):
        service.delete(small.ada, "ada/gone")


def _start(small: Small, place: Path, told: object) -> None:
    with opened(place / "first") as service:
        Upkeep(service).reconcile()
        service.people.first_link()


def _started(small: Small, place: Path, before: State, after: State, steps: int, done: bool) -> None:
    dock = place / "first"
    assert look(small, dock) == ()
    with opened(dock) as service:
        link = service.people.first_link()
        assert link is not None
        boss = service.people.principal(str(service.people.exchange(link, name="t", scope="admin").secret))
        service.people.add_user(boss, "ada")
    assert clear_away(small, dock) == ()


@contextlib.contextmanager
def stepping(small: Small) -> Iterator[None]:
    """A learndock that has one step more."""
    steps, head = database_module.MIGRATIONS, database_module.HEAD
    folder = small.folder / "migrations"
    if not folder.exists():
        shutil.copytree(steps, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "v9999_stars.py").write_text(STEP.replace("HEAD", f'"{head}"'))
    database_module.MIGRATIONS, database_module.HEAD = folder, "9999"
    try:
        yield
    finally:
        database_module.MIGRATIONS, database_module.HEAD = steps, head


def _stepped(small: Small, place: Path, before: State, after: State, steps: int, done: bool) -> None:
    file = place / "dock" / "service.sqlite"

    def count() -> list[tuple[str, Any]]:
        """Rows of all tables that are in both."""
        tables = ("audit", "blobs", "commits", "owners", "repositories", "tokens", "tree")
        return [(name, _ask(file, f"SELECT count(*) FROM {name}")) for name in tables]

    rows, version = count(), _ask(file, "SELECT version_num FROM alembic_version")
    assert version == "9999" or not done
    assert ("stars" in str(_ask(file, "SELECT sql FROM sqlite_master WHERE name = 'repositories'"))) == (
        version == "9999"
    )
    assert look(small, place / "dock") == before == after
    assert _ask(file, "SELECT version_num FROM alembic_version") == "9999"
    assert count() == rows
    assert _ask(file, "PRAGMA foreign_key_check") is None
    assert clear_away(small, place / "dock") == after


def _ask(file: Path, query: str) -> object:
    with contextlib.closing(sqlite3.connect(file)) as database:
        row = database.execute(query).fetchone()
    return None if row is None else row[0]


def _backup(small: Small, place: Path, told: object) -> None:
    backup(SETTINGS, place / "dock", place / "out")


def _backed_up(small: Small, place: Path, before: State, after: State, steps: int, done: bool) -> None:
    out = place / "out"
    assert look(small, place / "dock") == before, "the source"
    whole = (out / "dock.json").exists()
    assert whole or not done, "acknowledged and not whole"
    if not whole:
        assert _refused(lambda: restore(SETTINGS, out, place / "from half"), "dock")
        assert not (place / "from half").exists()
        if _refused(lambda: _backup(small, place, None), "an unfinished backup; if none is running, remove it"):
            shutil.rmtree(out)
            _backup(small, place, None)
    restore(SETTINGS, out, place / "again")
    assert look(small, place / "again") == look(small, out) == before
    assert clear_away(small, place / "dock") == clear_away(small, out) == before


def _refused(do: Callable[[], object], words: str) -> bool:
    """Whether it is refused; then for that reason, and with that remedy."""
    try:
        do()
    except LearndockError as error:
        message = str(error)
    else:
        return False
    assert words in message, message
    return True


def _restore(small: Small, place: Path, told: object) -> None:
    restore(SETTINGS, small.folder / "saved", place / "again")


def _restored(small: Small, place: Path, before: State, after: State, steps: int, done: bool) -> None:
    again = place / "again"
    half = again.exists() and _refused(lambda: look(small, again), "run `learndock restore` again")
    there = look(small, again) if again.exists() and not half else ()
    assert there in ((), before), "half is seen"
    assert there == before or not done
    if there != before:
        _restore(small, place, None)
    assert look(small, again) == before
    assert clear_away(small, again) == before


VERBS = {
    "first start": Verb(_start, _started, changing=False),
    "publish": _kept("new", private=True),
    "publish over files": _kept("over"),
    "push": _of(lambda small, service, told: push(small, service, small.new, told), _pushed),
    "delete": _of(_delete),
    "finish": _of(lambda small, service, told: Upkeep(service).reconcile(), prepare=prepare_finish, changing=False),
    "collect": _of(
        lambda small, service, told: Upkeep(service).collect(), prepare=prepare_collect, changing=False
    ),
    "migrate": Verb(_serving(lambda small, service, told: None), _stepped, around=stepping, changing=False),
    "backup": Verb(_backup, _backed_up, changing=False),
    "restore": Verb(_restore, _restored, changing=False),
}  # fmt: skip


# -- killing -------------------------------------------------------------------------------------------------


@dataclass
class Killer:
    """One verb, done to copies of one small service in ``place``; knows after ``measure`` which calls it makes."""

    tracer: str
    small: Small
    place: Path
    verb: str
    told: Told = field(default_factory=Told)

    def measure(self) -> collections.Counter[str]:
        """Do it to its end: how often each call is made, and what comes of it."""
        verb = VERBS[self.verb]
        self._lay_out()
        if self.verb != "finish":  # whoever looks, finishes
            self.before = look(self.small, self.place / "dock")
        with verb.around(self.small):
            ended, said = self._attempt("-e", f"trace={','.join(CALLS)}")
            assert (ended, said) == (0, "done"), f"{self.verb}: {said}"
            calls = count_calls(self.place / "trace")
            self.after = look(self.small, self.place / "dock")
            if self.verb == "finish":
                self.before = self.after
            assert (self.before != self.after) == verb.changing
        return calls

    def kill(self, call: str, n: int) -> None:
        """Kill it at the n-th ``call``; raises where what is left then is wrong."""
        verb = VERBS[self.verb]
        with verb.around(self.small):
            ended, said = self._attempt("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={n}")
            assert ended == -signal.SIGKILL or said == "done", f"it was not killed: {said}"
            verb.check(self.small, self.place, self.before, self.after, self.told.steps, said == "done")

    def _lay_out(self) -> None:
        """A fresh copy."""
        for path in self.place.iterdir():
            if path.name != "prepared":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        prepared = self.place / "prepared"
        if not prepared.exists():
            shutil.copytree(self.small.folder / "dock", self.place / "dock", symlinks=True)
            VERBS[self.verb].prepare(self.small, self.place)
            shutil.copytree(self.place / "dock", prepared, symlinks=True)
        else:
            shutil.copytree(prepared, self.place / "dock", symlinks=True)

    def _attempt(self, *options: str) -> tuple[int, str]:
        self._lay_out()
        self.told.reset()
        work = VERBS[self.verb].work
        return run_traced(
            self.tracer, self.place / "trace", lambda: work(self.small, self.place, self.told.step), *options
        )
