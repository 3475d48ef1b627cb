"""A TrainingJob that is checked before it is needed, against a real API server; the operator's part is played."""

from __future__ import annotations

import pytest
from tests.components.played import Played, in_background
from tests.components.training_jobs import the_job, true, wanted

from penstock_components.errors import ComponentError
from penstock_components.kube import Kube
from penstock_components.training.train import preflight
from penstock_components.training.train.request import build

pytest_plugins = ["tests.components.api_server"]


def test_a_job_is_checked_before_it_is_needed_by_a_suspended_copy_that_goes_again(cluster: Played, bucket: str) -> None:
    kube = Kube(cluster.namespace)

    def refusal(*conditions: dict[str, str]) -> str:
        wish = build(wanted(cluster, bucket, instance_type="p4d.24xlarge"))
        with in_background(lambda: preflight.refusal(kube, wish)) as asking:
            name = the_job(cluster)
            assert cluster.job(name)["spec"]["runPolicy"]["suspend"] is True
            assert name != wish["metadata"]["name"]
            cluster.training_status(name, phase="Suspended", observedGeneration=1, conditions=list(conditions))
            said = asking.result(30)
        assert cluster.jobs() == []
        return said

    assert refusal(true("Suspended", "Suspended", "set it to false")) == ""
    assert refusal(true("Stalled", "DoesNotFitInstanceType", "9 on 8")) == "9 on 8"


def test_fields_are_checked_without_making_anything(cluster: Played, bucket: str) -> None:
    kube = Kube(cluster.namespace)
    assert preflight.refusal(kube, build(wanted(cluster, bucket))) == ""
    wish = build(wanted(cluster, bucket, resources={"limits": {"memory": "much"}}, instance_type="p4d.24xlarge"))
    assert "spec.workers.resources.limits[memory]" in preflight.refusal(kube, wish)
    assert cluster.jobs() == []


def test_an_operator_that_does_not_answer_is_told(cluster: Played, bucket: str) -> None:
    wish = build(wanted(cluster, bucket, instance_type="p4d.24xlarge"))
    with pytest.raises(ComponentError, match=r"operator has not looked at TrainingJob check-.* within 1 s"):
        preflight.refusal(Kube(cluster.namespace), wish, seconds=1.0)
    assert cluster.jobs() == []


def test_a_name_that_is_taken_speaks_against_no_job(cluster: Played, bucket: str) -> None:
    kube, wish = Kube(cluster.namespace), build(wanted(cluster, bucket))
    kube.create(wish)
    assert preflight.refusal(kube, wish) == ""
