"""What every request passes: the control API, the call log, faults, and clear errors for what moto does not have.

moto answers an action it lacks with an HTML page and status 500, which botocore retries and then cannot read. Here it is a
NotImplemented error (501) in the caller's protocol.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, cast

from werkzeug.test import run_wsgi_app

from penstock_local.aws.calls import Call, Calls, Environ, identify
from penstock_local.aws.control import ControlApi
from penstock_local.aws.errors import AWSError, not_implemented, rendered
from penstock_local.aws.faults import Faults
from penstock_local.aws.world import World


class Front:
    """A WSGI application around moto's."""

    def __init__(self, world: World, moto: Any) -> None:
        self._moto, self._faults, self._calls = moto, Faults(), Calls()
        self._control = ControlApi(world, self._faults, self._calls)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith("/penstock/"):
            return cast(Iterable[bytes], self._control(environ, start_response))
        if path.startswith("/moto-api"):
            return cast(Iterable[bytes], self._moto(environ, start_response))
        call = identify(environ)
        self._calls.add(call)
        fault = self._faults.take(call.service, call.action)
        if fault is not None:
            if fault.after:
                self._ask(call, environ)
            return _error(call, fault.error, environ, start_response)
        answer = self._ask(call, environ)
        if isinstance(answer, AWSError):
            return _error(call, answer, environ, start_response)
        body, status, headers = answer
        call.status = int(status.split()[0])
        start_response(status, headers.to_wsgi_list())
        return cast(Iterable[bytes], body)

    def _ask(self, call: Call, environ: Environ) -> tuple[Any, str, Any] | AWSError:
        try:
            body, status, headers = run_wsgi_app(self._moto, environ)
        except NotImplementedError:
            return not_implemented(f"{call.service} {call.action}")
        except Exception as error:
            logging.exception("%s %s", call.service, call.action)
            return AWSError("InternalFailure", f"{type(error).__name__} in the fake AWS: {error}", 500)
        unknown = int(status.split()[0]) in (404, 405) and headers.get("Content-Type", "").startswith("text/html")
        if unknown and call.service != "s3":  # no route of moto's: a REST action that it lacks
            return not_implemented(f"{call.service} {call.action}")
        return body, status, headers


def _error(call: Call, error: AWSError, environ: Environ, start_response: Any) -> Iterable[bytes]:
    headers, body = rendered(error, call.protocol)
    call.status = error.status
    phrase = HTTPStatus(error.status).phrase if error.status in {each.value for each in HTTPStatus} else "Error"
    start_response(f"{error.status} {phrase}", [*headers, ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]  # the next answer on the connection would begin with it
