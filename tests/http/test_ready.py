"""`/ready` says 200 when questions are answered, at once, however many wait for other answers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from learndock.dock.local import LocalDock
from tests.support.docking import make_learnware
from tests.support.serving import served

READY = "/api/v1/ready"


def test_it_is_503_until_the_tables_of_all_spaces_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path / "dock") as site:
        assert site.publish(make_learnware(tmp_path / "a", "ada/a"), site.token("ada")).status == 201
    go_on, read = threading.Event(), LocalDock.vectors

    def slowly(self: LocalDock, space_id: str, **named: Any) -> Any:
        go_on.wait(30)
        return read(self, space_id, **named)

    monkeypatch.setattr(LocalDock, "vectors", slowly)
    with served(tmp_path / "dock") as site:
        answer = site.get(READY)
        assert answer.status == 503
        assert answer.headers["retry-after"] == "2"
        assert "the catalogue is being read" in answer.body["error"]["message"]
        assert site.get("/api/v1/learnwares/ada/a").status == 200  # what needs no table is answered before
        go_on.set()
        until = time.monotonic() + 10
        while (answer := site.get(READY)).status != 200:
            assert time.monotonic() < until
        assert answer.body == {"status": "ready", "damaged": 0, "full": False, "problems": []}
        metrics = site.get("/api/v1/metrics").body
        assert b"learndock_ready 1.0" in metrics
        assert b"learndock_learnwares 1.0" in metrics


def test_it_does_not_wait_for_sixty_readers_who_wait(tmp_path: Path) -> None:
    with served(tmp_path / "dock", rate=0) as site:
        until = time.monotonic() + 10
        while site.get(READY).status != 200:
            assert time.monotonic() < until
        with ThreadPoolExecutor(60) as readers, site.service.catalogue._lock:
            site.service.repositories.mark_changed()
            asked = [readers.submit(site.get, "/api/v1/learnwares") for _ in range(60)]
            time.sleep(0.5)
            assert not any(reader.done() for reader in asked)
            begun = time.monotonic()
            assert site.get(READY).status == 200
            assert time.monotonic() - begun < 1
            assert not any(reader.done() for reader in asked)
            site.service.catalogue._lock.release()
            assert all(reader.result().status == 200 for reader in asked)
            site.service.catalogue._lock.acquire()
