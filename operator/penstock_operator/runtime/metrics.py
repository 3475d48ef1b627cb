"""Prometheus metrics, named like controller-runtime's where the meaning is the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Metrics:
    """One registry. Values that exist anyway (queue depth, request counts, jobs by phase) are read when scraped."""

    def __init__(
        self,
        *,
        queue_depth: Callable[[], int],
        queue_oldest: Callable[[], float],
        requests: Mapping[tuple[str, int], int],
        phases: Callable[[], Mapping[tuple[str, str], int]],
        is_leader: Callable[[], bool],
    ) -> None:
        self._registry = CollectorRegistry()
        self._reconciles = Counter(
            "controller_runtime_reconcile_total", "Reconciles by result.", ["controller", "result"], registry=self._registry
        )
        self._seconds = Histogram(
            "controller_runtime_reconcile_time_seconds", "Length of a reconcile.", ["controller"], registry=self._registry
        )
        self._registry.register(_Live(queue_depth, queue_oldest, requests, phases, is_leader))

    @contextlib.contextmanager
    def reconcile(self, controller: str) -> Iterator[None]:
        """Count and time one reconcile; an exception counts as an error and goes on."""
        begun, result = perf_counter(), "error"
        try:
            yield
            result = "success"
        finally:
            self._reconciles.labels(controller, result).inc()
            self._seconds.labels(controller).observe(perf_counter() - begun)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Live(Collector):
    def __init__(
        self,
        queue_depth: Callable[[], int],
        queue_oldest: Callable[[], float],
        requests: Mapping[tuple[str, int], int],
        phases: Callable[[], Mapping[tuple[str, str], int]],
        is_leader: Callable[[], bool],
    ) -> None:
        self._queue_depth, self._queue_oldest, self._requests = queue_depth, queue_oldest, requests
        self._phases, self._is_leader = phases, is_leader

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("workqueue_depth", "Keys waiting for a reconcile.", value=self._queue_depth())
        yield GaugeMetricFamily("workqueue_oldest_seconds", "Age of the oldest waiting key.", value=self._queue_oldest())
        yield GaugeMetricFamily("penstock_leader", "1 when this replica reconciles.", value=float(self._is_leader()))
        calls = CounterMetricFamily("rest_client_requests", "Kubernetes API calls by verb and code.", labels=["method", "code"])
        for (verb, code), count in self._requests.items():
            calls.add_metric([verb, str(code or "unreachable")], count)
        yield calls
        jobs = GaugeMetricFamily("penstock_trainingjobs", "TrainingJobs by namespace and phase.", labels=["namespace", "phase"])
        for (namespace, phase), count in self._phases().items():
            jobs.add_metric([namespace, phase], count)
        yield jobs
