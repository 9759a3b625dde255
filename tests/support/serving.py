"""A real server for tests: uvicorn on loopback, on a free port, in a thread of this process.

with served(folder) as site:
    site.url, site.service, site.token("ada")      a user is made by asking for their token
    site.get("/api/v1/learnwares", token=...)      (status, headers, JSON or bytes)
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from learndock.files import sha256_bytes
from learndock.http.serve import RunningServer, start
from learndock.package.manifest import MANIFEST, Manifest
from learndock.service.principal import Principal, Scope
from learndock.service.service import Service, open_service
from learndock.settings import Settings


class Refused(Exception):
    """An upload was refused; ``answer`` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer))
        self.answer = answer


class Answer(NamedTuple):
    """Status, headers (lower case), and the body: JSON where it is, bytes where it is not."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Asking:
    """What tests ask of a service, by its address."""

    @property
    def url(self) -> str:
        raise NotImplementedError

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if isinstance(body, dict | list):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body=body, headers=sent)
            got = connection.getresponse()
            found = got.read()
            known = {k.lower(): v for k, v in got.getheaders()}
        finally:
            connection.close()
        is_json = known.get("content-type", "").startswith(("application/json", "application/vnd.git-lfs+json"))
        return Answer(got.status, known, json.loads(found) if is_json and found else found)

    def get(self, path: str, **options: Any) -> Answer:
        return self.ask("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return self.ask("POST", path, body, **options)

    def upload(self, content: bytes, token: str) -> str:
        """Upload bytes; returns their SHA-256."""
        sha256 = sha256_bytes(content)
        begun = self.post("/api/v1/uploads", {"sha256": sha256, "size": len(content)}, token=token)
        if begun.status != 201:
            raise Refused(begun)
        if not begun.body["stored"]:
            sent = self.ask(
                "PATCH",
                f"/api/v1/uploads/{begun.body['id']}",
                content,
                token=token,
                headers={"Upload-Offset": "0"},
            )
            if (sent.status, sent.body.get("stored")) != (200, True):
                raise Refused(sent)
        return sha256

    def publish(self, folder: Path, token: str, *, private: bool = False) -> Answer:
        """Upload the files of a learnware folder, and publish it."""
        return self.publish_sealed(folder, Manifest.from_bytes((folder / MANIFEST).read_bytes()), token, private)

    def publish_sealed(self, folder: Path, manifest: Manifest, token: str, private: bool = False) -> Answer:
        for file in manifest.files:
            self.upload((folder / file.path).read_bytes(), token)
        asked = {"manifest": manifest.model_dump(mode="json"), "private": private}
        return self.post("/api/v1/learnwares", asked, token=token)


@dataclass
class Site(Asking):
    """A running service, and what tests want of it."""

    running: RunningServer
    service: Service
    _tokens: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.running.url

    def operator(self) -> str:
        """A token of the operator."""
        if ("", "admin") not in self._tokens:
            link = self.service.people.first_link()
            assert link is not None
            found = self.service.people.exchange(link, name="tests", scope="admin")
            self._tokens["", "admin"] = str(found.secret)
        return self._tokens["", "admin"]

    def token(self, user: str, scope: Scope = "write") -> str:
        """A token of ``user``, who is made where there is none."""
        if (user, scope) not in self._tokens:
            people = self.service.people
            operator = people.principal(self.operator())
            with contextlib.suppress(Exception):
                people.add_user(operator, user)
            found = people.exchange(people.invite(operator, user), name="tests", scope=scope)
            self._tokens[user, scope] = str(found.secret)
        return self._tokens[user, scope]

    def principal(self, user: str, scope: Scope = "write") -> Principal:
        return self.service.people.principal(self.token(user, scope))


#: Where a service may keep its things; the server-backed one takes seconds to set up, and is part of `make soak`.
BACKENDS = ("embedded", "server-backed") if "LEARNDOCK_SOAK" in os.environ else ("embedded",)


@contextlib.contextmanager
def served_by(backend: str, folder: Path, **settings: Any) -> Iterator[Site]:
    """``served`` by one of ``BACKENDS``: a folder, or PostgreSQL and an S3-compatible store."""
    if backend == "embedded":
        with served(folder, **settings) as site:
            yield site
        return
    from tests.support import engines

    with engines.postgres() as url, engines.seaweed() as s3:
        store = {"objects_endpoint": s3.endpoint, "objects_key": engines.KEY, "objects_secret": engines.SECRET}
        with served(folder, database=url, objects="s3://tests/dock", **store, **settings) as site:
            yield site


@contextlib.contextmanager
def served(folder: Path, **settings: Any) -> Iterator[Site]:
    """The service of the dock in ``folder``, running until the block ends."""
    service = open_service(Settings(port=0, **settings), folder)
    running = start(service)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        running.wait()
        yield Site(running, service)
    finally:
        running.stop()
        thread.join(timeout=30)
        service.close()
        assert not thread.is_alive()
