"""What the environment says: which rank this process is, of how many, and where its job's progress goes.

Every launcher names the rank differently, so the variables are read in a fixed order and the first that is a number
counts. A process without any of them is alone: rank 0 of 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RANK_AND_SIZE = (
    ("HOROVOD_RANK", "HOROVOD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("PMIX_RANK", "PMIX_SIZE"),
    ("RANK", "WORLD_SIZE"),
)


@dataclass(frozen=True)
class Endpoint:
    """Where reports go: the URL of this job, and the file that holds its bearer token."""

    url: str
    token_file: str


def rank_and_size(env: Mapping[str, str]) -> tuple[int, int]:
    """(rank, number of ranks). The size is 1 where a launcher gives the rank but no size."""
    pairs = RANK_AND_SIZE
    if "TORCHELASTIC_RUN_ID" in env:
        # torchrun started once on each node by mpirun: its children inherit the node's MPI rank, and only RANK tells
        # them apart. Read in the usual order, every child on the first node would be rank 0.
        pairs = RANK_AND_SIZE[::-1]
    for rank_name, size_name in pairs:
        rank = _count(env.get(rank_name))
        if rank is not None:
            return rank, max(1, _count(env.get(size_name)) or 1)
    return 0, 1


def endpoint(env: Mapping[str, str]) -> Endpoint | None:
    """The job's endpoint, None outside a TrainingJob."""
    url, token_file = env.get("PENSTOCK_PROGRESS_URL"), env.get("PENSTOCK_PROGRESS_TOKEN_FILE")
    return Endpoint(url, token_file) if url and token_file else None


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
