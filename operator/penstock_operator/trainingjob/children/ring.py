"""The two objects a ring stands on besides its pods: the Secret with keys and scripts, and the NetworkPolicy.

Both are written once, before the first pod, and never changed: the Secret is immutable.
"""

from __future__ import annotations

from importlib.resources import files

from penstock_operator import names
from penstock_operator.trainingjob.children.common import Child, Surroundings, metadata, ring_name
from penstock_operator.trainingjob.children.keys import ring_keys
from penstock_operator.trainingjob.observe import Job

_SCRIPTS = {one.name: one.read_text() for one in (files(__package__) / "scripts").iterdir() if one.is_file()}

WORKER_FILES = ("sshd_config", "host_key", "authorized_keys", "progress-token")
# Open MPI's daemon on a worker dies without a word when the launcher's agent is not there too, though it never calls it.
WORKER_SCRIPTS = ("worker", "rank-shell", "drain", "ssh")
LAUNCHER_FILES = ("ssh_config", "user_key", "known_hosts")
LAUNCHER_SCRIPTS = ("ssh", "stop")


def build_secret(job: Job, surroundings: Surroundings) -> Child:
    """Keys, scripts and the progress token of one job."""
    keys = ring_keys(surroundings.operator_key, job.namespace, job.name, job.uid)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(job, ring_name(job)),
        "immutable": True,
        "type": "Opaque",
        "stringData": {
            **_SCRIPTS,
            "host_key": keys.host_private,
            "user_key": keys.user_private,
            "authorized_keys": f'command="{names.RING_PATH}/rank-shell",restrict {keys.user_public}\n',
            "known_hosts": f"penstock-worker {keys.host_public}\n",
            "progress-token": keys.progress_token,
        },
    }


def build_network_policy(job: Job) -> Child:
    """Only the job's own pods may connect to the job's pods. The kubelet's probes are always let through."""
    selector = {"matchLabels": {names.LABEL_JOB: job.name}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(job, f"{job.name}-ring"),
        "spec": {
            "podSelector": selector,
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": selector}]}],
        },
    }
