"""PostgreSQL and the object store fail while a service writes: nothing that was acknowledged is lost.

A few writes beside two of the faults; ``make soak-stores`` does a thousand beside all of them.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.store_faults import shop

KINDS = ("PostgreSQL restarted", "S3 answers 503")


def test_nothing_acknowledged_is_lost_while_the_stores_fail(tmp_path: Path) -> None:
    with shop(tmp_path) as service:
        service.work(4, writers=2, seconds=0.6, rest=0.1, kinds=KINDS)
        assert service.stores is not None
        for proxy, named in (
            (service.stores.to_objects, "the object store: no answer"),
            (service.stores.to_database, "the service's database: no answer"),
        ):
            proxy.fault = "refuse"
            answer = service.server.get("/api/v1/ready")
            assert (answer.status, "retry-after" in answer.headers) == (503, True)
            assert named in answer.body["error"]["message"]
            proxy.fault = "pass"
            service.server.ready()
        service.check()
        assert set(service.recovered) == set(KINDS)
        assert service.answers[503] > 0, "no fault was noticed"
        assert set(service.answers) <= {200, 201, 204, 404, 503}
