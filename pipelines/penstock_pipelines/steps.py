"""What every step of a pipeline gets: no cache, tries again after a pause, a time limit, and room.

KFP caches every task unless told otherwise, and a cached deployment deploys nothing. A retry costs nothing here: each component
finds what its last try began. The time limit is the pod's (activeDeadlineSeconds), a little longer than the component's own:
the component that gives up by itself says why and stops what it began. kfp.local honours neither limit nor resources.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from kfp import kubernetes
from kfp.dsl import PipelineTask

RETRIES = 3


def settle(
    task: PipelineTask,
    *,
    hours: float,
    cpu: str = "250m",
    memory: str = "512Mi",
    limit: str = "2Gi",
    retries: int = RETRIES,
) -> PipelineTask:
    """Set caching, retries, time limit (of one try) and resources of a step."""
    task.set_caching_options(False)
    task.set_retry(retries, backoff_duration="30s", backoff_factor=2, backoff_max_duration="600s")
    task.set_cpu_request(cpu).set_memory_request(memory).set_memory_limit(limit)
    kubernetes.set_timeout(task, seconds=round(hours * 3600))
    return task
