"""The API beside its description (schemathesis); publishing, deleting and collecting side by side."""

from __future__ import annotations

import copy
import json
import shutil
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from learndock.errors import NotFound
from learndock.http.hub import download, lfs, upload, xet
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


#: What bodies of hub clients are made of.
FIELDS = (
    "name", "type", "private", "paths", "files", "path", "size", "sample", "operation", "transfers", "objects", "oid",
    "key", "value", "summary", "description", "parentCommit", "content", "encoding", "content_type",
)  # fmt: skip
WORDS = st.sampled_from(
    ["header", "file", "lfsFile", "deletedFile", "model", "upload", "base64", "ada/one", "\ud800", "a\0b", "ab" * 32]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=8,
)
#: Bytes, JSON, and lines of JSON as a commit has them.
BODIES = st.one_of(
    st.binary(max_size=50),
    VALUES.map(lambda v: json.dumps(v).encode()),
    st.lists(VALUES, max_size=4).map(lambda lines: "\n".join(map(json.dumps, lines)).encode()),
    st.tuples(WORDS, st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4)).map(
        lambda kv: json.dumps({"key": kv[0], "value": kv[1]}).encode()
    ),
    st.sampled_from([b"[" * 50_000, b'{"paths": ' * 20_000, b"[" + b"[]," * 20_000 + b"[]]"]),
)
TYPES = st.sampled_from(["application/json", "application/x-ndjson", "application/x-www-form-urlencoded", ""])


def hub_schema() -> dict[str, Any]:
    """The description of the hub's routes, which the service itself does not publish: they are not ours to define."""
    shown = []
    for part in (download, upload, lfs, xet):
        for route in part.router.routes:
            shown.append(copy.copy(cast("APIRoute", route)))
            shown[-1].include_in_schema = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GET and HEAD of one function have one id
        return get_openapi(title="hub", version="1", routes=shown)


def test_nothing_that_hub_clients_could_send_is_a_failure_of_ours(site: Site) -> None:
    schema = schemathesis.openapi.from_dict(hub_schema())
    schema.config.update(base_url=site.url)
    asked = []
    for result in schema.get_all_operations():
        operation: Any = cast("Any", result).ok()
        cases = st.one_of(operation.as_strategy(), operation.as_strategy(schemathesis.GenerationMode.NEGATIVE))
        known = st.sampled_from([None, operation.path.format_map(Usual())])

        @settings(max_examples=EXAMPLES * 2, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=cases, known=known, body=BODIES, kind=TYPES)
        def try_it(case: Any, known: str | None, body: bytes, kind: str) -> None:
            headers = {"Authorization": f"Bearer {site.token('ada')}"}
            if known is None:
                answer = case.call(headers=headers)
                status, text = answer.status_code, answer.text
            else:  # a repository that is there, and a body that the description does not have
                sent = site.ask(case.method, known, body, headers={**headers, "Content-Type": kind})
                status, text = sent.status, str(sent.body)
            assert status < 500, (case.method, known or case.path, body, text)
            if status >= 400 and text and case.method != "HEAD":
                assert "message" in text, text

        try_it()
        asked.append(operation.label)
    assert len(asked) >= 30


class Usual(dict[str, str]):
    """What the parts of a path are, where there is such a thing."""

    def __missing__(self, part: str) -> str:
        usual = {"owner": "ada", "name": "one", "revision": "main", "rest": "main/config.json"}
        return usual.get(part, "ab" * (16 if part == "upload" else 8 if part == "space" else 32))


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
        self.versions: dict[str, set[str]] = {}
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
        record = self.service.add(self.ada, manifest.to_bytes()).record
        assert record.digest == manifest.digest
        if record.digest not in self.versions.setdefault(name, set()):
            self.published[name] = record.digest  # what is there already does not become latest again
        self.versions[name].add(record.digest)

    @rule(name=st.sampled_from("abcd"))
    def delete(self, name: str) -> None:
        there = name in self.published or name in self.plain
        try:
            self.service.delete(self.ada, f"ada/{name}")
        except NotFound:
            assert not there
        self.published.pop(name, None)
        self.versions.pop(name, None)
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
