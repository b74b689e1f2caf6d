"""Counts for Prometheus. Labels are routes and outcomes, never names of files or people."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counts of one server."""

    def __init__(self, busy: Callable[[], int], version: str, model: str):
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "braincam_requests", "Requests by route and HTTP status", ("route", "status"), registry=self._registry
        )
        self.slices = Counter("braincam_slices", "Answered slices by status", ("status",), registry=self._registry)
        self.seconds = Histogram(
            "braincam_request_seconds", "Time to answer, by route", ("route",), buckets=SECONDS, registry=self._registry
        )
        places = Gauge("braincam_busy", "Requests being answered or waiting for it", registry=self._registry)
        places.set_function(busy)
        Info("braincam_build", "Version and model", registry=self._registry).info({"version": version, "model": model})

    def count(self, statuses: Iterable[str]) -> None:
        """Add the statuses of answered slices."""
        for status, number in Tally(statuses).items():
            self.slices.labels(status).inc(number)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
