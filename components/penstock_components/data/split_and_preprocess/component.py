"""The KFP component; everything it does is in `prepare`."""

# mypy: disable-error-code="import-untyped, untyped-decorator, valid-type"

from typing import NamedTuple

from kfp import dsl

from penstock_components.image import COMPONENTS_IMAGE


@dsl.component(base_image=COMPONENTS_IMAGE, install_kfp_package=False)
def split_and_preprocess(
    manifest_uri: str,
    output_uri: str,
    label_attribute: str,
    profile: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    classes: list[str] = [],  # noqa: B006 - kfp takes no None for a list; the body does not change it
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    group_attribute: str = "",
    min_confidence: float = 0.0,
    skip_unlabelled: bool = False,
    preprocess: str = "",
    image_size: int = 224,
    shard_mib: int = 64,
    seed: int = 0,
) -> NamedTuple(
    "Outputs",
    [
        ("dataset_uri", str),
        ("classes", list[str]),
        ("train_samples", int),
        ("validation_samples", int),
        ("test_samples", int),
        ("left_out", int),
        ("duplicates", int),
    ],
):
    """Labelled images become train, validation and test shards; see the README beside this file."""
    inputs = {key: value for key, value in locals().items() if key not in {"profile", "metrics"}}
    from penstock_components.data.split_and_preprocess.prepare import prepare

    outputs, page = prepare(**inputs)
    with open(profile.path, "w", encoding="utf-8") as file:
        file.write(page)
    for name, value in outputs.metrics().items():
        metrics.log_metric(name, value)
    return outputs
