"""The KFP component; everything it does is in `ground`."""

# mypy: disable-error-code="import-untyped, untyped-decorator, valid-type"

from typing import NamedTuple

from kfp import dsl

from penstock_components.image import COMPONENTS_IMAGE


@dsl.component(base_image=COMPONENTS_IMAGE, install_kfp_package=False)
def training_ground(
    run_uri: str,
    dataset_uri: str,
    model_uri: str,
    volume: dict[str, object] = {},  # noqa: B006 - kfp takes no None for a dict; the body does not change it
    volume_name: str = "",
    model_name: str = "model",
    epochs: int = 20,
    batch_size: int = 32,
    learning_rate: float = 0.002,
    namespace: str = "",
    volume_minutes: float = 60.0,
    poll_seconds: float = 5.0,
) -> NamedTuple("Outputs", [("volume_name", str), ("volumes", list[dict[str, object]]), ("command", list[str])]):
    """Make the file system, and bring the program to it; see pipelines/README.md."""
    inputs = dict(locals())
    from penstock_pipelines.training_ground.ground import prepare

    return prepare(**inputs)
