"""The chart as Helm renders it: values reach the objects, misspelt values are refused by name, and nothing is said twice."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.manifests.tools import CHART, NAMESPACE, Object, Refused, Tools, one

from penstock_operator.cloud import catalogue
from penstock_operator.settings import Settings, load


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """Rendering needs no cluster."""
    folder = tmp_path_factory.mktemp("render")
    return Tools(folder / "no-kubeconfig", folder)


def environment(deployment: Object) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}


def test_the_chart_passes_helm_lint(helm: Tools) -> None:
    helm.helm("lint", "--strict", str(CHART))


def test_the_operators_settings_and_the_charts_values_are_the_same_with_the_same_defaults(helm: Tools) -> None:
    given_by_the_deployment = {"namespace", "pod_name", "service_url", "watch_namespaces", "listen_host", "listen_port"}
    given_by_the_deployment |= {"instance_types_file"}
    rendered = {key: text for key, text in environment(one(helm.render(), "Deployment")).items() if text is not None}
    assert load(rendered) == load({})
    missing = {field.name for field in fields(Settings)} - given_by_the_deployment
    assert set(rendered) == {f"PENSTOCK_{name.upper()}" for name in missing}


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    values, schema = yaml.safe_load((CHART / "values.yaml").read_text()), json.loads((CHART / "values.schema.json").read_text())

    def compare(value: dict[str, Any], node: dict[str, Any], path: str) -> None:
        assert set(value) == set(node["properties"]) - {"global"}, path
        assert node["additionalProperties"] is False, path
        for key, each in value.items():
            below = node["properties"][key]
            if "properties" in below and key != "resources":
                compare(each, below, f"{path}.{key}")

    compare(values, schema, "values")


def test_every_value_is_explained() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    leaves = [number for number, line in enumerate(lines) if ":" in line and not line.lstrip().startswith("#")]
    groups = {
        "image",
        "crds",
        "config",
        "serviceAccount",
        "aggregateRoles",
        "podDisruptionBudget",
        "networkPolicy",
        "serviceMonitor",
    }
    for number in leaves:
        key, indent = lines[number].strip().split(":")[0], len(lines[number]) - len(lines[number].lstrip())
        if (indent == 0 and key not in groups) or (indent == 2 and key not in ("requests", "limits")):
            block = number - 1
            while lines[block].lstrip().startswith("#") and "# -- " not in lines[block]:
                block -= 1
            assert "# -- " in lines[block], f"values.yaml line {number + 1}: {key} has no comment"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("replica=2", ("replica",)),
        ("config.logFromat=text", ("logFromat",)),
        ("image.registry=example.com", ("registry",)),
        ("crds.kept=true", ("kept",)),
        ("config.logFormat=xml", ("logFormat", "json")),
        ("config.workers=0", ("workers",)),
        ("config.leaderElection=maybe", ("leaderElection", "boolean")),
        ("config.instanceTypes[0].name=p7", ("instanceTypes", "memoryGiB")),
        ("watchNamespaces=team-a", ("watchNamespaces", "array")),
        ("watchNamespaces={Team_A}", ("watchNamespaces", "pattern")),
        ("image.digest=latest", ("digest", "pattern")),
        ("image.pullPolicy=Sometimes", ("pullPolicy",)),
    ],
)
def test_a_wrong_value_stops_the_installation_and_is_named(helm: Tools, setting: str, words: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as refused:
        helm.render(f"--set={setting}")
    for word in ("values don't meet the specifications of the schema", *words):
        assert word in str(refused.value)


def test_settings_reach_the_operator(helm: Tools) -> None:
    given = "--set=config.workers=4,config.logFormat=text,watchNamespaces={a,b}"
    rendered = helm.render(given, "--set-json=config.settleSeconds=0.5")
    variables = {key: text for key, text in environment(one(rendered, "Deployment")).items() if text is not None}
    settings = load(variables)
    assert (settings.workers, settings.log_format, settings.settle_seconds) == (4, "text", 0.5)
    assert settings.watch_namespaces == ("a", "b")


def test_added_instance_types_reach_the_operator_as_a_file_and_restart_it_when_they_change(helm: Tools, tmp_path: Path) -> None:
    entry = {"name": "p7.48xlarge", "gpus": 8, "efa": 16, "vcpu": 192, "memoryGiB": 2048}
    entry |= {"allocatable": {"cpuMillis": 191450, "memoryMiB": 1937332}, "env": {"NCCL_DEBUG": "INFO"}}
    rendered = helm.render(f"--set-json=config.instanceTypes={json.dumps([entry])}")
    pod = one(rendered, "Deployment")["spec"]["template"]
    [file] = [text for key, text in environment(one(rendered, "Deployment")).items() if key == "PENSTOCK_INSTANCE_TYPES_FILE"]
    mounts = {each["mountPath"]: each["name"] for each in pod["spec"]["containers"][0]["volumeMounts"]}
    [volume] = [each for each in pod["spec"]["volumes"] if each["name"] == mounts[str(Path(file).parent)]]
    data = one(rendered, "ConfigMap", volume["configMap"]["name"])["data"]
    (tmp_path / "types.yaml").write_text(data[Path(file).name])
    assert catalogue.load(str(tmp_path / "types.yaml")).types["p7.48xlarge"] == catalogue.InstanceType.model_validate(entry)
    other = helm.render(f"--set-json=config.instanceTypes={json.dumps([{**entry, 'efa': 8}])}")
    assert one(other, "Deployment")["spec"]["template"]["metadata"] != pod["metadata"]


def test_limited_to_namespaces_there_is_a_role_in_each_and_cluster_wide_only_what_has_no_namespace(helm: Tools) -> None:
    everywhere = helm.render("--set=aggregateRoles.kubernetes=false")
    limited = helm.render("--set=aggregateRoles.kubernetes=false,watchNamespaces={a,b}")
    [volumes] = [each for each in limited if each["kind"] == "ClusterRole"]
    assert [rule["resources"] for rule in volumes["rules"]] == [["persistentvolumes"]]
    roles = [each for each in limited if each["kind"] == "Role" and each["metadata"]["name"] == "penstock-operator"]
    assert [role["metadata"]["namespace"] for role in roles] == ["a", "b"]
    assert all(role["rules"] == one(everywhere, "ClusterRole", "penstock-operator")["rules"] for role in roles)


def test_a_right_that_a_switched_off_feature_would_need_is_not_granted(helm: Tools) -> None:
    rendered = helm.render("--set=config.networkPolicy=false,config.leaderElection=false")
    rules = (
        one(rendered, "ClusterRole", "penstock-operator")["rules"]
        + one(rendered, "Role", "penstock-operator-own-namespace")["rules"]
    )
    resources = {resource for rule in rules for resource in rule["resources"]}
    assert resources.isdisjoint({"networkpolicies", "leases"})


def test_a_digest_takes_the_place_of_the_tag(helm: Tools) -> None:
    digest = f"sha256:{'0' * 64}"
    for setting, image in (
        ("image.tag=1.2.3", "penstock/operator:1.2.3"),
        (f"image.tag=1.2.3,image.digest={digest}", f"penstock/operator@{digest}"),
    ):
        [container] = one(helm.render(f"--set={setting}"), "Deployment")["spec"]["template"]["spec"]["containers"]
        assert container["image"] == image


def test_what_is_optional_is_there_when_asked_for(helm: Tools) -> None:
    rendered = helm.render(
        "--set=serviceMonitor.enabled=true,serviceMonitor.labels.release=prometheus,podDisruptionBudget.enabled=true",
        "--set=networkPolicy.enabled=true,priorityClassName=high,aggregateRoles.kubeflow=true,replicas=2",
        "--set=imagePullSecrets[0].name=registry,podLabels.team=ml,serviceAccount.annotations.role=arn",
    )
    assert one(rendered, "ServiceMonitor")["metadata"]["labels"]["release"] == "prometheus"
    assert one(rendered, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert one(rendered, "NetworkPolicy")["spec"]["policyTypes"] == ["Ingress"]
    assert one(rendered, "ServiceAccount")["metadata"]["annotations"] == {"role": "arn"}
    deployment = one(rendered, "Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"] == {"type": "Recreate"}
    assert deployment["template"]["spec"]["priorityClassName"] == "high"
    assert deployment["template"]["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert deployment["template"]["metadata"]["labels"]["team"] == "ml"
    for role in ("view", "edit", "admin"):
        labels = one(rendered, "ClusterRole", f"kubeflow-trainingjobs-{role}")["metadata"]["labels"]
        assert labels[f"rbac.authorization.kubeflow.org/aggregate-to-kubeflow-{role}"] == "true"


def test_without_options_the_chart_holds_only_what_the_operator_needs(helm: Tools) -> None:
    kinds = sorted(each["kind"] for each in helm.render("--set=aggregateRoles.kubernetes=false,crds.enabled=false"))
    roles = ["ClusterRole"] * 2 + ["ClusterRoleBinding"] * 2 + ["Role", "RoleBinding"]
    assert kinds == sorted([*roles, "Deployment", "Service", "ServiceAccount"])


def test_pods_find_the_operator_under_the_name_it_tells_them(helm: Tools) -> None:
    service = one(helm.render(), "Service")
    port = service["spec"]["ports"][0]["port"]
    expected = f"http://{service['metadata']['name']}.{service['metadata']['namespace']}.svc:{port}"
    assert load({"PENSTOCK_NAMESPACE": NAMESPACE}).service_url == expected
    deployment = one(helm.render(), "Deployment")
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert "PENSTOCK_NAMESPACE" in environment(deployment)


def test_the_notes_name_the_next_three_commands(helm: Tools) -> None:
    notes = helm.helm("install", "penstock", str(CHART), f"--namespace={NAMESPACE}", "--dry-run=client").split("NOTES:")[1]
    commands = [line.strip() for line in notes.splitlines() if line.strip().startswith("kubectl")]
    assert commands == [
        f"kubectl -n {NAMESPACE} rollout status deployment/penstock-operator",
        "kubectl apply -f manifests/examples/digits.yaml",
        "kubectl get tj -w",
    ]


def test_the_chart_carries_the_version_of_the_distribution() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    pyproject = Path(CHART.parents[1] / "pyproject.toml").read_text()
    assert f'version = "{chart["version"]}"' in pyproject
    assert chart["appVersion"] == chart["version"]
