"""One POST to the operator, over a connection that is kept. Says how it went and raises nothing.

http.client and not urllib: it reads no proxy variables (a proxy could not reach a cluster service), follows no
redirect (the token must not travel), and keeps the connection, so a report costs one round trip.
"""

from __future__ import annotations

import enum
import json
import os
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from penstock_trainer.environment import Endpoint

if TYPE_CHECKING:
    from http.client import HTTPConnection


class Verdict(enum.Enum):
    """What became of a report, and so what to do with it."""

    DELIVERED = "delivered"
    NOT_HERE = "this replica is not the leader: at once again, over a new connection"
    LATER = "not now: again after a while"
    NEVER = "refused: this report would be refused again, the next one may pass"


class Outcome(NamedTuple):
    verdict: Verdict
    reason: str = ""
    wait: float = 0.0
    """Seconds the operator asked to wait, 0 when it did not."""


class Sender:
    """Posts reports of one job. Used by one thread."""

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._connection: HTTPConnection | None = None
        self._token = ""
        self._token_stamp: tuple[int, int, int] | None = None

    def post(self, body: bytes) -> Outcome:
        """Never raises; takes at most a few times the timeout."""
        try:
            token = self._read_token()
        except (OSError, ValueError) as error:
            return Outcome(Verdict.LATER, f"no token in {self._endpoint.token_file}: {_short(error)}")
        try:
            kept = self._connection is not None
            outcome = self._exchange(body, token)
            if outcome is None and kept:
                # The server closed the kept connection between two reports; that says nothing about this report.
                outcome = self._exchange(body, token)
            return outcome or Outcome(Verdict.LATER, f"{self._endpoint.url} closed the connection without an answer")
        except Exception as error:
            self.close()
            return Outcome(Verdict.LATER, f"{self._endpoint.url} cannot be reached: {_short(error)}")

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, body: bytes, token: str) -> Outcome | None:
        """None when the server closed the connection instead of answering."""
        # Four fifths of this package's import time, and only rank 0 needs it, in its background thread.
        from http.client import HTTPConnection, HTTPSConnection

        url = urlsplit(self._endpoint.url)
        if self._connection is None:
            make = HTTPSConnection if url.scheme == "https" else HTTPConnection
            self._connection = make(url.hostname or "", url.port, timeout=self._timeout)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            self._connection.request("POST", url.path, body, headers)
            answer = self._connection.getresponse()
            text = answer.read(4096)
        except (BrokenPipeError, ConnectionResetError):
            self.close()
            return None
        if answer.will_close or not answer.isclosed():
            self.close()
        return _outcome(answer.status, text, answer.getheader("Retry-After"))

    def _read_token(self) -> str:
        # Kubernetes swaps a mounted Secret by renaming a symlink: another inode and mtime, so stat is enough to see it.
        status = os.stat(self._endpoint.token_file)
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._token_stamp:
            with open(self._endpoint.token_file, "rb") as file:
                content = file.read(4096).strip()
            if not content or any(not 33 <= byte <= 126 for byte in content):
                # Said here because http.client would quote the whole header, token and all, in its error.
                raise ValueError("the file is empty or holds more than one word of printable ASCII")
            self._token, self._token_stamp = content.decode("ascii"), stamp
        return self._token


def _outcome(status: int, text: bytes, retry_after: str | None) -> Outcome:
    if 200 <= status < 300:
        return Outcome(Verdict.DELIVERED)
    reason = f"the operator answered {status}: {_error(text)}"
    if status == 503:
        return Outcome(Verdict.NOT_HERE, reason)
    if status in (408, 429) or status >= 500:
        wait = min(30.0, float(retry_after)) if retry_after is not None and retry_after.isdigit() else 0.0
        return Outcome(Verdict.LATER, reason, wait)
    return Outcome(Verdict.NEVER, reason)


def _error(text: bytes) -> str:
    try:
        return str(json.loads(text)["error"])[:300]
    except (ValueError, KeyError, TypeError):
        return text[:300].decode(errors="replace").strip() or "no reason given"


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
