"""Amazon FSx for Lustre: file systems, data repository associations and tasks. State in memory, files in `<state>/fsx/<id>/`.

File systems of other types, backups, file caches and the old S3 link of CreateFileSystem (ImportPath) are not here.
"""

from __future__ import annotations

from typing import Final

from penstock_local.aws.fsx import associations, file_systems, tasks
from penstock_local.aws.world import Beat, Handler

ACTIONS: Final[dict[str, Handler]] = {**file_systems.ACTIONS, **associations.ACTIONS, **tasks.ACTIONS}
BEATS: Final[list[Beat]] = [file_systems.beat, associations.beat, tasks.beat]
