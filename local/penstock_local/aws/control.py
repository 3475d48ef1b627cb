"""The control API, `/penstock/...` on the same port: settings, faults, the call log, failures, workers. JSON both ways.

    GET, PUT          config                     settings by name (`settings.DEFAULTS`); PUT changes those given
    GET, POST, DELETE faults                     {"service", "action", "code", "message", "status", "times", "after", "fields"}
    GET, DELETE       calls?service=fsx&action=  [{"service", "action", "time", "parameters", "status"}]
    POST              fsx/<id>/fail              {"message", "lifecycle": FAILED or MISCONFIGURED}; fs-, dra- or task-
    PUT               workteams/<name>/workers   {"workers": [{"id", "accuracy", "confusion"}], "seed", "truth" or "truthUri"}
    POST              labelling/<job>/fail       {"message"}

`faults`: see `penstock_local.aws.client.Control.fault`. What is wrong is answered with 400 and {"message": ...}.
"""

from __future__ import annotations

import json
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from penstock_local.aws.calls import Calls
from penstock_local.aws.faults import Faults
from penstock_local.aws.fsx import failures
from penstock_local.aws.labelling import jobs, workers
from penstock_local.aws.world import World

_ROUTES = Map(
    [
        Rule("/penstock/config", endpoint="config"),
        Rule("/penstock/faults", endpoint="faults"),
        Rule("/penstock/calls", endpoint="calls"),
        Rule("/penstock/fsx/<name>/fail", endpoint="fail_fsx", methods=["POST"]),
        Rule("/penstock/workteams/<name>/workers", endpoint="workers", methods=["PUT"]),
        Rule("/penstock/labelling/<name>/fail", endpoint="fail_job", methods=["POST"]),
    ]
)


class ControlApi:
    """A WSGI application."""

    def __init__(self, world: World, faults: Faults, calls: Calls) -> None:
        self._world, self._planned, self._log = world, faults, calls

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        try:
            endpoint, values = _ROUTES.bind_to_environ(environ).match()
            with self._world.lock:
                answer = getattr(self, f"_{endpoint}")(request, _body(request), **values)
            response = _json(200, answer)
        except HTTPException as error:
            response = _json(error.code or 500, {"message": f"{request.method} {request.path}: {error.description}"})
        except (ValueError, KeyError) as error:
            response = _json(400, {"message": str(error.args[0] if error.args else error)})
        return response(environ, start_response)

    def _config(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        if request.method == "PUT":
            self._world.settings.change(body)
        return self._world.settings.all()

    def _faults(self, request: Request, body: dict[str, Any]) -> list[dict[str, Any]]:
        if request.method == "POST":
            self._planned.add(body)
        elif request.method == "DELETE":
            self._planned.clear()
        return self._planned.shown()

    def _calls(self, request: Request, _: dict[str, Any]) -> list[dict[str, Any]]:
        if request.method == "DELETE":
            self._log.forget()
        return self._log.shown(request.args.get("service"), request.args.get("action"))

    def _fail_fsx(self, _: Request, body: dict[str, Any], name: str) -> dict[str, Any]:
        failures.fail(self._world, name, str(body.get("lifecycle", "FAILED")), str(body.get("message", "")))
        return {}

    def _workers(self, _: Request, body: dict[str, Any], name: str) -> dict[str, Any]:
        self._world.labelling.crews[name.lower()] = workers.crew(body)
        return {}

    def _fail_job(self, _: Request, body: dict[str, Any], name: str) -> dict[str, Any]:
        jobs.fail(self._world, name, str(body.get("message", "")) or "InternalServerError: injected failure")
        return {}


def _body(request: Request) -> dict[str, Any]:
    data = request.get_data()
    parsed = json.loads(data) if data else {}
    if not isinstance(parsed, dict):
        raise ValueError("the body must be a JSON object")
    return parsed


def _json(status: int, body: object) -> Response:
    return Response(json.dumps(body), status=status, content_type="application/json")
