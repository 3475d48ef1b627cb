"""`make bench-burst`: every figure the operator is held to, as one JSON line each, kept in benchmarks/results/burst.json.

A real etcd, kube-apiserver and controller manager run beside the operator on the same cores, without nodes. Bursts are the best
of three, since other work on the machine only ever makes them slower; the rest is measured once.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from burst import Client, burst, training_job

from penstock_local.controlplane import ControlPlane, free_ports
from penstock_local.processes import resident_mib

NAMESPACE = "figures"
RESIDENT = 1000
RESULTS = Path(__file__).parent / "results" / "burst.json"


class Operator:
    """The operator as a process against one API server."""

    def __init__(self, kubeconfig: Path) -> None:
        self.port = free_ports(1)[0]
        settings = {"LISTEN_HOST": "127.0.0.1", "LISTEN_PORT": str(self.port), "LOG_LEVEL": "warning"}
        environment = {f"PENSTOCK_{name}": value for name, value in settings.items()}
        command = [sys.executable, "-m", "penstock_operator"]
        self.process = subprocess.Popen(command, env={**os.environ, **environment, "KUBECONFIG": str(kubeconfig)})

    async def ready(self, session: aiohttp.ClientSession) -> None:
        """Wait until it leads and its queue is empty."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            metrics = await self.metrics(session)
            if metrics.get("penstock_leader") == 1 and metrics.get("workqueue_depth") == 0 and self.jobs(metrics) >= 0:
                return
            await asyncio.sleep(0.1)
        raise RuntimeError("the operator does not lead after 60 s")

    async def metrics(self, session: aiohttp.ClientSession) -> dict[str, float]:
        """/metrics as `name{labels}` -> value; empty while it does not answer."""
        try:
            async with session.get(f"http://127.0.0.1:{self.port}/metrics") as response:
                text = await response.text()
        except aiohttp.ClientError:
            return {}
        rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in rows}

    @staticmethod
    def jobs(metrics: dict[str, float]) -> float:
        return sum(value for name, value in metrics.items() if name.startswith("penstock_trainingjobs{"))

    @staticmethod
    def writes(metrics: dict[str, float]) -> float:
        """Writes so far, without the Lease's (PUT), which has nothing to do with jobs."""
        verbs = ('method="POST"', 'method="PATCH"', 'method="DELETE"')
        calls = {name: value for name, value in metrics.items() if name.startswith("rest_client_requests")}
        return sum(value for name, value in calls.items() if any(verb in name for verb in verbs))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)


@contextmanager
def running(kubeconfig: Path) -> Iterator[Operator]:
    operator = Operator(kubeconfig)
    try:
        yield operator
    finally:
        operator.stop()


def figure(name: str, value: float, unit: str, bound: float, *, at_least: bool = False) -> dict[str, Any]:
    """One line of the table; printed as it is known."""
    ok = value >= bound if at_least else value <= bound
    line = {"name": name, "value": round(value, 3), "unit": unit, "bound": bound, "ok": ok}
    print(json.dumps(line), flush=True)
    return line


async def launcher_latency(client: Client, jobs: int = 20) -> float:
    """Median milliseconds from a job's last worker becoming Ready to its launcher pod."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    found = []
    for number in range(jobs):
        name = f"latency-{number}"
        jobs_path = f"/apis/penstock.dev/v1alpha1/namespaces/{NAMESPACE}/trainingjobs"
        await client.call("POST", jobs_path, training_job(name, NAMESPACE, 1))
        await _until(client, f"{path}/{name}-worker-0")
        conditions = [{"type": "Ready", "status": "True"}]
        running = {"name": "worker", "ready": True, "restartCount": 0, "image": "i", "imageID": "i", "state": {"running": {}}}
        status = {"phase": "Running", "podIP": f"10.0.0.{number + 1}", "conditions": conditions, "containerStatuses": [running]}
        begun = time.perf_counter()
        await client.patch(f"{path}/{name}-worker-0/status", {"status": status})
        await _until(client, f"{path}/{name}-launcher")
        found.append((time.perf_counter() - begun) * 1000)
    return statistics.median(found)


async def _until(client: Client, path: str) -> None:
    deadline = time.monotonic() + 30
    while (await client.call("GET", path)).get("kind") != "Pod":
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} is not there after 30 s")
        await asyncio.sleep(0.002)


async def finished_jobs(client: Client, count: int) -> None:
    """Jobs that are over, as they are months later: Complete, their pods gone."""
    path = f"/apis/penstock.dev/v1alpha1/namespaces/{NAMESPACE}/trainingjobs"
    moment = "2026-01-01T00:00:00Z"
    complete = {"type": "Complete", "status": "True", "reason": "ProgramSucceeded", "message": "", "lastTransitionTime": moment}

    async def one(number: int) -> None:
        name = f"finished-{number}"
        await client.call("POST", path, training_job(name, NAMESPACE, 2))
        status = {"phase": "Complete", "attempt": 1, "observedGeneration": 1, "completionTime": moment}
        status["conditions"] = [{**complete, "observedGeneration": 1}]
        await client.patch(f"{path}/{name}/status", {"status": status})

    for start in range(0, count, 20):
        await asyncio.gather(*(one(number) for number in range(start, min(count, start + 20))))


async def measure(plane: ControlPlane) -> list[dict[str, Any]]:
    table = []
    async with Client() as client, aiohttp.ClientSession() as session:
        with running(plane.kubeconfig) as operator:
            await operator.ready(session)
            table.append(figure("operator RSS, idle", resident_mib(operator.process.pid), "MiB", 90))
            for jobs, workers, bound in ((100, 2, 2.8), (1, 64, 0.4)):
                best = min([await burst(client, "TrainingJob", jobs, workers) for _ in range(3)], key=lambda one: one.seconds)
                table.append(figure(f"{jobs} jobs x {workers} workers, create to last pod", best.seconds, "s", bound))
            speed = (await burst(client, "TrainingJob", 500, 2)).jobs_per_second
            table.append(figure("500 jobs x 2 workers", speed, "jobs/s", 50, at_least=True))
        plane.kubectl("create", "namespace", NAMESPACE)
        plane.kubectl("wait", "-n", NAMESPACE, "serviceaccount/default", "--for=create", "--timeout=30s")
        _drop_bursts(plane)
        with running(plane.kubeconfig) as operator:
            await operator.ready(session)
            table.append(figure("last worker Ready to launcher pod, median", await launcher_latency(client), "ms", 200))
            plane.kubectl("-n", NAMESPACE, "delete", "tj", "--all")
        await finished_jobs(client, RESIDENT)
        with running(plane.kubeconfig) as operator:
            await operator.ready(session)
            await _seen(operator, session, RESIDENT)
            first = Operator.writes(await operator.metrics(session))
            table.append(figure("writes after a restart over 1,000 finished jobs", first, "writes", 0))
            table.append(figure("operator RSS, 1,000 resident jobs", resident_mib(operator.process.pid), "MiB", 130))
            plane.kubectl("-n", NAMESPACE, "annotate", "tj", "--all", "benchmark=touched")
            await asyncio.sleep(3)
            more = Operator.writes(await operator.metrics(session)) - first
            table.append(figure("writes in 1,000 reconciles with nothing to do", more, "writes", 0))
    return table


def _drop_bursts(plane: ControlPlane) -> None:
    spaces = [name for name in plane.kubectl("get", "namespaces", "-o", "name").split() if "burst-" in name]
    if spaces:
        plane.kubectl("delete", *spaces, "--timeout=240s")
    plane.kubectl("-n", NAMESPACE, "delete", "pods", "--all", "--wait=false")


async def _seen(operator: Operator, session: aiohttp.ClientSession, jobs: int) -> None:
    deadline = time.monotonic() + 60
    while Operator.jobs(await operator.metrics(session)) < jobs:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the operator does not know {jobs} jobs after 60 s")
        await asyncio.sleep(0.2)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ControlPlane(Path(folder)) as plane:
        plane.install_crds()
        plane.kubectl("create", "namespace", "penstock-system")
        os.environ["KUBECONFIG"] = str(plane.kubeconfig)
        table = asyncio.run(measure(plane))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("".join(json.dumps(line) + "\n" for line in table))
    if not all(line["ok"] for line in table):
        sys.exit("a figure misses its bound")


if __name__ == "__main__":
    main()
