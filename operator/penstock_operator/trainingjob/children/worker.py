"""A worker pod: sshd as an unprivileged user on port 2222, Ready when it answers; ranks run inside its sessions."""

from __future__ import annotations

from penstock_operator import names
from penstock_operator.api.trainingjob import TrainingJobSpec
from penstock_operator.trainingjob.children.common import Child, Surroundings, environment, pod, ring_volume, worker_name
from penstock_operator.trainingjob.children.ring import WORKER_FILES, WORKER_SCRIPTS
from penstock_operator.trainingjob.observe import Job


def build_worker(job: Job, spec: TrainingJobSpec, index: int, attempt: int, surroundings: Surroundings) -> Child:
    """Worker `index`, first made in `attempt`."""
    own = {
        "PENSTOCK_JOB_NAME": job.name,
        "PENSTOCK_JOB_NAMESPACE": job.namespace,
        "PENSTOCK_PROGRESS_URL": f"{surroundings.service_url}/v1/progress/{job.namespace}/{job.name}/{job.uid}",
        "PENSTOCK_PROGRESS_TOKEN_FILE": f"{names.RING_PATH}/progress-token",
    }
    port = {"tcpSocket": {"port": names.SSH_PORT}}
    return pod(
        job,
        spec,
        name=worker_name(job, index, attempt),
        role=names.ROLE_WORKER,
        index=index,
        attempt=attempt,
        annotations={names.ANNOTATION_SPEC: job.fingerprint},
        container={
            "command": [f"{names.RING_PATH}/worker"],
            **environment(spec, own),
            "ports": [{"name": "ssh", "containerPort": names.SSH_PORT}],
            # Every probe costs sshd a fork, so they are quick only until the first answer.
            "startupProbe": {**port, "periodSeconds": 1, "failureThreshold": 600},
            "readinessProbe": {**port, "periodSeconds": 10},
            "lifecycle": {"preStop": {"exec": {"command": [f"{names.RING_PATH}/drain"]}}},
        },
        pod_spec={},
        resources=spec.workers.resources,
        template=spec.workers.template,
        # The runtime's /dev/shm holds 64 MB; NCCL and data loaders need more. Unsized, the kubelet limits it to the pod's
        # memory limit (SizeMemoryBackedVolumes).
        volumes=[ring_volume(job, WORKER_FILES, WORKER_SCRIPTS), {"name": "penstock-shm", "emptyDir": {"medium": "Memory"}}],
        mounts=[
            {"name": "penstock-ring", "mountPath": names.RING_PATH, "readOnly": True},
            {"name": "penstock-shm", "mountPath": "/dev/shm"},
        ],
    )
