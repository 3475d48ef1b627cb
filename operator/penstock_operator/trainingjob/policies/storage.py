"""Storage first: no pod is asked for before every LustreVolume can be mounted. Idle GPUs cost more than an idle file system.

Only what is still to be made waits: a ring that runs is not stopped because its volume changes (its data is mounted already),
and a worker it lost is replaced while the claim is there. A volume that is to be deleted waits for that ring; were the ring to
wait for the volume too, both would hold their costs for ever.
"""

from __future__ import annotations

from penstock_operator import names
from penstock_operator.api.trainingjob import TrainingJobSpec
from penstock_operator.names import Reason
from penstock_operator.trainingjob.observe import Observed
from penstock_operator.trainingjob.verdict import Hold, Stall

ZONE = "topology.kubernetes.io/zone"


def storage_missing(observed: Observed) -> Hold | Stall | None:
    """What holds up the pods that are missing; None when they may be made."""
    spec = observed.job.spec
    assert spec is not None
    volumes = volumes_of(spec)
    if not volumes or all(index in observed.ring for index in range(spec.workers.replicas)):
        return None
    for name in volumes:
        found = observed.storage.get(name)
        if found is None:
            return Stall(
                Reason.VOLUME_NOT_FOUND,
                f"spec.volumes: LustreVolume {name!r} is not in namespace {observed.job.namespace}; create it",
            )
        if not (found.mounts if observed.ring else found.available):
            detail = f": {found.message}" if found.message else ""
            return Hold(
                names.STORAGE_READY, Reason.VOLUME_NOT_READY, f"LustreVolume {name} is not available ({found.reason}){detail}"
            )
    zones = {found.zone: name for name in volumes if (found := observed.storage[name]).zone}
    if len(zones) > 1:
        text = ", ".join(f"{name} is in {zone}" for zone, name in sorted(zones.items()))
        return Stall(Reason.ZONES_DIFFER, f"spec.volumes: {text}; workers run in one zone, so the volumes must be in one too")
    return None


def zone_layer(observed: Observed) -> dict[str, object]:
    """The part of a pod spec that keeps workers beside their data; empty where no zone is known."""
    spec = observed.job.spec
    zones = {observed.storage[name].zone for name in volumes_of(spec) if name in observed.storage} - {""} if spec else set()
    return {"nodeSelector": {ZONE: zones.pop()}} if len(zones) == 1 else {}


def volumes_of(spec: TrainingJobSpec) -> list[str]:
    """Names of the LustreVolumes that the job mounts, in order."""
    return list(dict.fromkeys(one.lustre_volume for one in spec.volumes if one.lustre_volume))
