"""From images without labels to an endpoint: label, prepare, train on a Lustre file system, measure, deploy if it is good.

Everything a run makes is named after the run, so a retried step, and a run that is started again under the same name, goes on
with what is there. The gate returns one bool, and both branches are written out: kfp's local runner silently skips a condition
on a named output that has no Else.
"""

# mypy: disable-error-code="import-untyped, untyped-decorator"
# kfp reads annotations as objects, so there is no `from __future__ import annotations` here.

from kfp import dsl

from penstock_components.data.split_and_preprocess.component import split_and_preprocess
from penstock_components.deployment.deploy.component import deploy
from penstock_components.deployment.predict.component import predict
from penstock_components.evaluation.evaluate.component import evaluate
from penstock_components.evaluation.evaluate.gate import gate
from penstock_components.labelling.consolidate_labels.component import consolidate_labels
from penstock_components.labelling.ground_truth_labelling.component import ground_truth_labelling
from penstock_components.training.train.component import train
from penstock_pipelines.check_parameters.component import check_parameters
from penstock_pipelines.clean_up.component import clean_up
from penstock_pipelines.report.component import report
from penstock_pipelines.steps import settle
from penstock_pipelines.training_ground.component import training_ground


@dsl.pipeline(name="penstock-end-to-end", description="Label, prepare, train, evaluate and deploy an image classifier")
def end_to_end(
    manifest_uri: str,
    output_uri: str,
    label_attribute: str,
    label_categories: list[str],
    role_arn: str,
    workteam_arn: str,
    endpoint: str,
    volume: dict[str, object] = {},  # noqa: B006 - kfp takes no None for a dict; nothing changes it
    volume_name: str = "",
    title: str = "What is in the picture?",
    description: str = "Choose the class that fits the picture best.",
    labelling_job: str = "",
    labelling_attempt: int = 1,
    workers_per_object: int = 3,
    labelling_hours: float = 240.0,
    min_confidence: float = 0.8,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.15,
    preprocess: str = "",
    image_size: int = 32,
    workers: int = 2,
    worker_resources: dict[str, dict[str, str]] = {},  # noqa: B006
    instance_type: str = "",
    epochs: int = 20,
    batch_size: int = 32,
    learning_rate: float = 0.002,
    training_hours: float = 24.0,
    model_minutes: float = 30.0,
    threshold: float = 0.9,
    baseline_uri: str = "",
    new_data_uri: str = "",
    trainer_image: str = "penstock/trainer:0.1.0",
    serving_image: str = "penstock/serving:0.1.0",
    serving_service_account: str = "",
    replicas: int = 1,
    run: str = "",
    namespace: str = "",
    poll_seconds: float = 10.0,
) -> None:
    """See pipelines/README.md for the parameters."""
    ended = clean_up(
        output_uri=output_uri,
        endpoint=endpoint,
        run=run,
        job_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        labelling_job=labelling_job,
        labelling_attempt=labelling_attempt,
        namespace=namespace,
        poll_seconds=poll_seconds,
    )
    settle(ended, hours=1)
    with dsl.ExitHandler(ended, name="run"):
        checked = check_parameters(
            manifest_uri=manifest_uri,
            output_uri=output_uri,
            label_attribute=label_attribute,
            label_categories=label_categories,
            role_arn=role_arn,
            workteam_arn=workteam_arn,
            title=title,
            description=description,
            endpoint=endpoint,
            volume=volume,
            volume_name=volume_name,
            labelling_job=labelling_job,
            labelling_attempt=labelling_attempt,
            workers_per_object=workers_per_object,
            labelling_hours=labelling_hours,
            min_confidence=min_confidence,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            preprocess=preprocess,
            image_size=image_size,
            workers=workers,
            worker_resources=worker_resources,
            instance_type=instance_type,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            training_hours=training_hours,
            model_minutes=model_minutes,
            threshold=threshold,
            baseline_uri=baseline_uri,
            new_data_uri=new_data_uri,
            trainer_image=trainer_image,
            serving_image=serving_image,
            serving_service_account=serving_service_account,
            replicas=replicas,
            run=run,
            job_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            namespace=namespace,
            poll_seconds=poll_seconds,
        )
        # Whoever mistyped a parameter hears of it after half a minute, not after four tries; the one retry is for a pod that is
        # lost with its node, and deletes what that one left behind. An outage the step waits out itself.
        settle(checked, hours=1, retries=1)
        run_id, run_uri = checked.outputs["run_id"], checked.outputs["run_uri"]
        model_uri = f"{run_uri}/model"

        labelled = ground_truth_labelling(
            manifest_uri=manifest_uri,
            output_uri=f"{output_uri}/labels",
            label_attribute=label_attribute,
            label_categories=label_categories,
            role_arn=role_arn,
            workteam_arn=workteam_arn,
            title=title,
            description=description,
            workers_per_object=workers_per_object,
            job_name=checked.outputs["labelling_job"],
            attempt=labelling_attempt,
            deadline_hours=labelling_hours,
            poll_seconds=poll_seconds,
            # A drained node ends the pod, not the people's work: the next try goes on with it. The exit handler stops the job.
            stop_on_cancel=False,
        )
        settle(labelled, hours=721, memory="1Gi")
        consolidated = consolidate_labels(
            manifest_uri=manifest_uri,
            worker_responses_uri=labelled.outputs["worker_responses_uri"],
            output_uri=f"{run_uri}/labels",
            label_attribute=label_attribute,
            label_categories=label_categories,
            job_name=labelled.outputs["job_name"],
            min_confidence=min_confidence,
        )
        settle(consolidated, hours=2, memory="1Gi", limit="4Gi")
        dataset = split_and_preprocess(
            manifest_uri=consolidated.outputs["manifest_uri"],
            output_uri=f"{run_uri}/dataset",
            label_attribute=label_attribute,
            classes=label_categories,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            min_confidence=min_confidence,
            skip_unlabelled=True,
            preprocess=preprocess,
            image_size=image_size,
        )
        settle(dataset, hours=24, cpu="1", memory="2Gi", limit="4Gi")

        # Only now: a file system costs money from its first minute, and labelling takes days.
        ground = training_ground(
            run_uri=run_uri,
            dataset_uri=dataset.outputs["dataset_uri"],
            model_uri=model_uri,
            volume=volume,
            volume_name=volume_name,
            model_name=endpoint,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            namespace=namespace,
            poll_seconds=poll_seconds,
        )
        settle(ground, hours=2)
        trained = train(
            model_uri=model_uri,
            image=trainer_image,
            command=ground.outputs["command"],
            volumes=ground.outputs["volumes"],
            workers=workers,
            resources=checked.outputs["worker_resources"],
            instance_type=instance_type,
            run_id=run_uri,  # the name alone may be another run's, with another output_uri
            namespace=namespace,
            deadline_hours=training_hours,
            model_minutes=model_minutes,
            reuse_model=True,
        )
        settle(trained, hours=76)
        model_job = {
            "model_uri": trained.outputs["model_uri"],
            "image": serving_image,
            "run_id": run_uri,
            "namespace": namespace,
            "service_account": serving_service_account,
        }
        measured = evaluate(
            data_uri=dataset.outputs["dataset_uri"],
            output_uri=f"{run_uri}/evaluation",
            **model_job,
        )
        settle(measured, hours=2, memory="1Gi", limit="4Gi")
        passed = gate(metrics_uri=measured.outputs["metrics_uri"], threshold=threshold, baseline_uri=baseline_uri)
        settle(passed, hours=1)

        about = {
            "run_id": run_id,
            "run_uri": run_uri,
            "labels_report_uri": consolidated.outputs["report_uri"],
            "labelling_job": labelled.outputs["job_name"],
            "metrics_uri": measured.outputs["metrics_uri"],
            "threshold": threshold,
            "endpoint": endpoint,
            "namespace": namespace,
        }
        with dsl.If(passed.output == True, name="good-enough"):  # noqa: E712 - kfp reads the comparison
            deployed = deploy(
                name=endpoint,
                model_uri=trained.outputs["model_uri"],
                image=serving_image,
                model_name=endpoint,
                replicas=replicas,
                service_account=serving_service_account,
                namespace=namespace,
            )
            settle(deployed, hours=1)
            predicted = predict(
                input_uri=checked.outputs["predict_uri"],
                output_uri=f"{run_uri}/predictions",
                classes=dataset.outputs["classes"],
                **model_job,
            )
            predicted.after(deployed)
            settle(predicted, hours=2, memory="1Gi", limit="4Gi")
            told = report(
                endpoint_url=deployed.outputs["endpoint_url"],
                predictions_uri=predicted.outputs["predictions_uri"],
                predicted=predicted.outputs["counts"],
                **about,
            )
            settle(told, hours=1)
        with dsl.Else(name="held-back"):
            settle(report(**about), hours=1)
