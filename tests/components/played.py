"""What no node does in these tests: the test plays kubelet, operator and KServe by writing status; steps run as processes.

`Kubelet` is a node that serves logs over HTTPS: what the API server asks it for, a real kubelet would be asked for too.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.api.cluster import PODS, Cluster, Refused, now, until

from penstock_components.kube import Object
from penstock_local.certificates import Authority
from penstock_local.controlplane import ControlPlane

_NODE = "/api/v1/nodes"
# Path and object; what broke off the watch; None: it is over.
Change = tuple[str, Object] | Exception | None


class Played(Cluster):
    """A namespace whose pods are run by the test."""

    def training_status(self, name: str, **status: Any) -> None:
        """As the operator: merge into the job's status."""
        path = f"/apis/penstock.dev/v1alpha1/namespaces/{{namespace}}/trainingjobs/{name}/status"
        self.call("PATCH", path, {"status": status})

    def all_pods(self) -> list[Object]:
        found: list[Object] = self.call("GET", PODS)["items"]
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def pod_status(self, pod: Object, **status: Any) -> None:
        self.call("PATCH", f"{PODS}/{pod['metadata']['name']}/status", {"status": status})

    def place(self, pod: Object, node: str) -> None:
        """As the scheduler: the pod is on this node."""
        name = pod["metadata"]["name"]
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        self.call("POST", f"{PODS}/{name}/binding", body)

    def run_servers(self, node: str) -> None:
        """As scheduler and kubelet: pods are placed, run and ready; those being deleted are gone. Endpoints need the node."""
        for number, pod in enumerate(self.all_pods(), 1):
            if pod["metadata"].get("deletionTimestamp"):
                self.call("DELETE", f"{PODS}/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})
            elif not pod["spec"].get("nodeName"):
                self.place(pod, node)
            elif pod["status"]["phase"] == "Pending":
                self.pod_runs(pod, ip=f"10.1.0.{number}")

    def pod_runs(self, pod: Object, ready: bool = True, ip: str = "10.1.0.1") -> None:
        state = {"running": {"startedAt": now()}}
        condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": now()}
        status = _container(pod, state, ready=ready)
        self.pod_status(pod, phase="Running", podIP=ip, podIPs=[{"ip": ip}], conditions=[condition], containerStatuses=[status])

    def pod_waits(self, pod: Object, reason: str, message: str, restarts: int = 0) -> None:
        status = _container(pod, {"waiting": {"reason": reason, "message": message}}, restarts=restarts)
        if restarts:
            status["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error"}}
        self.pod_status(pod, phase="Pending", containerStatuses=[status])

    def pod_ends(self, pod: Object, exit_code: int = 0, reason: str = "") -> None:
        words = reason or ("Completed" if exit_code == 0 else "Error")
        state = {"terminated": {"exitCode": exit_code, "reason": words, "finishedAt": now()}}
        phase = "Failed" if exit_code else "Succeeded"
        self.pod_status(pod, phase=phase, containerStatuses=[_container(pod, state)])

    def one_pod(self) -> Object:
        """The namespace's only pod, once it is there."""
        until(self.all_pods, lambda: "no pod")
        (pod,) = self.all_pods()
        return pod

    @contextmanager
    def answered(self, answer: Callable[[Played, str, Object], None], *paths: str) -> Iterator[None]:
        """Call `answer(cluster, path, object)` for each object under these paths, and again when it changes, in a thread with a
        connection of its own; what it raises fails the test. On polls this process would spend more than on all else."""
        changed: queue.SimpleQueue[Change] = queue.SimpleQueue()

        def run() -> None:
            mine = Played(self.kubeconfig, self.namespace)
            try:
                while (change := changed.get()) is not None:
                    if isinstance(change, Exception):
                        raise change
                    try:
                        answer(mine, *change)
                    except Refused as error:
                        if error.status not in (404, 409):  # it changed or went in between, and that is told too
                            raise
            finally:
                mine.close()

        with ExitStack() as stack:
            for path in paths:
                stack.enter_context(Watch(self, path, changed))
            running = stack.enter_context(ThreadPoolExecutor(1)).submit(run)
            try:
                yield
            finally:
                changed.put(None)
                running.result(10)

    @contextmanager
    def played(self, play: Callable[[Played], None]) -> Iterator[None]:
        """Call `play(cluster)` again and again in a thread, with a connection of its own; what it raises fails the test."""
        over = threading.Event()

        def run() -> None:
            mine = Played(self.kubeconfig, self.namespace)
            try:
                while not over.is_set():
                    try:
                        play(mine)
                    except Refused as error:  # the object changed or went in between, or its CRD is new
                        if error.status not in (404, 409, 429):
                            raise
                    time.sleep(0.05)
            finally:
                mine.close()

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(run)
            try:
                yield
            finally:
                over.set()
                running.result(10)


class Watch:
    """Puts (path, object) into a queue for each object of a collection: as it is at first, and at each change of it."""

    def __init__(self, cluster: Cluster, path: str, changed: queue.SimpleQueue[Change]) -> None:
        self._connection = cluster.connection(timeout=None)
        self._path, self._target, self._changed = path, path.format(namespace=cluster.namespace), changed
        self._over = False

    def __enter__(self) -> Watch:
        self._connection.connect()
        self._socket = self._connection.sock
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        with suppress(OSError):  # the other side has closed it
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # past TLS, whose state the reading thread uses
        self._thread.join(10)
        self._connection.close()

    def _run(self) -> None:
        try:
            self._connection.request("GET", f"{self._target}?watch=true")
            for line in self._connection.getresponse():
                event = json.loads(line)
                assert event.get("type") in ("ADDED", "MODIFIED", "DELETED"), event
                if event["type"] != "DELETED":
                    self._changed.put((self._path, event["object"]))
            raise EOFError(f"the watch of {self._target} has ended")
        except Exception as error:
            if not self._over:
                self._changed.put(error)


class Kubelet:
    """A node of the API server's at 127.0.0.1 whose pods have the logs the test gives them."""

    def __init__(self, plane: ControlPlane, cluster: Played) -> None:
        self._cluster = cluster
        self.name = f"node-{cluster.namespace}"
        authority = Authority(plane.folder / "pki")
        authority.kubelet(self.name, "127.0.0.1")
        self._logs: dict[str, list[tuple[str, str]]] = {}
        self._ended: set[str] = set()
        self._changed = threading.Condition()
        self._cut = 0
        self.asked: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.path(f"{self.name}-serving.crt"), authority.path(f"{self.name}-serving.key"))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Kubelet:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self._cluster.call("POST", _NODE, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._server.server_address[1]}},
        }
        self._cluster.call("PATCH", f"{_NODE}/{self.name}/status", {"status": status})
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended |= set(self._logs)
            self._cut += 1
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._cluster.close()  # a test of minutes may not have used it; the API server has closed its end then
        self._cluster.call("DELETE", f"{_NODE}/{self.name}")

    def take(self, pod: Object) -> None:
        """The pod is on this node."""
        self._cluster.place(pod, self.name)

    def run(self, name: str) -> Object:
        """A new running pod on this node."""
        spec = {
            "nodeName": self.name,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "main",
                    "image": "none",
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        }
        pod = self._cluster.call("POST", PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
        self._cluster.pod_runs(pod)
        return pod

    def write(self, pod: str, *lines: str) -> None:
        with self._changed:
            for line in lines:
                stamp = time.time_ns()
                seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stamp // 10**9))
                self._logs.setdefault(pod, []).append((f"{seconds}.{stamp % 10**9:09}Z", line))
            self._changed.notify_all()

    def end(self, pod: str) -> None:
        """The container ended: streams of its log end."""
        with self._changed:
            self._ended.add(pod)
            self._changed.notify_all()

    def cut(self) -> None:
        """Every stream that is open breaks off."""
        with self._changed:
            self._cut += 1
            self._changed.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        kubelet = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                pod = url.path.split("/")[3]  # /containerLogs/<namespace>/<pod>/<container>
                kubelet.asked.append(query)
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                if kubelet._stream(pod, query, self._chunk):
                    self.wfile.write(b"0\r\n\r\n")
                else:
                    self.close_connection = True

            def _chunk(self, data: bytes) -> None:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _stream(self, pod: str, query: dict[str, str], put: Callable[[bytes], None]) -> bool:
        """Serve one log as a kubelet does; False if it was cut."""
        with self._changed:
            cuts = self._cut
        since, sent = query.get("sinceTime", "")[:19], 0
        while True:
            with self._changed:
                lines = list(self._logs.get(pod, []))
                over = pod in self._ended or query.get("follow") != "true"
                cut = self._cut != cuts
            wanted = [line for line in lines if line[0][:19] >= since]
            if "tailLines" in query and not sent:
                wanted = wanted[-int(query["tailLines"]) :]
            for stamp, text in wanted[sent:]:
                put(f"{stamp} {text}\n".encode())
            sent = len(wanted)
            if over or cut:
                return not cut
            with self._changed:
                if len(self._logs.get(pod, [])) == len(lines) and self._cut == cuts and pod not in self._ended:
                    self._changed.wait(5)


@contextmanager
def in_background(work: Callable[[], Any]) -> Iterator[Future[Any]]:
    """Run `work` in a thread; its future. It must be over soon after the block. When the block fails it is left behind: it may
    wait for hours for what comes no more, and a test that waited with it would never tell what failed."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    yield future
    wait([future], 30)
    assert future.done(), "the block is over, the work in the background is not"


@contextmanager
def as_process(code: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Python code as a process of its own, as a step of a pipeline is; killed at the end if it still runs."""
    command = [sys.executable, "-c", f"import logging; logging.basicConfig(level=logging.INFO)\n{code}"]
    both: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, env={**os.environ, **environment}, **both)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _container(pod: Object, state: Object, ready: bool = False, restarts: int = 0) -> Object:
    name = pod["spec"]["containers"][0]["name"]
    known = {"name": name, "image": "none", "imageID": "", "restartCount": restarts, "ready": ready}
    return {**known, "started": ready, "state": state}


def complete(**more: Any) -> dict[str, Any]:
    """The status of a TrainingJob that is complete, after 90 seconds."""
    condition = {"type": "Complete", "status": "True", "reason": "ProgramSucceeded", "lastTransitionTime": now()}
    times = {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:30Z"}
    return {"phase": "Complete", "reason": "ProgramSucceeded", "conditions": [condition], **times, **more}
