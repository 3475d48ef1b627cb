"""The KFP component; everything it does is in `consolidate`."""

# mypy: disable-error-code="import-untyped, untyped-decorator, valid-type"

from typing import NamedTuple

from kfp import dsl

from penstock_components.image import COMPONENTS_IMAGE


@dsl.component(base_image=COMPONENTS_IMAGE, install_kfp_package=False)
def consolidate_labels(
    manifest_uri: str,
    worker_responses_uri: str,
    output_uri: str,
    label_attribute: str,
    label_categories: list[str],
    job_name: str,
    metrics: dsl.Output[dsl.Metrics],
    min_confidence: float = 0.8,
) -> NamedTuple(
    "Outputs",
    [
        ("manifest_uri", str),
        ("relabel_manifest_uri", str),
        ("report_uri", str),
        ("labelled_objects", int),
        ("relabel_objects", int),
        ("changed_from_majority", int),
        ("mean_confidence", float),
    ],
):
    """One label an object from several workers' answers; see the README beside this file."""
    inputs = {key: value for key, value in locals().items() if key != "metrics"}
    from penstock_components.labelling.consolidate_labels.consolidate import consolidate

    outputs, numbers = consolidate(**inputs)
    for name, value in numbers.items():
        metrics.log_metric(name, value)
    return outputs
