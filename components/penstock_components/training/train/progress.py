"""What a TrainingJob's status says, in words for the step's log and as points for its plot. Pure; the clock is the caller's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from penstock_components import adoption, pods
from penstock_components.kube import Object

EVERY: Final = 10.0
_POINTS: Final = 2000


class Lines:
    """Which lines are worth writing: a change of state at once, of the progress alone at most every `every` seconds."""

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self._head, self._line, self._at = "", "", float("-inf")

    def next(self, job: Object, now: float) -> str | None:
        head, rest = state(job), progress(job)
        line = ", ".join(part for part in (head, rest) if part)
        if line == self._line or (head == self._head and now - self._at < self._every):
            return None
        self._head, self._line, self._at = head, line, now
        return line


def state(job: Object) -> str:
    """Phase, reason, workers and restarts: "Pending (Insufficient nvidia.com/gpu): 0/2 workers"."""
    status = job.get("status", {})
    phase, reason = status.get("phase", "Pending"), status.get("reason", "the operator has not seen it yet")
    workers, restarts = status.get("workers"), status.get("restarts", {})
    words = [f"{workers.get('ready', 0)}/{workers.get('desired', 0)} workers"] if workers else []
    words += [f"{count} restarts ({cause})" for cause, count in sorted(restarts.items()) if count]
    stalled = adoption.condition(job, "Stalled")
    words += [f"stalled: {stalled.get('message', '')}"] if stalled else []
    return f"{phase} ({reason})" + (f": {', '.join(words)}" if words else "")


def progress(job: Object) -> str:
    """Step, loss, speed and time to go: "step 420/1000 (42%), loss 0.123, 950 samples/s, ETA 3m10s"; '' without a report."""
    found = job.get("status", {}).get("progress", {})
    words = []
    for name, total in (("epoch", "totalEpochs"), ("step", "totalSteps")):
        if name in found:
            words.append(f"{name} {found[name]}" + (f"/{found[total]}" if found.get(total) else ""))
    if "percent" in found and words:
        words[-1] += f" ({found['percent']}%)"
    metrics = found.get("metrics", {})
    name = loss_name(metrics)
    words += [f"{name} {metrics[name]:.4g}"] if name else []
    words += [f"{found['samplesPerSecond']:.4g} samples/s"] if found.get("samplesPerSecond") else []
    words += [f"ETA {_duration(found['etaSeconds'])}"] if found.get("etaSeconds") is not None else []
    return ", ".join(words)


def loss_name(metrics: Mapping[str, Any]) -> str:
    """`loss`, else the first metric called something with loss; '' if there is none."""
    return "loss" if "loss" in metrics else next((name for name in sorted(metrics) if "loss" in name.lower()), "")


def failure(job: Object, tail: Sequence[str]) -> str:
    """Why a Failed job failed: the condition, the first failing rank, the last lines of the launcher (`tail` if the status has
    none)."""
    condition = adoption.condition(job, "Failed") or {}
    found = job.get("status", {}).get("failure", {})
    why = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    text = f"TrainingJob {job['metadata']['name']} failed: {why}"
    where = [f"rank {found['rank']}"] if "rank" in found else []
    where += [f"pod {found['pod']}"] if found.get("pod") else []
    where += [f"node {found['node']}"] if found.get("node") else []
    how = [pods.ending({"exitCode": found["exitCode"], "reason": found.get("reason", "")})] if "exitCode" in found else []
    how += [found["reason"]] if found.get("reason") and not how else []
    how += [f"signal {found['signal']}"] if found.get("signal") else []
    how += [f"attempt {found['attempt']}"] if "attempt" in found else []
    if where or how:
        text += f"\nfirst failure: {', '.join([*where, *how])}"
    lines = found.get("logTail") or tail
    return text + ("\nlast lines of the launcher:\n" + "\n".join(f"  {line}" for line in lines) if lines else "")


class Point(NamedTuple):
    """One report: the attempt it came from, steps done, loss."""

    attempt: int
    step: int
    loss: float


class History:
    """The losses seen while following, thinned to some 2000 points. A step that was killed and run again begins anew."""

    def __init__(self) -> None:
        self.name = "loss"
        self.points: list[Point] = []
        self._stride, self._seen = 1, 0

    def add(self, job: Object) -> None:
        status = job.get("status", {})
        found = status.get("progress", {})
        metrics = found.get("metrics", {})
        name = loss_name(metrics)
        if not name or "step" not in found:
            return
        self.name = name
        point = Point(status.get("attempt", 0), found["step"], float(metrics[name]))
        if self.points and self.points[-1] == point:
            return
        self._seen += 1
        if self._seen % self._stride == 0:
            self.points.append(point)
        if len(self.points) > _POINTS:
            self.points, self._stride = self.points[::2], self._stride * 2


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
