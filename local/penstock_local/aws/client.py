"""The control API of the fake AWS, from Python: what a test needs that AWS has no call for. Standard library only."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any


class ControlError(RuntimeError):
    """The control API refused; the message is its reason."""


class Control:
    """Calls of `<endpoint>/penstock/...`; `penstock_local.aws.control` documents each."""

    def __init__(self, endpoint: str) -> None:
        self._root = f"{endpoint}/penstock"

    def configure(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Change settings (`{"fsx.createSeconds": 0}`); the answer holds all of them."""
        changed: dict[str, Any] = self._call("PUT", "config", settings)
        return changed

    def fault(
        self,
        service: str,
        action: str,
        code: str,
        message: str = "injected fault",
        *,
        status: int = 400,
        times: int = 1,
        after: bool = False,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """The next `times` such calls are answered with this error; `after`: they are done first, only the answer is lost.

        `action` "*" means every action. `fields`: further members of the error, such as `Limit`.
        """
        body = {"service": service, "action": action, "code": code, "message": message, "status": status}
        self._call("POST", "faults", {**body, "times": times, "after": after, "fields": dict(fields or {})})

    def clear_faults(self) -> None:
        self._call("DELETE", "faults")

    def calls(self, service: str | None = None, action: str | None = None) -> list[dict[str, Any]]:
        """What was called, oldest first: `{service, action, time, parameters, status}`; `status` is None while it runs."""
        chosen = {key: value for key, value in (("service", service), ("action", action)) if value}
        found: list[dict[str, Any]] = self._call("GET", f"calls?{urllib.parse.urlencode(chosen)}")
        return found

    def forget_calls(self) -> None:
        self._call("DELETE", "calls")

    def fail(self, resource_id: str, message: str = "", lifecycle: str = "FAILED") -> None:
        """Bring a file system, association or task (by its id) into FAILED or MISCONFIGURED."""
        self._call("POST", f"fsx/{resource_id}/fail", {"message": message, "lifecycle": lifecycle})

    def workers(
        self,
        team: str,
        workers: Sequence[Mapping[str, Any]],
        *,
        truth: Mapping[str, int] | None = None,
        truth_uri: str | None = None,
        seed: int = 0,
    ) -> None:
        """Who works in a work team: `{"id", "accuracy", "confusion"?}` each; and the truth they see through their noise.

        `truth`: object URI to index of its class; `truth_uri`: an S3 object holding that as JSON.
        """
        body: dict[str, Any] = {"workers": [dict(worker) for worker in workers], "seed": seed}
        body |= {"truth": dict(truth)} if truth is not None else {}
        body |= {"truthUri": truth_uri} if truth_uri is not None else {}
        self._call("PUT", f"workteams/{team}/workers", body)

    def fail_job(self, name: str, message: str = "") -> None:
        """Bring a labelling job into Failed."""
        self._call("POST", f"labelling/{name}/fail", {"message": message})

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._root}/{path}", data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise ControlError(json.load(error)["message"]) from None
