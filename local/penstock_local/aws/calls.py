"""Which AWS call an HTTP request is, and a log of all of them.

The service is the one the request is signed for; the action is in a header (JSON), in the body (query) or follows from method
and path (REST), for which moto's router is asked. Parameters are logged without secrets and without object bodies.
"""

from __future__ import annotations

import io
import json
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl

from moto.core.request import Request
from moto.core.routing import get_service_router

Environ = dict[str, Any]

_SCOPE: Final = re.compile(r"Credential=[^/,\s]+/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
_SECRET: Final = re.compile(r"secret|password|credential|securitytoken|sessiontoken|signature|privatekey", re.IGNORECASE)
_URL_SIGNATURE: Final = ("AWSAccessKeyId", "Signature", "Expires")
_REMEMBERED: Final = 20_000


@dataclass
class Call:
    """One request; `status` is the HTTP status of the answer, None while there is none."""

    service: str
    action: str
    parameters: dict[str, Any]
    protocol: str
    time: float = field(default_factory=time.time)
    status: int | None = None

    def shown(self) -> dict[str, Any]:
        shown = {"service": self.service, "action": self.action, "time": self.time, "status": self.status}
        return {**shown, "parameters": self.parameters}


class Calls:
    """The last 20,000 calls, oldest first."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=_REMEMBERED)

    def add(self, call: Call) -> None:
        self._calls.append(call)

    def shown(self, service: str | None, action: str | None) -> list[dict[str, Any]]:
        chosen = (call for call in list(self._calls) if service in (None, call.service) and action in (None, call.action))
        return [call.shown() for call in chosen]

    def forget(self) -> None:
        self._calls.clear()


def identify(environ: Environ) -> Call:
    """The call that a WSGI request is; a body that is read is put back."""
    query = environ.get("QUERY_STRING", "")
    signed = environ.get("HTTP_AUTHORIZATION") or f"Credential={parse_qs(query).get('X-Amz-Credential', [''])[0]}"
    scope = _SCOPE.search(signed)
    service = scope["service"] if scope else ""
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return Call(service or "unknown", target.rpartition(".")[2], _safe(_json(_body(environ))), "json")
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        form = dict(parse_qsl(_body(environ).decode(errors="replace")))
        action = form.pop("Action", "")
        if action:
            return Call(service or "sts", action, _safe(form), "ec2" if service == "ec2" else "query")
    service = service or "s3"  # as moto takes it; unsigned requests are S3's, for public objects
    action, path = _rest(service, environ)
    parameters = _safe({**path, **dict(parse_qsl(query))})
    return Call(service, action, parameters, "s3" if service == "s3" else "json")


def _rest(service: str, environ: Environ) -> tuple[str, dict[str, Any]]:
    try:
        operation, parameters = get_service_router(service).match(Request(environ.copy()))
        return operation.name, dict(parameters)
    except Exception:  # the router raises what it likes for what no service has; the log shows the path then
        return f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '/')}", {}


def _body(environ: Environ) -> bytes:
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _json(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _safe(parameters: dict[str, Any]) -> dict[str, Any]:
    """Without secrets: their values become ***; the parameters that sign a URL are left out."""
    shown = {key: value for key, value in parameters.items() if not key.startswith("X-Amz-") and key not in _URL_SIGNATURE}
    return {key: "***" if _SECRET.search(key) else _safe_value(value) for key, value in shown.items()}


def _safe_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_safe_value(each) for each in value]
    return _safe(value) if isinstance(value, dict) else value
