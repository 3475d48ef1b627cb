"""A volume's whole life between two proxies, with an operator that is killed at each write and started again.

Both proxies ask one `Killer` about every call that changes something, in AWS or in the cluster. It kills once at each call:
before the call is forwarded, or after it was done and before the operator can know.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.api.cluster import Cluster, until
from tests.api.conftest import has_account
from tests.api.fault_proxy import FaultProxy, Request
from tests.api.operator_process import Operator
from tests.api.proxy import Fault
from tests.volumes.aws_proxy import AWSProxy, Call
from tests.volumes.storage import Storage

from penstock_local.aws import FakeAWS
from penstock_local.controlplane import ControlPlane

Moment = Literal["never", "before", "after"]
QUICK = {"PENSTOCK_VOLUME_POLL_SECONDS": "0.2", "PENSTOCK_VOLUME_RETRY_SECONDS": "1"}
_KINDS = {
    "lustrevolumes": "LustreVolume",
    "lustrevolumes/status": "status",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "": "PersistentVolume",  # the only kind without a namespace
}


class Killer:
    """SIGKILL at every call point, once each; a thread starts the operator again."""

    def __init__(self, operator: Operator, moment: Moment) -> None:
        self._operator, self._moment = operator, moment
        self.points: list[str] = []
        """Every call point that was met, in order, such as `PATCH status` or `CreateFileSystem`."""
        self.kills: list[str] = []
        self._known: set[str] = set()
        self._writes: Counter[str] = Counter()
        self._lock = threading.Lock()
        # Two calls side by side both kill. A second kill between start and clear would leave a dead one that is thought alive.
        self._turn = threading.Lock()
        self._dead, self._over = threading.Event(), threading.Event()
        self._reviver = threading.Thread(target=self._revive, name="reviver", daemon=True)

    def __enter__(self) -> Killer:
        self._operator.start(**QUICK)
        self._reviver.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._turn:
            self._over.set()
            self._dead.set()
        self._reviver.join(timeout=30)
        assert not self._reviver.is_alive()
        self._operator.kill()

    def aws(self, call: Call) -> Fault | None:
        return self._meet(call.action, call.what) if call.changes else None

    def kube(self, request: Request) -> Fault | None:
        if not request.write or request.kind not in _KINDS:
            return None
        point = f"{request.verb} {_KINDS[request.kind]}"
        with self._lock:
            self._writes[point] += not self._dead.is_set()
            count = self._writes[point]
        # A write that was not forwarded comes again: every second one is the same. One that was done does not.
        return self._meet(point, f"{point} {(count + 1) // 2 if self._moment == 'before' else count}")

    def _meet(self, point: str, what: str) -> Fault | None:
        with self._lock:
            if self._dead.is_set():  # sent by the dead one, beside the call that it died of
                return Fault(cut="before")
            if what in self._known:
                return None
            self._known.add(what)
            self.points.append(point)
            if self._moment == "never":
                return None
            self.kills.append(point)
            if self._moment == "before":
                self._kill()
                return Fault(cut="before")
            return Fault(then=self._kill, cut="after")

    def _kill(self) -> None:
        with self._turn:
            self._operator.kill()
            self._dead.set()

    def _revive(self) -> None:
        while self._dead.wait():
            with self._turn:
                if self._over.is_set():
                    return
                self._operator.start(**QUICK)
                self._dead.clear()


@dataclass(slots=True)
class Life:
    """What a life left behind, and what was seen on the way."""

    points: list[str]
    kills: list[str]
    file_systems: set[str]
    """Ids in the answers of all CreateFileSystem calls."""
    left: list[Any]
    """File systems that are still there."""
    objects: dict[str, bytes]
    claims_at_export: list[Any] = field(default_factory=list)
    """The claim at each CreateDataRepositoryTask."""
    tasks_at_deletion: list[list[tuple[str, int]]] = field(default_factory=list)
    """Lifecycle and failed files of all tasks at each DeleteFileSystem."""
    volumes: list[Any] = field(default_factory=list)
    """LustreVolume, claim and PersistentVolume at the end; None is gone."""


def live(plane: ControlPlane, storage: Storage, folder: Path, moment: Moment) -> Life:
    """Create, fill and delete a volume with two folders, of which one is exported."""
    cluster, aws = storage.cluster, storage.aws
    kube = FaultProxy(plane, folder / f"{moment}.kubeconfig")
    proxy = AWSProxy(aws.endpoint)
    operator = Operator(kube.kubeconfig, cluster.namespace, folder, f"operator-{moment}")
    life = Life([], [], set(), [], {})
    witness = Witness(plane, storage, life)
    killer = Killer(operator, moment)

    def call(seen: Call) -> Fault | None:
        witness.see(seen)
        return killer.aws(seen)

    kube.fault, proxy.fault = killer.kube, call
    with kube, proxy, witness:
        operator.settings |= aws.environment(proxy.endpoint)
        with killer:
            storage.create(repositories=[storage.repository("/out", exportEvents=["New"]), storage.repository("/images")])
            uid = (storage.volume() or {})["metadata"]["uid"]
            identity = storage.wait_phase("Available", seconds=150)["fileSystemId"]
            model = aws.files(identity) / "out/model.bin"
            model.write_bytes(b"first")
            until(lambda: "out/model.bin" in _objects(storage), lambda: _objects(storage))
            model.write_bytes(b"second")  # a change, which only the export before the deletion brings to S3
            storage.delete()
            storage.wait_gone(seconds=150)
            until(lambda: not storage.file_systems(), storage.file_systems)
    life.points, life.kills = killer.points, killer.kills
    made = [one.answer["FileSystem"] for one in proxy.changes() if one.action == "CreateFileSystem" and one.status == 200]
    life.file_systems = {one["FileSystemId"] for one in made}
    life.left, life.objects = storage.file_systems(), _objects(storage)
    life.volumes = [storage.volume(), storage.claim(), storage.get(f"/api/v1/persistentvolumes/penstock-{uid}")]
    return life


class Witness:
    """Looks at the world at the moments that matter, before AWS is asked."""

    def __init__(self, plane: ControlPlane, storage: Storage, life: Life) -> None:
        # In the proxy's thread, and connections are one thread's.
        self._cluster, self._fsx, self._life = Cluster(plane.kubeconfig, storage.cluster.namespace), storage.fsx, life
        self._storage = Storage.__new__(Storage)
        self._storage.cluster = self._cluster

    def see(self, call: Call) -> None:
        if call.action == "CreateDataRepositoryTask":
            self._life.claims_at_export.append(self._storage.claim())
        elif call.action == "DeleteFileSystem":
            identity = call.parameters["FileSystemId"]
            if identity not in {one["FileSystemId"] for one in self._fsx.describe_file_systems()["FileSystems"]}:
                return  # asked again by an operator that did not live to see it gone
            filters = [{"Name": "file-system-id", "Values": [identity]}]
            tasks = self._fsx.describe_data_repository_tasks(Filters=filters)["DataRepositoryTasks"]
            self._life.tasks_at_deletion.append([(task["Lifecycle"], task["Status"]["FailedCount"]) for task in tasks])

    def __enter__(self) -> Witness:
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.close()


@contextmanager
def namespace(plane: ControlPlane, aws: FakeAWS, name: str) -> Iterator[Storage]:
    """A namespace of its own with a bucket of its own."""
    cluster = Cluster(plane.kubeconfig, name)
    try:
        cluster.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        until(lambda: has_account(cluster), lambda: "no default service account")
        yield Storage(cluster, aws)
    finally:
        cluster.close()


def _objects(storage: Storage) -> dict[str, bytes]:
    found = storage.s3.list_objects_v2(Bucket=storage.bucket).get("Contents", ())
    return {one["Key"]: storage.s3.get_object(Bucket=storage.bucket, Key=one["Key"])["Body"].read() for one in found}
