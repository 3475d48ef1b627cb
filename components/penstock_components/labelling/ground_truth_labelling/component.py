"""The KFP component; everything it does is in `job`."""

# mypy: disable-error-code="import-untyped, untyped-decorator, valid-type"

from typing import NamedTuple

from kfp import dsl

from penstock_components.image import COMPONENTS_IMAGE


@dsl.component(base_image=COMPONENTS_IMAGE, install_kfp_package=False)
def ground_truth_labelling(
    manifest_uri: str,
    output_uri: str,
    label_attribute: str,
    label_categories: list[str],
    role_arn: str,
    workteam_arn: str,
    title: str,
    description: str,
    metrics: dsl.Output[dsl.Metrics],
    instructions: str = "",
    ui_template_uri: str = "",
    workers_per_object: int = 3,
    task_seconds: int = 300,
    task_availability_hours: float = 240.0,
    max_concurrent_tasks: int = 1000,
    max_human_labelled_objects: int = 0,
    auto_labelling: bool = False,
    initial_model_arn: str = "",
    pre_lambda_arn: str = "",
    consolidation_lambda_arn: str = "",
    content_classifiers: list[str] = [],  # noqa: B006 - kfp takes no None for a list; the body does not change it
    kms_key_id: str = "",
    job_name: str = "",
    attempt: int = 1,
    min_labelled_fraction: float = 0.95,
    stall_hours: float = 48.0,
    deadline_hours: float = 720.0,
    poll_seconds: float = 30.0,
    stop_on_cancel: bool = True,
) -> NamedTuple(
    "Outputs",
    [
        ("output_manifest_uri", str),
        ("worker_responses_uri", str),
        ("unlabelled_manifest_uri", str),
        ("job_name", str),
        ("job_arn", str),
        ("active_learning_model_arn", str),
        ("total_objects", int),
        ("labelled_objects", int),
        ("human_labelled", int),
        ("machine_labelled", int),
        ("failed_objects", int),
        ("labelled_fraction", float),
    ],
):
    """Have images labelled by people with SageMaker Ground Truth; see the README beside this file."""
    inputs = {key: value for key, value in locals().items() if key != "metrics"}
    from penstock_components.labelling.ground_truth_labelling.job import label
    from penstock_components.labelling.ground_truth_labelling.request import Labelling

    outcome = label(Labelling(**inputs))
    for name, value in outcome.metrics().items():
        metrics.log_metric(name, value)
    return outcome
