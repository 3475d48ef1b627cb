"""What the API server refuses is told by the field that the user wrote."""

from __future__ import annotations

from typing import Any

import pytest
from simulation import Simulation

from penstock_operator.trainingjob.children.origin import origin, origins

SPEC: dict[str, Any] = {
    "env": [{"name": "LR", "value": "0.1"}],
    "envFrom": [{"configMapRef": {"name": "settings"}}],
    "volumes": [{"name": "data", "mountPath": "/data", "emptyDir": {"sizelimit": "1Gi"}}],
    "workers": {
        "replicas": 1,
        "template": {
            "spec": {
                "nodeselector": {},
                "volumes": [{"name": "more", "emptyDir": {}}],
                "containers": [{"name": "worker", "ports": []}, {"name": "sidecar", "image": "x"}],
            }
        },
    },
}


def made() -> dict[str, Any]:
    job = Simulation(**{key: value for key, value in SPEC.items() if key != "workers"})
    job.body["spec"]["workers"] = SPEC["workers"]
    job.settle()
    return job.pods["digits-worker-0"]


def at(pod: dict[str, Any], kind: str, name: str, key: str = "name") -> int:
    places = pod["spec"]["containers"][0][kind] if kind in ("env", "volumeMounts") else pod["spec"][kind]
    return next(index for index, one in enumerate(places) if one[key] == name)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("spec.nodeselector", "spec.workers.template.spec.nodeselector"),
        ("metadata.labels", "spec.workers.template.metadata.labels"),
        ("spec.volumes[{data}].emptyDir.sizelimit", "spec.volumes[data].emptyDir.sizelimit"),
        ("spec.volumes[{more}].emptyDir", "spec.workers.template.spec.volumes[more].emptyDir"),
        ("spec.containers[0].resources.limits[cpu]", "spec.workers.resources.limits[cpu]"),
        ("spec.containers[0].image", "spec.image"),
        ("spec.containers[0].env[{LR}].valueFrom", "spec.env[LR].valueFrom"),
        ("spec.containers[0].envFrom[0].prefix", "spec.envFrom[0].prefix"),
        ("spec.containers[0].volumeMounts[{mount}].mountPath", "spec.volumes[data].mountPath"),
        ("spec.containers[0].ports[0].name", "spec.workers.template.spec.containers[worker].ports[0].name"),
        ("spec.containers[0].lifecycle", "spec.workers.template.spec.containers[worker].lifecycle"),
        ("spec.containers[1].image", "spec.workers.template.spec.containers[sidecar].image"),
        ("spec.containers[0]", "spec.workers.template.spec.containers[worker]"),
        ("spec.containers[9].image", "spec.workers.template.spec.containers[9].image"),
    ],
)
def test_a_field_of_a_pod_is_told_as_the_field_of_the_job_it_was_made_from(path: str, field: str) -> None:
    pod = made()
    places = {
        "data": at(pod, "volumes", "data"),
        "more": at(pod, "volumes", "more"),
        "LR": at(pod, "env", "LR"),
        "mount": at(pod, "volumeMounts", "data"),
    }
    assert origin(pod, SPEC, path.format(**places)) == field


def test_what_the_template_gives_by_name_is_told_as_the_templates() -> None:
    pod = {
        "kind": "Pod",
        "metadata": {"labels": {"penstock.dev/role": "launcher"}},
        "spec": {"containers": [{"name": "launcher", "env": [{"name": "LR"}, {"name": "MORE"}]}]},
    }
    more = {"template": {"spec": {"containers": [{"name": "launcher", "env": [{"name": "MORE"}]}]}}}
    job = SPEC | {"launcher": more}
    assert origin(pod, job, "spec.containers[0].env[0].name") == "spec.env[LR].name"
    templates = "spec.launcher.template.spec.containers[launcher]"
    assert origin(pod, job, "spec.containers[0].env[1].name") == f"{templates}.env[MORE].name"
    assert origin(pod, job, "spec.containers[0].command[9]") == "spec.command[9]"
    assert origin(pod, job, "") == ""


def test_every_field_in_a_decoders_sentence_is_told() -> None:
    told = origins(made(), SPEC, 'unknown field "spec.nodeselector", unknown field "spec.hostAliase"')
    assert told == (
        'unknown field "spec.workers.template.spec.nodeselector", unknown field "spec.workers.template.spec.hostAliase"'
    )
