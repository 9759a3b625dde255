"""The API beside its description (schemathesis); publishing, deleting and collecting side by side."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from learndock.errors import Conflict, NotFound
from learndock.package.manifest import Manifest
from learndock.service.changes import Changes
from learndock.service.principal import Principal
from learndock.service.service import Service, open_service
from learndock.service.upkeep import Upkeep
from learndock.settings import Settings
from tests.support.docking import make_learnware
from tests.support.serving import Site, served

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
EXAMPLES = 3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("contract")
    with served(place / "dock", rate=0) as site:
        assert site.publish(make_learnware(place / "one", "ada/one"), site.token("ada")).status == 201
        yield site


def test_every_operation_does_what_the_description_says(site: Site) -> None:
    """The description is one operation at a time filled with what hypothesis draws, right and wrong."""
    schema = schemathesis.openapi.from_url(f"{site.url}/api/v1/openapi.json")
    headers = {"Authorization": f"Bearer {site.operator()}"}
    asked = []
    for result in schema.get_all_operations():
        operation: Any = cast("Any", result).ok()
        if not operation.path.startswith("/api/v1"):
            continue
        strategy = st.one_of(operation.as_strategy(), operation.as_strategy(schemathesis.GenerationMode.NEGATIVE))

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=strategy)
        def try_it(case: Any) -> None:
            answer = case.call(headers=headers)
            case.validate_response(answer, checks=CHECKS)
            if answer.status_code >= 400:
                assert set(answer.json()["error"]) == {"code", "message", "remedy"}

        try_it()
        asked.append(operation.label)
    assert len(asked) >= 40


# -- publishing, deleting and collecting, whatever comes when ---------------------------------------------------


class Shop(RuleBasedStateMachine):
    """A service with one owner, beside a picture of what it must have; collections run in a thread meanwhile."""

    place: Path

    @initialize()
    def open(self) -> None:
        folder = self.place / "dock"
        shutil.rmtree(folder, ignore_errors=True)
        self.service: Service = open_service(Settings(), folder)
        people = self.service.people
        link = people.first_link()
        operator = people.principal(str(people.exchange(str(link), name="t", scope="admin").secret))
        people.add_user(operator, "ada")
        token = people.exchange(people.invite(operator, "ada"), name="t", scope="write")
        self.ada: Principal = people.principal(str(token.secret))
        self.published: dict[str, str] = {}
        self.stood: dict[str, str] = {}
        self.plain: dict[str, bytes] = {}
        self.stop = threading.Event()
        self.collector = threading.Thread(target=self.collect_on, daemon=True)
        self.failed: list[BaseException] = []
        self.collector.start()

    def collect_on(self) -> None:
        upkeep = Upkeep(self.service)
        while not self.stop.wait(0.003):
            try:
                upkeep.collect()
            except BaseException as error:  # told when it ends
                self.failed.append(error)
                return

    @rule(name=st.sampled_from("abc"), content=st.integers(0, 2))
    def publish(self, name: str, content: int) -> None:
        folder = self.place / f"{name}{content}"
        if not folder.exists():
            make_learnware(folder, f"ada/{name}", seed=content, numbers=5)
        manifest = Manifest.from_folder(folder)
        for file in manifest.files:
            self.service.uploads.put(self.ada, (folder / file.path).read_bytes())
        may = self.stood.get(name, manifest.digest) == manifest.digest and name not in self.plain
        try:
            record = self.service.add(self.ada, manifest.to_bytes()).record
        except Conflict:
            assert not may
            return
        self.published[name] = self.stood[name] = record.digest

    @rule(name=st.sampled_from("abcd"))
    def delete(self, name: str) -> None:
        there = name in self.published or name in self.plain
        try:
            self.service.delete(self.ada, f"ada/{name}")
        except NotFound:
            assert not there
        self.published.pop(name, None)
        self.plain.pop(name, None)

    @precondition(lambda self: "d" not in self.plain)
    @rule()
    def begin_plain(self) -> None:
        self.service.repositories.create(self.ada, "ada/d")
        self.plain["d"] = b""

    @precondition(lambda self: "d" in self.plain)
    @rule(content=st.binary(min_size=1, max_size=20).map(lambda b: b.hex().encode()))
    def commit_plain(self, content: bytes) -> None:
        blob = self.service.uploads.put(self.ada, content)
        self.service.commit(self.ada, "ada/d", Changes(add={"README.md": blob}), title="x")
        self.plain["d"] = content

    @rule()
    def leases_end(self) -> None:
        with self.service.database.write() as connection:
            connection.exec_driver_sql("UPDATE blobs SET lease = 1")
            connection.exec_driver_sql("UPDATE holdings SET expires = 1")

    @invariant()
    def all_is_there_and_nothing_else(self) -> None:
        if not hasattr(self, "service"):
            return
        assert not self.failed, self.failed
        found = {r.name.partition("/")[2]: r for r in self.service.catalogue.records(self.ada)}
        assert {n: r.digest for n, r in found.items()} == self.published
        for record in found.values():
            for file in record.manifest.files:
                with self.service.storage.blobs.open(file.sha256) as stream:
                    assert len(stream.read()) == file.size
        for name, content in self.plain.items():
            if content:
                repository = self.service.repositories.get(self.ada, f"ada/{name}")
                entry = self.service.repositories.tree(self.service.repositories.resolve(repository))["README.md"]
                with self.service.storage.blobs.open(entry.sha256) as stream:
                    assert stream.read() == content

    def teardown(self) -> None:
        if hasattr(self, "service"):
            self.stop.set()
            self.collector.join(timeout=30)
            assert not self.failed, self.failed
            assert [p for p in self.service.dock.verify() if p.severity == "error"] == []
            self.service.close()


def run_shop(place: Path, *, examples: int, steps: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    machine = type("Shop", (Shop,), {"place": place})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_publishing_deleting_and_collecting_side_by_side(tmp_path: Path) -> None:
    run_shop(tmp_path, examples=3, steps=12)
