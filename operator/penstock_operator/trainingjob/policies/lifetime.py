"""Clocks of a job: active deadline, back-off before a restart, time to live after the end."""

from __future__ import annotations

from datetime import datetime, timedelta

from penstock_operator.conditions import parse_time
from penstock_operator.names import Reason
from penstock_operator.trainingjob.observe import Job
from penstock_operator.trainingjob.status import duration
from penstock_operator.trainingjob.verdict import Finish, Rules


def deadline_left(job: Job, now: datetime) -> timedelta | None:
    """Time until the active deadline; None without one. The clock starts at `startTime`, which a resume sets anew."""
    limit = job.spec.run_policy.active_deadline_seconds if job.spec else None
    started = parse_time(job.status.get("startTime"))
    return started + timedelta(seconds=limit) - now if limit is not None and started else None


def deadline_passed(job: Job, now: datetime) -> Finish | None:
    left = deadline_left(job, now)
    if left is None or left > timedelta(0) or job.spec is None:
        return None
    limit = duration(job.spec.run_policy.active_deadline_seconds or 0)
    return Finish(
        False, Reason.DEADLINE_EXCEEDED, f"the job was active for more than {limit} (spec.runPolicy.activeDeadlineSeconds)"
    )


def backoff_left(job: Job, rules: Rules, now: datetime) -> timedelta:
    """Pause before the launcher of a restarted job: doubles with each restart, so that a broken node is not hammered."""
    restarts = sum((job.status.get("restarts") or {}).values())
    since = parse_time(job.status.get("lastRestartTime"))
    if since is None or restarts < 1:
        return timedelta(0)
    pause: timedelta = min(rules.backoff * float(2 ** min(restarts - 1, 16)), rules.backoff_max)
    return max(timedelta(0), since + pause - now)


def sooner(one: timedelta | None, other: timedelta | None) -> timedelta | None:
    """The nearer of two clocks; None where there is none."""
    return min((left for left in (one, other) if left is not None), default=None)


def time_to_live_left(job: Job, now: datetime) -> timedelta | None:
    """Time until a finished job is deleted; None when it is kept."""
    limit = job.spec.run_policy.ttl_seconds_after_finished if job.spec else None
    ended = parse_time(job.status.get("completionTime"))
    return ended + timedelta(seconds=limit) - now if limit is not None and ended else None
