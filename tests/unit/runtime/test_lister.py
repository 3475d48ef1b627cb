"""Our own writes are seen at once; their echo starts nothing; what is gone is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from penstock_operator import names
from penstock_operator.runtime.lister import Lister

KEY = ("team", "digits")
LATER = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=30)


def job(version: str, phase: str, uid: str = "u") -> dict[str, Any]:
    metadata = {"namespace": KEY[0], "name": KEY[1], "uid": uid, "resourceVersion": version}
    return {"metadata": metadata, "spec": {}, "status": {"phase": phase}}


def pod(name: str, version: str = "5") -> dict[str, Any]:
    labels = {names.LABEL_JOB: KEY[1]}
    return {"metadata": {"namespace": KEY[0], "name": name, "uid": f"uid-{name}", "resourceVersion": version, "labels": labels}}


def phase(lister: Lister) -> str:
    return str((lister.job(KEY) or {})["status"]["phase"])


def test_a_status_we_wrote_counts_until_the_watch_shows_a_newer_one() -> None:
    lister = Lister()
    lister.jobs.see(job("10", "Pending"))
    lister.jobs.wrote(KEY, job("10", "Pending"), {"uid": "u", "resourceVersion": "12"}, {"phase": "Running"})
    assert phase(lister) == "Running"
    assert not lister.jobs.see(job("12", "Running"))
    assert lister.jobs.see(job("13", "Failed"))
    assert phase(lister) == "Failed"


def test_an_event_older_than_what_is_known_changes_nothing() -> None:
    lister = Lister()
    lister.jobs.see(job("13", "Failed"))
    lister.jobs.see(job("10", "Pending"))
    assert phase(lister) == "Failed"


def test_a_job_made_anew_under_its_old_name_starts_anew() -> None:
    lister = Lister()
    lister.jobs.see(job("10", "Failed"))
    lister.jobs.wrote(KEY, job("10", "Failed"), {"uid": "u", "resourceVersion": "11"}, {"phase": "Failed"})
    lister.jobs.see(job("20", "", uid="v"))
    lister.jobs.drop(job("15", "Failed"))
    assert phase(lister) == ""


def test_a_pod_we_created_is_there_before_its_event() -> None:
    lister = Lister()
    lister.jobs.see(job("1", ""))
    lister.created(KEY, pod("w0"))
    assert [one.name for one in lister.pods(KEY)] == ["w0"]
    assert not lister.see_pod(pod("w0", "5"))
    assert [one.name for one in lister.pods(KEY)] == ["w0"]
    assert lister.see_pod(pod("w0", "6"))
    lister.drop_pod(pod("w0", "7"))
    assert lister.pods(KEY) == ()


def test_a_pod_that_was_gone_before_its_creation_was_answered_is_not_remembered() -> None:
    lister = Lister()
    lister.jobs.see(job("1", ""))
    lister.see_pod(pod("w0", "5"))
    lister.drop_pod(pod("w0", "6"))
    lister.created(KEY, pod("w0", "5"))
    assert lister.pods(KEY) == ()


def test_a_job_that_is_gone_takes_its_memory_along() -> None:
    lister = Lister()
    lister.jobs.see(job("10", "Pending"))
    lister.created(KEY, pod("w0"))
    lister.jobs.drop(job("11", "Pending"))
    assert lister.job(KEY) is None
    assert lister.pods(KEY) == ()
    assert lister.jobs.known() == []


def test_a_pod_deleted_while_the_watch_was_away_is_swept() -> None:
    lister = Lister()
    lister.jobs.see(job("1", ""))
    for name in ("w0", "w1"):
        lister.see_pod(pod(name, "5"))
    lister.created(KEY, pod("w2", "6"))
    assert lister.sweep_pods({"uid-w0"}, 20) == [KEY, KEY]
    assert [one.name for one in lister.pods(KEY)] == ["w0"]


def test_a_pod_newer_than_the_list_is_not_swept() -> None:
    lister = Lister()
    lister.jobs.see(job("1", ""))
    lister.see_pod(pod("w0", "21"))
    lister.created(KEY, pod("w1", "22"))
    assert lister.sweep_pods(set(), 20) == []
    assert [one.name for one in lister.pods(KEY)] == ["w0", "w1"]


def test_a_pod_we_deleted_is_going_and_has_its_grace_before_the_watch_shows_that() -> None:
    lister = Lister()
    lister.jobs.see(job("1", ""))
    lister.see_pod(pod("w0", "5"))
    lister.created(KEY, pod("w1", "6"))
    for uid in ("uid-w0", "uid-w1"):
        lister.removed(KEY, uid, LATER)
    assert [(one.deleting, one.gone_at) for one in lister.pods(KEY)] == [(True, LATER), (True, LATER)]


def test_what_the_watch_has_shown_of_a_deletion_before_it_was_answered_stays() -> None:
    lister = Lister()
    lister.jobs.see(job("1", ""))
    shown = pod("w0", "6")
    shown["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:10Z", "deletionGracePeriodSeconds": 10}
    lister.see_pod(shown)
    lister.removed(KEY, "uid-w0", LATER)
    assert [one.gone_at for one in lister.pods(KEY)] == [LATER - timedelta(seconds=20)]
    lister.drop_pod(shown)
    lister.removed(KEY, "uid-w0", LATER)
    assert lister.pods(KEY) == ()


def test_a_pod_with_more_grace_than_there_is_time_is_read_like_any_other() -> None:
    lister = Lister()
    lister.jobs.see(job("1", ""))
    shown = pod("w0") | {"spec": {"terminationGracePeriodSeconds": 2**63 - 1}}
    shown["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:10Z", "deletionGracePeriodSeconds": 2**63 - 1}
    lister.see_pod(shown)
    assert [one.grace for one in lister.pods(KEY)] == [timedelta(days=1)]
