"""Scores against values known by hand or by another way, predictions that do not fit, and the gate both ways."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.components.conftest import example
from tests.components.played import Kubelet, Played, in_background

from penstock_components import s3
from penstock_components.batch import Batch, Predictions
from penstock_components.errors import ComponentError
from penstock_components.evaluation.evaluate.evaluation import DataSet, check, evaluate, read_data_set
from penstock_components.evaluation.evaluate.scores import Scores, score
from penstock_components.evaluation.evaluate.verdict import passes

pytest_plugins = ["tests.components.api_server"]

ROWS = [
    ("a", 0, [0.8, 0.1, 0.1]),
    ("b", 0, [0.3, 0.6, 0.1]),
    ("c", 1, [0.1, 0.8, 0.1]),
    ("d", 2, [0.1, 0.1, 0.8]),
    ("e", 2, [0.0, 0.1, 0.9]),
]
CLASSES = ["cat", "dog", "eel"]


def predictions(rows: list[tuple[str, int, list[float]]]) -> Predictions:
    keys, labels, probabilities = zip(*rows, strict=True)
    return Predictions(list(keys), np.array(labels), np.array(probabilities))


def dump(rows: list[tuple[str, int | None, list[float]]]) -> bytes:
    return b"".join(json.dumps({"key": k, "label": n, "probabilities": p}).encode() + b"\n" for k, n, p in rows)


def data_set(bucket: str, classes: list[str] = CLASSES, samples: int = 5) -> str:
    about = {"classes": classes, "counts": {"train": {"cat": 9}, "test": {"cat": samples - 3, "dog": 1, "eel": 2}}}
    s3.write(f"{bucket}/dataset/dataset.json", json.dumps(about).encode())
    return f"{bucket}/dataset"


def test_scores_of_a_small_set_are_those_worked_out_by_hand() -> None:
    found = score(predictions(ROWS), CLASSES)
    assert found.accuracy == pytest.approx(4 / 5)
    assert found.confusion == [[1, 1, 0], [0, 1, 0], [0, 0, 2]]
    cat, dog, eel = found.classes
    assert (cat.samples, cat.precision, cat.recall) == (2, 1.0, 0.5)
    assert cat.f1 == pytest.approx(2 / 3)
    assert (dog.precision, dog.recall) == (0.5, 1.0)
    assert (eel.f1, eel.auc) == (1.0, 1.0)
    # cat: 0.8 and 0.3 over 0.1, 0.1, 0.0. dog: 0.8 over all others. No pair is in the wrong order.
    assert found.macro_auc == 1.0
    assert found.log_loss == pytest.approx(-sum(math.log(p) for p in (0.8, 0.3, 0.8, 0.8, 0.9)) / 5)
    # Confidence 0.6 is wrong; 0.8 three times and 0.9 once are right.
    assert found.ece == pytest.approx((0.6 + 3 * 0.2 + 0.1) / 5)
    assert found.values()["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_a_class_without_samples_has_no_auc_and_is_named() -> None:
    found = score(predictions([row for row in ROWS if row[1] != 1]), CLASSES)
    assert found.without_auc == ["dog"]
    assert found.macro_auc == 1.0
    assert found.classes[1].samples == 0


def test_a_set_of_one_class_has_no_macro_auc_but_all_else() -> None:
    found = score(predictions([row for row in ROWS if row[1] == 2]), CLASSES)
    assert found.macro_auc is None
    assert "macro_auc" not in found.values()
    assert found.accuracy == 1.0


def test_the_roc_curve_is_json_and_short() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 5000)
    second = np.clip(generator.normal(0.3 + 0.4 * labels, 0.2), 0, 1)
    found = score(Predictions([str(n) for n in range(5000)], labels, np.stack([1 - second, second], axis=1)), ["no", "yes"])
    assert len(found.roc.fpr) == len(found.roc.tpr) == len(found.roc.threshold) <= 200
    json.dumps(found.roc, allow_nan=False)
    area = float(np.trapezoid(found.roc.tpr, found.roc.fpr))
    assert found.macro_auc is not None
    assert area == pytest.approx(found.macro_auc, abs=0.005)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_scores_are_finite_and_in_their_ranges(classes: int, samples: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels, probabilities = generator.integers(0, classes, samples), generator.dirichlet(np.full(classes, 0.2), samples)
    made = Predictions([str(n) for n in range(samples)], labels, probabilities)
    found: Scores = score(made, [str(n) for n in range(classes)])
    json.dumps([found.values(), found.roc], allow_nan=False)
    assert sum(map(sum, found.confusion)) == sum(each.samples for each in found.bins) == samples
    assert all(0 <= value <= 1 for name, value in found.values().items() if name not in {"log_loss", "samples"})
    assert found.roc.fpr == sorted(found.roc.fpr)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"counts": {"test": {"a": 1}}}, "describes no data set .*'classes'"),
        ({"classes": ["a", "b"], "counts": {"train": {"a": 1}}}, r"no samples in split 'test'; it has \{'train': 1\}"),
        ({"classes": ["a"], "counts": {"test": {"a": 1}}}, "needs at least 2"),
        ([], "describes no data set"),
    ],
)
def test_a_file_that_describes_no_data_set_is_refused(bucket: str, content: object, message: str) -> None:
    s3.write(f"{bucket}/d/dataset.json", json.dumps(content).encode())
    with pytest.raises(ComponentError, match=message):
        read_data_set(f"{bucket}/d", "test")


def test_predictions_of_another_split_or_without_labels_are_refused() -> None:
    with pytest.raises(ComponentError, match="5 predictions for 6 samples"):
        check(predictions(ROWS), DataSet(CLASSES, 6), "s3://b/p")
    with pytest.raises(ComponentError, match="1 samples have no label, such as 'b'"):
        check(predictions([ROWS[0], ("b", -1, ROWS[1][2])]), DataSet(CLASSES, 2), "s3://b/p")


def batch(cluster: Played, bucket: str) -> Batch:
    return Batch(
        model_uri=f"{bucket}/model",
        input_uri=f"{bucket}/dataset/test",
        output_uri=f"{bucket}/out",
        image="none",
        namespace=cluster.namespace,
    )


def test_a_model_with_another_number_of_classes_is_refused(cluster: Played, bucket: str) -> None:
    uri = data_set(bucket, ["cat", "dog", "eel", "fox"])
    with in_background(lambda: evaluate(uri, "test", batch(cluster, bucket))) as running:
        s3.write(f"{bucket}/out/predictions.jsonl", dump([*ROWS]))
        cluster.pod_ends(cluster.one_pod())
        with pytest.raises(ComponentError, match="'a' has 3 probabilities, expected one for each of 4 classes"):
            running.result(30)
    assert not s3.exists(f"{bucket}/out/metrics.json")


def test_without_a_data_set_no_job_is_started(cluster: Played, bucket: str) -> None:
    with pytest.raises(ComponentError, match=r"dataset\.json"):
        evaluate(f"{bucket}/nowhere", "test", batch(cluster, bucket))
    assert cluster.call("GET", "/apis/batch/v1/namespaces/{namespace}/jobs")["items"] == []


@pytest.mark.parametrize(
    ("metric", "threshold", "more", "expected"),
    [
        ("accuracy", 0.9, {}, True),
        ("accuracy", 0.9000001, {}, False),
        ("log_loss", 0.3, {"higher_is_better": False}, True),
        ("log_loss", 0.1, {"higher_is_better": False}, False),
        ("accuracy", 0.5, {"baseline": 0.89}, True),
        ("accuracy", 0.5, {"baseline": 0.9}, False),
        ("accuracy", 0.5, {"baseline": 0.89, "min_gain": 0.02}, False),
        ("accuracy", 0.5, {"baseline": 0.9, "min_gain": -0.01}, True),
        ("accuracy", 0.95, {"baseline": 0.1}, False),
        ("log_loss", 1.0, {"baseline": 0.3, "higher_is_better": False}, True),
        ("log_loss", 1.0, {"baseline": 0.1, "higher_is_better": False}, False),
    ],
)
def test_the_gate_decides_both_ways(bucket: str, metric: str, threshold: float, more: dict[str, Any], expected: bool) -> None:
    s3.write(f"{bucket}/metrics.json", json.dumps({"metrics": {"accuracy": 0.9, "log_loss": 0.2}}).encode())
    if "baseline" in more:
        s3.write(f"{bucket}/model.json", json.dumps({"bytes": 5, "metrics": {metric: more.pop("baseline")}}).encode())
        more = {**more, "baseline_uri": f"{bucket}/model.json"}
    assert passes(f"{bucket}/metrics.json", metric, threshold, **more) is expected


def test_the_first_model_of_all_has_no_baseline_to_beat(bucket: str) -> None:
    s3.write(f"{bucket}/metrics.json", b'{"metrics": {"accuracy": 0.9}}')
    assert passes(f"{bucket}/metrics.json", "accuracy", 0.5, baseline_uri=f"{bucket}/never.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"metrics": {"f1": 1}}', "no metric 'accuracy'; there are f1"),
        (b'{"metrics": {"accuracy": NaN}}', "accuracy is nan; no decision"),
        (b'{"metrics": {"accuracy": "high"}}', "accuracy is 'high'"),
        (b'{"accuracy": 1}', "holds no metrics"),
        (b"<html>", "holds no metrics"),
    ],
)
def test_the_gate_does_not_decide_on_metrics_it_cannot_read(bucket: str, content: bytes, message: str) -> None:
    s3.write(f"{bucket}/metrics.json", content)
    with pytest.raises(ComponentError, match=message):
        passes(f"{bucket}/metrics.json", "accuracy", 0.5)


@pytest.mark.parametrize(("threshold", "baseline", "deployed"), [(0.8, False, True), (0.81, False, False), (0.5, True, False)])
def test_the_readme_example_takes_the_branch_only_when_the_gate_is_open(
    cluster: Played, kubelet: Kubelet, bucket: str, kfp_local: Path, threshold: float, baseline: bool, deployed: bool
) -> None:
    data_set(bucket)
    s3.write(f"{bucket}/old/metrics.json", b'{"metrics": {"accuracy": 0.8}}')

    def run(mine: Played) -> None:
        for pod in mine.all_pods():
            command = pod["spec"]["containers"][0].get("command")
            if command and pod["status"]["phase"] == "Pending":
                s3.write(command[-1], dump([*ROWS]))
                mine.pod_ends(pod)
            elif not command:
                mine.run_servers(kubelet.name)

    with cluster.played(run):
        uri = f"{bucket}/old/metrics.json" if baseline else ""
        example("evaluation/evaluate")(bucket=bucket, namespace=cluster.namespace, threshold=threshold, baseline_uri=uri)
    assert bool(list(kfp_local.rglob("deploy"))) is deployed
    assert bool(cluster.find("/api/v1/namespaces/{namespace}/services/animals")) is deployed
    (written,) = [path for path in kfp_local.rglob("executor_output.json") if path.parent.name == "evaluate"]
    output = json.loads(written.read_text())
    metrics, classification = (output["artifacts"][name]["artifacts"][0]["metadata"] for name in ("metrics", "classification"))
    assert metrics["accuracy"] == output["parameterValues"]["accuracy"] == 0.8
    assert [row["row"] for row in classification["confusionMatrix"]["rows"]] == [[1, 1, 0], [0, 1, 0], [0, 0, 2]]
    assert len(classification["confidenceMetrics"]) > 2
    assert (written.parent / "report").read_text().count("data:image/svg+xml") == 2
