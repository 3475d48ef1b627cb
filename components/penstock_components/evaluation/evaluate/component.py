"""The KFP component; everything it does is in `evaluation`."""

# mypy: disable-error-code="import-untyped, untyped-decorator, valid-type"

from typing import NamedTuple

from kfp import dsl

from penstock_components.image import COMPONENTS_IMAGE


@dsl.component(base_image=COMPONENTS_IMAGE, install_kfp_package=False)
def evaluate(
    model_uri: str,
    data_uri: str,
    output_uri: str,
    image: str,
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
    split: str = "test",
    run_id: str = "",
    namespace: str = "",
    service_account: str = "",
    env: dict[str, str] = {},  # noqa: B006 - kfp takes no None for a dict; the body does not change it
    resources: dict[str, dict[str, str]] = {},  # noqa: B006
    placement: dict[str, object] = {},  # noqa: B006
    backoff_limit: int = 1,
    deadline_minutes: float = 60.0,
    stuck_seconds: float = 60.0,
) -> NamedTuple("Outputs", [("metrics_uri", str), ("predictions_uri", str), ("accuracy", float)]):
    """Measure a model on labelled shards; see the README beside this file."""
    inputs = dict(locals())
    for name in ("data_uri", "split", "metrics", "classification", "report"):
        del inputs[name]
    from penstock_components import artifacts
    from penstock_components.batch import Batch
    from penstock_components.evaluation.evaluate.evaluation import evaluate

    outcome = evaluate(data_uri, split, Batch(input_uri=f"{data_uri.rstrip('/')}/{split}", **inputs))
    artifacts.write(metrics, outcome.scores.values())
    artifacts.write_classification(classification, outcome.classes, outcome.scores.confusion, outcome.scores.roc)
    artifacts.write(report, outcome.html)
    return outcome.metrics_uri, outcome.predictions_uri, outcome.scores.accuracy
