"""The server: moto's dispatcher with this package's actions, behind `front`, on one port.

As AWS it leaves a connection open for the next request. moto's own server (werkzeug's) closes each, which costs client, server
and what lies between more than most answers do.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cheroot import wsgi
from moto.core.request import PRESERVED_HEADER_NAMES_ENVIRON_KEY, environ_key_for_header, should_preserve_original_header_name
from moto.fsx.responses import FSxResponse
from moto.moto_server import werkzeug_app
from moto.sagemaker.responses import SageMakerResponse

from penstock_local.aws.actions import install
from penstock_local.aws.front import Front
from penstock_local.aws.fsx import service as fsx
from penstock_local.aws.labelling import service as labelling
from penstock_local.aws.world import World, start

THREADS, CONNECTIONS = 64, 256
IDLE_SECONDS = 60
"""After which a connection is closed that says nothing. Clients look whether one is open still before they use it again."""
PART = 256 * 1024
"""Bytes of an answer that are handed to the server at once: it copies what is left of them at each send."""


class _Dispatcher(werkzeug_app.DomainDispatcherApplication):
    """moto looks through its own folders at every request (a fifth of its time); what serves a host never changes."""

    def __init__(self) -> None:
        super().__init__(_application)
        self._backends: dict[str | None, Any] = {}

    def get_backend_for_host(self, host: str | None) -> Any:
        if host not in self._backends:
            self._backends[host] = super().get_backend_for_host(host)
        return self._backends[host]


def _application(service: Any) -> Any:
    """moto's Flask application of a service without a fifth of its time: in debug mode, moto's choice, Flask makes a class at
    each request, for a warning about forms; and headers for browsers AWS sends only where a bucket's rules say so."""
    vars(werkzeug_app)["DISABLE_GLOBAL_CORS"] = True  # moto reads MOTO_DISABLE_GLOBAL_CORS when it is imported
    application = werkzeug_app.create_backend_app(service)
    application.debug, application.config["PROPAGATE_EXCEPTIONS"] = False, True
    return application


class _Gateway(wsgi.Gateway_10):
    """A request as moto's own server tells it to moto."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]  # cheroot's own stub says None
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]
        environ["RAW_URI"] = environ["REQUEST_URI"]  # S3 keys by the path as it came: a slash in it may be encoded
        names = [name.decode("latin-1") for name in self.req.inheaders]
        preserved = {environ_key_for_header(name): name for name in names if should_preserve_original_header_name(name)}
        environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = preserved  # an underscore in a key of S3 metadata is no dash
        if not environ["wsgi.input_terminated"]:
            # werkzeug asks whether it is there. It would take an upload that broke off for a whole one.
            del environ["wsgi.input_terminated"]
        return environ


def serve(host: str, port: int, folder: Path, *, end_with_stdin: bool) -> None:
    """Serve until SIGTERM (or the end of stdin); prints `{"endpoint": ...}` on one line when it serves."""
    world = World(folder.resolve())
    install(world, "fsx", FSxResponse, "BadRequest", fsx.ACTIONS)
    install(world, "sagemaker", SageMakerResponse, "ValidationException", labelling.ACTIONS)
    front = Front(world, _Dispatcher())

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        for whole in front(environ, start_response):
            yield from (whole[start : start + PART] for start in range(0, len(whole), PART))

    server = wsgi.Server((host, port), application, THREADS, timeout=IDLE_SECONDS)
    server.gateway, server.request_queue_size, server.keep_alive_conn_limit = _Gateway, CONNECTIONS, CONNECTIONS
    server.prepare()
    start(world, [*fsx.BEATS, *labelling.BEATS])

    def end(*_: object) -> None:
        os._exit(0)  # the state is in memory, and a request that does not end must not keep it

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, end)
    if end_with_stdin:
        threading.Thread(target=lambda: end(sys.stdin.read()), daemon=True).start()
    print(json.dumps({"endpoint": f"http://{host}:{server.bind_addr[1]}"}), flush=True)
    server.serve()
