"""The whole life of one job, with the test as its user and its kubelet.

Each step waits for what the step before it must have led to, so every life is the same whatever happens to the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.api.cluster import JOBS, Cluster, Object, Refused, until

SECONDS = 45.0
"""For one step, with a start of the operator in it."""

_TIMES = {"lastTransitionTime", "startTime", "completionTime", "lastRestartTime"}


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Life:
    """One job with two workers, from its creation until it is deleted after its time to live."""

    cluster: Cluster
    name: str
    keep: Callable[[], None]
    """Called while it waits: starts the operator again when it is dead."""
    step: Callable[[], None] = _nothing
    """Called before everything that the user or the kubelet does."""
    status: Object = field(default_factory=dict)
    """Its last status: without times, and its name as JOB."""
    children: list[str] = field(default_factory=list)
    """Pods that are left when it has ended, with its name as JOB."""

    def work(self) -> None:
        """From its creation to its end; `expire` is what is left to do."""
        self.start()
        self.end()

    def start(self) -> None:
        """Until it is Running."""
        self.step()
        self.cluster.create_job(self.name)
        self.until(lambda: len(self.cluster.pods(self.name, "worker")) == 2)
        for number, pod in enumerate(self.cluster.pods(self.name, "worker"), 1):
            self.step()
            self.cluster.run_pod(pod, f"10.0.0.{number}")
            self._until_ready(number)
        self.run_launcher()

    def run_launcher(self) -> None:
        """Until it is Running with this launcher."""
        self.until(lambda: self.cluster.pods(self.name, "launcher"))
        self.step()
        self.cluster.run_pod(self.cluster.pods(self.name, "launcher")[-1], "10.0.1.1")
        self.until(lambda: self.current().get("phase") == "Running")

    def end(self) -> None:
        """The launcher ends well; until the job is Complete and its workers are gone."""
        self.step()
        self.cluster.end_pod(self.cluster.pods(self.name, "launcher")[-1], 0)
        self.until(lambda: self.current().get("phase") == "Complete" and not self.cluster.pods(self.name, "worker"))
        self.status = self._told(self.current())
        self.children = self._told(self.cluster.names(self.name))

    def expire(self) -> None:
        """Its time to live ends; until it is deleted."""
        self.step()
        self.cluster.call("PATCH", f"{JOBS}/{self.name}", {"spec": {"runPolicy": {"ttlSecondsAfterFinished": 0}}})
        self.until(self._gone)

    def _until_ready(self, count: int) -> None:
        self.until(lambda: self.current().get("summary", {}).get("workers") == f"{count}/2")

    def until(self, condition: Callable[[], object]) -> None:
        def met() -> bool:
            self.keep()
            return bool(condition())

        until(met, lambda: (self.name, self.cluster.names(self.name), self.cluster.job(self.name).get("status")), SECONDS)

    def current(self) -> Object:
        found: Object = self.cluster.job(self.name).get("status", {})
        return found

    def _gone(self) -> bool:
        try:
            self.cluster.job(self.name)
        except Refused as error:
            return error.status == 404
        return False

    def _told(self, value: Any) -> Any:
        """Without what differs from life to life."""
        if isinstance(value, dict):
            return {key: self._told(each) for key, each in value.items() if key not in _TIMES}
        if isinstance(value, list):
            return sorted((self._told(each) for each in value), key=str)
        return value.replace(self.name, "JOB") if isinstance(value, str) else value
