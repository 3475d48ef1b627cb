"""What is waited for: an API server that is ready, nodes and a cluster DNS that answer now, kinds that are served.

The API server's word alone is not enough after a crash or a reboot: it repeats what was true before until the kubelets report
again. So each kubelet and each DNS pod is also asked directly, through the API server.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock_local.apiserver import ApiServer
from penstock_local.errors import LocalError
from penstock_local.node import Node
from penstock_local.processes import Daemon

Kubectl = Callable[..., str]

KUBELET_STARTS = 5
POLL_SECONDS = 0.1
KUBECTL_POLL_SECONDS = 0.25
"""Between two looks that are each a kubectl, 60 ms of CPU that what is waited for wants too."""


def wait_api(api: ApiServer, needed: Sequence[Daemon], *, hint: str = "", seconds: float = 90.0) -> None:
    """Until the API server says that it is ready. `needed`: it and etcd; `hint`: what to do when one of them has ended.

    Raises:
        LocalError: one has ended, or the time is over; with the end of its log.
    """
    deadline = time.monotonic() + seconds
    while why := _not_ready(api):
        for each in needed:
            if each.pid() is None:
                raise LocalError(f"{each.name} ended{hint}. The end of {each.log}:\n{each.tail()}")
        if time.monotonic() > deadline:
            log = "\n".join(each.tail() for each in needed)
            raise LocalError(f"kube-apiserver is not ready after {seconds:.0f} s ({why}):\n{log}")
        time.sleep(POLL_SECONDS)


def wait_nodes(api: ApiServer, kubectl: Kubectl, nodes: Sequence[Node], *, seconds: float = 120.0) -> None:
    """Until every node is Ready and its kubelet answers; then it has its extended resources.

    Raises:
        LocalError: a kubelet ended, or the time is over; with its log's end or the nodes' conditions.
    """
    deadline = time.monotonic() + seconds
    waiting = {node.name: node for node in nodes}
    starts: Counter[str] = Counter()
    while True:
        found = {one["metadata"]["name"]: one for one in api.items("/api/v1/nodes")}
        for name, node in list(waiting.items()):
            if is_ready(found.get(name, {})) and _answers(api, f"/api/v1/nodes/{name}/proxy/healthz"):
                _equip(kubectl, node, found[name])
                del waiting[name]
            elif (daemon := node.machine.daemon("kubelet")).pid() is None:
                # A kubelet that finds containerd still loading its containers ends ("server is not initialized yet"); systemd
                # would start it again, and so do we.
                if starts[name] == KUBELET_STARTS:
                    raise LocalError(f"the kubelet of {name} ended. The end of {daemon.log}:\n{daemon.tail()}")
                starts[name] += 1
                time.sleep(0.5)
                node.start_kubelet()
        if not waiting:
            return
        if time.monotonic() > deadline:
            state = "\n".join(f"{name}: {_why(found.get(name))}" for name in sorted(waiting))
            raise LocalError(f"not Ready after {seconds:.0f} s:\n{state}")
        time.sleep(POLL_SECONDS)


def wait_dns(api: ApiServer, kubectl: Kubectl, *, seconds: float = 90.0) -> None:
    """Until a CoreDNS pod says itself that it is ready."""
    deadline = time.monotonic() + seconds
    pods = "/api/v1/namespaces/kube-system/pods"
    while True:
        for pod in api.items(f"{pods}?labelSelector=k8s-app%3Dkube-dns"):
            if is_ready(pod) and _answers(api, f"{pods}/{pod['metadata']['name']}:8181/proxy/ready"):
                return
        if time.monotonic() > deadline:
            raise LocalError(f"cluster DNS does not answer:\n{kubectl('-n', 'kube-system', 'get', 'pods', '-o', 'wide')}")
        time.sleep(POLL_SECONDS)


def wait_crds(kubectl: Kubectl, *names: str, seconds: float = 60.0) -> None:
    """Until these CustomResourceDefinitions are served, that is, until their objects can be listed.

    `kubectl wait` gives up on one whose conditions are null still. And one whose objects nobody has listed must not be deleted:
    the first list of kube-apiserver's own finalizer is answered "storage is (re)initializing", and when it tries again before
    it sees what it wrote about that, it takes the conflict for another's change and leaves the CRD until its next resync, up to
    five minutes later (v1.36, crd_finalizer.go; on two busy cores once in about a hundred deletions).

    Raises:
        LocalError: the time is over; the message names those that are not served, and why.
    """
    deadline = time.monotonic() + seconds
    waiting = list(names)
    while True:
        there = {one["metadata"]["name"]: one for one in json.loads(kubectl("get", "crd", "-o", "json"))["items"]}
        why = {name: _why_not_served(kubectl, there.get(name)) for name in waiting}
        waiting = [name for name in waiting if why[name]]
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise LocalError(f"not served after {seconds:.0f} s: {', '.join(f'{name} ({why[name]})' for name in waiting)}")
        time.sleep(KUBECTL_POLL_SECONDS)


def is_ready(thing: Mapping[str, Any]) -> bool:
    """Its condition Ready (of a node or a pod) is True."""
    return _is_true(thing, "Ready")


def _is_true(thing: Mapping[str, Any], condition: str) -> bool:
    conditions = (thing.get("status") or {}).get("conditions") or []
    return any(one["type"] == condition and one["status"] == "True" for one in conditions)


def _why(node: Mapping[str, Any] | None) -> str:
    if node is None:
        return "its kubelet has not registered it"
    conditions = (node.get("status") or {}).get("conditions") or []
    return next((one.get("message", "") for one in conditions if one["type"] == "Ready"), "no condition Ready")


def _why_not_served(kubectl: Kubectl, crd: Mapping[str, Any] | None) -> str:
    if crd is None:
        return "not there"
    if not _is_true(crd, "Established"):
        return "not Established"
    spec = crd["spec"]
    version = next(one["name"] for one in spec["versions"] if one["served"])
    try:
        # Without a limit: that would be answered by etcd while the kind's cache, which the finalizer asks, is not ready.
        kubectl("get", "--raw", f"/apis/{spec['group']}/{version}/{spec['names']['plural']}", "--request-timeout=10s")
    except LocalError as error:
        return str(error)
    return ""


def _not_ready(api: ApiServer) -> str:
    """Why it is not; empty when it is."""
    try:
        return "" if (said := api.get("/readyz")) == "ok" else said
    except LocalError as error:
        return str(error)


def _answers(api: ApiServer, path: str) -> bool:
    try:
        return api.get(path).strip().lower() == "ok"
    except LocalError:
        return False


def _equip(kubectl: Kubectl, node: Node, found: Mapping[str, Any]) -> None:
    """Extended resources, as device plugins would report them."""
    resources = node.shape.resources()
    capacity = found["status"].get("capacity") or {}
    if any(capacity.get(name) != count for name, count in resources.items()):
        patch = json.dumps({"status": {"capacity": resources, "allocatable": resources}})
        kubectl("patch", "node", node.name, "--subresource=status", "--type=merge", "-p", patch)
