"""A test's LustreVolumes: what it writes, what AWS then has, and what the status says."""

from __future__ import annotations

import uuid
from typing import Any

from tests.api.cluster import Cluster, Object, until

from penstock_local.aws import FakeAWS

VOLUMES = "/apis/penstock.dev/v1alpha1/namespaces/{namespace}/lustrevolumes"


class Storage:
    """One namespace and one bucket."""

    def __init__(self, cluster: Cluster, aws: FakeAWS) -> None:
        self.cluster, self.aws = cluster, aws
        self.fsx, self.s3 = aws.client("fsx"), aws.client("s3")
        self.bucket = f"data-{uuid.uuid4().hex[:8]}"
        self.s3.create_bucket(Bucket=self.bucket)
        self.subnet = aws.client("ec2").describe_subnets()["Subnets"][0]
        self._begun = len(self._changes())

    def create(self, name: str = "data", **spec: Any) -> Object:
        """A Scratch2 volume of 1200 GiB, unless the spec says otherwise."""
        if "fileSystemId" not in spec:
            spec["create"] = {"subnetId": self.subnet["SubnetId"]} | spec.get("create", {})
        body = {"apiVersion": "penstock.dev/v1alpha1", "kind": "LustreVolume", "metadata": {"name": name}, "spec": spec}
        return self.cluster.call("POST", VOLUMES, body)

    def repository(self, path: str = "/images", **fields: Any) -> Object:
        return {"path": path, "s3": f"s3://{self.bucket}{path}/", **fields}

    def volume(self, name: str = "data") -> Object | None:
        return self.cluster.find(f"{VOLUMES}/{name}")

    def status(self, name: str = "data") -> dict[str, Any]:
        return (self.volume(name) or {}).get("status", {})

    def condition(self, kind: str, name: str = "data") -> dict[str, Any]:
        found = [one for one in self.status(name).get("conditions", ()) if one["type"] == kind]
        return found[0] if found else {"status": "Absent", "reason": "", "message": ""}

    def wait_phase(self, phase: str, name: str = "data", seconds: float = 30.0) -> dict[str, Any]:
        until(lambda: self.status(name).get("phase") == phase, lambda: self.volume(name), seconds)
        return self.status(name)

    def wait_reason(self, reason: str, name: str = "data", seconds: float = 30.0) -> dict[str, Any]:
        until(lambda: self.status(name).get("reason") == reason, lambda: self.volume(name), seconds)
        return self.status(name)

    def wait_gone(self, name: str = "data", seconds: float = 40.0) -> None:
        until(lambda: self.volume(name) is None, lambda: (self.volume(name), self.calls()), seconds)

    def delete(self, name: str = "data") -> None:
        self.cluster.call("DELETE", f"{VOLUMES}/{name}")

    def patch(self, spec: Object, name: str = "data") -> None:
        self.cluster.call("PATCH", f"{VOLUMES}/{name}", {"spec": spec})

    def file_systems(self) -> list[Any]:
        """Those of this namespace's volumes, by their tag."""
        own = f"{self.cluster.namespace}/"
        found = self.fsx.describe_file_systems()["FileSystems"]
        return [
            one for one in found if any(tag["Key"] == "Name" and tag["Value"].startswith(own) for tag in one.get("Tags", ()))
        ]

    def calls(self) -> list[str]:
        """Actions of FSx that changed something since this test began, in order."""
        return self._changes()[self._begun :]

    def _changes(self) -> list[str]:
        reading = ("Describe", "List")
        return [one["action"] for one in self.aws.control.calls("fsx") if not one["action"].startswith(reading)]

    def persistent_volume(self, name: str = "data") -> Object | None:
        uid = (self.volume(name) or {})["metadata"]["uid"]
        return self.get(f"/api/v1/persistentvolumes/penstock-{uid}")

    def claim(self, name: str = "data") -> Object | None:
        return self.get(f"/api/v1/namespaces/{{namespace}}/persistentvolumeclaims/{name}")

    def get(self, path: str) -> Object | None:
        return self.cluster.find(path)
