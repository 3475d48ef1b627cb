"""Pods as the components make and read them: the restricted profile, the environment AWS needs, what keeps one from running.

`trouble` tells what will not get better by waiting from what may: a name that is no image never pulls, but a registry that
throttles does; so the caller gets the words at once and decides by how long they stand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from .errors import ComponentError
from .kube import Object

# https://kubernetes.io/docs/concepts/security/pod-security-standards, profile "restricted", and a read-only root.
POD_SECURITY: Final[Object] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_SECURITY: Final[Object] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_HOPELESS: Final = {"InvalidImageName", "ErrImageNeverPull"}
_WAITING: Final = {
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
}


def template(
    container: Object, labels: Mapping[str, str], service_account: str = "", placement: Mapping[str, Any] | None = None
) -> Object:
    """A pod template around one container: restricted, /tmp as its only writable place, no API token.

    `placement` is any part of a pod spec (nodeSelector, tolerations, affinity, ...) and has the last word.
    """
    spec: Object = {
        "containers": [
            {
                "securityContext": CONTAINER_SECURITY,
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                **container,
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "securityContext": POD_SECURITY,
        "automountServiceAccountToken": False,
        **({"serviceAccountName": service_account} if service_account else {}),
        **(placement or {}),
    }
    return {"metadata": {"labels": dict(labels)}, "spec": spec}


def environment(wanted: Mapping[str, str]) -> list[Object]:
    """`env` of a container. Region and endpoint are this step's own unless given: EKS Pod Identity sets neither.

    An endpoint on this machine's loopback is not passed on: in the pod it would be another place.
    """
    own = {
        key: value
        for key, value in os.environ.items()
        if key == "AWS_REGION" or (key.startswith("AWS_ENDPOINT_URL") and not _loopback(value))
    }
    return [{"name": key, "value": str(value)} for key, value in sorted({**own, **wanted}.items())]


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


def trouble(pod: Object) -> str:
    """What keeps the pod's container from running, in the kubelet's words with the pod's name; '' if nothing does."""
    name = pod["metadata"]["name"]
    for status in pod.get("status", {}).get("containerStatuses", []):
        waiting = status.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _WAITING | _HOPELESS:
            text = f"pod {name}: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
            ended = status.get("lastState", {}).get("terminated")
            return text + (f" (it ended with {ending(ended)})" if ended else "")
    return ""


def hopeless(pod: Object) -> bool:
    """Whether waiting cannot help: no such image name, the image may not be pulled, or the program ended three times."""
    for status in pod.get("status", {}).get("containerStatuses", []):
        reason = status.get("state", {}).get("waiting", {}).get("reason")
        if reason in _HOPELESS or (reason == "CrashLoopBackOff" and status.get("restartCount", 0) >= 3):
            return True
    return False


class Stuck(ComponentError):
    """A pod does not come to run; the message has the kubelet's words."""

    def __init__(self, pod: str, words: str) -> None:
        super().__init__(words)
        self.pod = pod


class Patience:
    """Raises Stuck for a pod in trouble: at once if waiting cannot help, else when the trouble has stood for `seconds`."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._since: dict[str, float] = {}

    def check(self, pods: Iterable[Object]) -> None:
        now, before, self._since = self._clock(), self._since, {}
        for pod in pods:
            words = trouble(pod)
            if not words:
                continue
            since = self._since[pod["metadata"]["name"]] = before.get(pod["metadata"]["name"], now)
            if hopeless(pod) or now - since >= self._seconds:
                raise Stuck(pod["metadata"]["name"], words)


def unplaced(pod: Object) -> str:
    """Why the scheduler finds no node for the pod; '' if it has one or was not looked at. A new node may yet come."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"pod {pod['metadata']['name']}: {condition.get('reason', '')}: {condition.get('message', '')}"
    return ""


def failure(pod: Object) -> str:
    """How a failed pod ended: exit code, signal and reason of its container, or what befell the whole pod."""
    status = pod.get("status", {})
    for each in status.get("containerStatuses", []):
        ended = each.get("state", {}).get("terminated")
        if ended and ended.get("exitCode"):
            return f"pod {pod['metadata']['name']} ended with {ending(ended)}"
    words = ": ".join(part for part in (status.get("reason", ""), status.get("message", "")) if part)
    return f"pod {pod['metadata']['name']} failed" + (f": {words}" if words else "")


def ending(terminated: Object) -> str:
    """A container's end in words: "exit code 137 (OOMKilled)"."""
    words = [terminated.get("reason", ""), terminated.get("message", "")]
    known = ": ".join(word for word in words if word and word != "Error")
    return f"exit code {terminated.get('exitCode')}" + (f" ({known})" if known else "")


def ready(pod: Object) -> bool:
    """Ready, and not on its way out."""
    conditions = pod.get("status", {}).get("conditions", [])
    is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return is_ready and not pod["metadata"].get("deletionTimestamp")
