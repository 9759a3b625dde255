"""The service without its network: upkeep, backup and restore, settings, tables; on both kinds of store."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from learndock.dock import open_dock
from learndock.dock.storage.postgres import ServerLayout
from learndock.errors import (
    Conflict,
    DockError,
    ModelError,
    NotFound,
    PackageError,
    QuotaExceeded,
    SpecError,
    UnsafeModel,
    UsageError,
)
from learndock.package.manifest import MANIFEST, Manifest
from learndock.service import database as database_module
from learndock.service import views
from learndock.service.backup import backup, restore
from learndock.service.changes import Changes
from learndock.service.inspection import Inspector
from learndock.service.principal import NOBODY, Principal
from learndock.service.referrers import open_referrers
from learndock.service.service import Service, open_service
from learndock.service.tables import metadata
from learndock.service.upkeep import Upkeep
from learndock.settings import FIELDS, Settings, load, public
from tests.support import engines
from tests.support.docking import make_learnware
from tests.support.terminal import learndock

EMBEDDED = Settings()


@contextmanager
def opened(folder: Path, settings: Settings = EMBEDDED) -> Iterator[Service]:
    service = open_service(settings, folder)
    try:
        yield service
    finally:
        service.close()


#: The operator of each service that is in use: the first link works once.
OPERATORS: WeakKeyDictionary[Service, Principal] = WeakKeyDictionary()


def operator(service: Service) -> Principal:
    link = service.people.first_link()
    assert link is not None
    return service.people.principal(str(service.people.exchange(link, name="t", scope="admin").secret))


def somebody(service: Service, name: str) -> Principal:
    boss = OPERATORS.get(service) or OPERATORS.setdefault(service, operator(service))
    service.people.add_user(boss, name)
    made = service.people.exchange(service.people.invite(boss, name), name="t", scope="write")
    return service.people.principal(str(made.secret))


def publish(service: Service, who: Principal, folder: Path, *, private: bool = False) -> Any:
    manifest = Manifest.from_folder(folder)
    for file in manifest.files:
        service.uploads.put(who, (folder / file.path).read_bytes())
    return service.add(who, manifest.to_bytes(), private=private)


def filled(service: Service, place: Path) -> Principal:
    """A public learnware, a private one, a plain model, and one that was deleted."""
    ada = somebody(service, "ada")
    publish(service, ada, make_learnware(place / "one", "ada/one"))
    publish(service, ada, make_learnware(place / "two", "ada/two"), private=True)
    publish(service, ada, make_learnware(place / "gone", "ada/gone"))
    service.delete(ada, "ada/gone")
    service.repositories.create(ada, "ada/plain")
    readme = service.uploads.put(ada, b"# a plain model\n")
    service.commit(ada, "ada/plain", Changes(add={"README.md": readme}), title="first")
    return ada


def seen(service: Service, who: Principal) -> list[Any]:
    found: list[Any] = [(r.id, r.sequence) for r in service.catalogue.records(who)]
    for repository in service.repositories.find(who):
        if repository.head is None:
            continue
        head = service.repositories.resolve(repository)
        tree = {p: (e.sha256, e.oid) for p, e in service.repositories.tree(head).items()}
        found.append((repository.name, repository.private, repository.digest, repository.note, head.id, tree))
        for sha256, _ in tree.values():
            with service.storage.blobs.open(sha256) as stream:
                found.append(len(stream.read()))
    return found


# -- backup and restore ----------------------------------------------------------------------------------------


def test_a_backup_is_a_dock_and_gives_the_same_again(tmp_path: Path) -> None:
    with opened(tmp_path / "dock") as service:
        ada = filled(service, tmp_path)
        unfinished = service.uploads.begin(ada, "ab" * 32, 5)
        before = [seen(service, ada), seen(service, NOBODY)]
        assert len(before[0]) > len(before[1]) > 3
        count = backup(EMBEDDED, tmp_path / "dock", tmp_path / "saved")
        publish(service, ada, make_learnware(tmp_path / "later", "ada/later"))
        service.uploads.cancel(ada, unfinished.id)
        assert not list((tmp_path / "dock").glob("backup-*"))
    assert [p for p in open_dock(tmp_path / "saved").verify() if p.severity == "error"] == []
    with pytest.raises(UsageError, match="not an empty folder"):
        backup(EMBEDDED, tmp_path / "dock", tmp_path / "saved")
    assert restore(EMBEDDED, tmp_path / "saved", tmp_path / "again") == count
    for place in ("saved", "again"):
        with opened(tmp_path / place) as service:
            assert [seen(service, ada), seen(service, NOBODY)] == before
            publish(service, ada, make_learnware(tmp_path / f"other-{place}", "ada/gone", seed=5))
            assert [r.version for r in service.dock.versions("ada/gone")] == [2], "a number is never given again"
    with pytest.raises(Conflict, match="a dock already"):
        restore(EMBEDDED, tmp_path / "saved", tmp_path / "dock")
    with pytest.raises(NotFound):
        restore(EMBEDDED, tmp_path / "nowhere", tmp_path / "new")
    (tmp_path / "saved" / "dock.json").unlink()
    with pytest.raises(DockError, match="is not a dock"):
        restore(EMBEDDED, tmp_path / "saved", tmp_path / "new")


def test_a_server_backed_service_is_the_same_and_moves(tmp_path: Path) -> None:
    """Embedded -> backup -> PostgreSQL and S3 -> backup -> embedded: the same at every stop."""
    with engines.postgres() as url, engines.seaweed() as s3:
        grown = replace(
            *(EMBEDDED,),
            database=url,
            objects="s3://tests/service",
            objects_endpoint=s3.endpoint,
            objects_key=engines.KEY,
            objects_secret=engines.SECRET,
        )
        with opened(tmp_path / "small") as service:
            ada = filled(service, tmp_path)
            before = seen(service, ada)
        backup(EMBEDDED, tmp_path / "small", tmp_path / "first")
        restore(grown, tmp_path / "first", tmp_path / "scratch")
        with opened(tmp_path / "scratch", grown) as service:
            assert isinstance(service.storage, ServerLayout)
            assert service.database.engine is service.storage.engine, "one pool of connections a process"
            assert seen(service, ada) == before
            publish(service, ada, make_learnware(tmp_path / "new", "ada/new"))
            bob = somebody_else(service, "bob")
            service.repositories.create(bob, "bob/plain")
            assert service.dock.gc().blobs == 0, "nothing came along that nobody refers to"
            assert [p for p in service.dock.verify() if p.severity == "error"] == []
            assert service.repositories.find(NOBODY, search="PLAIN")[0].name == "ada/plain"
            assert Upkeep(service).scrub() == set()
            after = seen(service, ada)
        with pytest.raises(DockError, match="database is elsewhere"):
            open_referrers(tmp_path / "scratch")
        backup(grown, tmp_path / "scratch", tmp_path / "second")
        with opened(tmp_path / "second") as service:
            assert seen(service, ada) == after


def somebody_else(service: Service, name: str) -> Principal:
    """A user of a service that has its operator already."""
    boss = Principal(name="admin", id=1, scope="admin", operator=True)
    service.people.add_user(boss, name)
    made = service.people.exchange(service.people.invite(boss, name), name="t", scope="write")
    return service.people.principal(str(made.secret))


def test_what_the_dock_says_names_nothing_that_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dock compares newcomers with all that is there, and says with what; who sends them must not hear of all."""
    with opened(tmp_path / "dock") as service:
        ada, bob = somebody(service, "ada"), somebody(service, "bob")
        publish(service, ada, make_learnware(tmp_path / "secret", "ada/secret"), private=True)
        publish(service, ada, make_learnware(tmp_path / "open", "ada/open"))

        def refuse(about: str) -> Any:
            def publish(*_: Any, **__: Any) -> Any:
                raise SpecError("a copy of {about}", remedy="make your own", about=about)

            monkeypatch.setattr(service.dock, "publish", publish)

        refuse("ada/secret")
        with pytest.raises(SpecError, match="a copy of another owner's private learnware; make your own") as found:
            publish(service, bob, make_learnware(tmp_path / "b", "bob/b"))
        assert "secret" not in repr(vars(found.value))
        with pytest.raises(SpecError, match="a copy of ada/secret; make your own"):
            publish(service, ada, make_learnware(tmp_path / "a", "ada/a"))
        refuse("ada/open")
        with pytest.raises(SpecError, match="a copy of ada/open"):
            publish(service, bob, make_learnware(tmp_path / "c", "bob/b"))
        for who, name in ((bob, "bob/b"), (ada, "ada/a")):
            with pytest.raises(NotFound):
                service.repositories.get(who, name)


def test_what_cannot_be_committed_is_not_published(tmp_path: Path) -> None:
    """Quota and number of files are looked at before the dock has it: a learnware belongs to a repository."""
    with opened(tmp_path / "dock") as service:
        ada, bob = somebody(service, "ada"), somebody(service, "bob")
        source = make_learnware(tmp_path / "a", "ada/open")
        publish(service, ada, source)
        # Bob may refer to what he can read, so nothing is uploaded that his quota could refuse.
        manifest = Manifest.from_folder(source).model_copy(update={"name": "bob/mine"})
        service.people.set_quota(OPERATORS[service], "bob", 100)
        with pytest.raises(QuotaExceeded, match="larger quota"):
            service.add(bob, manifest.to_bytes())
        assert [r.name for r in service.dock.records()] == ["ada/open"]
        with pytest.raises(NotFound):
            service.repositories.get(bob, "bob/mine")
    with opened(tmp_path / "dock", replace(EMBEDDED, max_files=3)) as service:
        with pytest.raises(PackageError, match="at most 3"):
            service.add(ada, Manifest.from_folder(source).model_copy(update={"name": "ada/many"}).to_bytes())
        assert [r.name for r in service.dock.records()] == ["ada/open"]


# -- upkeep ----------------------------------------------------------------------------------------------------


def test_what_a_killed_process_left_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    with opened(tmp_path / "dock") as service:
        ada = somebody(service, "ada")
        folder = make_learnware(tmp_path / "a", "ada/a")
        with monkeypatch.context() as patch:  # published in the dock, not yet committed
            patch.setattr(service.repositories, "commit_published", killed)
            with pytest.raises(Killed):
                publish(service, ada, folder)
        service.repositories.create(ada, "ada/b")
        other = make_learnware(tmp_path / "b", "ada/b")
        add = {p.relative_to(other).as_posix(): service.uploads.put(ada, p.read_bytes()) for p in other.rglob("*") if
               p.is_file()}  # fmt: skip
        with monkeypatch.context() as patch:  # committed, not yet published
            patch.setattr(service, "publish", killed)
            with pytest.raises(Killed):
                service.commit(ada, "ada/b", Changes(add=add), title="x")
        publish(service, ada, make_learnware(tmp_path / "c", "ada/c"))
        with monkeypatch.context() as patch:  # taken out of the dock, not yet deleted
            patch.setattr(service.repositories, "delete", killed)
            with pytest.raises(Killed):
                service.delete(ada, "ada/c")
    with opened(tmp_path / "dock") as service:
        assert Upkeep(service).reconcile() == 3
        assert Upkeep(service).reconcile() == 0
        for name in ("ada/a", "ada/b"):
            repository = service.repositories.get(ada, name)
            assert repository.digest == service.catalogue.record(NOBODY, name).digest
            assert MANIFEST in service.repositories.tree(service.repositories.resolve(repository))
        with pytest.raises(NotFound):
            service.repositories.get(ada, "ada/c")


def test_collecting_keeps_what_is_wanted_and_takes_the_rest(tmp_path: Path) -> None:
    with opened(tmp_path / "dock") as service:
        ada = filled(service, tmp_path)
        sent = service.uploads.put(ada, b"sent, not yet committed")
        service.uploads.begin(ada, "cd" * 32, 100)
        beside = open_dock(tmp_path / "dock")
        with pytest.raises(DockError, match="only its tables know which are needed"):
            beside.gc()
        beside.storage.referrers = open_referrers(tmp_path / "dock")
        assert beside.gc().blobs == 0, "all has a lease still"
    later = replace(EMBEDDED, upload_hours=0.0)
    with opened(tmp_path / "dock", later) as service:
        with service.database.write() as connection:
            for table in ("blobs", "holdings", "uploads"):
                column = "lease" if table == "blobs" else "expires"
                connection.exec_driver_sql(f"UPDATE {table} SET {column} = 1")
        before = seen(service, ada)
        collected = Upkeep(service).collect()
        assert collected.blobs == 5, "what was sent, and four of the learnware that was deleted"
        assert not service.storage.blobs.has(sent.sha256)
        assert seen(service, ada) == before
        with pytest.raises(NotFound):
            service.holdings.blob(ada, sent.sha256)


@pytest.mark.parametrize("command", [("gc",), ("remove", "ada/one")])
def test_commands_on_the_folder_of_a_service_keep_its_files(tmp_path: Path, command: tuple[str, ...]) -> None:
    """While it is stopped: the command asks the service's tables which blobs its repositories need."""
    folder = tmp_path / "dock"
    with opened(folder) as service:
        ada = filled(service, tmp_path)
        with service.database.write() as connection:
            connection.exec_driver_sql("UPDATE blobs SET lease = 1")
        plain = service.repositories.resolve(service.repositories.get(ada, "ada/plain"))
        kept = {entry.sha256 for entry in service.repositories.tree(plain).values()}
        assert kept
        known = set(service.storage.blobs.digests())
    assert learndock(*command, "--dock", folder).code == 0
    left = set(open_dock(folder).storage.blobs.digests())
    assert kept <= left < known, "files of no repository are gone, those of a plain model are not"
    found = learndock("verify", "--json", "--dock", folder)
    assert (found.code, found.json) == (0, {"sound": True, "problems": []})
    (folder / "service.sqlite").unlink()
    assert learndock("gc", "--dock", folder).code == 33
    assert set(open_dock(folder).storage.blobs.digests()) == left


def test_a_scrub_finds_what_has_changed(tmp_path: Path) -> None:
    with opened(tmp_path / "dock") as service:
        filled(service, tmp_path)
        upkeep = Upkeep(service)
        assert upkeep.scrub() == set()
        assert upkeep.scrubbed > 10_000
        sha256 = next(service.storage.blobs.digests())
        file = tmp_path / "dock" / "blobs" / sha256[:2] / sha256
        file.chmod(0o644)
        file.write_bytes(file.read_bytes() + b"x")
        assert upkeep.scrub() == {sha256} == upkeep.damaged


def test_without_its_database_a_service_does_not_start(tmp_path: Path) -> None:
    with opened(tmp_path / "dock") as service:
        filled(service, tmp_path)
    for file in (tmp_path / "dock").glob("service.sqlite*"):
        file.unlink()
    with pytest.raises(DockError, match="who may see what"):
        open_service(EMBEDDED, tmp_path / "dock")
    with pytest.raises(DockError, match="only it knows which files are needed"):
        open_referrers(tmp_path / "dock")


# -- looking at files in a process apart -----------------------------------------------------------------------


def test_the_process_that_looks_at_files_is_shut_in() -> None:
    code = """
import json, pickle, socket, subprocess, sys
from pathlib import Path
from learndock.service.inspection import _shut_in
_shut_in()
found = {}
for what, action in {
    "network": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
    "program": lambda: subprocess.run(["true"]),
    "pickle": lambda: pickle.loads(pickle.dumps(Path("x"))),
    "memory": lambda: bytearray(2 << 30),
    "little": lambda: bytearray(50 << 20) and None,
}.items():
    try:
        action()
        found[what] = "done"
    except BaseException as error:
        found[what] = type(error).__name__
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wanted = {"network": "UnsafeModel", "program": "UnsafeModel", "pickle": "UnsafeModel", "memory": "MemoryError"}
    assert json.loads(done.stdout) == {**wanted, "little": "done"}


def test_who_looks_too_long_or_dies_refuses_and_the_next_is_looked_at(tmp_path: Path) -> None:
    folder = make_learnware(tmp_path / "good", "ada/good")
    inspector = Inspector()
    assert inspector.admit(folder).manifest.name == "ada/good"
    process = inspector._process
    assert process is not None
    process.kill()
    process.wait()
    assert inspector.admit(folder).manifest.name == "ada/good"
    assert inspector._process is not process
    os.kill(inspector._process.pid, signal.SIGSTOP)  # type: ignore[union-attr]
    inspector._seconds = 0.2
    with pytest.raises(ModelError, match="too much time"):
        inspector.admit(folder)
    inspector._seconds = 60
    (folder / "config.json").write_text('{"auto_map": 1}')
    with pytest.raises(UnsafeModel, match="auto_map"):
        inspector.check_files(folder)
    inspector.close()


# -- settings and tables ---------------------------------------------------------------------------------------


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "learndock.toml"
    file.write_text('port = 1\nquota = "5GB"\nrate = 3\n')
    assert load(file=tmp_path / "nothing", environment={}) == Settings()
    found = load({"port": "3", "log": None}, environment={"LEARNDOCK_PORT": "2", "LEARNDOCK_RATE": "9"}, file=file)
    assert (found.port, found.rate, found.quota, found.log) == (3, 9.0, 5 * 10**9, "info")
    for source, says in (
        ("prot = 1", 'no setting "prot"'),
        ("port = 'x'", r"learndock.toml: port: .*not a whole number"),
        ("port =", "TOML"),
    ):
        file.write_text(source)
        with pytest.raises(UsageError, match=says):
            load(file=file, environment={})
    with pytest.raises(UsageError, match="a size such as 50GB"):
        load({"quota": "many"}, environment={})
    with pytest.raises(UsageError, match="give both or neither"):
        open_service(Settings(database="postgresql://x"), tmp_path / "dock")


def test_every_setting_is_documented_and_secrets_are_not_told() -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    for name, field in FIELDS.items():
        assert f"`--{name.replace('_', '-')}`" in page
        assert field.metadata["about"] in page
    told = json.dumps(public(Settings(database="postgresql://u:secret@h/d", objects_secret="secret")))
    assert "secret@" not in told
    assert '"secret"' not in told


def test_migrations_make_the_tables_and_end_where_the_code_says(tmp_path: Path) -> None:
    steps = database_module.MIGRATIONS / "versions"
    found = [re.search(r'^revision = "(\w+)"', p.read_text(), re.M) for p in sorted(steps.glob("v*.py"))]
    assert [m[1] for m in found if m][-1] == database_module.HEAD
    for way in ("steps", "at once"):
        database = database_module.Database(f"sqlite:///{tmp_path / way}.sqlite")
        if way == "steps":
            database.take_steps(None)
        for _ in range(2):
            database.migrate()
        with database.read() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(DockError, match="upgrade"):
            database.migrate()
        database.close()


def test_notes_of_older_services_lose_the_names_of_others(tmp_path: Path) -> None:
    database = database_module.Database(f"sqlite:///{tmp_path / 'old.sqlite'}")
    database.take_steps(None)
    with database.write() as connection:
        for table in ("cards", "card_tags", "left_out", "former_names"):  # of later steps
            connection.exec_driver_sql(f"DROP TABLE {table}")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")
        connection.exec_driver_sql("INSERT INTO owners VALUES (1, 'ada', 'ada', 'user', 0, NULL, 0)")
        connection.exec_driver_sql(
            "INSERT INTO repositories VALUES (1, 1, 'x', 'ada/x', 0, 0, 0, NULL, NULL, ?)",
            ("the spec of ada/x behaves as bob/his-own.v2 (cosine +1.0000), which is another owner's; where ...",),
        )
    database.migrate()
    with database.read() as connection:
        note = connection.exec_driver_sql("SELECT note FROM repositories").scalar_one()
    database.close()
    assert note.startswith("the spec of ada/x behaves as another owner's learnware (cosine +1.0000), which")


def test_what_another_process_looks_at_is_left_alone(tmp_path: Path) -> None:
    service = open_service(Settings(), tmp_path / "dock")
    root = service.uploads.folder
    (root / "view-dead").mkdir()
    (root / "view-dead.held").touch()
    with views.folder_of(service.storage.blobs, {}, root) as looked_at:
        other = open_service(Settings(), tmp_path / "dock")
        assert looked_at.is_dir()
        assert not list(root.glob("view-dead*"))
        other.close()
    assert not list(root.glob("view-*"))
    service.close()


def test_a_relative_folder_is_found_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service of `--dock my-dock`: the process changes folders for each question."""
    monkeypatch.chdir(tmp_path)
    inspector = Inspector()
    try:
        for name in ("one", "two"):
            Path(name).mkdir()
            Path(name, "config.json").write_text("{}")
            inspector.check_files(Path(name))
    finally:
        inspector.close()
