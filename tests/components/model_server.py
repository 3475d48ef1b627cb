"""A model server on loopback that speaks as much of KServe's v2 protocol as a smoke test needs; the test sets its faults."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Model:
    """The logits are the samples themselves. Called, it is the way to it: one request, status and body."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.statuses: list[int] = []
        self.about: Any = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 2]}], "classes": ["cat", "dog"]}
        self.change: Callable[[Any], Any] = lambda answer: answer
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(model.about)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                model.asked.append((self.path, body))
                tensor = body["inputs"][0]
                output = {"name": "logits", "datatype": "FP32", "shape": tensor["shape"], "data": tensor["data"]}
                self._answer(model.change({"outputs": [output]}))

            def _answer(self, content: Any) -> None:
                status = model.statuses.pop(0) if model.statuses else 200
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __call__(self, verb: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        address = f"http://127.0.0.1:{self._server.server_address[1]}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(address, body, method=verb), timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
