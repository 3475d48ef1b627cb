"""File systems of the fake FSx as PersistentVolumes, as a user of EKS writes them."""

from __future__ import annotations

import json
from typing import Any

from penstock_local.cluster import Cluster

RESTRICTED: dict[str, Any] = {
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
}


def client(cluster: Cluster, service: str) -> Any:
    """A boto3 client on this machine."""
    import boto3

    env = cluster.aws_environment()
    return boto3.client(  # type: ignore[call-overload]
        service,
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )


def file_system(cluster: Cluster) -> dict[str, Any]:
    """A new one, AVAILABLE at once; its description."""
    from penstock_local.aws import Control

    Control(cluster.aws_environment()["AWS_ENDPOINT_URL"]).configure({"fsx.createSeconds": 0})
    fsx = client(cluster, "fsx")
    made: dict[str, Any] = fsx.create_file_system(
        FileSystemType="LUSTRE",
        StorageCapacity=1200,
        SubnetIds=["subnet-0123456789abcdef0"],
        LustreConfiguration={"DeploymentType": "SCRATCH_2"},
    )["FileSystem"]
    while made["Lifecycle"] == "CREATING":
        made = fsx.describe_file_systems(FileSystemIds=[made["FileSystemId"]])["FileSystems"][0]
    return made


def claim(cluster: Cluster, namespace: str, name: str, system: dict[str, Any], **attributes: str) -> None:
    """A static PersistentVolume and its claim. `attributes`: volumeAttributes other than the right ones."""
    right = {"dnsname": system["DNSName"], "mountname": system["LustreConfiguration"]["MountName"]}
    shared = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{name}"},
        "spec": {
            **shared,
            "capacity": {"storage": "1200Gi"},
            "mountOptions": ["flock"],
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": {
                "driver": "fsx.csi.aws.com",
                "volumeHandle": system["FileSystemId"],
                "volumeAttributes": {**right, **attributes},
            },
        },
    }
    wish = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**shared, "volumeName": f"{namespace}-{name}", "resources": {"requests": {"storage": "1200Gi"}}},
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [volume, wish]}))


def mounting(name: str, *, at: str = "/data", read_only: bool = False) -> dict[str, Any]:
    """What a pod that mounts the claim has: arguments of `run_pod`."""
    source = {"claimName": name, **({"readOnly": True} if read_only else {})}
    return {
        "container": {"volumeMounts": [{"name": "data", "mountPath": at}]},
        "volumes": [{"name": "data", "persistentVolumeClaim": source}],
    }
