"""Who uses a volume, and who of them is under way."""

from __future__ import annotations

from typing import Any

from penstock_operator.runtime.lister import Lister
from penstock_operator.runtime.queue import Queue
from penstock_operator.runtime.usage import Usage
from penstock_operator.watch import Feed

VOLUME = ("team", "data")


def job(phase: str | None, name: str = "digits") -> dict[str, Any]:
    metadata = {"namespace": "team", "name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
    status = {"phase": phase} if phase else {}
    return {"metadata": metadata, "spec": {"volumes": [{"lustreVolume": "data"}]}, "status": status}


def test_a_job_without_pods_uses_a_volume_and_does_not_hold_it() -> None:
    usage = Usage()
    held = {}
    for phase in (None, "Pending", "WaitingForStorage", "WaitingForWorkers", "Running", "Restarting", "Suspended", "Complete"):
        usage.see(job(phase))
        held[phase] = (bool(usage.users(VOLUME)), bool(usage.holders(VOLUME)))
    assert [phase for phase, (used, _) in held.items() if not used] == ["Complete"]
    assert [phase for phase, (_, holds) in held.items() if holds] == ["WaitingForWorkers", "Running", "Restarting"]


def test_a_volume_hears_of_a_job_that_begins_ceases_or_only_waits_from_now_on() -> None:
    usage = Usage()
    told = [usage.see(job(phase)) for phase in ("Pending", "Pending", "Running", "Running", "Suspended", "Complete")]
    assert [bool(each) for each in told] == [True, False, True, False, True, True]


async def test_a_job_that_went_while_nobody_looked_holds_its_volume_no_more() -> None:
    feed = Feed(Lister(), Usage(), Queue(), Queue())
    feed.job(job("Running"))
    assert feed.usage.holders(VOLUME) == (("team", "digits"),)
    jobs = feed.sources()[1]
    for key in jobs.sweep(set(), 10):
        jobs.changed(key)
    assert feed.usage.users(VOLUME) == ()
    assert feed.volumes.depth() == 1
