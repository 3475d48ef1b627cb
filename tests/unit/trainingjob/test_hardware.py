"""What an instance type fills in, what of the user's wins over it, and what is refused with which numbers."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import CATALOGUE, Simulation

from penstock_local.node import NodeShape
from penstock_operator import names
from penstock_operator.api.trainingjob import TrainingJobSpec
from penstock_operator.cloud.catalogue import EFA, GPU, HUGE_PAGES, NEURON, NEURON_CORE, Catalogue, InstanceType, load
from penstock_operator.trainingjob.hardware import Fitted, fit
from penstock_operator.trainingjob.quantity import parse, text

AFFINITY = "requiredDuringSchedulingIgnoredDuringExecution"


def pods(workers: dict[str, Any], **spec: Any) -> dict[str, dict[str, Any]]:
    """Pod specs of both roles as they are created."""
    job = Simulation(workers={"replicas": 2, **workers}, **spec).started()
    return {"worker": job.pods["digits-worker-0"]["spec"], "launcher": job.pods["digits-launcher"]["spec"]}


def limits(workers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = pods(workers, **spec)["worker"]["containers"][0]["resources"]["limits"]
    return found


def defaults(workers: dict[str, Any], **spec: Any) -> dict[str, str]:
    env = {one["name"]: one.get("value", "") for one in pods(workers, **spec)["worker"]["containers"][0]["env"]}
    return dict(line.split("=", 1) for line in env["PENSTOCK_RANK_DEFAULTS"].splitlines())


def gpu(count: Any) -> dict[str, Any]:
    return {"limits": {GPU: count}}


# --- what is filled in ------------------------------------------------------------------------------------------------------


def test_a_p4d_worker_takes_the_whole_node() -> None:
    worker = pods({"instanceType": "p4d.24xlarge"})["worker"]
    assert worker["containers"][0]["resources"] == {
        # 95690m less 500m, whole cores; 1082712Mi less 1536Mi for DaemonSets and 10256Mi of huge pages.
        "limits": {"cpu": "95", "memory": "1070920Mi", EFA: "4", HUGE_PAGES: "5120Mi", GPU: "8"}
    }
    assert worker["nodeSelector"] == {"node.kubernetes.io/instance-type": "p4d.24xlarge"}
    assert [one["key"] for one in worker["tolerations"]] == [GPU, EFA]
    shm = next(one for one in worker["volumes"] if one["name"] == "penstock-shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "535460Mi"}


def test_a_trainium_worker_has_a_rank_for_each_core() -> None:
    job = Simulation(workers={"replicas": 2, "instanceType": "trn1.32xlarge"}).started()
    worker, launcher = job.pods["digits-worker-0"]["spec"], job.pods["digits-launcher"]["spec"]
    assert worker["containers"][0]["resources"]["limits"][NEURON] == "16"
    assert [one["key"] for one in worker["tolerations"]] == [NEURON, EFA]
    assert launcher["containers"][0]["command"][1:3] == ["-np", "64"]
    assert "NCCL" not in str(worker)


@pytest.mark.parametrize("name", sorted(CATALOGUE.types))
def test_every_type_of_the_catalogue_gives_a_worker_that_fits_it(name: str) -> None:
    kind = CATALOGUE.types[name]
    job = Simulation(workers={"replicas": 2, "instanceType": name}).started()
    worker = job.pods["digits-worker-1"]["spec"]
    given = worker["containers"][0]["resources"]["limits"]
    amounts = {key: parse(value) for key, value in given.items()}
    assert all(amount and amount > 0 for amount in amounts.values()), given
    assert amounts["cpu"] <= Fraction(kind.cpu_millis, 1000)  # type: ignore[operator]
    assert amounts["memory"] <= kind.memory_mib * 2**20  # type: ignore[operator]
    assert (EFA in given, HUGE_PAGES in given) == (bool(kind.efa), bool(kind.efa))
    assert next(iter(kind.devices)) in given
    hosts = job.pods["digits-launcher"]["metadata"]["annotations"][names.ANNOTATION_HOSTFILE]
    assert hosts.splitlines()[0].endswith(f"slots={kind.ranks}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "p4d.24xlarge",
            {"NCCL_SOCKET_IFNAME": "eth0", "NCCL_DEBUG": "WARN", "FI_EFA_USE_DEVICE_RDMA": "1", "OMP_NUM_THREADS": "11"},
        ),
        ("p5en.48xlarge", {"NCCL_SOCKET_IFNAME": "eth0", "NCCL_DEBUG": "WARN", "OMP_NUM_THREADS": "23"}),
        (
            "g5.xlarge",
            {"NCCL_SOCKET_IFNAME": "eth0", "NCCL_DEBUG": "WARN", "NCCL_SHM_USE_CUDA_MEMCPY": "1", "OMP_NUM_THREADS": "3"},
        ),
        ("trn1.2xlarge", {"OMP_NUM_THREADS": "3"}),
    ],
)
def test_ranks_get_the_environment_that_suits_the_type(name: str, expected: dict[str, str]) -> None:
    assert defaults({"instanceType": name}) == expected


def test_on_the_nodes_own_network_no_interface_is_named() -> None:
    worker = {"instanceType": "g5.xlarge", "template": {"spec": {"hostNetwork": True}}}
    assert "NCCL_SOCKET_IFNAME" not in defaults(worker)


def test_mpirun_leaves_efa_to_nccl() -> None:
    def env(workers: dict[str, Any], **spec: Any) -> dict[str, str]:
        container = pods(workers, **spec)["launcher"]["containers"][0]
        return {
            one["name"]: one.get("value", "") for one in container["env"] if one["name"] in ("OMPI_MCA_pml", "OMPI_MCA_btl")
        }

    assert env({"instanceType": "p4d.24xlarge"}) == {"OMPI_MCA_pml": "^cm,ucx", "OMPI_MCA_btl": "tcp,self"}
    assert env({"instanceType": "p4d.24xlarge"}, backend="MPI") == {"OMPI_MCA_pml": "^cm,ucx"}
    assert env({"instanceType": "g5.xlarge"}) == {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "^openib"}
    assert env({"instanceType": "p4d.24xlarge"}, backend="MPI", mpi={"implementation": "MPICH"}) == {}
    chosen = [{"name": "OMPI_MCA_pml", "value": "cm"}]
    assert env({"instanceType": "p4d.24xlarge"}, env=chosen)["OMPI_MCA_pml"] == "cm"


@pytest.mark.parametrize(
    ("capacity", "karpenter", "node_group"),
    [("spot", "spot", "SPOT"), ("on-demand", "on-demand", "ON_DEMAND"), ("reserved", "reserved", "CAPACITY_BLOCK")],
)
def test_one_capacity_type_serves_karpenter_and_managed_node_groups(capacity: str, karpenter: str, node_group: str) -> None:
    worker = pods({"capacityType": capacity})["worker"]  # without an instance type
    terms = worker["affinity"]["nodeAffinity"][AFFINITY]["nodeSelectorTerms"]
    assert [one["matchExpressions"] for one in terms] == [
        [{"key": "karpenter.sh/capacity-type", "operator": "In", "values": [karpenter]}],
        [{"key": "eks.amazonaws.com/capacityType", "operator": "In", "values": [node_group]}],
    ]
    assert {(one["key"], one["value"]) for one in worker["tolerations"]} == {
        ("karpenter.sh/capacity-type", karpenter), ("eks.amazonaws.com/capacityType", node_group),
    }  # fmt: skip
    assert "resources" not in worker["containers"][0] or not worker["containers"][0]["resources"]


def test_a_worker_tolerates_no_taint_that_drains_it() -> None:
    tolerations = pods({"instanceType": "p4d.24xlarge", "capacityType": "spot"})["worker"]["tolerations"]
    drains = {"karpenter.sh/disrupted", "aws-node-termination-handler/spot-itn", "node.kubernetes.io/unschedulable"}
    assert all(one.get("key") and one["key"] not in drains for one in tolerations)


def test_a_colocated_launcher_gets_onto_the_workers_node() -> None:
    launcher = pods({"instanceType": "p4d.24xlarge", "capacityType": "spot"}, launcher={"colocate": True})["launcher"]
    assert launcher["nodeSelector"] == {"node.kubernetes.io/instance-type": "p4d.24xlarge"}
    assert {GPU, EFA, "karpenter.sh/capacity-type"} <= {one["key"] for one in launcher["tolerations"]}
    assert GPU not in launcher["containers"][0]["resources"]["limits"]


def test_without_type_and_capacity_nothing_is_added() -> None:
    worker = pods({})["worker"]
    assert not {"nodeSelector", "tolerations", "affinity"} & worker.keys()
    assert "PENSTOCK_RANK_DEFAULTS" not in str(worker)


# --- what of the user's wins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["requests", "limits"])
@pytest.mark.parametrize(("name", "value"), [("cpu", "4"), ("memory", "64Gi"), (EFA, 2), (HUGE_PAGES, "2Gi"), (GPU, 8)])
def test_a_resource_that_is_set_is_left_alone_on_both_sides(side: str, name: str, value: Any) -> None:
    worker = pods({"instanceType": "p4d.24xlarge", "resources": {side: {name: value}}})["worker"]
    resources = worker["containers"][0]["resources"]
    assert resources[side][name] == value
    other = resources.get("limits" if side == "requests" else "requests", {})
    overcommitted = name in ("cpu", "memory")
    assert other.get(name) == (None if overcommitted or side == "limits" else value)
    assert set(resources["limits"]) >= {"cpu", "memory", EFA, HUGE_PAGES, GPU} - ({name} if overcommitted else set())


def test_nothing_of_a_resource_takes_it_away_and_what_hangs_on_it() -> None:
    assert EFA not in limits({"instanceType": "p4d.24xlarge", "resources": {"limits": {EFA: 0}}})
    assert HUGE_PAGES not in limits({"instanceType": "p4d.24xlarge", "resources": {"limits": {EFA: 0}}})
    without_pages = {"instanceType": "p4d.24xlarge", "resources": {"limits": {HUGE_PAGES: 0}}}
    assert HUGE_PAGES not in limits(without_pages)
    assert defaults(without_pages)["FI_EFA_USE_HUGE_PAGE"] == "0"
    cpu_only = {"instanceType": "p4d.24xlarge", "resources": {"limits": {GPU: 0}}}
    assert GPU not in limits(cpu_only)
    assert "NCCL_DEBUG" not in defaults(cpu_only)


def test_where_the_platform_has_no_huge_pages_none_are_asked_for() -> None:
    spec = TrainingJobSpec.model_validate({"image": "i", "command": ["x"], "workers": {"instanceType": "p5.48xlarge"}})
    fitted = fit(spec, load(huge_pages=False))
    assert isinstance(fitted, Fitted)
    assert HUGE_PAGES not in fitted.spec.workers.resources.limits
    assert "FI_EFA_USE_HUGE_PAGE=0" in str(fitted.layers)


def test_half_the_gpus_get_half_of_the_node() -> None:
    given = limits({"instanceType": "p4d.24xlarge", "resources": gpu(4)})
    assert given == {GPU: 4, "cpu": "47", "memory": "535460Mi", EFA: "2", HUGE_PAGES: "5120Mi"}
    quarter = limits({"instanceType": "p4d.24xlarge", "resources": gpu(2)})
    assert (quarter[EFA], quarter[HUGE_PAGES]) == ("1", "2560Mi")  # four of them fit into the 10256Mi of a node
    assert EFA not in limits({"instanceType": "p4d.24xlarge", "resources": gpu(1)})


def test_huge_pages_are_whole_pages_also_on_a_type_with_an_odd_number_of_gpus() -> None:
    odd = InstanceType.model_validate({"name": "a.b", "gpus": 3, "efa": 3, "vcpu": 96, "memoryGiB": 512})
    spec = {"image": "i", "command": ["x"], "workers": {"instanceType": "a.b", "resources": gpu(1)}}
    fitted = fit(TrainingJobSpec.model_validate(spec), Catalogue(types={"a.b": odd}))
    assert isinstance(fitted, Fitted)
    assert fitted.spec.workers.resources.limits[HUGE_PAGES] == "3412Mi"


def test_slices_of_a_gpu_take_the_place_of_whole_ones() -> None:
    given = limits({"instanceType": "p4d.24xlarge", "slots": 2, "resources": {"limits": {"nvidia.com/mig-3g.20gb": 2}}})
    assert GPU not in given
    assert given["nvidia.com/mig-3g.20gb"] == 2


def test_neuron_cores_may_be_asked_for_instead_of_devices() -> None:
    job = Simulation(workers={"instanceType": "trn1.32xlarge", "resources": {"limits": {NEURON_CORE: 8}}}).started()
    given = job.pods["digits-worker-0"]["spec"]["containers"][0]["resources"]["limits"]
    assert NEURON not in given
    assert given["cpu"] == "31"
    assert job.pods["digits-launcher"]["spec"]["containers"][0]["command"][2] == "8"


def test_fewer_ranks_than_gpus_share_them() -> None:
    made = pods({"instanceType": "p4d.24xlarge", "slots": 2})
    assert made["worker"]["containers"][0]["resources"]["limits"][GPU] == "8"
    assert made["launcher"]["containers"][0]["command"][2] == "4"


def test_the_template_has_the_last_word_and_is_added_to_where_lists_would_replace() -> None:
    mine = {"key": "zone", "operator": "In", "values": ["a"]}
    template = {
        "nodeSelector": {"pool": "x"},
        "tolerations": [{"key": "team", "operator": "Exists"}],
        "affinity": {
            "podAffinity": {"kept": True},
            "nodeAffinity": {AFFINITY: {"nodeSelectorTerms": [{"matchExpressions": [mine]}, {"matchFields": ["f"]}]}},
        },
        "containers": [{"name": "worker", "resources": {"limits": {"memory": "8Gi"}}, "env": [{"name": "A", "value": "1"}]}],
        "volumes": [{"name": "penstock-shm", "emptyDir": {"sizeLimit": "1Gi"}}],
    }
    worker = pods({"instanceType": "p4d.24xlarge", "capacityType": "spot", "template": {"spec": template}})["worker"]
    assert worker["nodeSelector"] == {"node.kubernetes.io/instance-type": "p4d.24xlarge", "pool": "x"}
    assert {"team", GPU, EFA, "karpenter.sh/capacity-type"} <= {one["key"] for one in worker["tolerations"]}
    assert worker["affinity"]["podAffinity"] == {"kept": True}
    terms = worker["affinity"]["nodeAffinity"][AFFINITY]["nodeSelectorTerms"]
    keys = [([each["key"] for each in one["matchExpressions"]], one.get("matchFields")) for one in terms]
    karpenter, node_group = "karpenter.sh/capacity-type", "eks.amazonaws.com/capacityType"
    assert keys == [([karpenter, "zone"], None), ([karpenter], ["f"]), ([node_group, "zone"], None), ([node_group], ["f"])]
    assert worker["containers"][0]["resources"]["limits"]["memory"] == "8Gi"
    assert next(one for one in worker["volumes"] if one["name"] == "penstock-shm")["emptyDir"]["sizeLimit"] == "1Gi"
    none = {"tolerations": [], "nodeSelector": None}
    bare = pods({"instanceType": "p4d.24xlarge", "template": {"spec": none}})["worker"]
    assert bare["tolerations"] == []
    assert "nodeSelector" not in bare


def test_the_memory_of_dev_shm_follows_the_memory_that_is_set() -> None:
    worker = pods({"instanceType": "p4d.24xlarge", "resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "3Gi"}}})
    shm = next(one for one in worker["worker"]["volumes"] if one["name"] == "penstock-shm")
    assert shm["emptyDir"]["sizeLimit"] == "1536Mi"


def test_sidecars_leave_the_worker_less() -> None:
    side = {"name": "side", "resources": {"requests": {"cpu": "3500m", "memory": "1Gi"}}}
    stays = {"name": "proxy", "restartPolicy": "Always", "resources": {"limits": {"cpu": "1"}}}
    passes = {"name": "copy", "resources": {"requests": {"cpu": "90"}}}
    template = {"spec": {"containers": [side], "initContainers": [stays, passes]}}
    given = limits({"instanceType": "p4d.24xlarge", "template": template})
    assert (given["cpu"], given["memory"]) == ("90", f"{1070920 - 1024}Mi")


def test_what_env_env_from_and_the_image_set_wins_over_the_suggestions(tmp_path: Path) -> None:
    """rank-shell itself, with its file of the container's environment in another place."""
    job = Simulation(workers={"instanceType": "p4d.24xlarge"})
    job.settle()
    container = job.pods["digits-worker-0"]["spec"]["containers"][0]
    suggested = next(one["value"] for one in container["env"] if one["name"] == "PENSTOCK_RANK_DEFAULTS")
    script = next(Path(names.__file__).parent.glob("trainingjob/children/scripts/rank-shell")).read_text()
    kept = tmp_path / "penstock-env"
    kept.write_text(f"NCCL_DEBUG=INFO\0NCCL_SOCKET_IFNAME=\0PENSTOCK_RANK_DEFAULTS={suggested}\0app.mode=x\0")
    (tmp_path / "rank-shell").write_text(script.replace("/dev/shm/penstock-env", str(kept)))
    said = subprocess.run(
        ["bash", str(tmp_path / "rank-shell")],
        env={"PATH": "/usr/bin:/bin", "SSH_ORIGINAL_COMMAND": "env -0"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = dict(pair.split("=", 1) for pair in said.split("\0") if "=" in pair)
    assert (found["NCCL_DEBUG"], found["NCCL_SOCKET_IFNAME"]) == ("INFO", "")
    assert (found["FI_EFA_USE_DEVICE_RDMA"], found["OMP_NUM_THREADS"], found["app.mode"]) == ("1", "11", "x")


# --- always -----------------------------------------------------------------------------------------------------------------

NAMED = st.sampled_from(sorted(CATALOGUE.types))
AMOUNTS = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.integers(0, 200),
        "memory": st.integers(0, 2100).map(lambda gib: f"{gib}Gi"),
        GPU: st.integers(0, 9),
        NEURON: st.integers(0, 17),
        NEURON_CORE: st.integers(0, 33),
        EFA: st.integers(0, 33),
        HUGE_PAGES: st.sampled_from(["0", "5120Mi"]),
    },
)
SIDE = st.fixed_dictionaries({"cpu": st.integers(0, 5), "memory": st.integers(0, 20).map(lambda gib: f"{gib}Gi")})


@settings(max_examples=300, deadline=None)
@given(name=NAMED, amounts=AMOUNTS, side=SIDE, slots=st.none() | st.integers(1, 40))
def test_what_is_built_never_asks_for_more_than_a_node_has(
    name: str, amounts: dict[str, Any], side: dict[str, Any], slots: int | None
) -> None:
    template = {"spec": {"containers": [{"name": "side", "resources": {"requests": side}}]}}
    workers = {"instanceType": name, "slots": slots, "resources": {"limits": amounts}, "template": template}
    spec = TrainingJobSpec.model_validate({"image": "i", "command": ["x"], "workers": workers})
    fitted = fit(spec, CATALOGUE)
    if not isinstance(fitted, Fitted):
        assert fitted.message.startswith("spec.workers.")
        return
    kind, given = CATALOGUE.types[name], fitted.spec.workers.resources.limits
    most = {"cpu": Fraction(kind.cpu_millis, 1000), "memory": Fraction(kind.memory_mib * 2**20), EFA: Fraction(kind.efa)}
    most |= {device: Fraction(count) for device, count in kind.devices.items()}
    for key, value in given.items():
        amount = parse(value)
        assert amount is not None
        assert amount + (parse(side.get(key, 0)) or 0) <= most.get(key, amount), key
        if key in amounts:
            assert value == amounts[key]
    ranks = next((int(parse(given[key]) or 0) * kind.ranks // count for key, count in kind.devices.items() if key in given), 0)
    assert not ranks or ranks % fitted.spec.slots == 0


@given(st.integers(0, 10**15), st.sampled_from([("", 1), ("k", 1000), ("Ki", 1024), ("G", 10**9), ("Ti", 2**40), ("e3", 1000)]))
def test_quantities_are_read_exactly(number: int, suffix: tuple[str, int]) -> None:
    assert parse(f"{number}{suffix[0]}") == number * suffix[1]


def test_quantities_of_every_form() -> None:
    forms: dict[Any, Any] = {
        "500m": Fraction(1, 2),
        "1.5": Fraction(3, 2),
        ".5": Fraction(1, 2),
        8: 8,
        "1e-3": Fraction(1, 1000),
        "2Ei": 2**61,
    }
    assert {form: parse(form) for form in forms} == forms
    assert [parse(wrong) for wrong in ("", "16GB", "a", "1 Gi", "Gi")] == [None] * 5
    assert (text(Fraction(95690, 1000), "cpu"), text(Fraction(16 * 2**30), "memory")) == ("95.69", "16Gi")


def test_the_local_nodes_take_a_job_for_a_p4d_when_it_says_how_much_cpu_and_memory() -> None:
    """The example of docs/instances.md against what `penstock local` puts on its nodes; they have no huge pages."""
    explicit = {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {HUGE_PAGES: 0}}
    worker = pods({"instanceType": "p4d.24xlarge", "capacityType": "spot", "resources": explicit})["worker"]
    shape = NodeShape()
    labels = shape.labels(1)
    assert worker["nodeSelector"].items() <= labels.items()
    terms = worker["affinity"]["nodeAffinity"][AFFINITY]["nodeSelectorTerms"]
    assert any(all(labels.get(each["key"]) in each["values"] for each in one["matchExpressions"]) for one in terms)
    assert worker["containers"][0]["resources"] == {
        "requests": {"cpu": "250m", "memory": "256Mi"},
        "limits": {GPU: str(shape.gpus), EFA: str(shape.efa)},
    }
