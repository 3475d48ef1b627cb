"""The KFP component; everything it does is in `ending`. It is the exit handler: it may use no other step's outputs."""

# mypy: disable-error-code="import-untyped, untyped-decorator, valid-type"

from typing import NamedTuple

from kfp import dsl

from penstock_components.image import COMPONENTS_IMAGE


@dsl.component(base_image=COMPONENTS_IMAGE, install_kfp_package=False)
def clean_up(
    status: dsl.PipelineTaskFinalStatus,
    output_uri: str,
    endpoint: str,
    run: str,
    job_id: str,
    labelling_job: str = "",
    labelling_attempt: int = 1,
    namespace: str = "",
    gone_minutes: float = 30.0,
    poll_seconds: float = 5.0,
) -> NamedTuple("Outputs", [("state", str), ("stopped", list[str]), ("left_alone", str)]):
    """Stop what still runs, delete the run's volume, tell how the run ended; see pipelines/README.md."""
    inputs = {key: value for key, value in locals().items() if key != "status"}
    from penstock_pipelines.clean_up.ending import end

    return end(status.state, status.error_message or "", **inputs)
