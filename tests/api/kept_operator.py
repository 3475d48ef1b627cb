"""An operator that is killed often and started again, as a Deployment would.

Its processes are forked from one that has imported the operator's modules and run nothing of them: half of a start is imports,
and these tests start it fifty times. Each fork reads its settings, logs in, takes the Lease and lists as any other.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.api.cluster import Cluster
from tests.api.operator_process import Operator

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["penstock_operator.app", "penstock_operator.__main__", "tests.api.kept_operator"])


class Kept(Operator):
    """With a Lease of a minute, which outlives the faults: losing it ends the process, and that is another behaviour.

    `patience`: seconds of silence after which a watch is given up; kopf's own 70 are too long for a test.
    """

    def __init__(self, cluster: Cluster, kubeconfig: Path, folder: Path, patience: float | None = None) -> None:
        super().__init__(kubeconfig, cluster.namespace, folder, cluster.namespace)
        self.settings |= {"PENSTOCK_LEASE_SECONDS": "60", "PENSTOCK_LEASE_RENEW_SECONDS": "5"}
        self._patience = patience
        self._fork: ForkServerProcess | None = None
        self.starts = 0

    def start(self, **settings: str) -> None:
        self.starts += 1
        self._log.touch()
        self._fork = _forks.Process(target=run, args=({**self.settings, **settings}, self._log, self._patience))
        self._fork.start()

    def ended(self) -> bool:
        return self._fork is None or not self._fork.is_alive()

    def keep(self) -> None:
        """Start it when it is dead."""
        if self.ended():
            self.start()

    def kill(self) -> None:
        if self._fork is not None:
            self._fork.kill()
            self._fork.join(timeout=10)

    def leads(self) -> bool:
        try:
            return "penstock_leader 1.0" in self.metrics()
        except OSError:
            return False


def run(settings: dict[str, str], log: Path, patience: float | None) -> None:
    """In the forked process: become the operator."""
    from penstock_operator import __main__, watch

    os.environ.clear()
    os.environ.update(settings)
    sys.argv = ["penstock-operator"]
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if patience is not None:
        usual = watch.kopf_settings

        def impatient() -> Any:
            made = usual()
            made.watching.inactivity_timeout = patience
            return made

        watch.kopf_settings = impatient
    __main__.main()
