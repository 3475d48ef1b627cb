"""Samples a second and time left, smoothed, from counters that only grow. Pure: the caller gives the clock.

An exponential mean over time, not over reports: reports come at uneven distances, and a long gap must weigh more than
a short one. The first observation is the base line, so imports, data loading and compilation before it do not count.
"""

from __future__ import annotations

import math

TIME_CONSTANT = 15.0
"""Seconds after which an old rate has lost 63 % of its weight: calm enough to read, quick enough to show a slow node."""


class Rate:
    """The smoothed growth per second of one counter."""

    def __init__(self, time_constant: float = TIME_CONSTANT) -> None:
        self._time_constant = time_constant
        self._last: tuple[float, float] | None = None
        self._mean = 0.0
        self._weight = 0.0

    def observe(self, count: float, now: float) -> None:
        """Take a reading. A counter that went backwards (a restart inside the process) is a new base line."""
        if self._last is None or count < self._last[0]:
            self._last = (count, now)
            return
        elapsed = now - self._last[1]
        if elapsed <= 0:
            return
        keep = math.exp(-elapsed / self._time_constant)
        self._mean = keep * self._mean + (1 - keep) * (count - self._last[0]) / elapsed
        self._weight = keep * self._weight + (1 - keep)
        self._last = (count, now)

    def per_second(self) -> float | None:
        """None until two readings are in. Divided by the weight seen, so that early values are not pulled to zero."""
        return self._mean / self._weight if self._weight > 0 else None


def eta_seconds(done: int, total: int | None, per_second: float | None) -> int | None:
    """Whole seconds until `total`, None where it cannot be known."""
    if total is None or total <= 0:
        return None
    if done >= total:
        return 0
    if not per_second or per_second <= 0:
        return None
    return max(1, round((total - done) / per_second))
