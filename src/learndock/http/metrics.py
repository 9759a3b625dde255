"""Metrics for Prometheus: counts and durations by route, never by name."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._followed: dict[Counter, float] = {}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "learndock_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "learndock_request_seconds",
            "Time to the end of the answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.running = Gauge("learndock_requests_running", "Requests being answered.", registry=self.registry)
        self.refused = Counter(
            "learndock_requests_limited", "Requests refused by the rate or concurrency limit.", registry=self.registry
        )
        self.ready = Gauge("learndock_ready", "1 if questions are answered.", registry=self.registry)
        self.full = Gauge("learndock_full", "1 if nothing can be added for want of room.", registry=self.registry)
        self.free = Gauge("learndock_free_bytes", "Room on the disk of the service's folder.", registry=self.registry)
        self.learnwares = Gauge("learndock_learnwares", "Learnwares in the catalogue.", registry=self.registry)
        self.scrubbed = Counter("learndock_scrubbed_bytes", "Stored bytes hashed again.", registry=self.registry)
        self.damaged = Gauge(
            "learndock_damaged_blobs", "Blobs that the last scrub found damaged.", registry=self.registry
        )
        self.collected = Counter(
            "learndock_collected_blobs", "Unreferenced blobs that were deleted.", registry=self.registry
        )

    def follow(self, counter: Counter, total: float) -> None:
        """Let ``counter`` be at ``total``, which is counted elsewhere and only grows."""
        done = self._followed.get(counter, 0.0)
        counter.inc(max(0.0, total - done))
        self._followed[counter] = max(done, total)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
