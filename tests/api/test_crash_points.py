"""The operator is killed at every single write of a job's life; the next one must bring the job to the same end.

A lane is one namespace and one proxy. In its first life the operator dies at the first write, in the second at the second, and
so on until a life has no such write: that one was undisturbed, and all the others must have been like it. So nothing here knows
how many writes a life has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.api.cluster import JOBS, PODS, Cluster, until
from tests.api.conftest import has_account
from tests.api.fault_proxy import FaultProxy, Request
from tests.api.job_life import Life
from tests.api.kept_operator import Kept
from tests.api.proxy import Fault

from penstock_local.controlplane import ControlPlane

pytestmark = pytest.mark.api

Moment = Literal["before", "after"]
LEAST = 10
"""Writes in a life below which something is wrong with this test."""


@dataclass(slots=True)
class Strike:
    """Kills the operator at the n-th write of one job: before it is forwarded, or before its answer comes back. Whatever the
    operator has sent after that write gets nowhere."""

    operator: Kept
    job: str
    number: int
    moment: Moment
    count: int = 0
    at: Request | None = None
    revived: bool = False

    def __call__(self, request: Request) -> Fault | None:
        if self.at is not None:
            return None if self.revived else Fault(cut="before")
        if not request.write or self.job not in request.name:
            return None
        self.count += 1
        if self.count < self.number:
            return None
        self.at = request
        if self.moment == "after":
            return Fault(cut="after", then=self.operator.kill)
        self.operator.kill()
        return Fault(cut="before")

    def keep(self) -> None:
        if self.operator.ended():  # asked once: it may end at any moment, and a new one must not be struck too
            self.revived = True
            self.operator.start()


@dataclass(frozen=True, slots=True)
class Lived:
    """What is left of one life."""

    struck: str
    """The write at which the operator was killed; empty in the undisturbed life."""
    created: list[str]
    status: dict[str, Any]
    children: list[str]


@dataclass(slots=True)
class Lane:
    """Lives one after the other, beside the other lanes."""

    plane: ControlPlane
    folder: Path
    name: str
    moment: Moment
    live: Callable[[Life, Callable[[], None]], None]
    """Lives one life; calls its second argument where the strikes begin."""
    lives: list[Lived] = field(default_factory=list)
    log: str = ""

    def run(self) -> Lane:
        cluster = Cluster(self.plane.kubeconfig, self.name)
        cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})
        until(lambda: has_account(cluster), lambda: "no default service account")
        with FaultProxy(self.plane, self.folder / f"{self.name}.kubeconfig") as proxy:
            operator = Kept(cluster, proxy.kubeconfig, self.folder)
            operator.settings["PENSTOCK_RESTART_BACKOFF_SECONDS"] = "0.1"
            try:
                self._first_start(proxy, operator)
                for number in itertools.count(1):
                    self.lives.append(self._life(proxy, operator, cluster, number))
                    if not self.lives[-1].struck:
                        break
                until(lambda: remains(cluster) == [], lambda: remains(cluster))
            except AssertionError as error:
                error.add_note(f"lane {self.name}, after {[life.struck for life in self.lives]}\n{operator.log()[-4000:]}")
                raise
            finally:
                operator.kill()
                self.log = operator.log()
                cluster.close()
        return self

    def _first_start(self, proxy: FaultProxy, operator: Kept) -> None:
        """The very first write of all: the operator's own key."""
        strike = Strike(operator, "penstock-operator-key", 1, self.moment)
        proxy.fault = strike
        operator.start()
        until(operator.ended, operator.log)
        strike.keep()
        until(operator.leads, operator.log)
        assert strike.at is not None
        assert proxy.created() == ["secrets/penstock-operator-key"]

    def _life(self, proxy: FaultProxy, operator: Kept, cluster: Cluster, number: int) -> Lived:
        job = f"{self.name}-{number:02}"
        strike = Strike(operator, job, number, self.moment)
        life = Life(cluster, job, strike.keep)

        def arm() -> None:
            proxy.fault = strike

        before = len(proxy.created())
        self.live(life, arm)
        if strike.at is not None and not strike.revived:  # struck at its last write
            until(operator.ended, operator.log)
        proxy.fault = lambda request: None
        created = sorted(name.replace(uid_of(name, job), "UID").replace(job, "JOB") for name in proxy.created()[before:])
        struck = f"{number}: {strike.at}".replace(job, "JOB") if strike.at else ""
        return Lived(struck, created, life.status, life.children)


def uid_of(child: str, job: str) -> str:
    """The last part of a Secret's name is of the job's uid."""
    return child.rpartition("-")[2] if child.startswith(f"secrets/{job}-ring-") else "\0"


def remains(cluster: Cluster) -> list[str]:
    """Children that the garbage collector has not removed yet."""
    policies = "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    lists = [cluster.call("GET", path)["items"] for path in (PODS, "/api/v1/namespaces/{namespace}/secrets", policies, JOBS)]
    names = [item["metadata"]["name"] for items in lists for item in items]
    return [name for name in names if name != "penstock-operator-key"]


def whole_life(life: Life, arm: Callable[[], None]) -> None:
    arm()
    life.work()
    life.expire()


def life_with_a_lost_worker(life: Life, arm: Callable[[], None]) -> None:
    """A worker vanishes while the launcher runs; the strikes begin there."""
    life.start()
    arm()
    worker = f"{life.name}-worker-1"
    life.cluster.call("DELETE", f"{PODS}/{worker}")
    life.until(lambda: f"{worker}-a2" in life.cluster.names(life.name, "worker"))
    life.cluster.run_pod(life.cluster.pods(life.name, "worker")[1], "10.0.0.3")
    life.until(lambda: f"{life.name}-launcher-a2" in life.cluster.names(life.name, "launcher"))
    life.run_launcher()
    life.end()
    life.expire()


@pytest.fixture(scope="module")
def lanes(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Lane]]]:
    folder = tmp_path_factory.mktemp("lanes")
    made = [
        Lane(plane, folder, "before", "before", whole_life),
        Lane(plane, folder, "after", "after", whole_life),
        Lane(plane, folder, "lost", "after", life_with_a_lost_worker),
    ]
    with ThreadPoolExecutor(len(made)) as pool:
        yield {lane.name: pool.submit(lane.run) for lane in made}


@pytest.fixture(params=["before", "after", "lost"])
def lane(request: pytest.FixtureRequest, lanes: dict[str, Future[Lane]]) -> Lane:
    return lanes[request.param].result()


def test_every_write_of_a_life_was_struck_once(lane: Lane) -> None:
    *struck, undisturbed = lane.lives
    assert len(struck) >= LEAST
    assert undisturbed.struck == ""


def test_whatever_the_write_it_was_killed_at_the_status_is_the_same_in_the_end(lane: Lane) -> None:
    *struck, undisturbed = lane.lives
    assert {life.struck: life.status for life in struck if life.status != undisturbed.status} == {}
    lost = int(lane.name == "lost")
    assert undisturbed.status["phase"] == "Complete"
    assert undisturbed.status["attempt"] == 1 + lost
    assert undisturbed.status["restarts"] == {"code": 0, "infrastructure": lost}


def test_whatever_the_write_it_was_killed_at_every_child_is_made_exactly_once(lane: Lane) -> None:
    *struck, undisturbed = lane.lives
    assert len(set(undisturbed.created)) == len(undisturbed.created)
    assert {life.struck: life.created for life in struck if life.created != undisturbed.created} == {}
    assert {life.struck: life.children for life in struck if life.children != undisturbed.children} == {}


def test_being_killed_is_no_bug_for_the_next_operator(lane: Lane) -> None:
    assert "a bug in the operator" not in lane.log
