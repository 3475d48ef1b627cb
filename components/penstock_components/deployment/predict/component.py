"""The KFP component; everything it does is in `prediction`."""

# mypy: disable-error-code="import-untyped, untyped-decorator, valid-type"

from typing import NamedTuple

from kfp import dsl

from penstock_components.image import COMPONENTS_IMAGE


@dsl.component(base_image=COMPONENTS_IMAGE, install_kfp_package=False)
def predict(
    model_uri: str,
    input_uri: str,
    output_uri: str,
    image: str,
    metrics: dsl.Output[dsl.Metrics],
    classes: list[str] = [],  # noqa: B006 - kfp takes no None for a list; the body does not change it
    run_id: str = "",
    namespace: str = "",
    service_account: str = "",
    env: dict[str, str] = {},  # noqa: B006
    resources: dict[str, dict[str, str]] = {},  # noqa: B006
    placement: dict[str, object] = {},  # noqa: B006
    backoff_limit: int = 1,
    deadline_minutes: float = 60.0,
    stuck_seconds: float = 60.0,
) -> NamedTuple("Outputs", [("predictions_uri", str), ("samples", int), ("counts", dict[str, int])]):
    """Predict a folder of shards; see the README beside this file."""
    inputs = {key: value for key, value in locals().items() if key not in {"classes", "metrics"}}
    from penstock_components.artifacts import write
    from penstock_components.batch import Batch
    from penstock_components.deployment.predict.prediction import predict

    outcome = predict(Batch(**inputs), classes)
    write(metrics, outcome.metrics)
    return outcome.predictions_uri, outcome.samples, outcome.counts
