"""The operator as a process against a real API server, serving one namespace; it can be killed and started again.

A fork (tests/forked.py): it reads its settings, logs in, takes the Lease and lists as any other. It runs as
`python -m penstock_operator` in tests/manifests, and in its image in tests/e2e.
"""

from __future__ import annotations

import functools
import re
import signal
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.api.cluster import until
from tests.forked import Forked, preload

from penstock_local.controlplane import free_ports
from penstock_operator import __main__, watch

preload("penstock_operator.app", "boto3", "botocore.client", "tests.api.operator_process")

WRITES = re.compile(r'^rest_client_requests_total\{code="\d+",method="(?:POST|PATCH|DELETE)"\} (\S+)$', re.MULTILINE)
JOBS = re.compile(r"^penstock_trainingjobs\{.*\} (\S+)$", re.MULTILINE)
RECONCILES = re.compile(r"^controller_runtime_reconcile_total\{.*\} (\S+)$", re.MULTILINE)


class Operator:
    """One replica. Its Lease is short, and renewed by name after a restart, so that tests need not wait for it.

    `patience`: seconds of silence after which a watch is given up; kopf's own 70 are too long for a test.
    """

    def __init__(
        self, kubeconfig: Path, namespace: str, folder: Path, identity: str = "operator-0", patience: float | None = None
    ) -> None:
        self.port = free_ports(1)[0]
        self._log = folder / f"{identity}.log"
        self.settings = {
            "KUBECONFIG": str(kubeconfig),
            "PENSTOCK_NAMESPACE": namespace,
            "PENSTOCK_WATCH_NAMESPACES": namespace,
            "PENSTOCK_POD_NAME": identity,
            "PENSTOCK_LISTEN_HOST": "127.0.0.1",
            "PENSTOCK_LISTEN_PORT": str(self.port),
            "PENSTOCK_LEASE_SECONDS": "3",
            "PENSTOCK_LEASE_RENEW_SECONDS": "0.5",
        }
        self._patience = patience
        self._process: Forked | None = None
        self._turn = threading.Lock()  # it is started in one thread and killed in another

    def start(self, **settings: str) -> None:
        main = __main__.main if self._patience is None else functools.partial(_impatient, self._patience)
        with self._turn:
            self._process = Forked(main, ["penstock-operator"], {**self.settings, **settings}, self._log)

    def start_and_lead(self, **settings: str) -> None:
        self.start(**settings)
        until(self.leads, self.log)

    def kill(self) -> None:
        """SIGKILL; no effect when it has ended."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP."""
        self._running().send(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send(signal.SIGCONT)

    def wait(self, seconds: float = 30.0) -> int:
        """The exit code, once it has ended by itself."""
        return self._running().wait(seconds)

    def ended(self) -> bool:
        return self._process is None or self._process.ended()

    def _running(self) -> Forked:
        assert self._process is not None, "it was not started"
        return self._process

    def _end(self, number: signal.Signals) -> int:
        with self._turn:
            process = self._process
        if process is None:
            return 0
        process.send(number)
        return process.wait()

    def log(self) -> str:
        return self._log.read_text()

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def leads(self) -> bool:
        assert not self.ended(), f"the operator has ended:\n{self.log()}"
        return self.says_it_leads()

    def says_it_leads(self) -> bool:
        try:
            return "penstock_leader 1.0" in self.metrics()
        except OSError:
            return False

    def writes(self) -> int:
        """POST, PATCH and DELETE requests so far. The Lease is renewed by PUT."""
        return sum(int(float(count)) for count in WRITES.findall(self.metrics()))

    def reconciles(self) -> int:
        return sum(int(float(count)) for count in RECONCILES.findall(self.metrics()))

    def jobs(self) -> int:
        """TrainingJobs that it knows."""
        return sum(int(float(count)) for count in JOBS.findall(self.metrics()))

    def settle(self, quiet: float = 1.0, seconds: float = 30.0) -> int:
        """Wait until nothing was written for a while (events follow in the background); returns the writes so far."""
        seen, since = self.writes(), time.monotonic()

        def still() -> bool:
            nonlocal seen, since
            if (count := self.writes()) != seen:
                seen, since = count, time.monotonic()
            return time.monotonic() - since > quiet

        until(still, self.metrics, seconds)
        return seen


def _impatient(patience: float) -> None:
    """The operator, with another time-out of its watches."""
    usual = watch.kopf_settings

    def impatient() -> Any:
        made = usual()
        made.watching.inactivity_timeout = patience
        return made

    watch.kopf_settings = impatient
    __main__.main()
