"""What came out of a labelling job: counters, the objects without a label and why, and whether that is enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from penstock_components import manifest, s3
from penstock_components.errors import ComponentError, several
from penstock_components.manifest import Record

from .request import Labelling, unlabelled


class Outcome(NamedTuple):
    """The component's outputs, in this order; its README says what each means."""

    output_manifest_uri: str
    worker_responses_uri: str
    unlabelled_manifest_uri: str
    job_name: str
    job_arn: str
    active_learning_model_arn: str
    total_objects: int
    labelled_objects: int
    human_labelled: int
    machine_labelled: int
    failed_objects: int
    labelled_fraction: float

    def metrics(self) -> dict[str, float]:
        """The numbers among them."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, int | float)}


def judge(wanted: Labelling, job: dict[str, Any], records: Sequence[Record]) -> Outcome:
    """The outputs of an ended job. Objects without a label are written to `unlabelled.manifest`: a next job's input.

    Raises:
        ComponentError: the job failed, was stopped, or labelled less than `min_labelled_fraction`.
    """
    name, counters = job["LabelingJobName"], job["LabelCounters"]
    status, reason = job["LabelingJobStatus"], job.get("FailureReason", "no reason given")
    folder = s3.join(wanted.output_uri, name)
    result_uri = job.get("LabelingJobOutput", {}).get("OutputDatasetS3Uri", "")
    if status == "Failed":
        raise ComponentError(f"labelling job {name} failed: {reason}")
    if status == "Stopped" and not (result_uri and wanted.max_human_labelled_objects):  # AWS stops a job at its limit
        done = f"{counters.get('TotalLabeled', 0)} of {len(records)} objects have a label"
        further = f"manifest_uri={result_uri} and attempt={wanted.attempt + 1} label the rest" if result_uri else reason
        raise ComponentError(f"labelling job {name} was stopped, {done}; {further}")
    results = manifest.read(result_uri)
    missing = unlabelled(results, wanted.label_attribute)
    labelled = len(results) - len(missing)
    missing_uri = s3.join(folder, "unlabelled.manifest") if missing else ""
    if missing:
        metadata = f"{wanted.label_attribute}-metadata"
        lines = ({key: value for key, value in record.fields.items() if key != metadata} for record in missing)
        manifest.write(missing_uri, lines)
    outcome = Outcome(
        output_manifest_uri=result_uri,
        worker_responses_uri=s3.join(folder, "annotations/worker-response", ""),
        unlabelled_manifest_uri=missing_uri,
        job_name=name,
        job_arn=job["LabelingJobArn"],
        active_learning_model_arn=job["LabelingJobOutput"].get("FinalActiveLearningModelArn", ""),
        total_objects=len(results),
        labelled_objects=labelled,
        human_labelled=counters.get("HumanLabeled", 0),
        machine_labelled=counters.get("MachineLabeled", 0),
        failed_objects=counters.get("FailedNonRetryableError", 0),
        labelled_fraction=labelled / len(results),
    )
    if outcome.labelled_fraction < wanted.min_labelled_fraction:
        raise several(
            f"labelling job {name} gave labels for {labelled} of {len(results)} objects ({outcome.labelled_fraction:.1%}), "
            f"wanted are {wanted.min_labelled_fraction:.1%}; {missing_uri} lists the rest as input of a next job:",
            [f"{record}: {_reason(record, wanted.label_attribute)}" for record in missing],
        )
    return outcome


def _reason(record: Record, attribute: str) -> str:
    metadata = record.fields.get(f"{attribute}-metadata")
    return str(metadata["failure-reason"]) if isinstance(metadata, dict) and "failure-reason" in metadata else "no label"
