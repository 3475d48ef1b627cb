"""The pods and the Secret as built: what Pod Security asks, what the user's template may change, how each MPI is started."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import example, given
from hypothesis import strategies as st
from simulation import RULES, Simulation

from penstock_operator.api.trainingjob import MPIImplementation, TrainingJobSpec
from penstock_operator.trainingjob.children.keys import ring_keys
from penstock_operator.trainingjob.children.launch import hostfile, launch_environment, launch_line
from penstock_operator.trainingjob.children.merge import merge
from penstock_operator.trainingjob.children.ring import build_secret


def pods(**spec: Any) -> dict[str, dict[str, Any]]:
    """Both kinds of pod of one job."""
    job = Simulation(**spec).started()
    return {"worker": job.pods["digits-worker-0"], "launcher": job.pods["digits-launcher"]}


def spec(**fields: Any) -> TrainingJobSpec:
    return TrainingJobSpec.model_validate(
        {"image": "i", "command": ["train", "a b"], "workers": {"replicas": 2, "slots": 3}, **fields}
    )


@pytest.mark.parametrize("role", ["worker", "launcher"])
def test_pods_are_what_pod_security_restricted_asks(role: str) -> None:
    pod = pods()[role]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False
    assert pod["restartPolicy"] == "Never"


def test_workers_hold_no_user_key_and_the_launcher_no_host_key() -> None:
    made = pods()
    held = {
        role: {item["key"] for volume in pod["spec"]["volumes"] if "secret" in volume for item in volume["secret"]["items"]}
        for role, pod in made.items()
    }
    assert "user_key" not in held["worker"]
    assert "host_key" in held["worker"]
    assert "host_key" not in held["launcher"]
    assert "progress-token" not in held["launcher"]


def test_the_users_environment_wins_and_the_token_is_in_no_variable() -> None:
    made = pods(env=[{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}, {"name": "A", "value": "x y"}])
    env = {one["name"]: one.get("value") for one in made["launcher"]["spec"]["containers"][0]["env"]}
    assert (env["NVIDIA_VISIBLE_DEVICES"], env["A"]) == ("all", "x y")
    secret = build_secret(Simulation().observed().job, RULES.surroundings)
    assert secret["stringData"]["progress-token"] not in str(made)


def test_the_template_has_the_last_word() -> None:
    template = {
        "metadata": {"labels": {"team": "vision", "penstock.dev/role": "x"}},
        "spec": {"nodeSelector": {"a": "b"}, "containers": [{"name": "worker", "imagePullPolicy": "Always"}, {"name": "side"}]},
    }
    worker = pods(workers={"replicas": 2, "template": template})["worker"]
    assert worker["metadata"]["labels"]["team"] == "vision"
    assert worker["metadata"]["labels"]["penstock.dev/role"] == "worker"
    assert worker["spec"]["nodeSelector"] == {"a": "b"}
    assert [one["name"] for one in worker["spec"]["containers"]] == ["worker", "side"]
    assert worker["spec"]["containers"][0]["imagePullPolicy"] == "Always"


def test_a_users_volume_at_tmp_replaces_the_launchers_own() -> None:
    launcher = pods(volumes=[{"name": "scratch", "mountPath": "/tmp", "emptyDir": {}}])["launcher"]
    mounts = [one["name"] for one in launcher["spec"]["containers"][0]["volumeMounts"] if one["mountPath"] == "/tmp"]
    assert mounts == ["scratch"]


def test_a_colocated_launcher_goes_where_worker_zero_is() -> None:
    template = {"spec": {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}}
    launcher = pods(launcher={"colocate": True}, workers={"replicas": 2, "template": template})["launcher"]
    term = launcher["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    assert term["labelSelector"]["matchLabels"]["penstock.dev/replica-index"] == "0"
    assert launcher["spec"]["tolerations"] == template["spec"]["tolerations"]


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """What the kubelet makes of an argument or the value of a variable. Source: k8s.io/kubernetes v1.36,
    third_party/forked/golang/expansion."""

    def read(found: re.Match[str]) -> str:
        if found["name"] is not None:
            return environment.get(found["name"], found[0])
        return "$" if found["rest"] == "$" else found[0]

    return re.sub(r"\$(?:\((?P<name>[^)]*)\)|(?P<rest>.))", read, text, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        # Of the kubelet's own tests (expand_test.go).
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("$$(VAR_A)_$(VAR_A)", "$(VAR_A)_A"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("$$$$$$$(VAR_A)", "$$$A"),
        ("$$$$$$(VAR_A)", "$$$(VAR_A)"),
        ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
        ("$VAR_A)", "$VAR_A)"),
        ("${VAR_A}", "${VAR_A}"),
        ("$(NOT_THERE)", "$(NOT_THERE)"),
        ("foo$", "foo$"),
        ("$", "$"),
        ("$$", "$"),
        ("$(", "$("),
        ("$()", "$()"),
    ],
)
def test_the_kubelet_is_imitated_faithfully(text: str, read: str) -> None:
    assert expanded(text, {"VAR_A": "A", "VAR_B": "B"}) == read


@given(st.text(alphabet="$()AB{é\n", max_size=12))
@example("kill $$")
@example("$$(PENSTOCK_JOB_NAME)")
@example("cost: $$$(A)$")
def test_the_command_reaches_the_program_as_it_is_written(text: str) -> None:
    line = launch_line(spec(command=["train", text]))
    environment = {"A": "expanded", "PENSTOCK_JOB_NAME": "digits", "": "nothing"}
    assert [expanded(one, environment) for one in line[-2:]] == ["train", text]


def test_variables_and_arguments_for_mpirun_mean_what_they_mean_in_a_container() -> None:
    chosen = {"env": [{"name": "A", "value": "$(B) $$"}], "mpi": {"args": ["-x", "B=$(B)"]}}
    launcher = pods(**chosen)["launcher"]["spec"]["containers"][0]
    assert {"name": "A", "value": "$(B) $$"} in launcher["env"]
    assert "B=$(B)" in launcher["command"]


def test_open_mpi_is_started_in_a_star_from_the_host_file() -> None:
    assert launch_line(spec(mpi={"args": ["--timestamp-output"]})) == [
        "mpirun", "-np", "6", "--hostfile", "/etc/penstock/hosts/hostfile", "--bind-to", "none", "--map-by", "slot",
        "--timestamp-output", "train", "a b",
    ]  # fmt: skip
    environment = launch_environment(spec())
    assert environment["OMPI_MCA_plm_rsh_no_tree_spawn"] == "1"
    assert environment["PRTE_MCA_plm_ssh_agent"] == "/etc/penstock/ring/ssh"
    assert environment["OMPI_MCA_pml"] == "ob1"
    assert "OMPI_MCA_pml" not in launch_environment(spec(backend="MPI"))


@pytest.mark.parametrize(
    ("implementation", "agent"), [("MPICH", "HYDRA_LAUNCHER_EXEC"), ("Intel", "I_MPI_HYDRA_BOOTSTRAP_EXEC")]
)
def test_hydra_is_given_the_launchers_address_and_leaves_the_workers_environment_alone(implementation: str, agent: str) -> None:
    chosen = spec(backend="MPI", mpi={"implementation": implementation})
    line = launch_line(chosen)
    assert line[0] == "mpirun"
    assert line[-2:] == ["train", "a b"]
    assert "$(PENSTOCK_POD_IP)" in line
    assert "-genvnone" in line
    assert launch_environment(chosen)[agent] == "/etc/penstock/ring/ssh"
    assert hostfile(chosen.mpi.implementation, ["10.0.0.1", "10.0.0.2"], 3) == "10.0.0.1:3\n10.0.0.2:3\n"


def test_slots_default_to_the_gpus_of_a_worker() -> None:
    assert spec(workers={"resources": {"limits": {"nvidia.com/gpu": 8}}}).slots == 8
    assert spec(workers={"slots": 2, "resources": {"limits": {"nvidia.com/gpu": 8}}}).slots == 2
    assert spec(workers={}).slots == 1


def test_the_same_job_always_gets_the_same_keys_and_another_job_others() -> None:
    first, again, other = (ring_keys(b"k" * 32, "team", "digits", uid) for uid in ("u1", "u1", "u2"))
    # The private texts differ: OpenSSH's format holds a random check number. The keys in them do not.
    assert (first.host_public, first.user_public) == (again.host_public, again.user_public)
    assert first.progress_token == again.progress_token != other.progress_token
    assert len({first.host_public, first.user_public, other.host_public, other.user_public}) == 4


def test_the_private_key_is_the_public_keys_other_half() -> None:
    keys = ring_keys(b"k" * 32, "team", "digits", "u1")
    for private, public in ((keys.host_private, keys.host_public), (keys.user_private, keys.user_public)):
        loaded = serialization.load_ssh_private_key(private.encode(), None)
        form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        assert loaded.public_key().public_bytes(*form).decode() == public


def test_the_scripts_of_the_ring_are_valid_bash() -> None:
    texts = build_secret(Simulation().observed().job, RULES.surroundings)["stringData"]
    scripts = {name: text for name, text in texts.items() if text.startswith("#!/bin/bash")}
    assert set(scripts) == {"worker", "rank-shell", "drain", "ssh", "stop"}
    for text in scripts.values():
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize("implementation", list(MPIImplementation))
@pytest.mark.parametrize("addresses", [["10.0.0.1", "10.0.0.12"], ["fd00::1", "fd00::1:8", "2001:db8:0:1:2:3:4:5"]])
def test_a_launcher_on_its_way_out_tells_the_ranks_of_every_worker(
    tmp_path: Path, implementation: MPIImplementation, addresses: list[str]
) -> None:
    (tmp_path / "hostfile").write_text(hostfile(implementation, addresses, 8))
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/bash\necho "$@" > "$(mktemp {tmp_path}/told-XXXX)"\n')
    ssh.chmod(0o700)
    text = build_secret(Simulation().observed().job, RULES.surroundings)["stringData"]["stop"]
    for theirs, ours in (("/etc/penstock/ring/ssh", ssh), ("/etc/penstock/hosts", tmp_path), ("exec sleep 20", "wait")):
        assert theirs in text
        text = text.replace(theirs, str(ours))
    subprocess.run(["/bin/bash", "-c", text], check=True)
    told = [each.read_text() for each in tmp_path.glob("told-*")]
    assert sorted(told) == sorted(f"{address} penstock-stop\n" for address in addresses)


@pytest.mark.parametrize(
    ("base", "patch", "merged"),
    [
        ({"a": 1}, {"a": None}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 1}}, {"a": {"c": 1}}),
        ({"args": ["x"]}, {"args": ["y"]}, {"args": ["y"]}),
        (
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "B"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "B"}]},
        ),
        (
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "value": "2"}]},
            {"env": [{"name": "A", "value": "2"}]},
        ),
        ({"env": [{"name": "A"}]}, {"env": [{"name": "A", "$patch": "delete"}]}, {"env": []}),
        ({"volumes": [{"name": "a"}]}, {"volumes": [{"$patch": "replace"}, {"name": "b"}]}, {"volumes": [{"name": "b"}]}),
    ],
)
def test_templates_merge_as_kubectl_merges_pods(base: dict[str, Any], patch: dict[str, Any], merged: dict[str, Any]) -> None:
    assert merge(base, patch) == merged


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempt", "baseline"),
        ("odd", "x"),
        ("pair", "left"),
        ("UID", "7"),
        ("POSIXLY_CORRECT", "1"),
        ("PATH", "/nowhere"),
        ("SSH_ORIGINAL_COMMAND", "false"),
        ("app.mode", "a b"),
        ("TEXT", "two\nlines 'and' \"quotes\" $HOME"),
    ],
)
def test_a_rank_gets_any_variable_whatever_its_name_and_keeps_its_attempt(tmp_path: Path, name: str, value: str) -> None:
    saved = tmp_path / "environment"
    saved.write_bytes("".join(f"{key}={text}\0" for key, text in ((name, value), ("UID", "7"), ("LAST", "end"))).encode())
    script = tmp_path / "rank-shell"
    script.write_text(
        build_secret(Simulation().observed().job, RULES.surroundings)["stringData"]["rank-shell"].replace(
            "/dev/shm/penstock-env", str(saved)
        )
    )
    script.chmod(0o700)
    # Attempt 0: on a real worker the ranks of earlier attempts are killed, and this is the developer's machine.
    command = "/usr/bin/env -0 > " + str(tmp_path / "seen")
    environment = {"SSH_ORIGINAL_COMMAND": command, "PENSTOCK_ATTEMPT": "0", "PATH": os.environ["PATH"]}
    subprocess.run(["/bin/bash", script], env=environment, check=True)
    seen = dict(pair.split("=", 1) for pair in (tmp_path / "seen").read_text().split("\0") if pair)
    assert {key: seen.get(key) for key in (name, "UID", "LAST", "PENSTOCK_ATTEMPT")} == {
        name: value, "UID": "7", "LAST": "end", "PENSTOCK_ATTEMPT": "0",
    }  # fmt: skip
