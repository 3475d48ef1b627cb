"""Questions to an API server over one TLS connection each: milliseconds, where a kubectl is 60 ms of CPU that what is waited
for wants too."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock_local.certificates import Authority
from penstock_local.errors import LocalError

SECONDS = 5.0
_NAME = "kubernetes"  # one of those in its certificate, however it is reached


class ApiServer:
    """Asked as its administrator. `dial`: a new connection to it."""

    def __init__(self, authority: Authority, dial: Callable[[], socket.socket]) -> None:
        self._authority, self._dial = authority, dial

    def get(self, path: str) -> str:
        """What it answers to GET.

        Raises:
            LocalError: it does not answer within 5 s, or not with success; the message has its words.
        """
        connection, tls = http.client.HTTPSConnection(_NAME, timeout=SECONDS), self._tls()
        try:
            with self._dial() as plain:
                plain.settimeout(SECONDS)
                # wrap_socket would leave a socket that was reset meanwhile open (it fails before its own clean-up begins).
                plain.getpeername()
                connection.sock = tls.wrap_socket(plain, server_hostname=_NAME)
            connection.request("GET", path)
            with connection.getresponse() as answer:
                text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise LocalError(f"the API server does not answer: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise LocalError(f"GET {path}: {answer.status} {text.strip()[:500]}")
        return text

    def items(self, path: str) -> list[dict[str, Any]]:
        """Of a list."""
        found: list[dict[str, Any]] = json.loads(self.get(path))["items"]
        return found

    def _tls(self) -> ssl.SSLContext:
        """Made anew each time: a cluster that was removed and made again has other keys."""
        context = ssl.create_default_context(cafile=str(self._authority.path("ca.crt")))
        context.load_cert_chain(self._authority.path("admin.crt"), self._authority.path("admin.key"))
        return context


def by_port(port: int) -> Callable[[], socket.socket]:
    """At this port of 127.0.0.1."""
    return lambda: socket.create_connection(("127.0.0.1", port), timeout=SECONDS)


def by_file(path: Path) -> Callable[[], socket.socket]:
    """Behind this socket file."""

    def dial() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            raise
        return connection

    return dial
