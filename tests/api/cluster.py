"""A test's own namespace on a real API server without nodes: raw API calls, and what a kubelet would write."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from penstock_operator import credentials

Object = dict[str, Any]

JOBS = "/apis/penstock.dev/v1alpha1/namespaces/{namespace}/trainingjobs"
PODS = "/api/v1/namespaces/{namespace}/pods"
ROLE = "penstock.dev/role"
IDLE = 45
"""Seconds after which a connection is opened anew: the API server closes one that is idle for 90."""


class Refused(Exception):
    """The API server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Cluster:
    """One namespace, seen by its administrator."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.kubeconfig, self.namespace = kubeconfig, namespace
        self._identity = credentials.load(str(kubeconfig))
        self._connection = self.connection(timeout=20)
        self._used = time.monotonic()

    def connection(self, *, timeout: float | None) -> http.client.HTTPSConnection:
        """One more to the API server."""
        server = urlsplit(self._identity.server).netloc
        return http.client.HTTPSConnection(server, context=self._identity.ssl_context(), timeout=timeout)

    def close(self) -> None:
        self._connection.close()

    def call(self, verb: str, path: str, body: Object | None = None) -> Object:
        """One request; `{namespace}` in the path is this one."""
        kind = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        data = json.dumps(body) if body is not None else None
        if time.monotonic() - self._used > IDLE:
            self._connection.close()
        self._used = time.monotonic()
        try:
            self._connection.request(verb, path.format(namespace=self.namespace), data, {"Content-Type": kind})
            response = self._connection.getresponse()
            answer: Object = json.loads(response.read())
        except BaseException:
            self._connection.close()  # the next call opens a new one
            raise
        if response.status >= 400:
            raise Refused(response.status, answer.get("message", ""))
        return answer

    def find(self, path: str) -> Object | None:
        """An object, or None when it is not there."""
        try:
            return self.call("GET", path)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def create_job(self, name: str, workers: int = 2, **spec: Any) -> Object:
        body = {
            "apiVersion": "penstock.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": name},
            "spec": {"image": "none", "command": ["true"], "workers": {"replicas": workers}, **spec},
        }
        return self.call("POST", JOBS, body)

    def job(self, name: str) -> Object:
        return self.call("GET", f"{JOBS}/{name}")

    def jobs(self) -> list[str]:
        return sorted(each["metadata"]["name"] for each in self.call("GET", JOBS)["items"])

    def phase(self, name: str) -> str:
        return str(self.job(name).get("status", {}).get("phase", ""))

    def pods(self, job: str, role: str = "") -> list[Object]:
        """The job's pods by name; with a role only those."""
        labels = f"penstock.dev/job-name%3D{job}" + (f",{ROLE}%3D{role}" if role else "")
        found: list[Object] = self.call("GET", f"{PODS}?labelSelector={labels}")["items"]
        return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))

    def names(self, job: str, role: str = "") -> list[str]:
        return [pod["metadata"]["name"] for pod in self.pods(job, role)]

    def ground(self, job: str) -> list[str]:
        """What the job's pods stand on: its Secret and its NetworkPolicy, by name."""
        paths = ("/api/v1/namespaces/{namespace}/secrets", "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies")
        found = [each["metadata"] for path in paths for each in self.call("GET", path)["items"]]
        return [each["name"] for each in found if each.get("labels", {}).get("penstock.dev/job-name") == job]

    def run_pod(self, pod: Object, ip: str) -> None:
        """As a kubelet: the container runs and is ready."""
        self._pod_status(pod, "Running", {"running": {"startedAt": now()}}, ip)

    def end_pod(self, pod: Object, exit_code: int) -> None:
        """As a kubelet: the container ended."""
        ended = {"exitCode": exit_code, "reason": "Completed" if exit_code == 0 else "Error", "finishedAt": now()}
        self._pod_status(pod, "Failed" if exit_code else "Succeeded", {"terminated": ended}, "")

    def run_workers(self, job: str, count: int = 2) -> None:
        """All workers Ready, with addresses 10.0.0.1, 10.0.0.2, …"""
        until(lambda: len(self.pods(job, "worker")) == count, lambda: self.names(job))
        for number, pod in enumerate(self.pods(job, "worker"), 1):
            self.run_pod(pod, f"10.0.0.{number}")

    def launcher(self, job: str) -> Object:
        """The launcher pod, once it is there."""
        until(lambda: self.pods(job, "launcher"), lambda: (self.names(job), self.job(job).get("status")))
        return self.pods(job, "launcher")[0]

    def stalled(self, name: str) -> str:
        """What the condition Stalled says."""
        conditions = self.job(name).get("status", {}).get("conditions", [])
        return next((str(one["message"]) for one in conditions if one["type"] == "Stalled"), "")

    def wait_phase(self, job: str, phase: str, seconds: float = 30.0) -> None:
        until(lambda: self.phase(job) == phase, lambda: (self.names(job), self.job(job).get("status")), seconds)

    def complete(self, job: str, workers: int = 2) -> None:
        """Take a job to its end."""
        self.run_workers(job, workers)
        launcher = self.launcher(job)
        self.run_pod(launcher, "10.0.1.1")
        self.wait_phase(job, "Running")
        self.end_pod(launcher, 0)
        self.wait_phase(job, "Complete")

    def warn(self, pod: Object, message: str) -> None:
        """As a kubelet: an event about the pod."""
        about = {key: pod["metadata"][key] for key in ("name", "namespace", "uid")}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{about['name']}."},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", **about},
            "type": "Warning",
            "reason": "FailedMount",
            "message": message,
        }
        self.call("POST", "/api/v1/namespaces/{namespace}/events", body)

    def _pod_status(self, pod: Object, phase: str, state: Object, ip: str) -> None:
        name, ready = pod["metadata"]["name"], "running" in state
        container = {"name": pod["metadata"]["labels"][ROLE], "image": "none", "imageID": "", "restartCount": 0}
        status: Object = {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": now()}],
            "containerStatuses": [{**container, "ready": ready, "started": ready, "state": state}],
        }
        if ip:
            status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
        self.call("PATCH", f"{PODS}/{name}/status", {"status": status})


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def until(condition: Callable[[], object], state: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a condition; after `seconds` fail with the state."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s; the state is:\n{state()}"
        time.sleep(0.05)
