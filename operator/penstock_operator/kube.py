"""The Kubernetes client of the reconcilers: aiohttp, orjson and plain dicts.

Why our own: with one process, 32 connections and the same API server, this path does 330 to 460 writes a second at 0.7 ms of
CPU each; httpx-based clients (lightkube, kr8s) do 120 at 8 to 9 ms, the official client less. Burst speed is what the project
exists for. Watches and re-listing stay kopf's.

Nothing is retried here: a failed call raises, and the queue brings the key back with back-off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import aiohttp
import orjson

from penstock_operator import names
from penstock_operator.credentials import Credentials

Object = dict[str, Any]

_PATHS = {
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "Lease": "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
    "Event": "/apis/events.k8s.io/v1/namespaces/{namespace}/events",
    "PersistentVolumeClaim": "/api/v1/namespaces/{namespace}/persistentvolumeclaims",
    "PersistentVolume": "/api/v1/persistentvolumes",
    names.VOLUME_KIND: f"/apis/{names.API_VERSION}/namespaces/{{namespace}}/{names.VOLUME_PLURAL}",
    names.KIND: f"/apis/{names.API_VERSION}/namespaces/{{namespace}}/{names.PLURAL}",
}

# Answers to writes are asked for as metadata only: the rest is what we sent, and coding it again costs both sides.
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_READ = {"Accept": "application/json"}
_READ_METADATA = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
_WRITE = {"Content-Type": "application/json", "Accept": _METADATA}
_MERGE_PATCH = {"Content-Type": "application/merge-patch+json", "Accept": _METADATA}


class ApiError(Exception):
    """The API server said no. `reason` is its machine-readable word (NotFound, AlreadyExists, Conflict, Invalid…)."""

    def __init__(self, status: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message, self.details = status, reason, message, details or {}


class ApiUnreachable(Exception):
    """No answer at all: refused, cut off or timed out."""


class Kube:
    """A session with one API server. Use as an async context manager."""

    def __init__(self, credentials: Credentials, *, connections: int = 48, timeout: float = 30.0) -> None:
        self._credentials = credentials
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=10)
        self._session: aiohttp.ClientSession | None = None
        self.requests: dict[tuple[str, int], int] = {}
        """Answers so far by (verb, status code); 0 stands for no answer. For metrics and for tests of silence."""

    async def __aenter__(self) -> Kube:
        connector = aiohttp.TCPConnector(limit=self._connections, ssl=self._credentials.ssl_context(), keepalive_timeout=60)
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def create(self, body: Object, *, dry_run: bool = False) -> Object:
        """POST; returns the new object's metadata. A dry run is judged like any other, admission included, and nothing is kept.

        Pods and Secrets are immutable, so a plain create does what server-side apply would, and unlike apply it never takes
        over an object of the same name that is somebody else's: that is a 409 AlreadyExists.

        A pod holds what the user wrote and we pass through. Without strict validation the API server drops a misspelt field
        without a word, and a `nodeselector` places nothing.
        """
        path = self._path(body["kind"], body["metadata"].get("namespace", ""))
        strict = "&fieldValidation=Strict" if body["kind"] == "Pod" else ""
        dry = "&dryRun=All" if dry_run else ""
        return await self._request("POST", f"{path}?fieldManager={names.FIELD_MANAGER}{strict}{dry}", body)

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        return await self._request("GET", self._path(kind, namespace, name))

    async def list(self, kind: str, namespace: str, query: str = "", *, metadata_only: bool = False) -> Object:
        """GET of a collection, or of its objects' metadata; an empty namespace means all of them."""
        headers = _READ_METADATA if metadata_only else _READ
        return await self._request("GET", self._path(kind, namespace) + query, headers=headers)

    async def update(self, body: Object) -> Object:
        """PUT, with the resourceVersion in `body` as the lock; returns metadata."""
        metadata = body["metadata"]
        return await self._request("PUT", self._path(body["kind"], metadata["namespace"], metadata["name"]), body)

    async def patch_status(self, kind: str, namespace: str, name: str, resource_version: str, patch: Object) -> Object:
        """Merge-patch a status, only if the object is still the version the patch was computed from. Returns metadata."""
        path = self._path(kind, namespace, name) + f"/status?fieldManager={names.FIELD_MANAGER}"
        body = {"metadata": {"resourceVersion": resource_version}, "status": patch}
        return await self._request("PATCH", path, body, headers=_MERGE_PATCH)

    async def set_finalizers(
        self, kind: str, namespace: str, name: str, resource_version: str, finalizers: Sequence[str]
    ) -> Object:
        """Replace the finalizers of this very version. Returns metadata."""
        path = self._path(kind, namespace, name) + f"?fieldManager={names.FIELD_MANAGER}"
        body = {"metadata": {"resourceVersion": resource_version, "finalizers": finalizers}}
        return await self._request("PATCH", path, body, headers=_MERGE_PATCH)

    async def delete(self, kind: str, namespace: str, name: str, *, uid: str, version: str | None = None) -> None:
        """Delete this very object, at this version if given; a namesake with another uid is left alone."""
        preconditions = {"uid": uid} | ({"resourceVersion": version} if version else {})
        body = {"propagationPolicy": "Background", "preconditions": preconditions}
        await self._request("DELETE", self._path(kind, namespace, name), body)

    def _path(self, kind: str, namespace: str, name: str | None = None) -> str:
        path = _PATHS[kind].format(namespace=namespace) if namespace else _PATHS[kind].replace("/namespaces/{namespace}", "")
        return f"{path}/{name}" if name else path

    async def _request(
        self, verb: str, path: str, body: Object | None = None, *, headers: dict[str, str] | None = None
    ) -> Object:
        assert self._session is not None, "use Kube as an async context manager"
        headers = headers or (_READ if body is None else _WRITE)
        if token := self._credentials.token():
            headers = {**headers, "Authorization": f"Bearer {token}"}
        data = orjson.dumps(body) if body is not None else None
        try:
            async with self._session.request(verb, self._credentials.server + path, data=data, headers=headers) as response:
                raw = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._count(verb, 0)
            raise ApiUnreachable(f"{verb} {path.partition('?')[0]}: {error or type(error).__name__}") from error
        self._count(verb, response.status)
        if response.status >= 400:
            raise _error(response.status, raw)
        parsed: Object = orjson.loads(raw)
        return parsed

    def _count(self, verb: str, status: int) -> None:
        self.requests[verb, status] = self.requests.get((verb, status), 0) + 1


def _error(status: int, raw: bytes) -> ApiError:
    try:
        answer = orjson.loads(raw)
        return ApiError(status, answer.get("reason") or "Unknown", answer.get("message") or "", answer.get("details"))
    except (orjson.JSONDecodeError, AttributeError):
        return ApiError(status, "Unknown", raw[:200].decode(errors="replace"))
