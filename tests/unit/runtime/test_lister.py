"""Our own writes are seen at once; their echo starts nothing."""

from __future__ import annotations

from typing import Any

from penstock_operator.runtime.lister import Lister
from penstock_operator.trainingjob.observe import pod_view

KEY = ("team", "digits")


def job(version: str, phase: str) -> dict[str, Any]:
    return {"metadata": {"uid": "u", "resourceVersion": version}, "spec": {}, "status": {"phase": phase}}


def pod(name: str, version: str = "5") -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": version, "labels": {}}}


def test_a_status_we_wrote_counts_until_the_watch_shows_a_newer_one() -> None:
    jobs = {KEY: [job("10", "Pending")]}
    lister = Lister()
    lister.connect(jobs, {})
    lister.wrote(KEY, jobs[KEY][0], {"uid": "u", "resourceVersion": "12"}, {"phase": "Running"})
    assert (lister.job(KEY) or {})["status"]["phase"] == "Running"
    assert lister.is_own_write(KEY, "12")
    jobs[KEY] = [job("13", "Failed")]
    assert (lister.job(KEY) or {})["status"]["phase"] == "Failed"
    assert not lister.is_own_write(KEY, "12")


def test_a_pod_we_created_is_there_before_its_event() -> None:
    pods: dict[tuple[str, str], list[Any]] = {}
    lister = Lister()
    lister.connect({KEY: [job("1", "")]}, pods)
    lister.created(KEY, pod("w0"))
    assert [one.name for one in lister.pods(KEY)] == ["w0"]
    assert lister.pod_seen(KEY, "uid-w0", "5")
    pods[KEY] = [pod_view(pod("w0", "6"))]
    assert [one.name for one in lister.pods(KEY)] == ["w0"]
    assert not lister.pod_seen(KEY, "uid-w0", "6")


def test_a_job_that_is_gone_takes_its_memory_along() -> None:
    jobs = {KEY: [job("10", "Pending")]}
    lister = Lister()
    lister.connect(jobs, {})
    lister.created(KEY, pod("w0"))
    jobs.clear()
    assert lister.job(KEY) is None
    assert lister.pods(KEY) == ()
