"""The KFP component; everything it does is in `job`."""

# mypy: disable-error-code="import-untyped, untyped-decorator, valid-type"

from typing import NamedTuple

from kfp import dsl

from penstock_components.image import COMPONENTS_IMAGE


@dsl.component(base_image=COMPONENTS_IMAGE, install_kfp_package=False)
def train(
    model_uri: str,
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    loss_plot: dsl.Output[dsl.HTML],
    image: str = "",
    command: list[str] = [],  # noqa: B006 - kfp takes no None for a list; the body does not change it
    env: dict[str, str] = {},  # noqa: B006
    workers: int = 1,
    slots: int = 0,
    instance_type: str = "",
    capacity_type: str = "",
    resources: dict[str, dict[str, str]] = {},  # noqa: B006
    backend: str = "",
    volumes: list[dict[str, object]] = [],  # noqa: B006
    run_policy: dict[str, object] = {},  # noqa: B006
    spec: dict[str, object] = {},  # noqa: B006
    job_name: str = "",
    run_id: str = "",
    namespace: str = "",
    on_cancel: str = "Delete",
    reuse_model: bool = False,
    deadline_hours: float = 72.0,
    stalled_minutes: float = 60.0,
    model_minutes: float = 30.0,
    log_lines: int = 20000,
) -> NamedTuple("Outputs", [("model_uri", str), ("job_name", str)]):
    """Train on the cluster with a TrainingJob; see the README beside this file."""
    inputs = {key: value for key, value in locals().items() if key not in {"model", "metrics", "loss_plot"}}
    from penstock_components.artifacts import write, write_model
    from penstock_components.training.train.job import train
    from penstock_components.training.train.request import Training

    outcome = train(Training(**inputs))
    write_model(model, outcome.model_uri, {**outcome.metrics, **outcome.model})
    write(metrics, outcome.metrics)
    write(loss_plot, outcome.html)
    return outcome.model_uri, outcome.job_name
