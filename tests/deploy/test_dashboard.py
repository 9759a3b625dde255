"""The dashboard asks for what a running service exports, and a real Prometheus answers each of its questions."""

from __future__ import annotations

import json
import re
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import engines
from tests.support.docking import make_learnware
from tests.support.processes import Serving, serving

DEPLOY = Path(__file__).parents[2] / "deploy"
METRIC = re.compile(r"\b(?:learndock|process)_[a-z_]+\b")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    place = tmp_path_factory.mktemp("dashboard")
    with serving(place / "dock") as site:
        ada = site.user(site.operator(), "ada")
        assert site.publish(make_learnware(place / "a", "ada/a"), ada).status == 201
        site.ready()
        yield site


def expressions() -> list[str]:
    board = json.loads((DEPLOY / "grafana.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_each_metric_of_the_dashboard_is_exported_and_documented(site: Serving) -> None:
    exported = set(re.findall(r"^([a-z_]+)(?:\{| )", site.get("/api/v1/metrics").body.decode(), re.MULTILINE))
    asked = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert len(asked) >= 10
    assert asked <= exported
    page = (DEPLOY.parent / "docs" / "operating.md").read_text()
    own = {n for n in exported if n.startswith("learndock_") and not n.endswith(("_created", "_bucket", "_sum"))}
    assert {n for n in own if n not in page} == set()


def test_prometheus_answers_every_question(site: Serving, tmp_path: Path) -> None:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("prometheus is not installed (`make soak-proxies` installs it)")
    settings = (DEPLOY / "prometheus.yml").read_text()
    for before, after in (("127.0.0.1:7080", site.url.removeprefix("http://")), ("15s", "500ms")):
        assert before in settings
        settings = settings.replace(before, after)
    (tmp_path / "prometheus.yml").write_text(settings)
    port = engines.free_port()
    command = [prometheus, f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}",
               f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip

    def ask(expression: str) -> list[Any]:
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=10) as answer:
            found = json.loads(answer.read())
        assert found["status"] == "success"
        return list(found["data"]["result"])

    with engines.running(command, port=port, log=tmp_path / "log"):
        until = time.monotonic() + 30
        # Two looks are needed for a rate, with a request between them.
        while len(ask("learndock_ready[20s]")) == 0 or len(ask("learndock_ready[20s]")[0]["values"]) < 4:
            assert time.monotonic() < until
            site.get("/api/v1/learnwares")
            time.sleep(0.3)
        for expression in expressions():
            query = expression.replace("$job", "learndock").replace("$__rate_interval", "20s")
            assert ask(query), query
