"""SageMaker Ground Truth: labelling jobs for image classification, work teams, and workers who err. State in memory.

Other task types, automated labelling and streaming jobs are refused with NotImplemented; the rest of SageMaker is moto's.
"""

from __future__ import annotations

from typing import Final

from penstock_local.aws.labelling import jobs, progress, workteams
from penstock_local.aws.world import Beat, Handler

ACTIONS: Final[dict[str, Handler]] = {**jobs.ACTIONS, **workteams.ACTIONS}
BEATS: Final[list[Beat]] = [progress.beat]
