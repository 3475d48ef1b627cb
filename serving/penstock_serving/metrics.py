"""Prometheus metrics. Paths are labels only where the server has them, so a stranger cannot make new time series."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

# The moment every series began: half of the text, and no query uses it.
disable_created_metrics()  # type: ignore[no-untyped-call]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """One registry. The depth of the queue is read when it is scraped."""

    def __init__(self, *, waiting: Callable[[], int], ready: Callable[[], bool]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("penstock_requests", "Requests by path and status.", ["endpoint", "code"], registry=registry)
        self._seconds = Histogram(
            "penstock_request_seconds",
            "From a request's head to its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._rows = Histogram("penstock_batch_rows", "Rows of an inference.", buckets=_ROWS, registry=registry)
        self._shared = Histogram("penstock_batch_requests", "Requests of an inference.", buckets=_ROWS, registry=registry)
        depth = Gauge("penstock_queue_requests", "Requests that wait for the inference thread.", registry=registry)
        depth.set_function(waiting)
        Gauge("penstock_ready", "1 when the model is loaded and the server takes requests.", registry=registry).set_function(
            ready
        )

    def request(self, endpoint: str, code: int, seconds: float) -> None:
        # labels() looks the series up under a lock; it is a tenth of what a small request costs.
        if (series := self._known.get((endpoint, code))) is None:
            series = self._known[endpoint, code] = self._requests.labels(endpoint, code), self._seconds.labels(endpoint)
        series[0].inc()
        series[1].observe(seconds)

    def batch(self, rows: int, requests: int) -> None:
        self._rows.observe(rows)
        self._shared.observe(requests)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self._registry)
