"""The launcher pod: mpirun over the workers that are Ready at this moment. Made only when the list of hosts is final."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock_operator import names
from penstock_operator.api.trainingjob import TrainingJobSpec
from penstock_operator.trainingjob.children.common import Child, environment, launcher_name, pod, ring_volume
from penstock_operator.trainingjob.children.launch import hostfile, launch_environment, launch_line
from penstock_operator.trainingjob.children.merge import merge
from penstock_operator.trainingjob.children.ring import LAUNCHER_FILES, LAUNCHER_SCRIPTS
from penstock_operator.trainingjob.observe import Job, PodView


def build_launcher(job: Job, spec: TrainingJobSpec, attempt: int, workers: Sequence[PodView]) -> Child:
    """The launcher of `attempt`; `workers` in rank order, each with an IP."""
    hosts = hostfile(spec.mpi.implementation, [worker.ip for worker in workers], spec.slots)
    own = {
        "PENSTOCK_JOB_NAME": job.name,
        "PENSTOCK_JOB_NAMESPACE": job.namespace,
        "PENSTOCK_ATTEMPT": str(attempt),
        # A GPU node's container runtime hands every GPU to a container whose image asks for them.
        "NVIDIA_VISIBLE_DEVICES": "void",
        **launch_environment(spec),
    }
    address = {"name": "PENSTOCK_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    return pod(
        job,
        spec,
        name=launcher_name(job, attempt),
        role=names.ROLE_LAUNCHER,
        index=0,
        attempt=attempt,
        annotations={names.ANNOTATION_HOSTFILE: hosts, names.ANNOTATION_WORKERS: str(len(workers))},
        container={
            # `command` names the container's program, so an entrypoint of the image does not come between.
            "command": launch_line(spec),
            **environment(spec, own, [address]),
            "lifecycle": {"preStop": {"exec": {"command": [f"{names.RING_PATH}/stop"]}}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
        },
        pod_spec=_beside_worker_zero(job, spec) if spec.launcher.colocate else {},
        resources=spec.launcher.resources,
        template=spec.launcher.template,
        volumes=[
            ring_volume(job, LAUNCHER_FILES, LAUNCHER_SCRIPTS),
            {
                "name": "penstock-hosts",
                "downwardAPI": {
                    "items": [
                        {"path": "hostfile", "fieldRef": {"fieldPath": f"metadata.annotations['{names.ANNOTATION_HOSTFILE}']"}}
                    ]
                },
            },
            {"name": "penstock-tmp", "emptyDir": {}},
        ],
        mounts=[
            {"name": "penstock-ring", "mountPath": names.RING_PATH, "readOnly": True},
            {"name": "penstock-hosts", "mountPath": names.HOSTS_PATH, "readOnly": True},
            {"name": "penstock-tmp", "mountPath": "/tmp"},
        ],
    )


def _beside_worker_zero(job: Job, spec: TrainingJobSpec) -> dict[str, Any]:
    """Placement on worker 0's node: pod affinity, and whatever let the worker onto that node."""
    selector = {"matchLabels": {names.LABEL_JOB: job.name, names.LABEL_ROLE: names.ROLE_WORKER, names.LABEL_INDEX: "0"}}
    placed: dict[str, Any] = {
        "affinity": {
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"}
                ]
            }
        }
    }
    worker = merge(job.layers.get(names.ROLE_WORKER, {}), spec.workers.template.spec)
    return placed | {key: worker[key] for key in ("nodeSelector", "tolerations") if key in worker}
