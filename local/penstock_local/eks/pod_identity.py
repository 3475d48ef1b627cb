"""Associations of service accounts with IAM roles, as `aws eks create-pod-identity-association` makes them.

They are kept in a ConfigMap, where the admission policy and the agent read them. As on EKS, pods that exist do not change, and
an association may be made before its service account or role exists.
"""

from __future__ import annotations

import json
import re
import time

from penstock_local.eks import ACCOUNT
from penstock_local.errors import LocalError
from penstock_local.readiness import Kubectl

_CONFIG_MAP = ("-n", "kube-system", "configmap", "pod-identity-associations")
_SECONDS = 15.0


def associate(kubectl: Kubectl, namespace: str, account: str, role: str | None = None) -> str:
    """Pods of this service account get the role's credentials from now on; returns the role's ARN.

    Args:
        role: its ARN; default: one named after namespace and service account.

    Raises:
        LocalError: no ARN of a role, or new pods do not get it within 15 s.
    """
    arn = role or f"arn:aws:iam::{ACCOUNT}:role/{namespace}-{account}"
    if not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}", arn):
        raise LocalError(f"role {arn!r}: expected an ARN such as arn:aws:iam::{ACCOUNT}:role/NAME")
    _write(kubectl, namespace, account, arn)
    if kubectl("-n", namespace, "get", "serviceaccount", account, "-o", "name", "--ignore-not-found"):
        _wait(kubectl, namespace, account)
    return arn


def dissociate(kubectl: Kubectl, namespace: str, account: str) -> None:
    """New pods of this service account get no credentials; pods that have some cannot renew them."""
    _write(kubectl, namespace, account, None)


def _write(kubectl: Kubectl, namespace: str, account: str, role: str | None) -> None:
    kubectl("patch", *_CONFIG_MAP, "--type=merge", "-p", json.dumps({"data": {f"{namespace}.{account}": role}}))


def _wait(kubectl: Kubectl, namespace: str, account: str) -> None:
    """The API server takes up to a second to see a change, so it is asked what it would make of a pod."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
    container = {"name": "none", "image": "none", "securityContext": {**security, "seccompProfile": {"type": "RuntimeDefault"}}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "pod-identity-", "namespace": namespace},
        "spec": {"serviceAccountName": account, "containers": [container]},
    }
    deadline, seen = time.monotonic() + _SECONDS, ""
    while True:
        try:
            seen = kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pod))
            if "AWS_CONTAINER_CREDENTIALS_FULL_URI" in seen:
                return
        except LocalError as error:
            seen = str(error)
        if time.monotonic() > deadline:
            raise LocalError(f"{namespace}/{account} is associated, but a new pod of it would get no credentials:\n{seen}")
        time.sleep(0.2)
