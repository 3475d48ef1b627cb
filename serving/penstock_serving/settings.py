"""Every setting of the model server: unit, default and the reason for the default. Read once from the environment.

MODEL_URI and MODEL_NAME are KServe's and the pipelines' names; the rest are PENSTOCK_<NAME>. SageMaker's
SAGEMAKER_BIND_TO_PORT is the port where PENSTOCK_LISTEN_PORT is not set. A value that cannot be used stops the start with one
line that names it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


class SettingsError(ValueError):
    """A variable that cannot be used; the message names it, what was found and what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    model_uri: str
    """s3://bucket/prefix, file:///path or a path (a mounted file system). A folder holds model.json and the file it names; an
    address that ends in .pt2 is the file itself, whose hash nobody can then check."""

    model_name: str = "model"
    """The model's name in the paths of KServe's protocols."""

    listen_host: str = "0.0.0.0"
    """A pod's probes and its Service come from outside the pod, so all addresses."""

    listen_port: int = 8080
    """Serves everything, /metrics too. 0: a free port, told in the log."""

    threads: int = 0
    """Threads of one inference. 0: as many as the container's CPU limit and affinity allow; torch alone would count the node's
    cores and be throttled."""

    batch_max_rows: int = 64
    """Rows of one inference. Also the number of rows the model is warmed up with; a larger request is run in slices."""

    batch_delay_ms: float = 2.0
    """After a batch that several requests shared, how long to wait for as many again. A request that had no company never
    waits. 0: never wait."""

    queue_requests: int = 256
    """Requests that may wait for the inference thread; the next one is answered 503 with Retry-After."""

    request_timeout_seconds: float = 30.0
    """From a request's head to its answer, reading the body included; then 504. SageMaker itself gives up after 60 s."""

    request_max_mib: float = 32.0
    """Largest body, after decompression; a larger one is answered 413. SageMaker's own limit is 25 MB."""

    model_max_mib: float = 16384.0
    """Largest model file. Weights live in memory, so a container's memory limit is near this anyway."""

    drain_seconds: float = 5.0
    """After SIGTERM: not ready, but still serving for so long, since Services learn late that a pod is gone."""

    stop_seconds: float = 20.0
    """Then how long requests in flight may take. With drain_seconds it must stay under the pod's 30 s grace period."""

    stuck_seconds: float = 300.0
    """An inference longer than this fails the liveness check: a thread cannot be cancelled, a restart can."""

    log_format: str = "json"
    """`json` or `text`."""

    log_level: str = "info"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: a value is missing, does not parse or is out of range; the message names the variable.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for field in fields(Settings):
        if (text := environ.get(variable(field.name))) is not None:
            values[field.name] = _parse(variable(field.name), text.strip(), field.default)
    if not values.get("model_uri"):
        raise SettingsError("MODEL_URI: not set; expected s3://bucket/prefix, file:///path or a path")
    if "listen_port" not in values and (text := environ.get("SAGEMAKER_BIND_TO_PORT")):
        values["listen_port"] = _parse("SAGEMAKER_BIND_TO_PORT", text, 0)
    settings = Settings(**values)
    _check(settings)
    return settings


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return name.upper() if name.startswith("model_") and name != "model_max_mib" else f"PENSTOCK_{name.upper()}"


def usable_cpus() -> int:
    """CPUs this process may use: its affinity, cut by the cgroup's quota. At least 1."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = _CPU_MAX.read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, math.ceil(int(quota) / int(period))))


def _parse(name: str, text: str, default: Any) -> Any:
    try:
        return type(default)(text) if isinstance(default, int | float) else text
    except ValueError as error:
        raise SettingsError(f"{name}: found {text!r}; expected {type(default).__name__}") from error


def _check(settings: Settings) -> None:
    # A name that needs no quoting in a path, and cannot reach into another one.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", settings.model_name):
        raise SettingsError(f"MODEL_NAME: found {settings.model_name!r}; use letters, digits, '.', '_' and '-'")
    lowest = {"listen_port": 0, "threads": 0, "batch_delay_ms": 0, "drain_seconds": 0, "batch_max_rows": 1, "queue_requests": 1}
    for name, low in lowest.items():
        if not low <= (found := getattr(settings, name)) < math.inf:
            raise SettingsError(f"{variable(name)}: found {found:g}; use {low} or more")
    for name in ("request_timeout_seconds", "request_max_mib", "model_max_mib", "stop_seconds", "stuck_seconds"):
        if not 0 < (found := getattr(settings, name)) < math.inf:
            raise SettingsError(f"{variable(name)}: found {found:g}; use more than 0")
    if settings.log_format not in ("json", "text"):
        raise SettingsError(f"PENSTOCK_LOG_FORMAT: found {settings.log_format!r}; use json or text")
    if settings.log_level not in ("debug", "info", "warning", "error"):
        raise SettingsError(f"PENSTOCK_LOG_LEVEL: found {settings.log_level!r}; use debug, info, warning or error")
