"""The operator as a process against a real API server, serving one namespace; it can be killed and started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.api.cluster import until

from penstock_local.controlplane import free_ports

WRITES = re.compile(r'^rest_client_requests_total\{code="\d+",method="(?:POST|PATCH|DELETE)"\} (\S+)$', re.MULTILINE)
JOBS = re.compile(r"^penstock_trainingjobs\{.*\} (\S+)$", re.MULTILINE)
RECONCILES = re.compile(r"^controller_runtime_reconcile_total\{.*\} (\S+)$", re.MULTILINE)


class Operator:
    """One replica. Its Lease is short, and renewed by name after a restart, so that tests need not wait for it."""

    def __init__(self, kubeconfig: Path, namespace: str, folder: Path, identity: str = "operator-0") -> None:
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
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **settings: str) -> None:
        self._log.touch()
        with self._log.open("a") as output:
            environment = {"PATH": os.environ["PATH"], **self.settings, **settings}
            command = [sys.executable, "-m", "penstock_operator"]
            self._process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)

    def start_and_lead(self, **settings: str) -> None:
        self.start(**settings)
        until(self.leads, self.log)

    def kill(self) -> None:
        """SIGKILL; no effect when it has ended."""
        self._end(signal.SIGKILL)

    def terminate(self, seconds: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM, seconds)

    def pause(self) -> None:
        """SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wait(self, seconds: float = 30.0) -> int:
        """The exit code, once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(timeout=seconds)

    def _end(self, number: signal.Signals, seconds: float = 30.0) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        return self._process.wait(timeout=seconds)

    def log(self) -> str:
        return self._log.read_text()

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def leads(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the operator ended with {self._process.returncode}:\n{self.log()}"
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
