"""Who mounts which LustreVolume: jobs that are not over, by volume. Kept by the watch, so that nobody has to search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock_operator.names import Phase
from penstock_operator.runtime.objects import key_of
from penstock_operator.runtime.queue import Key

_OVER = (Phase.COMPLETE, Phase.FAILED)
# Phases of jobs that have no pods, or none that the claim's own protection does not know.
_WAITING = (None, Phase.PENDING, Phase.WAITING_FOR_STORAGE, Phase.SUSPENDED)


class Usage:
    """Both ways: volumes of a job, jobs of a volume; and which of these jobs hold pods."""

    def __init__(self) -> None:
        self._volumes: dict[Key, frozenset[Key]] = {}
        self._users: dict[Key, set[Key]] = {}
        self._waiting: set[Key] = set()

    def see(self, job: Mapping[str, Any]) -> frozenset[Key]:
        """Take in a job as it is now. Returns the volumes that it has begun or ceased to use, or to hold."""
        key, phase = key_of(job), (job.get("status") or {}).get("phase")
        volumes = frozenset() if phase in _OVER else volumes_of(job)
        return self._set(key, volumes) | self._wait(key, bool(volumes) and phase in _WAITING)

    def drop(self, job: Key) -> frozenset[Key]:
        """The job is gone. Returns the volumes that it used."""
        self._waiting.discard(job)
        return self._set(job, frozenset())

    def holders(self, volume: Key) -> tuple[Key, ...]:
        """Keys of the jobs that use a volume and are under way: they have pods, or are about to make them."""
        return tuple(sorted(self._users.get(volume, set()) - self._waiting))

    def _wait(self, job: Key, waits: bool) -> frozenset[Key]:
        if waits == (job in self._waiting):
            return frozenset()
        (self._waiting.add if waits else self._waiting.discard)(job)
        return self._volumes.get(job, frozenset())

    def users(self, volume: Key) -> tuple[Key, ...]:
        """Keys of the jobs that use a volume."""
        return tuple(sorted(self._users.get(volume, ())))

    def _set(self, job: Key, volumes: frozenset[Key]) -> frozenset[Key]:
        before = self._volumes.get(job, frozenset())
        if volumes == before:
            return frozenset()
        for volume in before - volumes:
            self._users[volume].discard(job)
            if not self._users[volume]:
                del self._users[volume]
        for volume in volumes - before:
            self._users.setdefault(volume, set()).add(job)
        if volumes:
            self._volumes[job] = volumes
        else:
            del self._volumes[job]
        return before ^ volumes


def volumes_of(job: Mapping[str, Any]) -> frozenset[Key]:
    """Keys of the LustreVolumes that a job mounts."""
    namespace = job["metadata"]["namespace"]
    mounted = job.get("spec", {}).get("volumes") or ()
    return frozenset((namespace, one["lustreVolume"]) for one in mounted if one.get("lustreVolume"))
