"""The server: moto's dispatcher with this package's actions, behind `front`, on one port with a thread per connection."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from moto.fsx.responses import FSxResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.sagemaker.responses import SageMakerResponse
from werkzeug.serving import make_server

from penstock_local.aws.actions import install
from penstock_local.aws.front import Front
from penstock_local.aws.fsx import service as fsx
from penstock_local.aws.labelling import service as labelling
from penstock_local.aws.world import World, start


class _Dispatcher(DomainDispatcherApplication):
    """moto looks through its own folders at every request (a fifth of its time); what serves a host never changes."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._backends: dict[str | None, Any] = {}

    def get_backend_for_host(self, host: str | None) -> Any:
        if host not in self._backends:
            self._backends[host] = super().get_backend_for_host(host)
        return self._backends[host]


class _Quiet(MotoRequestHandler):
    def log_request(self, *_: Any) -> None:
        """Nothing: the call log has it."""


def serve(host: str, port: int, folder: Path, *, end_with_stdin: bool) -> None:
    """Serve until SIGTERM (or the end of stdin); prints `{"endpoint": ...}` on one line when it serves."""
    world = World(folder.resolve())
    install(world, "fsx", FSxResponse, "BadRequest", fsx.ACTIONS)
    install(world, "sagemaker", SageMakerResponse, "ValidationException", labelling.ACTIONS)
    server = make_server(host, port, Front(world, _Dispatcher()), threaded=True, request_handler=_Quiet)
    start(world, [*fsx.BEATS, *labelling.BEATS])

    def end(*_: object) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()  # shutdown() waits for the loop that this thread runs

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, end)
    if end_with_stdin:
        threading.Thread(target=lambda: end(sys.stdin.read()), daemon=True).start()
    print(json.dumps({"endpoint": f"http://{host}:{server.port}"}), flush=True)
    server.serve_forever()
