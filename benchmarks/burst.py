"""N jobs x W workers at once against a real API server with no nodes: how long until the last worker pod exists?

Both contestants run the same way: `--kind TrainingJob` or `--kind MPIJob` creates the objects through one client and counts the
worker pods as a watch shows them. The operator under test is whatever runs against KUBECONFIG; `make bench-burst` starts
Penstock's. Pods stay Pending (there are no nodes), so this measures the control loop and the API server, nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from penstock_operator import credentials

Object = dict[str, Any]

TABLE = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Result:
    """Seconds from the first create to the last worker pod, and to the last create's answer."""

    jobs: int
    workers: int
    seconds: float
    submit_seconds: float

    @property
    def jobs_per_second(self) -> float:
        return self.jobs / self.seconds


def training_job(name: str, namespace: str, workers: int) -> Object:
    spec = {"image": "none", "command": ["true"], "workers": {"replicas": workers}}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "penstock.dev/v1alpha1", "kind": "TrainingJob", "metadata": metadata, "spec": spec}


def mpi_job(name: str, namespace: str, workers: int) -> Object:
    pod = {"spec": {"containers": [{"name": "main", "image": "none", "command": ["true"]}]}}
    replicas = {"Launcher": {"replicas": 1, "template": pod}, "Worker": {"replicas": workers, "template": pod}}
    return {
        "apiVersion": "kubeflow.org/v2beta1",
        "kind": "MPIJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"mpiReplicaSpecs": replicas},
    }


KINDS = {
    "TrainingJob": (training_job, "penstock.dev/v1alpha1", "trainingjobs", "penstock.dev/role=worker"),
    "MPIJob": (mpi_job, "kubeflow.org/v2beta1", "mpijobs", "training.kubeflow.org/job-role=worker"),
}


class Client:
    """A few raw calls; light, because it shares the two cores with what it measures."""

    def __init__(self) -> None:
        self._credentials = credentials.load()

    async def __aenter__(self) -> Client:
        connector = aiohttp.TCPConnector(limit=24, ssl=self._credentials.ssl_context())
        headers = {"Authorization": f"Bearer {token}"} if (token := self._credentials.token()) else {}
        self._session = aiohttp.ClientSession(connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=None))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(self, verb: str, path: str, body: Object | None = None) -> Object:
        async with self._session.request(verb, self._credentials.server + path, json=body) as response:
            answer: Object = await response.json(content_type=None)
            if response.status >= 400 and not (response.status == 409 and verb == "POST") and response.status != 404:
                raise RuntimeError(f"{verb} {path}: {response.status} {answer.get('message')}")
            return answer

    async def patch(self, path: str, body: Object) -> None:
        """Merge-patch."""
        headers = {"Content-Type": "application/merge-patch+json"}
        data = json.dumps(body)
        async with self._session.patch(self._credentials.server + path, data=data, headers=headers) as response:
            if response.status >= 400:
                raise RuntimeError(f"PATCH {path}: {response.status} {await response.text()}")

    async def count_added(self, path: str, wanted: int, started: asyncio.Event) -> float:
        """Watch until `wanted` objects were added; returns the moment of the last (perf_counter)."""
        seen = 0
        async with self._session.get(self._credentials.server + path, headers={"Accept": TABLE}) as response:
            started.set()
            async for line in response.content:
                if line.startswith(b'{"type":"ADDED"'):
                    seen += 1
                    if seen == wanted:
                        return time.perf_counter()
        raise RuntimeError(f"the watch ended after {seen} of {wanted} pods")


async def burst(client: Client, kind: str, jobs: int, workers: int, *, patience: float = 300.0) -> Result:
    """One burst in a namespace of its own, which is deleted afterwards."""
    build, version, plural, selector = KINDS[kind]
    namespace = f"burst-{jobs}x{workers}-{int(time.time() * 1000) % 10**8}"
    await client.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    await _default_account(client, namespace)
    started = asyncio.Event()
    pods = f"/api/v1/namespaces/{namespace}/pods?watch=true&labelSelector={selector.replace('=', '%3D').replace('/', '%2F')}"
    counting = asyncio.create_task(client.count_added(pods, jobs * workers, started))
    await started.wait()
    path = f"/apis/{version}/namespaces/{namespace}/{plural}"
    begun = time.perf_counter()
    await asyncio.gather(*(client.call("POST", path, build(f"job-{number}", namespace, workers)) for number in range(jobs)))
    submitted = time.perf_counter()
    last = await asyncio.wait_for(counting, patience)
    return Result(jobs, workers, last - begun, submitted - begun)


async def _default_account(client: Client, namespace: str) -> None:
    """Pods need the namespace's default service account; the controller manager makes it a moment after the namespace."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = await client.call("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
        if answer.get("kind") == "ServiceAccount":
            return
        await asyncio.sleep(0.05)
    raise RuntimeError(f"no default service account in {namespace} after 30 s")


async def _main(options: argparse.Namespace) -> None:
    async with Client() as client:
        for _ in range(options.repeat):
            result = await burst(client, options.kind, options.jobs, options.workers)
            line = {"kind": options.kind, "jobs": result.jobs, "workers": result.workers, "seconds": round(result.seconds, 3)}
            line |= {"jobsPerSecond": round(result.jobs_per_second, 1), "submitSeconds": round(result.submit_seconds, 3)}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kind", choices=sorted(KINDS), default="TrainingJob")
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1)
    asyncio.run(_main(parser.parse_args()))
