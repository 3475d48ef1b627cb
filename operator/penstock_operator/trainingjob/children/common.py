"""What all children share: names, labels, the owner reference, and what worker and launcher pods have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from penstock_operator import names
from penstock_operator.api.trainingjob import PodTemplate, Resources, TrainingJobSpec
from penstock_operator.trainingjob.children.merge import merge
from penstock_operator.trainingjob.observe import Job

Child = dict[str, Any]

# Read-only files for everybody in the pod's group: sshd and ssh accept keys that belong to root with these modes.
FILE_MODE, SCRIPT_MODE = 0o440, 0o550

_OWN_KEYS = ("penstock.dev/", "app.kubernetes.io/", "argocd.argoproj.io/", "kubectl.kubernetes.io/")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What children need from outside the job."""

    operator_key: bytes
    service_url: str
    network_policy: bool = True


def worker_name(job: Job, index: int, attempt: int) -> str:
    return f"{job.name}-worker-{index}{_suffix(attempt)}"


def launcher_name(job: Job, attempt: int) -> str:
    return f"{job.name}-launcher{_suffix(attempt)}"


def ring_name(job: Job) -> str:
    """The Secret's name carries part of the uid, so that no other object can have it: the operator may create Secrets but
    not read them, and could not tell a foreign one from its own."""
    return f"{job.name}-ring-{job.uid[:8]}"


def _suffix(attempt: int) -> str:
    # A replacement never shares the name of what it replaces: that pod may be Terminating for ever on a dead node.
    return f"-a{attempt}" if attempt > 1 else ""


def labels(job: Job, role: str | None = None) -> dict[str, str]:
    built = {
        "app.kubernetes.io/name": "trainingjob",
        "app.kubernetes.io/managed-by": "penstock",
        names.LABEL_JOB: job.name,
    }
    if role:
        built |= {"app.kubernetes.io/component": role, names.LABEL_ROLE: role}
    return built


def metadata(job: Job, name: str, *, role: str | None = None) -> dict[str, Any]:
    """Metadata of a child: its labels and the owner reference that garbage collection and `kubectl tree` follow."""
    return {
        "name": name,
        "namespace": job.namespace,
        "labels": labels(job, role),
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": job.name,
                "uid": job.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def pod(
    job: Job,
    spec: TrainingJobSpec,
    *,
    name: str,
    role: str,
    index: int,
    attempt: int,
    annotations: dict[str, str],
    container: dict[str, Any],
    pod_spec: dict[str, Any],
    resources: Resources,
    template: PodTemplate,
    volumes: list[dict[str, Any]],
    mounts: list[dict[str, Any]],
) -> Child:
    """A pod under Pod Security `restricted`, with the user's volumes, and the user's template merged over it."""
    meta = metadata(job, name, role=role)
    user = template.metadata
    meta["labels"] |= {key: value for key, value in user.labels.items() if not key.startswith(_OWN_KEYS)}
    meta["labels"] |= {names.LABEL_INDEX: str(index), names.LABEL_ATTEMPT: str(attempt)}
    # Istio reads the label, older releases the annotation; the user's template may turn injection on again.
    meta["labels"].setdefault(names.ISTIO_INJECT, "false")
    meta["annotations"] = {
        **{key: value for key, value in user.annotations.items() if not key.startswith(_OWN_KEYS)},
        names.ANNOTATION_DEFAULT_CONTAINER: role,
        **annotations,
    }
    taken = {one.mount_path for one in spec.volumes}  # a user's volume at /tmp replaces ours
    built = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": names.RUN_AS,
            "runAsGroup": names.RUN_AS,
            "fsGroup": names.RUN_AS,
            # Changing the owner of every file of a large data set would hold the start up for hours.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": role,
                "image": spec.image,
                # The kubelet keeps the end of the log in the pod's status when the container fails: the cause of a failure
                # arrives with the watch event, and the operator needs no right to read logs.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "resources": resources.model_dump(exclude_defaults=True),
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [
                    *(one for one in mounts if one["mountPath"] not in taken),
                    *(_mount(one) for one in spec.volumes),
                ],
                **container,
            }
        ],
        "volumes": [*volumes, *({"name": one.name, **one.source} for one in spec.volumes)],
        **pod_spec,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": merge(merge(built, job.layers.get(role, {})), template.spec),
    }


def environment(spec: TrainingJobSpec, own: dict[str, str], extra: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """`env` and `envFrom` of a container: the operator's variables first, so that the user's win."""
    merged: dict[str, dict[str, Any]] = {key: {"name": key, "value": value} for key, value in own.items()}
    merged |= {one["name"]: one for one in extra or ()}
    merged |= {one.name: one.model_dump(by_alias=True, exclude_none=True) for one in spec.env}
    built: dict[str, Any] = {"env": list(merged.values())}
    if spec.env_from:
        built["envFrom"] = spec.env_from
    return built


def ring_volume(job: Job, files: tuple[str, ...], scripts: tuple[str, ...]) -> dict[str, Any]:
    """The ring's Secret, with only the files this pod needs: a worker never sees the user key, a launcher no host key."""
    items = [{"key": one, "path": one, "mode": FILE_MODE} for one in files] + [
        {"key": one, "path": one, "mode": SCRIPT_MODE} for one in scripts
    ]
    return {"name": "penstock-ring", "secret": {"secretName": ring_name(job), "items": items}}


def _mount(volume: Any) -> dict[str, Any]:
    built = {"name": volume.name, "mountPath": volume.mount_path}
    if volume.sub_path:
        built["subPath"] = volume.sub_path
    if volume.read_only:
        built["readOnly"] = True
    return built
