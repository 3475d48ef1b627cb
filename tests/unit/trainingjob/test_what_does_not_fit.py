"""A spec that no node of its type can hold: refused with field and numbers, before anything is made; corrected, it goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from simulation import CATALOGUE, RULES, Simulation

from penstock_operator import names
from penstock_operator.cloud.catalogue import EFA, GPU, NEURON, NEURON_CORE, Catalogue
from penstock_operator.trainingjob.plan import plan


def gpu(count: Any) -> dict[str, Any]:
    return {"limits": {GPU: count}}


def beside(cpu: Any) -> dict[str, Any]:
    """A template with one more container that asks for this much CPU."""
    return {"spec": {"containers": [{"name": "side", "resources": {"limits": {"cpu": cpu}}}]}}


UNKNOWN, MISFIT = "UnknownInstanceType", "DoesNotFitInstanceType"
REFUSED: list[tuple[str, dict[str, Any], str, tuple[str, ...]]] = [
    ("a misspelt type", {"instanceType": "p4d.24xlrge"}, UNKNOWN, ("'p4d.24xlrge'", "p4d.24xlarge", "config.instanceTypes")),
    ("a type like no other", {"instanceType": "x9.huge"}, UNKNOWN, ("'x9.huge'", "config.instanceTypes")),
    ("a retired type", {"instanceType": "p3.2xlarge"}, UNKNOWN, ("'p3.2xlarge'", "retired", "use g6e.2xlarge")),
    (
        "nine GPUs of eight",
        {"instanceType": "p4d.24xlarge", "resources": gpu(9)},
        MISFIT,
        (f"[{GPU}]: 9", "p4d.24xlarge has 8"),
    ),
    (
        "GPUs of a type without",
        {"instanceType": "trn1.32xlarge", "resources": gpu(8)},
        MISFIT,
        (f"[{GPU}]: 8", "has 0 (it has 16 aws.amazon.com/neuron"),
    ),
    ("too much EFA", {"instanceType": "p4d.24xlarge", "resources": {"limits": {EFA: 5}}}, MISFIT, (f"[{EFA}]: 5", "has 4")),
    ("EFA where none is", {"instanceType": "g5.xlarge", "resources": {"limits": {EFA: 1}}}, MISFIT, (f"[{EFA}]: 1", "has 0")),
    (
        "more cores than pods get",
        {"instanceType": "p4d.24xlarge", "resources": {"requests": {"cpu": 96}}},
        MISFIT,
        ("[cpu]: 96", "95.69 for pods"),
    ),
    (
        "more memory than pods get",
        {"instanceType": "g5.xlarge", "resources": {"limits": {"memory": "16Gi"}}},
        MISFIT,
        ("[memory]: 16Gi", "13.8Gi for pods"),
    ),
    (
        "more ranks than cores, of no whole device",
        {"instanceType": "trn1.2xlarge", "slots": 2, "resources": {"limits": {NEURON_CORE: 1, NEURON: 0}}},
        MISFIT,
        ("workers.slots: 2 ranks are more than the 1 neuron cores",),
    ),
    (
        "more ranks than GPUs",
        {"instanceType": "p4d.24xlarge", "slots": 9},
        MISFIT,
        ("workers.slots: 9 ranks are more than the 8 GPUs",),
    ),
    (
        "ranks that cannot share",
        {"instanceType": "p4d.24xlarge", "slots": 3},
        MISFIT,
        ("workers.slots: 3 ranks do not divide the 8 GPUs",),
    ),
    (
        "ranks for fewer GPUs",
        {"instanceType": "p4d.24xlarge", "slots": 8, "resources": gpu(4)},
        MISFIT,
        ("8 ranks are more than the 4 GPUs",),
    ),
    (
        "a ring Neuron cannot build",
        {"instanceType": "trn1.32xlarge", "resources": {"limits": {NEURON: 2}}},
        MISFIT,
        (f"[{NEURON}]: 2", "gives 1, 4, 8, 16"),
    ),
    (
        "a sidecar on top",
        {"instanceType": "g5.xlarge", "resources": {"requests": {"cpu": 3}}, "template": beside(1)},
        MISFIT,
        ("[cpu]: 4", "1 of it by other containers", "3.92"),
    ),
    (
        "a sidecar that takes all",
        {"instanceType": "g5.xlarge", "template": beside("3500m")},
        MISFIT,
        ("3.5", "leave the worker nothing of the 3.92 of cpu"),
    ),
    (
        "too much in the template",
        {"instanceType": "p4d.24xlarge", "template": {"spec": {"containers": [{"name": "worker", "resources": gpu(16)}]}}},
        MISFIT,
        (f"spec.workers.template[{GPU}]: 16",),
    ),
    (
        "two things at once",
        {"instanceType": "p4d.24xlarge", "resources": {"limits": {GPU: 9, EFA: 8}}},
        MISFIT,
        (f"[{GPU}]: 9", f"[{EFA}]: 8"),
    ),
]


@pytest.mark.parametrize(("workers", "reason", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_does_not_fit_makes_no_pod_and_is_told_with_the_numbers(
    workers: dict[str, Any], reason: str, words: tuple[str, ...]
) -> None:
    job = Simulation(workers={"replicas": 2, **workers})
    job.settle()
    assert job.created == []
    assert (job.true(names.STALLED), job.why(names.STALLED), job.status["phase"]) == (True, reason, "Pending")
    for word in words:
        assert word in job.said(names.STALLED)
    assert "attempt" not in job.status


@pytest.mark.parametrize(
    "template",
    [
        {"containers": "none", "initContainers": {"a": 1}, "tolerations": "all", "affinity": []},
        {
            "containers": [1, {"name": "worker", "resources": {"limits": ["cpu"], "requests": {"cpu": {}}}}],
            "initContainers": [2],
        },
        {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [1, {}]}}}},
    ],
)
def test_a_template_of_the_wrong_form_is_left_for_the_api_server_to_refuse(template: dict[str, Any]) -> None:
    job = Simulation(workers={"instanceType": "p4d.24xlarge", "capacityType": "spot", "template": {"spec": template}})
    job.step()
    assert job.created == ["digits-worker-0"]


def test_a_suspended_job_tells_what_does_not_fit_before_anyone_resumes_it() -> None:
    job = Simulation(workers={"instanceType": "p4d.24xlarge", "resources": gpu(9)}, runPolicy={"suspend": True})
    job.settle()
    assert (job.status["phase"], job.true(names.STALLED), job.why(names.STALLED)) == ("Suspended", True, MISFIT)
    assert "p4d.24xlarge has 8" in job.said(names.STALLED)
    job.body["spec"]["workers"]["resources"] = gpu(8)
    job.settle()
    assert (job.status["phase"], job.true(names.STALLED)) == ("Suspended", False)
    assert job.created == []


def test_a_corrected_spec_goes_on_by_itself() -> None:
    job = Simulation(workers={"replicas": 2, "instanceType": "p4d.24xlrge"})
    job.settle()
    job.body["spec"]["workers"]["instanceType"] = "p4d.24xlarge"
    job.settle()
    assert job.created == ["digits-worker-0", "digits-worker-1"]
    assert not job.true(names.STALLED)


def test_a_running_job_is_not_disturbed_by_a_wrong_change_and_ends_as_it_would() -> None:
    job = Simulation(workers={"replicas": 2, "instanceType": "p4d.24xlarge"}).started()
    job.body["spec"]["workers"]["instanceType"] = "p4d.24xlrge"
    job.settle()
    assert (job.status["phase"], job.status["summary"]["workers"], len(job.pods)) == ("Running", "2/2", 3)
    assert (job.true(names.STALLED), job.true(names.WORKERS_READY), job.why(names.STALLED)) == (True, True, UNKNOWN)
    job.ended("digits-launcher", 0)
    job.settle()
    assert job.true(names.COMPLETE)


def test_after_a_loss_a_job_with_a_wrong_change_stalls_until_it_is_corrected() -> None:
    job = Simulation(workers={"replicas": 2, "instanceType": "p4d.24xlarge"}).started()
    job.body["spec"]["workers"]["instanceType"] = "p4d.24xlrge"
    job.gone("digits-worker-1")
    job.settle()
    assert (job.why(names.STALLED), job.status["attempt"], job.status["restarts"]["infrastructure"]) == (UNKNOWN, 2, 1)
    assert job.created == ["digits-worker-0", "digits-worker-1", "digits-launcher"]
    job.body["spec"]["workers"]["instanceType"] = "p4d.24xlarge"
    job.later(60)
    job.settle()
    assert {"digits-worker-0-a2", "digits-worker-1-a2"} & set(job.created) == {"digits-worker-1-a2"}
    assert not job.true(names.STALLED)


def test_a_new_figure_in_the_catalogue_leaves_a_running_ring_alone() -> None:
    job = Simulation(workers={"replicas": 2, "instanceType": "p4d.24xlarge"}).started()
    smaller = CATALOGUE.types["p4d.24xlarge"].model_copy(update={"vcpu": 90, "allocatable": None})
    observed, newer = job.observed(), Catalogue(types={"p4d.24xlarge": smaller})
    made = plan(observed, replace(RULES, catalogue=newer), job.now)
    assert (made.create, made.remove, made.status) == ((), (), job.status)


def test_workers_that_wait_for_nodes_are_given_back_when_the_type_becomes_wrong() -> None:
    job = Simulation(workers={"replicas": 2, "instanceType": "p4d.24xlarge"})
    job.settle()
    job.body["spec"]["workers"]["resources"] = gpu(9)
    job.settle()
    assert (job.pods, job.why(names.STALLED), job.status["attempt"]) == ({}, MISFIT, 1)
