"""The server: moto's dispatcher with this package's actions, behind `front`, on one port.

As AWS it leaves a connection open for the next request. moto's own server (werkzeug's) closes each, which costs client, server
and what lies between more than most answers do.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cheroot import wsgi
from moto.fsx.responses import FSxResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sagemaker.responses import SageMakerResponse

from penstock_local.aws.actions import install
from penstock_local.aws.front import Front
from penstock_local.aws.fsx import service as fsx
from penstock_local.aws.labelling import service as labelling
from penstock_local.aws.world import World, start

THREADS, CONNECTIONS = 32, 256
IDLE_SECONDS = 300
"""After which an idle connection is closed; longer than any client here pauses, so that none finds it closing."""


class _Dispatcher(DomainDispatcherApplication):
    """moto looks through its own folders at every request (a fifth of its time); what serves a host never changes."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._backends: dict[str | None, Any] = {}

    def get_backend_for_host(self, host: str | None) -> Any:
        if host not in self._backends:
            self._backends[host] = super().get_backend_for_host(host)
        return self._backends[host]


def serve(host: str, port: int, folder: Path, *, end_with_stdin: bool) -> None:
    """Serve until SIGTERM (or the end of stdin); prints `{"endpoint": ...}` on one line when it serves."""
    world = World(folder.resolve())
    install(world, "fsx", FSxResponse, "BadRequest", fsx.ACTIONS)
    install(world, "sagemaker", SageMakerResponse, "ValidationException", labelling.ACTIONS)
    front = Front(world, _Dispatcher())

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["RAW_URI"] = environ["REQUEST_URI"]  # moto tells S3 keys by the path as it came: a slash in it may be encoded
        return front(environ, start_response)

    server = wsgi.Server((host, port), application, THREADS, timeout=IDLE_SECONDS, shutdown_timeout=1)
    server.request_queue_size = server.keep_alive_conn_limit = CONNECTIONS
    server.prepare()
    start(world, [*fsx.BEATS, *labelling.BEATS])

    def end(*_: object) -> None:
        threading.Thread(target=server.stop, daemon=True).start()  # it waits for the loop that this thread runs

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, end)
    if end_with_stdin:
        threading.Thread(target=lambda: end(sys.stdin.read()), daemon=True).start()
    print(json.dumps({"endpoint": f"http://{host}:{server.bind_addr[1]}"}), flush=True)
    server.serve()
