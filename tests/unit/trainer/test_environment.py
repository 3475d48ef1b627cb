"""Which rank a process is, read from what each launcher sets."""

from __future__ import annotations

import pytest

from penstock_trainer.environment import Endpoint, endpoint, rank_and_size


@pytest.mark.parametrize(
    ("says", "env", "rank", "size"),
    [
        ("alone", {}, 0, 1),
        ("horovodrun", {"HOROVOD_RANK": "3", "HOROVOD_SIZE": "8"}, 3, 8),
        ("Open MPI", {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, 1, 2),
        ("MPICH and Intel MPI", {"PMI_RANK": "5", "PMI_SIZE": "6"}, 5, 6),
        ("PMIx gives no size", {"PMIX_RANK": "2"}, 2, 1),
        ("torchrun", {"RANK": "7", "WORLD_SIZE": "16"}, 7, 16),
        ("Horovod's own rank goes before MPI's", {"HOROVOD_RANK": "0", "OMPI_COMM_WORLD_RANK": "4"}, 0, 1),
        (
            "torchrun on every node started by mpirun",
            {"OMPI_COMM_WORLD_RANK": "0", "RANK": "3", "WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": "x"},
            3,
            8,
        ),
        ("a value that is no number is passed over", {"HOROVOD_RANK": "first", "RANK": "2"}, 2, 1),
        ("a negative rank is passed over", {"OMPI_COMM_WORLD_RANK": "-1"}, 0, 1),
        ("a size of 0 counts as 1", {"RANK": "0", "WORLD_SIZE": "0"}, 0, 1),
    ],
)
def test_the_launcher_tells_the_rank(says: str, env: dict[str, str], rank: int, size: int) -> None:
    assert rank_and_size(env) == (rank, size), says


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, None),
        ({"PENSTOCK_PROGRESS_URL": "http://x/"}, None),
        ({"PENSTOCK_PROGRESS_URL": "", "PENSTOCK_PROGRESS_TOKEN_FILE": "/t"}, None),
        ({"PENSTOCK_PROGRESS_URL": "http://x/", "PENSTOCK_PROGRESS_TOKEN_FILE": "/t"}, Endpoint("http://x/", "/t")),
    ],
)
def test_there_is_an_endpoint_only_with_both_url_and_token_file(env: dict[str, str], found: Endpoint | None) -> None:
    assert endpoint(env) == found
