"""The KFP component; everything it does is in `rollout`."""

# mypy: disable-error-code="import-untyped, untyped-decorator, valid-type"

from typing import NamedTuple

from kfp import dsl

from penstock_components.image import COMPONENTS_IMAGE


@dsl.component(base_image=COMPONENTS_IMAGE, install_kfp_package=False)
def deploy(
    name: str,
    model_uri: str,
    image: str,
    model_name: str = "model",
    mode: str = "Auto",
    replicas: int = 1,
    env: dict[str, str] = {},  # noqa: B006 - kfp takes no None for a dict; the body does not change it
    resources: dict[str, dict[str, str]] = {},  # noqa: B006
    service_account: str = "",
    placement: dict[str, object] = {},  # noqa: B006
    samples: list[object] = [],  # noqa: B006
    expected_classes: list[str] = [],  # noqa: B006
    namespace: str = "",
    ready_minutes: float = 15.0,
    stuck_seconds: float = 120.0,
) -> NamedTuple("Outputs", [("endpoint_url", str), ("mode", str), ("revision", str)]):
    """Put a model into service; see the README beside this file."""
    inputs = dict(locals())
    from penstock_components.deployment.deploy.request import Serving
    from penstock_components.deployment.deploy.rollout import deploy

    return deploy(Serving(**inputs))
