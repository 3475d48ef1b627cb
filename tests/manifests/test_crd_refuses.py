"""Wrong input is refused at apply, naming field and reason; a minimal spec gets its defaults. All by the real API server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from tests.manifests.tools import Object, Refused, Tools

TEAM = "crd-refuses"


@pytest.fixture(scope="module")
def team(installed: Tools) -> Iterator[Tools]:
    """A namespace of its own, with the CRD from the chart."""
    installed.namespace(TEAM)
    yield installed
    installed.kubectl("delete", "namespace", TEAM, "--wait=false")


def job(name: str = "digits", **spec: Any) -> Object:
    return {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": TEAM},
        "spec": {"image": "penstock/trainer:0.1.0", "command": ["python3", "train.py"], **spec},
    }


def volume(name: str = "data", path: str = "/data", **source: Any) -> Object:
    return {"name": name, "mountPath": path, **(source or {"emptyDir": {}})}


BAD: list[tuple[str, Object, tuple[str, ...]]] = [
    ("an unknown field", job(gpus=8), ('unknown field "spec.gpus"',)),
    ("a misspelt field deep inside", job(workers={"replica": 2}), ('unknown field "spec.workers.replica"',)),
    ("a misspelt field in runPolicy", job(runPolicy={"maxRestart": 1}), ('unknown field "spec.runPolicy.maxRestart"',)),
    (
        "a memory limit without its unit",
        job(workers={"resources": {"limits": {"memory": 256}}}),
        ("spec.workers.resources.limits: ", "memory of less than 16Mi"),
    ),
    (
        "a memory limit in thousandths of a byte",
        job(launcher={"resources": {"limits": {"memory": "256m"}}}),
        ("spec.launcher.resources.limits: ", "memory of less than 16Mi"),
    ),
    ("no image", {**job(), "spec": {"command": ["a"]}}, ("spec.image: Required value",)),
    ("no command", {**job(), "spec": {"image": "a"}}, ("spec.command: Required value",)),
    ("no spec", {key: value for key, value in job().items() if key != "spec"}, ("spec: Required value",)),
    ("an empty image", job(image=""), ("spec.image", "at least 1 chars")),
    ("an image with a space", job(image="my image"), ("spec.image", "should match")),
    ("an empty command", job(command=[]), ("spec.command", "should have at least 1 items")),
    ("a command whose program is empty", job(command=[""]), ("spec.command", "the first element is the program")),
    ("a command that is a string", job(command="python3 train.py"), ("spec.command", "must be of type array")),
    ("no workers", job(workers={"replicas": 0}), ("spec.workers.replicas", "greater than or equal to 1")),
    ("negative workers", job(workers={"replicas": -1}), ("spec.workers.replicas", "greater than or equal to 1")),
    ("too many workers", job(workers={"replicas": 1025}), ("spec.workers.replicas", "less than or equal to 1024")),
    ("no slots", job(workers={"slots": 0}), ("spec.workers.slots", "greater than or equal to 1")),
    ("negative slots", job(workers={"slots": -1}), ("spec.workers.slots", "greater than or equal to 1")),
    ("an instance type without a size", job(workers={"instanceType": "p4d"}), ("spec.workers.instanceType", "should match")),
    ("an instance type in capitals", job(workers={"instanceType": "P4d.24xlarge"}), ("spec.workers.instanceType", "match")),
    ("an empty instance type", job(workers={"instanceType": ""}), ("spec.workers.instanceType", "should match")),
    (
        "an unknown capacity type",
        job(workers={"capacityType": "SPOT"}),
        ("spec.workers.capacityType", 'supported values: "spot", "on-demand", "reserved"'),
    ),
    (
        "two volumes with one mountPath",
        job(volumes=[volume("a", "/data"), volume("b", "/data")]),
        ("spec.volumes", "two volumes have the same mountPath; each needs its own"),
    ),
    (
        "two volumes with one name",
        job(volumes=[volume("a", "/one"), volume("a", "/two")]),
        ("spec.volumes[1]", "Duplicate value"),
    ),
    (
        "a volume with two sources",
        job(volumes=[volume(emptyDir={}, configMap={"name": "x"})]),
        ("spec.volumes[0]", "exactly one of lustreVolume, persistentVolumeClaim, emptyDir, configMap, secret"),
    ),
    (
        "the second of two volumes with two sources",
        job(volumes=[volume(), volume("b", "/b", emptyDir={}, configMap={"name": "x"})]),
        ("spec.volumes[1]", "; found several"),
    ),
    (
        "a volume without a source",
        job(volumes=[{"name": "data", "mountPath": "/data"}]),
        ("spec.volumes[0]", "exactly one of lustreVolume, persistentVolumeClaim, emptyDir, configMap, secret; found none"),
    ),
    ("a mountPath that hides the image's own", job(volumes=[volume(path="/etc")]), ("spec.volumes[0].mountPath", "hides what")),
    ("the same with two slashes", job(volumes=[volume(path="//usr")]), ("spec.volumes[0].mountPath", "without '//'")),
    ("the same by a way round", job(volumes=[volume(path="/data/../usr")]), ("spec.volumes[0].mountPath", "and '..'")),
    ("the same by a dot", job(volumes=[volume(path="/usr/.")]), ("spec.volumes[0].mountPath", "'.' and")),
    ("a mountPath of one letter", job(volumes=[volume(path="d")]), ("spec.volumes[0].mountPath", '"d"', "should match")),
    ("a NUL in the command", job(command=["echo", "a\0b"]), ("spec.command[1]", "should match")),
    ("a NUL in the environment", job(env=[{"name": "A", "value": "\0"}]), ("spec.env[0].value", "should match")),
    ("a NUL for mpirun", job(mpi={"args": ["\0"]}), ("spec.mpi.args[0]", "should match")),
    (
        "a mountPath of the operator's own",
        job(volumes=[volume(path="/etc/penstock/ring")]),
        ("spec.volumes[0].mountPath", "are the operator's own mounts"),
    ),
    (
        "a mountPath under the operator's own",
        job(volumes=[volume(path="/etc/penstock/ring/more")]),
        ("spec.volumes[0].mountPath", "are the operator's own mounts"),
    ),
    ("a mountPath that is not absolute", job(volumes=[volume(path="data")]), ("spec.volumes[0].mountPath", "should match")),
    ("a mountPath with a trailing slash", job(volumes=[volume(path="/data/")]), ("spec.volumes[0].mountPath", "should match")),
    (
        "an env name twice",
        job(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        ("spec.env[1]", "Duplicate value"),
    ),
    ("an env name of the operator's own", job(env=[{"name": "PENSTOCK_X"}]), ("spec.env[0].name", "choose another")),
    ("an env name with a dash", job(env=[{"name": "MY-VAR"}]), ("spec.env[0].name", "should match")),
    ("an unknown backend", job(backend="Gloo"), ("spec.backend", 'supported values: "Horovod", "MPI"')),
    ("a negative time to live", job(runPolicy={"ttlSecondsAfterFinished": -1}), ("ttlSecondsAfterFinished", "equal to 0")),
    ("a deadline of nothing", job(runPolicy={"activeDeadlineSeconds": 0}), ("activeDeadlineSeconds", "equal to 1")),
    (
        "a quantity that is none",
        job(workers={"resources": {"limits": {"memory": "16GB"}}}),
        ("spec.workers.resources.limits[memory]", "must be an amount such as 2, 500m or 16Gi"),
    ),
    (
        "a negative quantity",
        job(launcher={"resources": {"requests": {"cpu": -1}}}),
        ("spec.launcher.resources.requests[cpu]", "and not negative"),
    ),
    ("a name too long for its pods", job("d" * 47), ("metadata.name must be at most 46 characters",)),
    ("a name with dots", job("digits.v2"), ("metadata.name", "'-'", "it becomes a host name")),
    ("a name that starts with a digit", job("2digits"), ("metadata.name must start with a letter",)),
]


@pytest.mark.parametrize(("body", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_refused_with_field_and_reason(team: Tools, body: Object, words: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as refused:
        team.kubectl("create", "--validate=strict", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(body))
    for word in words:
        assert word in str(refused.value)


def test_a_minimal_spec_gets_its_defaults(team: Tools) -> None:
    team.apply(job("minimal"))
    assert team.get("tj", "minimal", "-n", TEAM)["spec"] == {
        "image": "penstock/trainer:0.1.0",
        "command": ["python3", "train.py"],
        "backend": "Horovod",
        "workers": {"replicas": 1},
        "mpi": {"implementation": "OpenMPI"},
        "runPolicy": {"suspend": False, "maxRestarts": 3, "cleanPodPolicy": "Running"},
    }


def test_the_longest_name_every_kind_of_volume_and_every_form_of_quantity_are_taken(team: Tools) -> None:
    sources = {
        "persistentVolumeClaim": {"claimName": "a"},
        "emptyDir": {},
        "configMap": {"name": "a"},
        "secret": {"secretName": "a"},
    }
    volumes = [volume(f"v{index}", f"/v{index}", **{kind: source}) for index, (kind, source) in enumerate(sources.items())]
    limits = {"nvidia.com/gpu": 8, "cpu": "1.5", "memory": "16Gi", "ephemeral-storage": "1e9"}
    workers = {"replicas": 1024, "slots": 256, "resources": {"limits": limits}}
    team.apply(job("d" * 46, volumes=volumes, workers=workers))


@pytest.mark.parametrize(
    "workers",
    [
        {"instanceType": "p4d.24xlarge"},
        {"capacityType": "spot"},
        {"instanceType": "u7in-24tb.224xlarge", "capacityType": "on-demand"},
        {"instanceType": "g4dn.metal", "capacityType": "reserved", "slots": 8},
    ],
)
def test_instance_and_capacity_type_are_taken_each_alone_and_together(team: Tools, workers: Object) -> None:
    body = yaml.safe_dump(job(workers=workers))
    taken = team.kubectl("create", "--validate=strict", "--dry-run=server", "-o", "yaml", "-f", "-", stdin=body)
    assert yaml.safe_load(taken)["spec"]["workers"] == {"replicas": 1, **workers}


ACTIVE: list[tuple[str, Callable[[Object], Object]]] = [
    ("image", lambda spec: {**spec, "image": "other"}),
    ("command", lambda spec: {**spec, "command": ["other"]}),
    ("backend", lambda spec: {**spec, "backend": "MPI"}),
    ("mpi", lambda spec: {**spec, "mpi": {"implementation": "MPICH"}}),
]


@pytest.mark.parametrize(("field", "change"), ACTIVE, ids=[case[0] for case in ACTIVE])
def test_what_the_ring_was_started_with_changes_only_while_the_job_is_suspended(
    team: Tools, field: str, change: Callable[[Object], Object]
) -> None:
    body = job(f"change-{field}")
    team.apply(body)
    body["spec"] = change(body["spec"])
    with pytest.raises(Refused) as refused:
        team.apply(body)
    assert f"spec.{field}: Forbidden: spec.{field} cannot change while the job is active" in str(refused.value)
    assert "spec.runPolicy.suspend" in str(refused.value)
    team.kubectl("patch", "tj", f"change-{field}", "-n", TEAM, "--type=merge", '-p={"spec":{"runPolicy":{"suspend":true}}}')
    body["spec"]["runPolicy"] = {"suspend": True}
    with pytest.raises(Refused):  # its pods may still run: the condition says when they do not
        team.apply(body)
    suspended = {"type": "Suspended", "status": "True", "reason": "SuspendedByUser", "message": ""}
    status = {"conditions": [{**suspended, "lastTransitionTime": "2026-01-02T03:04:05Z"}]}
    patch = f"-p={json.dumps({'status': status})}"
    team.kubectl("patch", "tj", f"change-{field}", "-n", TEAM, "--subresource=status", "--type=merge", patch)
    team.apply(body)


def test_a_job_that_fits_no_node_is_corrected_without_suspending_it_but_only_before_it_begins(team: Tools) -> None:
    workers = {"instanceType": "p4d.24xlarge", "slots": 3}
    team.apply(job("misfit", workers=workers))

    def report(**more: Any) -> None:
        stalled = {"type": "Stalled", "status": "True", "reason": "DoesNotFitInstanceType", "message": ""}
        status = {"conditions": [{**stalled, "lastTransitionTime": "2026-01-02T03:04:05Z"}], **more}
        patch = f"-p={json.dumps({'status': status})}"
        team.kubectl("patch", "tj", "misfit", "-n", TEAM, "--subresource=status", "--type=merge", patch)

    with pytest.raises(Refused, match=r"spec\.workers\.slots cannot change"):
        team.apply(job("misfit", workers={**workers, "slots": 4}))
    report()
    team.apply(job("misfit", workers={**workers, "slots": 4}))
    report(attempt=1)
    with pytest.raises(Refused, match=r"spec\.workers\.slots cannot change"):
        team.apply(job("misfit", workers={**workers, "slots": 2}))
    team.apply(job("misfit", workers={"instanceType": "p5.48xlarge", "slots": 4}))


def test_the_number_of_workers_changes_through_the_scale_subresource(team: Tools) -> None:
    team.apply(job("scaled"))
    team.kubectl("scale", "tj", "scaled", "-n", TEAM, "--replicas=3")
    assert team.get("tj", "scaled", "-n", TEAM)["spec"]["workers"]["replicas"] == 3


def test_kubectl_explain_tells_what_a_field_is_for(team: Tools) -> None:
    assert "Worker pods. Changing it restarts the ring" in team.kubectl("explain", "tj.spec.workers.replicas")
