"""The Kubernetes API as plain dictionaries: get, create, apply, patch, delete, select, follow, logs, proxy.

The official client finds the identity (in-cluster token with its rotation, KUBECONFIG, exec plugins) and makes the TLS pool;
requests are raw, so any kind works and nothing is renamed on the way. Paths come from the API server's own discovery. Outages
and throttling are waited out; a repeated create may therefore meet its own object (409), which every caller takes as found.
Unknown fields are refused (strict validation), never dropped.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import urllib3

from kubernetes import client, config  # type: ignore[attr-defined]

from .errors import ComponentError

log = logging.getLogger(__name__)

Object = dict[str, Any]

MANAGER: Final = "penstock-components"
PATIENCE: Final = 120.0
_AGAIN: Final = {429, 500, 502, 503, 504}
_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LONGEST_LINE: Final = 8192


class Refused(ComponentError):
    """The API server said no; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Kube:
    """One namespace of one cluster. Safe to share between threads.

    Identity: the file in KUBECONFIG if that is set, else the pod's own, else ~/.kube/config. Namespace: the argument, else the
    pod's or the context's, else `default`. `patience`: seconds for which an outage is waited out.
    """

    def __init__(self, namespace: str = "", patience: float = PATIENCE) -> None:
        settings = client.Configuration()
        found = _load(settings)
        self.namespace = namespace or found or "default"
        self._api = client.ApiClient(settings)
        self._pool: urllib3.PoolManager = self._api.rest_client.pool_manager
        self._host = str(settings.host).rstrip("/")
        self._kinds: dict[str, dict[str, Object]] = {}
        self._patience = patience

    def knows(self, api_version: str, kind: str) -> bool:
        """Whether the API server serves this kind: its CRD is installed."""
        return self._resource(api_version, kind) is not None

    def get(self, api_version: str, kind: str, name: str) -> Object | None:
        """The object, None if there is none."""
        try:
            return self._json("GET", self._path(api_version, kind, name))
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def select(self, api_version: str, kind: str, labels: Mapping[str, str] | None = None) -> list[Object]:
        """All objects with these labels, by name. Items of a list name neither apiVersion nor kind; they are added."""
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        answer = self._json("GET", self._path(api_version, kind), query={"labelSelector": selector} if selector else {})
        items = [{"apiVersion": api_version, "kind": kind, **each} for each in answer["items"]]
        return sorted(items, key=lambda each: str(each["metadata"]["name"]))

    def refusal(self, body: Object) -> str:
        """What the API server finds wrong with the object, '' for nothing; none is made. A name that is taken is no fault."""
        try:
            self.create(body, dry_run=True)
        except Refused as error:
            if error.status in (400, 422):
                return str(error)
            if error.status != 409:
                raise
        return ""

    def create(self, body: Object, *, dry_run: bool = False) -> Object:
        """Create; raises Refused with status 409 where the name is taken. A dry run is checked by the server and not kept."""
        path = self._path(body["apiVersion"], body["kind"])
        query = {"fieldValidation": "Strict", "fieldManager": MANAGER} | ({"dryRun": "All"} if dry_run else {})
        return self._json("POST", path, body, query)

    def apply(self, body: Object) -> Object:
        """Server-side apply: create, or make the fields given here so; fields that others own stay. Conflicts are won."""
        path = self._path(body["apiVersion"], body["kind"], body["metadata"]["name"])
        query = {"fieldValidation": "Strict", "fieldManager": MANAGER, "force": "true"}
        return self._json("PATCH", path, body, query, "application/apply-patch+yaml")

    def replace(self, body: Object) -> Object:
        """Put the whole object, at the resourceVersion it carries; 409 where it has changed since."""
        path = self._path(body["apiVersion"], body["kind"], body["metadata"]["name"])
        return self._json("PUT", path, body, {"fieldManager": MANAGER})

    def patch(self, api_version: str, kind: str, name: str, body: Object) -> Object:
        """JSON merge patch. With metadata.resourceVersion in it, 409 where the object has changed since."""
        query = {"fieldValidation": "Strict", "fieldManager": MANAGER}
        return self._json("PATCH", self._path(api_version, kind, name), body, query, "application/merge-patch+json")

    def delete(self, api_version: str, kind: str, name: str, uid: str = "") -> bool:
        """Delete with everything it owns, in the background; False if it was not there, or is not the one with this uid."""
        body: Object = {"propagationPolicy": "Background"} | ({"preconditions": {"uid": uid}} if uid else {})
        try:
            self._json("DELETE", self._path(api_version, kind, name), body)
        except Refused as error:
            if error.status == 404 or (uid and error.status == 409):
                return False
            raise
        return True

    def follow(self, api_version: str, kind: str, name: str, tick: float = 30.0) -> Generator[Object | None, None, None]:
        """The object now, then whenever it changes; unchanged it comes again about every `tick` seconds, so that the caller can
        look at its clock. None, once, when it is gone. Lost watches are taken up where they ended.
        """
        found = self.get(api_version, kind, name)
        while found is not None:
            yield found
            begun = time.monotonic()
            try:
                for event in self._events(api_version, kind, name, found["metadata"]["resourceVersion"], tick):
                    found = None if event["type"] == "DELETED" else event["object"]
                    if found is None:
                        break
                    yield found
            except (urllib3.exceptions.HTTPError, Refused, _Expired) as error:
                log.debug("watch of %s %s: %s", kind, name, error)
                found = self.get(api_version, kind, name)
            time.sleep(max(0.0, min(1.0, tick) - (time.monotonic() - begun)))  # a server that closes at once is not hammered
        yield None

    def log_lines(
        self, pod: str, *, follow: bool = False, since: str = "", tail: int = 0, previous: bool = False, container: str = ""
    ) -> Iterator[str]:
        """Lines of a container's log, each with its time in front ("2026-01-02T03:04:05.678Z text"); cut at 8 KiB.

        `since` is such a time (whole seconds count). Following waits at most 60 s for a line before it ends.
        """
        query: dict[str, str] = {"timestamps": "true"}
        query |= {"follow": "true"} if follow else {}
        query |= {"sinceTime": since} if since else {}
        query |= {"tailLines": str(tail)} if tail else {}
        query |= {"previous": "true"} if previous else {}
        query |= {"container": container} if container else {}
        response = self._send("GET", f"{self._path('v1', 'Pod', pod)}/log", query=query, stream=True, timeout=60.0)
        try:
            for line in _lines(response, _LONGEST_LINE):
                yield line.decode(errors="replace")
        finally:
            response.close()

    def proxy(self, pod: str, port: int, verb: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One HTTP request to a pod through the API server: status and body of the answer, whatever they are."""
        address = f"{self._path('v1', 'Pod', f'{pod}:{port}')}/proxy{path}"
        headers = {"Content-Type": "application/json"}
        response = self._pool.request(
            verb, self._host + address, body=body, headers=self._headers(headers), retries=False, timeout=60.0
        )
        return response.status, response.data

    def _events(self, api_version: str, kind: str, name: str, version: str, tick: float) -> Iterator[Object]:
        query = {
            "watch": "true",
            "resourceVersion": version,
            "fieldSelector": f"metadata.name={name}",
            "timeoutSeconds": str(max(1, round(tick))),
        }
        response = self._send("GET", self._path(api_version, kind), query=query, stream=True, timeout=tick + 15)
        try:
            for line in _lines(response):
                event: Object = json.loads(line)
                if event["type"] == "ERROR":
                    raise _Expired(event["object"].get("message", ""))
                yield event
        finally:
            response.close()

    def _path(self, api_version: str, kind: str, name: str = "") -> str:
        resource = self._resource(api_version, kind)
        if resource is None:
            raise ComponentError(f"the cluster does not know {kind} ({api_version}); install its CRD, or check the version")
        root = "/api" if api_version == "v1" else "/apis"
        space = f"/namespaces/{quote(self.namespace)}" if resource["namespaced"] else ""
        return f"{root}/{api_version}{space}/{resource['name']}" + (f"/{quote(name, safe=':')}" if name else "")

    def _resource(self, api_version: str, kind: str) -> Object | None:
        known = self._kinds.get(api_version, {})
        if kind not in known:
            root = "/api" if api_version == "v1" else "/apis"
            try:
                answer = self._json("GET", f"{root}/{api_version}")
            except Refused as error:
                if error.status == 404:
                    return None
                raise
            known = {each["kind"]: each for each in answer["resources"] if "/" not in each["name"]}
            self._kinds[api_version] = known
        return known.get(kind)

    def _json(
        self,
        verb: str,
        path: str,
        body: Object | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> Object:
        answer: Object = json.loads(self._send(verb, path, body, query, content).data)
        return answer

    def _send(
        self,
        verb: str,
        path: str,
        body: Object | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
        *,
        stream: bool = False,
        timeout: float = 30.0,
    ) -> urllib3.BaseHTTPResponse:
        url = f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        limits = urllib3.Timeout(connect=10.0, read=timeout)
        started, pause = time.monotonic(), 0.5
        while True:
            last = time.monotonic() - started + pause > self._patience
            try:
                response = self._pool.request(
                    verb,
                    url,
                    body=data,
                    headers=self._headers({"Content-Type": content}),
                    retries=False,
                    timeout=limits,
                    preload_content=not stream,
                )
            except urllib3.exceptions.HTTPError as error:
                if last:
                    raise
                log.warning("the API server does not answer, asking again: %s", error)
            else:
                if response.status < 400:
                    return response
                if last or response.status not in _AGAIN:
                    raise _refused(verb, path, response.status, response.data)
            time.sleep(pause)
            pause = min(pause * 2, 10.0)

    def _headers(self, headers: dict[str, str]) -> dict[str, str]:
        """With the identity's token, which the official client renews in here."""
        self._api.update_params_for_auth(headers, [], ["BearerToken"])
        return {**headers, "Accept": "application/json", "User-Agent": MANAGER}


class _Expired(Exception):
    """The watch's resourceVersion is too old; read the object again."""


def _load(settings: Any) -> str:
    """Fill in server and identity; returns the namespace they imply, or ''."""
    try:
        if not os.environ.get("KUBECONFIG") and os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(settings)
            return _NAMESPACE_FILE.read_text().strip() if _NAMESPACE_FILE.exists() else ""
        # The client's own default is KUBECONFIG as it was when the client was imported.
        path = os.environ.get("KUBECONFIG") or None
        config.load_kube_config(path, client_configuration=settings)
        _, active = config.list_kube_config_contexts(path)
    except config.ConfigException as error:
        raise ComponentError(
            f"no way into Kubernetes: {error}; run in a pod with a service account, or set KUBECONFIG"
        ) from error
    return str(active.get("context", {}).get("namespace", ""))


def _refused(verb: str, path: str, status: int, data: bytes) -> Refused:
    try:
        message = str(json.loads(data).get("message", ""))
    except (ValueError, AttributeError):
        message = data[:200].decode(errors="replace")
    hint = {
        401: "; the token is not accepted",
        403: "; bind a Role that allows it to the service account this step runs as",
    }.get(status, "")
    return Refused(status, f"{verb} {path}: {status}: {message}{hint}")


def _lines(response: urllib3.BaseHTTPResponse, longest: int = 0) -> Iterator[bytes]:
    """Lines of a stream as they come, without their end; with `longest`, what a line has more than that is dropped."""
    rest, dropped = b"", False
    for chunk in response.stream(65536):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if not dropped:
                yield line[:longest] if longest else line
            dropped = False
        if longest and len(rest) > longest:
            if not dropped:
                yield rest[:longest]
            rest, dropped = b"", True
    if rest and not dropped:
        yield rest[:longest] if longest else rest
