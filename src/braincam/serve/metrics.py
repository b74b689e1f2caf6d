"""What is counted, for Prometheus. No label comes from a client: routes are those of the server, or `other`."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

from braincam import __version__
from braincam.predict import Predictor
from braincam.serve.limits import Memory
from braincam.serve.workers import Workers

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
STATUSES = ("ok", "refer", "rejected", "error")


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self, predictor: Predictor, workers: Workers, memory: Memory):
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("braincam_requests", "Requests by outcome.", ["route", "status"], registry=registry)
        self._slices = Counter("braincam_slices", "Answered slices by status.", ["status"], registry=registry)
        self._seconds = Histogram(
            "braincam_request_seconds",
            "From a request's head to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        waiting = Gauge("braincam_queue_depth", "Requests that wait for a worker.", registry=registry)
        waiting.set_function(lambda: workers.waiting)
        held = Gauge("braincam_held_bytes", "Bytes of the bodies and answers held now.", registry=registry)
        held.set_function(lambda: memory.held)
        build = Info("braincam_build", "Which version answers with which model.", registry=registry)
        build.info({"version": __version__, "model": predictor.card.name, "sha256": predictor.file.sha256})
        ProcessCollector(registry=registry)  # memory, open files and processor time, where /proc has them
        for status in STATUSES:
            self._slices.labels(status)

    def request(self, route: str, code: int, seconds: float) -> None:
        """One request was answered."""
        self._requests.labels(route, str(code)).inc()
        self._seconds.labels(route).observe(seconds)

    def slices(self, statuses: Mapping[str, int]) -> None:
        """So many slices got these statuses."""
        for status, count in statuses.items():
            self._slices.labels(status).inc(count)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
