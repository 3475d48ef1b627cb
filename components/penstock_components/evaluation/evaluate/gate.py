"""The KFP component `gate`; everything it does is in `verdict`. It returns one bool: dsl.If works on that everywhere."""

# mypy: disable-error-code="import-untyped, untyped-decorator"

from kfp import dsl

from penstock_components.image import COMPONENTS_IMAGE


@dsl.component(base_image=COMPONENTS_IMAGE, install_kfp_package=False)
def gate(
    metrics_uri: str,
    metric: str = "accuracy",
    threshold: float = 0.0,
    higher_is_better: bool = True,
    baseline_uri: str = "",
    min_gain: float = 0.0,
) -> bool:
    """Whether a model may be deployed; see the README beside this file."""
    from penstock_components.evaluation.evaluate.verdict import passes

    return passes(
        metrics_uri, metric, threshold, higher_is_better=higher_is_better, baseline_uri=baseline_uri, min_gain=min_gain
    )
