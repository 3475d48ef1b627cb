"""Every setting of the operator: unit, default and the reason for the default. Read once from PENSTOCK_* variables.

The Helm chart's values map one to one onto these; a value that cannot be read stops the start with one line that names it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any


class SettingsError(ValueError):
    """A PENSTOCK_* variable that cannot be read; the message names the variable, what was found and what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    namespace: str = "penstock-system"
    """The operator's own namespace: its Lease and its key Secret live there."""

    watch_namespaces: tuple[str, ...] = ()
    """Namespaces to serve, comma-separated. Empty: the whole cluster (needs the ClusterRole)."""

    service_url: str = ""
    """Where pods report progress. Empty: http://penstock-operator.<namespace>.svc:8080, the chart's Service."""

    pod_name: str = "penstock-operator"
    """Identity in the Lease and in Events."""

    listen_host: str = "0.0.0.0"
    listen_port: int = 8080
    """Port of /healthz, /readyz, /metrics and the progress endpoint."""

    workers: int = 16
    """Reconciles at once. One reconcile is one to three API round trips, so 16 keep 64 connections busy in a burst."""

    volume_workers: int = 4
    """LustreVolumes at once. Each waits for AWS, whose calls are rationed per account."""

    volume_poll_seconds: float = 2.0
    """Between two looks at a file system, link or export that AWS is about to finish; also the first pause after an AWS call
    that failed, which doubles up to five minutes."""

    volume_retry_seconds: float = 60.0
    """Before a link or an export that failed is made again, and between two looks at a volume at rest."""

    api_connections: int = 48
    """Connections to the API server. Measured on two cores: more brings nothing, fewer than 16 costs throughput."""

    request_timeout: float = 30.0
    """Seconds for one API request. kopf's default of 300 would hold a worker for five minutes."""

    resync_seconds: float = 420.0
    """Every key is looked at again after this many seconds (plus up to 20 % jitter). Covers lost events."""

    sweep_seconds: float = 60.0
    """The caches are compared with what exists this often: a watch that was away may not tell what went meanwhile."""

    progress_write_seconds: float = 2.0
    """At most one status write for progress per job in this many seconds: etcd is not a metrics store."""

    startup_error_seconds: float = 20.0
    """How long an image that cannot be pulled, a missing ConfigMap or a worker that does not answer is waited for, before a
    job that never ran is failed and its nodes are given back. Two pull attempts of the kubelet fit in."""

    worker_ready_seconds: float = 60.0
    """How long a running worker may take to answer on the ssh port before the job is failed (first start only)."""

    refusal_retry_seconds: float = 30.0
    """Pause before pods are asked for again after the API server refused them (quota, admission)."""

    settle_seconds: float = 3.0
    """After a launcher failed with no clear culprit, the time given to a lost worker to show before the program is blamed."""

    restart_backoff_seconds: float = 1.0
    """First pause before a restart; doubles with each restart up to `restart_backoff_max_seconds`."""

    restart_backoff_max_seconds: float = 60.0

    infrastructure_restart_limit: int = 50
    """Infrastructure restarts after which a job is failed. They are free for the user, but an endless loop costs GPUs."""

    leader_election: bool = True
    lease_seconds: float = 15.0
    lease_renew_seconds: float = 5.0
    """Lease duration and renewal, as client-go's defaults are shaped. The process exits when it loses the Lease."""

    network_policy: bool = True
    """One NetworkPolicy per job. Off where the cluster's own policies do this."""

    instance_types_file: str = ""
    """A YAML list of instance types that are added to the operator's own, or replace them. Empty: none."""

    efa_huge_pages: bool = True
    """Workers with EFA ask for hugepages-2Mi. Off where Karpenter makes the nodes and no NodeOverlay tells it of huge pages: it
    knows none and would launch nothing."""

    log_format: str = "json"
    """`json` or `text`."""

    log_level: str = "info"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read settings from `PENSTOCK_<NAME>` variables.

    Raises:
        SettingsError: a value does not parse; the message names the variable.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for field in fields(Settings):
        variable = f"PENSTOCK_{field.name.upper()}"
        if (text := environ.get(variable)) is not None:
            values[field.name] = _parse(variable, text, field.default)
    settings = Settings(**values)
    if not settings.service_url:
        settings = replace(settings, service_url=f"http://penstock-operator.{settings.namespace}.svc:8080")
    if settings.log_format not in ("json", "text"):
        raise SettingsError(f"PENSTOCK_LOG_FORMAT: found {settings.log_format!r}; use json or text")
    if settings.lease_renew_seconds * 2 > settings.lease_seconds:
        raise SettingsError(
            f"PENSTOCK_LEASE_RENEW_SECONDS: found {settings.lease_renew_seconds:g}; "
            f"at most half of PENSTOCK_LEASE_SECONDS ({settings.lease_seconds:g}), or one late answer loses the Lease"
        )
    if settings.workers < 1:
        raise SettingsError(f"PENSTOCK_WORKERS: found {settings.workers}; use 1 or more")
    return settings


def _parse(variable: str, text: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]
        if isinstance(default, int | float):
            return type(default)(text)
        if isinstance(default, tuple):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return text
    except (KeyError, ValueError) as error:
        raise SettingsError(f"{variable}: found {text!r}; expected {type(default).__name__}") from error
