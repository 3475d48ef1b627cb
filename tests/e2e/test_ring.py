"""The whole way on real nodes: chart, operator, restricted pods, ssh, mpirun, Horovod."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import yaml
from tests.e2e.ring_cluster import MPICH, Space

from penstock_local import paths
from penstock_local.tools import OPERATOR_NAMESPACE, Target

pytestmark = pytest.mark.e2e

FOR_EVER = "while :; do sleep 0.1; done"
SAVES_ON_SIGTERM = f'trap "echo got SIGTERM; sleep 2; echo saved; exit 0" TERM; echo up; {FOR_EVER}'


def an_image_that_cannot_be_pulled(space: Space) -> None:
    space.run("image", "true", image="registry.invalid/none:1")
    space.wait("stalled", lambda: space.condition("image", "Stalled")["status"] == "True", seconds=30)
    stalled = space.condition("image", "Stalled")
    assert stalled["reason"] == "ImagePullFailed"
    assert "image-worker-" in stalled["message"]
    assert "registry.invalid/none:1" in stalled["message"]
    space.wait_phase("image", "Failed", seconds=40)
    space.wait("no pods", lambda: not space.pods())
    assert "ImagePullFailed" in space.events()


@pytest.fixture(scope="module", autouse=True)
def unpullable(target: Target, request: pytest.FixtureRequest) -> Iterator[Future[None] | None]:
    """Most of that is waiting, the kubelet's and ours, for more than half a minute: the other tests fill it."""
    asked = test_an_image_that_cannot_be_pulled_is_named_and_nothing_stays
    if not any(getattr(each, "function", None) is asked for each in request.session.items):
        yield None
        return
    with ThreadPoolExecutor(1) as pool:
        space = Space(target)
        try:
            yield pool.submit(an_image_that_cannot_be_pulled, space)
        finally:
            space.drop()


def test_every_rank_runs_on_its_worker_and_only_the_launcher_stays(space: Space) -> None:
    space.run(
        "ranks", "echo rank $OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE on $(hostname)", workers={"replicas": 2, "slots": 2}
    )
    status = space.wait_phase("ranks", "Complete")
    lines = sorted(space.logs("ranks-launcher").splitlines())
    assert lines == [f"rank {rank} of 4 on ranks-worker-{rank // 2}" for rank in range(4)]
    assert status["summary"]["workers"] == "2/2"
    space.wait("workers are gone", lambda: set(space.pods()) == {"ranks-launcher"})
    assert "Completed" in space.events()


def test_the_environment_reaches_every_rank_whatever_it_holds(space: Space) -> None:
    tricky = "two  spaces\n'single' \"double\" $HOME `id` ü"
    space.kubectl("create", "configmap", "settings", "--from-literal=FROM_MAP=a b", "--from-literal=app.mode=x y")
    values = '"$OMPI_COMM_WORLD_RANK" "$TRICKY" "$POD" "$FROM_MAP" "$(env | grep ^app.mode)"'
    # One write a rank: mpirun may pass on another rank's between two.
    script = f'echo "$(printf "%s|%s|%s|%s|%s" {values} | base64 -w0)"'
    pod = {"fieldRef": {"fieldPath": "metadata.name"}}
    env = [{"name": "TRICKY", "value": tricky}, {"name": "POD", "valueFrom": pod}]
    space.run("env", script, env=env, envFrom=[{"configMapRef": {"name": "settings"}}])
    space.wait_phase("env", "Complete")
    found = sorted(base64.b64decode(line).decode() for line in space.logs("env-launcher").split())
    assert found == [f"{rank}|{tricky}|env-worker-{rank}|a b|app.mode=x y" for rank in range(2)]


def test_a_failing_programs_exit_code_rank_and_log_are_in_the_status(space: Space) -> None:
    # Open MPI 4 forgets who failed where that was before all nodes had reported their launch.
    script = "echo before the end; sleep 3; [ $OMPI_COMM_WORLD_RANK = 1 ] && exit 7; sleep 60"
    space.run("fails", script, runPolicy={"maxRestarts": 1})
    status = space.wait_phase("fails", "Failed", seconds=90)
    failure = status["failure"]
    assert failure == {**failure, "exitCode": 7, "rank": 1, "pod": "fails-worker-1", "attempt": 2}
    assert "before the end" in failure["logTail"]
    assert status["restarts"] == {"code": 1, "infrastructure": 0}
    assert "rank 1 on fails-worker-1 ended with exit code 7" in space.condition("fails", "Failed")["message"]


def test_a_program_that_is_not_there_fails_at_once(space: Space) -> None:
    space.run("absent", "true", command=["/no/such/program"])
    space.wait_phase("absent", "Failed", seconds=30)
    failed = space.condition("absent", "Failed")
    assert failed["reason"] == "ProgramNotFound"
    assert "/no/such/program" in failed["message"]


def test_arguments_of_another_mpi_fail_at_once_with_mpiruns_own_words(space: Space) -> None:
    space.run("args", "true", mpi={"args": ["-genv", "A", "b"]})
    space.wait_phase("args", "Failed", seconds=30)
    failed = space.condition("args", "Failed")
    assert failed["reason"] == "MPIArgumentsRefused"
    assert "-genv" in failed["message"]


def test_a_user_that_the_image_does_not_know_is_named(space: Space) -> None:
    template = {"spec": {"securityContext": {"runAsUser": 4242}}}
    space.run("nobody", "true", workers={"replicas": 2, "template": template}, launcher={"template": template})
    space.wait_phase("nobody", "Failed", seconds=30)
    assert space.condition("nobody", "Failed")["reason"] == "UnusableUser"
    space.run("two-users", "true", workers={"replicas": 2, "template": template})
    space.wait("stalled", lambda: space.condition("two-users", "Stalled").get("reason") == "UnusableUser", seconds=30)
    assert not [name for name in space.pods() if name.startswith("two-users")]


def test_a_killed_worker_is_replaced_alone_and_the_job_completes(space: Space) -> None:
    script = "if [ $PENSTOCK_ATTEMPT = 1 ]; then while :; do sleep 0.1; done; else echo second attempt; fi"
    space.run("loss", script, workers={"replicas": 3}, runPolicy={"maxRestarts": 0, "cleanPodPolicy": "None"})
    space.wait_phase("loss", "Running")
    before = {name: pod["metadata"]["uid"] for name, pod in space.pods("penstock.dev/role=worker").items()}
    space.kubectl("delete", "pod", "loss-worker-1", "--grace-period=0", "--force", "--wait=false")
    status = space.wait_phase("loss", "Complete", seconds=90)
    after = {name: pod["metadata"]["uid"] for name, pod in space.pods("penstock.dev/role=worker").items()}
    assert status["restarts"] == {"code": 0, "infrastructure": 1}
    assert status["attempt"] == 2
    assert set(after) == {"loss-worker-0", "loss-worker-1-a2", "loss-worker-2"}
    assert {name: uid for name, uid in after.items() if name in before} == {
        name: uid for name, uid in before.items() if name != "loss-worker-1"
    }


def test_an_operator_that_is_killed_mid_run_goes_on_where_it_was(space: Space) -> None:
    space.run("restart", "sleep 8", runPolicy={"cleanPodPolicy": "None"})
    space.wait_phase("restart", "Running")
    before = {name: pod["metadata"]["uid"] for name, pod in space.pods().items()}
    space.target.kubectl(
        "-n", OPERATOR_NAMESPACE, "delete", "pod", "-l", "app.kubernetes.io/component=operator", "--grace-period=0", "--force"
    )
    status = space.wait_phase("restart", "Complete", seconds=90)
    assert {name: pod["metadata"]["uid"] for name, pod in space.pods().items()} == before
    assert (status["attempt"], status["restarts"]) == (1, {"code": 0, "infrastructure": 0})


def test_suspension_lets_the_ranks_save_and_resumption_goes_on(space: Space) -> None:
    space.run("pause", f"[ $PENSTOCK_ATTEMPT = 2 ] && exit 0; {SAVES_ON_SIGTERM}")
    space.wait_phase("pause", "Running")
    space.wait("ranks are up", lambda: space.logs("pause-launcher").count("up") == 2)
    heard: list[str] = []
    listener = threading.Thread(target=lambda: heard.append(space.kubectl("logs", "-f", "pause-launcher", check=False)))
    listener.start()
    space.kubectl("patch", "tj", "pause", "--type=merge", "-p", '{"spec":{"runPolicy":{"suspend":true}}}')
    space.wait("no pods", lambda: not space.pods(), seconds=60)
    listener.join(timeout=10)
    assert heard[0].count("got SIGTERM") == 2
    assert heard[0].count("saved") == 2
    assert space.status("pause")["phase"] == "Suspended"
    space.kubectl("patch", "tj", "pause", "--type=merge", "-p", '{"spec":{"runPolicy":{"suspend":false}}}')
    status = space.wait_phase("pause", "Complete")
    assert (status["attempt"], status["restarts"]) == (2, {"code": 0, "infrastructure": 0})


def test_deleting_a_running_job_leaves_nothing(space: Space) -> None:
    space.run("gone", FOR_EVER)
    space.wait_phase("gone", "Running")
    space.kubectl("delete", "tj", "gone", "--wait=false")

    def left() -> str:
        return space.kubectl("get", "tj,pods,secrets,networkpolicies", "-o", "name")

    space.wait("nothing is left", lambda: not left(), seconds=60)


def test_a_job_applied_again_starts_when_the_ranks_of_the_deleted_one_have_saved(space: Space) -> None:
    space.run("again", SAVES_ON_SIGTERM)
    space.wait_phase("again", "Running")
    space.wait("the ranks run", lambda: space.logs("again-launcher").count("up") == 2)
    space.kubectl("delete", "tj", "again")
    space.run("again", "echo the second one")
    space.wait("it says what it waits for", lambda: space.status("again").get("reason") == "WaitingForPredecessor")
    status = space.wait_phase("again", "Complete")
    assert status["attempt"] == 1
    assert space.logs("again-launcher").splitlines() == ["the second one"] * 2


def test_a_foreign_pod_with_a_workers_name_is_not_touched(space: Space) -> None:
    quiet = {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    container = {"name": "main", "image": "penstock/trainer:0.1.0", "command": ["sleep", "600"], **quiet}
    security = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {"containers": [container], "securityContext": security, "terminationGracePeriodSeconds": 0}
    space.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "clash-worker-1"}, "spec": pod})
    foreign = space.kubectl("get", "pod", "clash-worker-1", "-o", "jsonpath={.metadata.uid}")
    space.run("clash", "true")
    space.wait("conflict", lambda: space.condition("clash", "Stalled").get("reason") == "NameConflict", seconds=30)
    assert "clash-worker-1" in space.condition("clash", "Stalled")["message"]
    space.wait("half a ring is given back", lambda: not space.pods())
    assert space.kubectl("get", "pod", "clash-worker-1", "-o", "jsonpath={.metadata.uid}") == foreign
    space.kubectl("delete", "pod", "clash-worker-1")
    space.wait_phase("clash", "Complete", seconds=90)


def test_a_quota_is_explained_and_waited_for(space: Space) -> None:
    space.kubectl("create", "quota", "small", "--hard=pods=1")
    space.run("quota", "true")
    space.wait("refused", lambda: space.condition("quota", "Stalled").get("reason") == "QuotaExceeded", seconds=30)
    assert "small" in space.condition("quota", "Stalled")["message"]
    space.wait("nothing half-made", lambda: not space.pods())
    space.kubectl("delete", "quota", "small")
    space.wait_phase("quota", "Complete", seconds=90)


def test_what_fits_no_node_names_what_it_lacks_and_the_field(space: Space) -> None:
    """In the scheduler's own words of today: the operator reads them."""
    claim = {"name": "data", "mountPath": "/data", "persistentVolumeClaim": {"claimName": "none"}}
    space.run("gpus", "true", workers={"replicas": 1, "resources": {"limits": {"nvidia.com/gpu": 99}}})
    space.run("claim", "true", workers={"replicas": 1}, volumes=[claim])
    space.run("selector", "true", workers={"replicas": 1, "template": {"spec": {"nodeSelector": {"disk": "none"}}}})
    space.run("launcher", "true", workers={"replicas": 1}, launcher={"resources": {"requests": {"cpu": "999"}}})
    lacks = {
        "gpus": ("Insufficient nvidia.com/gpu", "of nvidia.com/gpu it asks for 99 (spec.workers.resources)"),
        "claim": ("claim none not found", "spec.volumes[data] names the claim"),
        "selector": ("no such node", "spec.workers.template.spec.nodeSelector"),
        "launcher": ("Insufficient cpu", "of cpu it asks for 999 (spec.launcher.resources)"),
    }
    for name, (column, advice) in lacks.items():
        space.wait(f"{name} says {column}", lambda name=name, column=column: space.status(name).get("reason") == column, 30)
        assert advice in space.condition(name, "Reconciling")["message"]
    told = [
        "get",
        "events",
        "--field-selector=reason=Unschedulable",
        "-o",
        "custom-columns=N:.involvedObject.name",
        "--no-headers",
    ]
    space.wait("each has its event", lambda: sorted(space.kubectl(*told).split()) == sorted(lacks), 10)


def test_scaling_restarts_the_ring_with_the_new_size(space: Space) -> None:
    script = "if [ $OMPI_COMM_WORLD_SIZE = 3 ]; then echo size 3; else while :; do sleep 0.1; done; fi"
    space.run("grow", script)
    space.wait_phase("grow", "Running")
    space.kubectl("scale", "tj", "grow", "--replicas=3")
    status = space.wait_phase("grow", "Complete", seconds=90)
    assert status["restarts"] == {"code": 0, "infrastructure": 0}
    assert space.logs("grow-launcher-a2").count("size 3") == 3


def test_eight_workers_form_one_ring(space: Space) -> None:
    space.run("eight", "echo rank $OMPI_COMM_WORLD_RANK", workers={"replicas": 8})
    space.wait_phase("eight", "Complete", seconds=120)
    assert sorted(space.logs("eight-launcher").split("\n")) == ["", *(f"rank {rank}" for rank in range(8))]


def test_pods_hold_only_the_keys_they_need_and_no_cluster_token(space: Space) -> None:
    space.run("keys", FOR_EVER)
    space.wait_phase("keys", "Running")
    worker = space.kubectl("exec", "keys-worker-0", "--", "ls", "/etc/penstock/ring").split()
    launcher = space.kubectl("exec", "keys-launcher", "--", "ls", "/etc/penstock/ring").split()
    assert "user_key" not in worker
    assert "host_key" not in launcher
    assert space.kubectl("exec", "keys-worker-0", "--", "ls", "/var/run/secrets/kubernetes.io", check=False) == ""
    environment = space.kubectl("exec", "keys-worker-0", "--", "stat", "-c", "%a %u", "/dev/shm/penstock-env").strip()
    assert environment == "600 1000"
    ssh = "/etc/penstock/ring/ssh $(head -1 /etc/penstock/hosts/hostfile | cut -d' ' -f1)"
    shell = space.kubectl("exec", "keys-launcher", "--", "bash", "-c", f"{ssh} < /dev/null 2>&1; true")
    assert "it gives no shell" in shell
    options = "-p 2222 -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    bare = f"ssh {options} {ssh.split(' ', 1)[1]} id 2>&1; true"
    assert "Permission denied" in space.kubectl("exec", "keys-launcher", "--", "bash", "-c", bare)


def test_mpich_runs_in_the_same_ring_and_passes_its_exit_code_on(space: Space) -> None:
    mpich = {"backend": "MPI", "mpi": {"implementation": "MPICH"}, "image": MPICH, "runPolicy": {"maxRestarts": 0}}
    space.run("mpich", "", command=["ring", "0"], workers={"replicas": 2, "slots": 2}, **mpich)
    # Not waited for until Complete: see ring.c for what Debian's MPICH does in MPI_Finalize.
    wanted = [f"rank {rank} of 4 on mpich-worker-{rank // 2}: sum of ranks 6" for rank in range(4)]
    space.wait_phase("mpich", "Running", "Complete")
    space.wait("every rank has spoken", lambda: sorted(space.logs("mpich-launcher").splitlines()) == wanted)
    space.kubectl("delete", "tj", "mpich", "--wait=false")
    space.run("code", "", command=["ring", "5"], **mpich)
    assert space.wait_phase("code", "Failed")["failure"]["exitCode"] == 5


def test_an_image_that_cannot_be_pulled_is_named_and_nothing_stays(unpullable: Future[None]) -> None:
    unpullable.result()  # its own waits have their limits


def test_the_digits_example_trains_with_horovod_and_reports_its_progress(space: Space) -> None:
    example = (paths.checkout() / "manifests/examples/digits.yaml").read_text()
    space.apply(yaml.safe_load(example.replace("--epochs=20", "--epochs=12")))  # 0.97 instead of 0.99, sooner
    space.wait("progress", lambda: (space.status("digits").get("progress") or {}).get("step", 0) > 0, seconds=120)
    status = space.wait_phase("digits", "Complete", seconds=240)
    assert status["progress"]["percent"] == 100
    assert status["progress"]["metrics"]["test_accuracy"] >= 0.95
    assert status["progress"]["samplesPerSecond"] > 0
    assert "test accuracy" in space.logs("digits-launcher")
