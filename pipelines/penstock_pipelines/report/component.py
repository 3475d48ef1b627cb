"""The KFP component; everything it does is in `page`."""

# mypy: disable-error-code="import-untyped, untyped-decorator, valid-type"

from kfp import dsl

from penstock_components.image import COMPONENTS_IMAGE


@dsl.component(base_image=COMPONENTS_IMAGE, install_kfp_package=False)
def report(
    run_id: str,
    run_uri: str,
    labels_report_uri: str,
    labelling_job: str,
    metrics_uri: str,
    threshold: float,
    endpoint: str,
    page: dsl.Output[dsl.HTML],
    endpoint_url: str = "",
    predictions_uri: str = "",
    predicted: dict[str, int] = {},  # noqa: B006 - kfp takes no None for a dict; the body does not change it
    namespace: str = "",
) -> str:
    """One page about the run, in KFP's UI and in S3 (returned: its URI); see pipelines/README.md."""
    inputs = {key: value for key, value in locals().items() if key != "page"}
    from penstock_components.artifacts import write
    from penstock_pipelines.report.page import make

    uri, html = make(**inputs)
    write(page, html)
    return uri
