"""The PersistentVolume and the claim that bind a file system to pods: static, as the FSx CSI driver documents it.

Static, because the driver's dynamic provisioning knows no data repository associations and rounds EFA sizes wrongly. Retain,
because the driver must never delete what the operator owns.
"""

from __future__ import annotations

from typing import Any

from penstock_operator import names
from penstock_operator.cloud.fsx import FileSystem
from penstock_operator.lustrevolume.observe import Volume

LABEL_VOLUME_UID, LABEL_VOLUME_NAMESPACE = "penstock.dev/volume-uid", "penstock.dev/volume-namespace"


def persistent_volume(volume: Volume, file_system: FileSystem) -> dict[str, Any]:
    """Cluster-scoped, and bound to this one claim from the beginning."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": volume.persistent_volume,
            "labels": _labels(volume) | {LABEL_VOLUME_UID: volume.uid, LABEL_VOLUME_NAMESPACE: volume.namespace},
        },
        "spec": {
            "capacity": {"storage": f"{file_system.capacity_gib}Gi"},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "volumeMode": "Filesystem",
            "mountOptions": ["flock"],
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": volume.namespace,
                "name": volume.name,
            },
            "csi": {
                "driver": "fsx.csi.aws.com",
                "volumeHandle": file_system.id,
                "volumeAttributes": {"dnsname": file_system.dns_name, "mountname": file_system.mount_name},
            },
        },
    }


def persistent_volume_claim(volume: Volume, file_system: FileSystem) -> dict[str, Any]:
    """Named like the volume."""
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": names.VOLUME_KIND,
        "name": volume.name,
        "uid": volume.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": volume.name,
            "namespace": volume.namespace,
            "labels": _labels(volume),
            "ownerReferences": [owner],
        },
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeName": volume.persistent_volume,
            "resources": {"requests": {"storage": f"{file_system.capacity_gib}Gi"}},
        },
    }


def _labels(volume: Volume) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "lustrevolume",
        "app.kubernetes.io/managed-by": "penstock",
        names.LABEL_VOLUME: volume.name,
    }
