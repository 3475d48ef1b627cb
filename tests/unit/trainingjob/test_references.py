"""Which fields the kubelet's words are about."""

from __future__ import annotations

from typing import Any

import pytest
from simulation import Simulation

from penstock_operator.api.trainingjob import TrainingJobSpec
from penstock_operator.trainingjob.policies.references import referring


def source(kind: str, key: str, **more: Any) -> dict[str, Any]:
    return {kind: {"name": "settings", "key": key, **more}}


SPEC = TrainingJobSpec.model_validate(
    {
        "image": "i",
        "command": ["c"],
        "env": [
            {"name": "PLAIN", "value": "settings"},
            {"name": "TOKEN", "valueFrom": source("secretKeyRef", "token")},
            {"name": "USER", "valueFrom": source("secretKeyRef", "user")},
            {"name": "MAYBE", "valueFrom": source("secretKeyRef", "token", optional=True)},
            {"name": "LEVEL", "valueFrom": source("configMapKeyRef", "level")},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "WRONG", "valueFrom": {"secretKeyRef": "settings"}},
        ],
        "envFrom": [
            {"prefix": "A_"},
            {"secretRef": {"name": "settings"}},
            {"configMapRef": {"name": "settings"}},
            {"secretRef": {"name": "other", "optional": True}},
        ],
        "volumes": [
            {"name": "keys", "mountPath": "/keys", "secret": {"secretName": "settings"}},
            {"name": "scratch", "mountPath": "/scratch", "emptyDir": {"medium": "Disk"}},
            {"name": "data", "mountPath": "/data", "lustreVolume": "data"},
        ],
    }
)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (
            'secret "settings" not found',
            "spec.env[TOKEN].valueFrom.secretKeyRef, spec.env[USER].valueFrom.secretKeyRef, spec.envFrom[1].secretRef",
        ),
        ('configmap "settings" not found', "spec.env[LEVEL].valueFrom.configMapKeyRef, spec.envFrom[2].configMapRef"),
        ("couldn't find key token in Secret team-a/settings", "spec.env[TOKEN].valueFrom.secretKeyRef"),
        ("couldn't find key level in ConfigMap team-a/settings", "spec.env[LEVEL].valueFrom.configMapKeyRef"),
        ("couldn't find key nosuch in Secret team-a/settings", "spec.workers.template.spec"),
        ('secret "other" not found', "spec.workers.template.spec"),
        ('MountVolume.SetUp failed for volume "keys" : secret "settings" not found', "spec.volumes[keys].secret"),
        ('MountVolume.SetUp failed for volume "keys" : references non-existent secret key: x', "spec.volumes[keys].secret"),
        ('MountVolume.SetUp failed for volume "scratch" : unknown storage medium "Disk"', "spec.volumes[scratch].emptyDir"),
        ('MountVolume.SetUp failed for volume "data" : rpc error', "spec.volumes[data].lustreVolume"),
        ('MountVolume.SetUp failed for volume "theirs" : configmap "settings" not found', "spec.workers.template.spec"),
        ('MountVolume.SetUp failed for volume "penstock-ring" : timed out', ""),
        ('failed to prepare subPath for volumeMount "keys" of container "worker"', "spec.volumes[keys].subPath"),
        ("failed to sync secret cache: timed out waiting for the condition", ""),
    ],
)
def test_the_fields_are_those_that_can_be_the_cause(words: str, fields: str) -> None:
    assert referring(Simulation().started().view("digits-worker-0"), SPEC, words) == fields


def test_what_no_field_refers_to_is_in_the_template_of_the_pods_role() -> None:
    launcher = Simulation().started().view("digits-launcher")
    assert referring(launcher, SPEC, 'secret "nosuch" not found') == "spec.launcher.template.spec"
