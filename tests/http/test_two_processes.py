"""Two processes that serve one dock: what one makes private or deletes, the other shows to no one any more."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from learndock.spec.file import spec_to_bytes
from tests.support.docking import SPACE_ID, make_learnware, make_spec
from tests.support.processes import Serving, serving, stores

API = "/api/v1"
TASK = spec_to_bytes(make_spec(np.random.default_rng(3), kind="task"))
#: What hands out bytes, or says which there are: asked of the database at every request.
BYTES = (
    f"{API}/learnwares/ada/x/files/config.json",
    f"{API}/learnwares/ada/x/files/model.safetensors",
    f"{API}/learnwares/ada/x/specs/{SPACE_ID}",
    f"{API}/learnwares/ada/x/versions",
    f"{API}/repositories/ada/x",
    "/ada/x/resolve/main/config.json",
    "/ada/x/resolve/main/learnware.json",
    "/api/models/ada/x",
    "/api/models/ada/x/tree/main",
    "/api/models/ada/x/refs",
)


def shown(site: Serving) -> list[bool]:
    """Whether ``ada/x`` is seen by an anonymous client: the learnware, the lists, the spaces, identify."""
    listed = site.get(f"{API}/learnwares").body["learnwares"]
    spaces = site.get(f"{API}/spaces").body["spaces"]
    found = site.post(f"{API}/identify", TASK)
    matches = found.body["matches"] + found.body["closest"] if found.status == 200 else []
    return [
        site.get(f"{API}/learnwares/ada/x").status == 200,
        any(r["name"] == "ada/x" for r in listed),
        any(r["id"] == "ada/x" for r in site.get("/api/models").body),
        any(s["learnwares"] == 2 for s in spaces),
        any(m["name"] == "ada/x" for m in matches),
    ]


def within(seconds: float, done: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("backend", ["embedded", "server-backed"])
def test_privacy_and_deletion_are_seen_by_the_other_process(tmp_path: Path, backend: str) -> None:
    with contextlib.ExitStack() as stack:
        flags = stack.enter_context(stores(backend))
        one = stack.enter_context(serving(tmp_path / "dock", *flags))
        operator = one.operator()
        two = stack.enter_context(serving(tmp_path / ("dock" if backend == "embedded" else "other"), *flags))
        ada = one.user(operator, "ada")
        for name in ("x", "other"):
            assert one.publish(make_learnware(tmp_path / "made" / name, f"ada/{name}"), ada).status == 201
        assert within(5, lambda: all(shown(two)))
        for private in (True, False, True, False):
            answer = one.ask("PATCH", f"{API}/repositories/ada/x", {"private": private}, token=ada)
            changed = time.monotonic()
            assert answer.status == 200
            at_once = [(path, two.get(path).status) for path in BYTES]
            expected = 404 if private else 200
            assert at_once == [(path, expected) for path in BYTES]
            assert [two.get(path, token=ada).status for path in BYTES] == [200] * len(BYTES)
            # A second, and what the questions themselves take.
            assert within(1 - (time.monotonic() - changed), lambda: shown(two) == [not private] * 5), shown(two)  # noqa: B023
        reader = one.post(f"{API}/tokens", {"name": "short", "scope": "read"}, token=ada).body
        assert two.get(f"{API}/tokens", token=reader["token"]).status == 200
        assert one.ask("DELETE", f"{API}/tokens/{reader['id']}", token=ada).status == 204
        assert two.get(f"{API}/tokens", token=reader["token"]).status == 401
        assert one.ask("DELETE", f"{API}/learnwares/ada/x", token=ada).status == 204
        assert [(path, two.get(path).status) for path in BYTES] == [(path, 404) for path in BYTES]
        assert within(1, lambda: not any(shown(two)))
