"""The API server refuses, is slow, is cut off, or its watches lie: a job still comes to its end with every child made once.

The lives of the jobs are lived side by side, each with a trouble of its own: what refuses writes under one operator, what
befalls watches under an operator for each. Every test then asks for what became of one life.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.api.cluster import JOBS, PODS, Cluster, until
from tests.api.conftest import has_account
from tests.api.fault_proxy import WRITES, FaultProxy, Request
from tests.api.job_life import Life
from tests.api.kept_operator import Kept
from tests.api.proxy import Fault

from penstock_local.controlplane import ControlPlane
from penstock_operator import watch

pytestmark = pytest.mark.api

Rule = Callable[[Request], Fault | None]

WATCHES = 3
"""Jobs, volumes, pods."""


# --- troubles -----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Storm:
    """Every write is in trouble for some seconds from its first try on, and every read that goes with it, if asked for. A patch
    or deletion that has got through begins anew the next time; what is created or read is in trouble once, or several of them
    that are tried together would hardly ever get through together."""

    fault: Fault
    seconds: float = 1.0
    reads: bool = False
    since: dict[tuple[str, str, str], float] = field(default_factory=dict)
    troubled: int = 0

    def __call__(self, request: Request) -> Fault | None:
        if request.verb not in WRITES and not self.reads:
            return None
        what = (request.verb, request.kind, request.name)
        if time.monotonic() - self.since.setdefault(what, time.monotonic()) < self.seconds:
            self.troubled += 1
            return self.fault
        if request.verb not in ("POST", "GET"):
            del self.since[what]
        return None


def slow(request: Request) -> Fault | None:
    return Fault(late=2.0) if request.verb in WRITES else None


def troubles() -> dict[str, Rule]:
    """By the name of the job that has them."""
    return {
        "calm": lambda request: None,
        "conflict": Storm(Fault(answer=(409, "Conflict"))),
        "throttled": Storm(Fault(answer=(429, "TooManyRequests"), retry_after=1)),
        "broken": Storm(Fault(answer=(500, "InternalError"))),
        "away": Storm(Fault(answer=(503, "ServiceUnavailable"))),
        "unasked": Storm(Fault(cut="before"), seconds=0.1, reads=True),
        "unanswered": Storm(Fault(cut="after"), seconds=0.1, reads=True),
        "halved": Storm(Fault(cut="middle"), seconds=0.1, reads=True),
        "slow": slow,
    }


# --- scenes -------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Scene:
    """A namespace, an operator and the proxy between it and the API server."""

    plane: ControlPlane
    namespace: str
    cluster: Cluster
    proxy: FaultProxy
    operator: Kept
    lives: list[Life] = field(default_factory=list)

    def life(self, name: str, step: Callable[[], None] = lambda: None) -> Life:
        """With a connection of its own, for a thread of its own."""
        self.lives.append(Life(Cluster(self.plane.kubeconfig, self.namespace), name, self.operator.keep, step))
        return self.lives[-1]

    def created(self, job: str) -> list[str]:
        """What the operator ever made for a job, with the job's name as JOB."""
        made = [name for name in self.proxy.created() if job in name]
        return sorted(name.replace(job, "JOB") if "secrets" not in name else "secrets/JOB" for name in made)

    def watched(self) -> None:
        """All watches are open."""
        until(lambda: self.proxy.watching() >= WATCHES, self.operator.log)

    def look_again(self, jobs: list[str]) -> None:
        """Until the operator has looked at every one of these jobs once more, and has then been quiet for a second."""
        looked = self.operator.reconciles()
        touch = {"metadata": {"annotations": {"example.com/touched": str(looked)}}}
        for job in jobs:
            self.cluster.call("PATCH", f"{JOBS}/{job}", touch)
        until(lambda: self.operator.reconciles() >= looked + len(jobs), self.operator.metrics)
        self.operator.settle()


@contextmanager
def scene(plane: ControlPlane, folder: Path, namespace: str, patience: float | None = None) -> Iterator[Scene]:
    cluster = Cluster(plane.kubeconfig, namespace)
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    until(lambda: has_account(cluster), lambda: "no default service account")
    with FaultProxy(plane, folder / f"{namespace}.kubeconfig") as proxy:
        operator = Kept(cluster, proxy.kubeconfig, folder, patience)
        made = Scene(plane, namespace, cluster, proxy, operator)
        try:
            operator.start()
            until(operator.leads, operator.log)
            made.watched()
            yield made
        except AssertionError as error:
            error.add_note(f"the operator in {namespace}:\n{operator.log()[-4000:]}")
            raise
        finally:
            operator.kill()
            for each in (cluster, *(life.cluster for life in made.lives)):
                each.close()


# What a life without any trouble leaves behind.
CHILDREN = ["networkpolicies/JOB-ring", "pods/JOB-launcher", "pods/JOB-worker-0", "pods/JOB-worker-1", "secrets/JOB"]


@dataclass(frozen=True, slots=True)
class End:
    """What became of one job."""

    life: Life
    created: list[str]
    log: str

    def check(self) -> None:
        """It is over, by itself, with every child made once, and nobody stumbled."""
        status = self.life.status
        assert (status["phase"], status["attempt"]) == ("Complete", 1)
        assert status["restarts"] == {"code": 0, "infrastructure": 0}
        assert self.created == CHILDREN
        assert self.life.children == ["JOB-launcher"]
        assert "a bug in the operator" not in self.log


# --- writes -------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Writes:
    """All lives with trouble in their writes, under one operator."""

    plane: ControlPlane
    folder: Path
    rules: dict[str, Rule] = field(default_factory=troubles)
    ends: dict[str, End | BaseException] = field(default_factory=dict)
    written_after: list[str] = field(default_factory=list)
    """What was written when all troubles were over and nothing was left to do."""

    def run(self) -> Writes:
        with scene(self.plane, self.folder, "faults-writes") as at:
            at.proxy.fault = self._rule
            with ThreadPoolExecutor(len(self.rules)) as pool:
                lives = {name: at.life(name) for name in self.rules}
                self._all(pool, lives, Life.work)
                at.proxy.fault = lambda request: None
                at.operator.settle()
                before = len(at.proxy.writes())
                at.look_again(list(lives))
                self.written_after = [str(request) for request in at.proxy.writes()[before:]]
                at.proxy.fault = self._rule
                self._all(pool, lives, Life.expire)
            for name, life in lives.items():
                self.ends.setdefault(name, End(life, at.created(name), at.operator.log()))
        return self

    def _rule(self, request: Request) -> Fault | None:
        return next((rule(request) for name, rule in self.rules.items() if request.name.startswith(name)), None)

    def _all(self, pool: ThreadPoolExecutor, lives: dict[str, Life], part: Callable[[Life], None]) -> None:
        """One part of every life that is well so far."""
        parts = {name: pool.submit(part, life) for name, life in lives.items() if name not in self.ends}
        for name, one in parts.items():
            if (error := one.exception()) is not None:
                self.ends[name] = error


# --- watches ------------------------------------------------------------------------------------------------------------------


def with_watches(plane: ControlPlane, folder: Path, name: str) -> End:
    """A life in which something befalls all watches before everything that happens."""
    trouble = WATCH_TROUBLES[name]
    with scene(plane, folder, f"faults-{name}", trouble.patience) as at:

        def step() -> None:
            at.watched()
            trouble.befall(at)

        life = at.life(name, step)
        life.work()
        at.look_again([name])
        before = at.proxy.writes()
        at.look_again([name])
        assert at.proxy.writes() == before
        life.expire()
        assert at.operator.starts == 1 or not trouble.survived
        return End(life, at.created(name), at.operator.log())


def refuse_watches(at: Scene) -> None:
    """Cut them, and refuse the next try to watch each kind."""
    storm = Storm(Fault(answer=(503, "ServiceUnavailable")), seconds=0.1, reads=True)
    at.proxy.fault = lambda request: storm(request) if request.watch else None
    at.proxy.cut_watches()


@dataclass(frozen=True, slots=True)
class Trouble:
    """What befalls all watches at once."""

    befall: Callable[[Scene], object]
    patience: float | None = None
    survived: bool = True
    """Whether the operator lives through it. kopf ends at any error in a stream but 410, and the operator with it."""


WATCH_TROUBLES = {
    "cut": Trouble(lambda at: at.proxy.cut_watches()),
    "torn": Trouble(lambda at: at.proxy.cut_watches_in_an_event()),
    "expired": Trouble(lambda at: at.proxy.fail_watches(410, "Expired")),
    "failed": Trouble(lambda at: at.proxy.fail_watches(500, "InternalError"), survived=False),
    "refused": Trouble(refuse_watches),
    "stalled": Trouble(lambda at: at.proxy.stall_watches(), patience=2.0),
}


# --- tests --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """All lives are lived at the same time, from the first test on."""

    writes: Future[Writes]
    watches: dict[str, Future[End]]


@pytest.fixture(scope="module")
def told(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("faults")
    with ThreadPoolExecutor(1 + len(WATCH_TROUBLES)) as pool:
        writes = pool.submit(Writes(plane, folder).run)
        watches = {name: pool.submit(with_watches, plane, folder, name) for name in WATCH_TROUBLES}
        yield Told(writes, watches)


@pytest.mark.parametrize("name", troubles())
def test_a_job_whose_every_write_is_in_trouble_comes_to_its_end(told: Told, name: str) -> None:
    writes = told.writes.result()
    end = writes.ends[name]
    if isinstance(end, BaseException):
        raise end
    end.check()
    rule = writes.rules[name]
    assert not isinstance(rule, Storm) or rule.troubled >= len(CHILDREN)


def test_when_the_troubles_are_over_nothing_is_written(told: Told) -> None:
    assert told.writes.result().written_after == []


@pytest.mark.parametrize("name", WATCH_TROUBLES)
def test_a_job_whose_every_event_is_in_trouble_comes_to_its_end(told: Told, name: str) -> None:
    told.watches[name].result().check()


def test_a_silent_watch_is_given_up_after_seventy_seconds_at_most() -> None:
    assert watch.kopf_settings().watching.inactivity_timeout <= 70


def test_a_worker_that_is_deleted_before_its_creation_was_answered_is_made_anew(plane: ControlPlane, tmp_path: Path) -> None:
    with scene(plane, tmp_path, "faults-ghost") as at:
        gone: list[str] = []

        def rule(request: Request) -> Fault | None:
            late = request.verb == "POST" and request.name == "ghost-worker-1" and not gone
            return Fault(late=1.5) if late else None

        at.proxy.fault = rule
        at.cluster.create_job("ghost")
        until(lambda: "ghost-worker-1" in at.cluster.names("ghost"), at.operator.log)
        gone += [pod["metadata"]["uid"] for pod in at.cluster.pods("ghost", "worker")[1:]]
        at.cluster.call("DELETE", f"{PODS}/ghost-worker-1", {"gracePeriodSeconds": 0})
        until(lambda: len(at.cluster.pods("ghost", "worker")) == 2, lambda: at.cluster.job("ghost").get("status"), 15)
        assert gone[0] not in {pod["metadata"]["uid"] for pod in at.cluster.pods("ghost")}


def test_a_worker_that_is_lost_while_the_watches_are_gone_is_missed(plane: ControlPlane, tmp_path: Path) -> None:
    with scene(plane, tmp_path, "faults-lost") as at:
        life = at.life("lost")
        life.start()
        at.watched()
        at.proxy.stall_watches()
        at.cluster.call("DELETE", f"{PODS}/lost-worker-1", {"gracePeriodSeconds": 0})
        at.proxy.fail_watches(410, "Expired")
        life.until(lambda: "lost-worker-1-a2" in life.cluster.names("lost", "worker"))
