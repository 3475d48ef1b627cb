"""The KFP component; everything it does is in `parameters`."""

# mypy: disable-error-code="import-untyped, untyped-decorator, valid-type"

from typing import NamedTuple

from kfp import dsl

from penstock_components.image import COMPONENTS_IMAGE


@dsl.component(base_image=COMPONENTS_IMAGE, install_kfp_package=False)
def check_parameters(
    manifest_uri: str,
    output_uri: str,
    label_attribute: str,
    label_categories: list[str],
    role_arn: str,
    workteam_arn: str,
    title: str,
    description: str,
    endpoint: str,
    volume: dict[str, object],
    volume_name: str,
    labelling_job: str,
    labelling_attempt: int,
    workers_per_object: int,
    labelling_hours: float,
    min_confidence: float,
    validation_fraction: float,
    test_fraction: float,
    preprocess: str,
    image_size: int,
    workers: int,
    worker_resources: dict[str, dict[str, str]],
    instance_type: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    training_hours: float,
    model_minutes: float,
    threshold: float,
    baseline_uri: str,
    new_data_uri: str,
    trainer_image: str,
    serving_image: str,
    serving_service_account: str,
    replicas: int,
    run: str,
    job_id: str,
    namespace: str,
    poll_seconds: float,
) -> NamedTuple(
    "Outputs",
    [
        ("run_id", str),
        ("run_uri", str),
        ("labelling_job", str),
        ("predict_uri", str),
        ("worker_resources", dict[str, dict[str, str]]),
    ],
):
    """Refuse parameters that cannot work; see pipelines/README.md."""
    inputs = dict(locals())
    from penstock_pipelines.check_parameters.parameters import Parameters, start

    return start(Parameters(**inputs))
