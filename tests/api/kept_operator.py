"""An operator that is killed often and started again, as a Deployment would."""

from __future__ import annotations

from pathlib import Path

from tests.api.cluster import Cluster
from tests.api.operator_process import Operator


class Kept(Operator):
    """With a Lease of a minute, which outlives the faults: losing it ends the process, and that is another behaviour."""

    def __init__(self, cluster: Cluster, kubeconfig: Path, folder: Path, patience: float | None = None) -> None:
        super().__init__(kubeconfig, cluster.namespace, folder, cluster.namespace, patience)
        self.settings |= {"PENSTOCK_LEASE_SECONDS": "60", "PENSTOCK_LEASE_RENEW_SECONDS": "5"}
        self.starts = 0

    def start(self, **settings: str) -> None:
        self.starts += 1
        super().start(**settings)

    def keep(self) -> None:
        """Start it when it is dead."""
        if self.ended():
            self.start()

    def leads(self) -> bool:
        return self.says_it_leads()
