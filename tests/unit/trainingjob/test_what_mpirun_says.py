"""The end of mpirun's log: what it, ssh and hydra say decides who is to blame and whether another try can help."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from simulation import OPEN_MPI_EXIT_7, OPEN_MPI_LOST, OPEN_MPI_NOT_FOUND, OPEN_MPI_SIGNAL_9, Simulation

from penstock_operator import names
from penstock_operator.api.status import TrainingJobStatus


@pytest.mark.parametrize("text", ["Connection closed by peer [10.0.0.3]:5123", "RuntimeError: Connection reset by peer"])
def test_a_program_that_speaks_of_connections_is_no_broken_ring(text: str) -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-launcher", 137, f"{text}\n{OPEN_MPI_SIGNAL_9}")
    job.later(5)
    job.settle()
    assert job.why(names.FAILED) == "ProgramFailed"


@pytest.mark.parametrize(
    "text",
    [
        "ssh: connect to host 10.0.0.2 port 2222: Connection refused",
        "Connection closed by 10.0.0.2 port 2222",
        "kex_exchange_identification: Connection closed by remote host",
        "client_loop: send disconnect: Broken pipe",
        "[mpiexec@launcher] HYDU_sock_write (utils/sock.c:254): assert (!closed) failed: sock closed",
        OPEN_MPI_LOST,
    ],
)
def test_ssh_and_mpirun_tell_of_a_broken_ring(text: str) -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-launcher", 255, text)
    job.later(5)
    job.settle()
    assert job.status["restarts"] == {"code": 0, "infrastructure": 1}


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("application called MPI_Abort(MPI_COMM_WORLD, 6) - process 1", {"rank": 1, "exitCode": 6, "pod": "digits-worker-1"}),
        ("MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD\nwith errorcode 9.", {"rank": 0, "exitCode": 9}),
        ("=   RANK 1 PID 77 RUNNING AT 10.0.0.2\n=   EXIT CODE: 5", {"rank": 1, "exitCode": 5, "pod": "digits-worker-1"}),
        ("=   PID 77 RUNNING AT 10.0.0.1\n=   EXIT CODE: 5", {"exitCode": 5, "pod": "digits-worker-0"}),
        ("=   RANK 1 PID 77 RUNNING AT 10.0.0.2\n=   KILLED BY SIGNAL: 11 (Segmentation fault)", {"rank": 1, "signal": 11}),
    ],
)
def test_every_mpi_names_the_first_to_fail(text: str, failure: dict[str, Any]) -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-launcher", 1, text)
    job.settle()
    found = job.status["failure"]
    assert {key: found.get(key) for key in failure} == failure


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        (f"process rank {10**11} with PID 22 on node 10.0.0.2 exited on signal 11", {"rank": None, "signal": 11}),
        (f"process rank 1 with PID 22 on node 10.0.0.2 exited on signal {2**31}", {"rank": 1, "signal": None}),
        (f"application called MPI_Abort(MPI_COMM_WORLD, {2**32 - 1}) - process 1", {"rank": 1, "exitCode": 5}),
        (
            f"application called MPI_Abort(MPI_COMM_WORLD, {2**31 - 1}) - process {'9' * 1000}",
            {"rank": None, "exitCode": 2**31 - 1},
        ),
    ],
)
def test_no_number_that_a_program_writes_is_too_large_for_the_status(text: str, failure: dict[str, Any]) -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-launcher", 5, text)
    job.later(5)
    job.settle()
    assert job.true(names.FAILED)
    found = TrainingJobStatus.model_validate(job.status).model_dump(by_alias=True)["failure"]
    assert {key: found[key] for key in failure} == failure


def test_a_rank_killed_by_a_signal_is_named() -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-launcher", 137, OPEN_MPI_SIGNAL_9)
    job.later(10)
    job.settle()
    assert job.said(names.FAILED).startswith("rank 1 on digits-worker-1 was ended by signal 9")


def test_mpirun_that_lost_a_daemon_does_not_blame_the_program() -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-launcher", 1, OPEN_MPI_LOST)
    job.later(4)
    job.settle()
    assert job.why(names.RESTARTING) == "RingBroken"


def test_an_unclear_failure_waits_a_moment_for_a_lost_worker_to_show() -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-launcher", 1, "something odd")
    assert job.plan().again == timedelta(seconds=3)
    job.deleting("digits-worker-0")
    job.settle()
    assert job.why(names.RESTARTING) == "WorkerLost"


def test_an_unclear_failure_is_the_programs_when_all_workers_stay() -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-launcher", 3, "Traceback: boom")
    job.later(4)
    job.settle()
    assert job.why(names.FAILED) == "ProgramFailed"
    assert job.status["failure"]["exitCode"] == 3


def test_a_program_that_is_not_there_is_not_tried_again() -> None:
    job = Simulation().started()
    job.ended("digits-launcher", 134, OPEN_MPI_NOT_FOUND)
    job.settle()
    assert job.why(names.FAILED) == "ProgramNotFound"
    assert "spec.command: 'train'" in job.said(names.FAILED)
    assert job.status["restarts"] == {"code": 0, "infrastructure": 0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mpirun: Error: unknown option \"-genv\"\nType 'mpirun --help' for usage.", 'unknown option "-genv"'),
        ('mpirun: Error: option "--mca" did not have enough parameters (2)', "did not have enough parameters"),
        ("prterun: unrecognized option '--nosuch'", "unrecognized option '--nosuch'"),
        (
            "---\nOpen MPI has detected that a parameter given to a command line\n"
            "option does not match the expected format:\n\n"
            "  Option: np\n  Param:  x\n",
            "Option: np Param: x",
        ),
        ("The specified mapping policy is not recognized:\n\n  Policy: nosuch\n", "Policy: nosuch"),
        ("[mpiexec@launcher] match_arg (utils/args/args.c:163): unrecognized argument mca", "unrecognized argument mca"),
        ("[mpiexec@launcher] HYDU_sock_get_iface_ip (a.c:451): unable to find interface ib9", "unable to find interface ib9"),
        ('[proxy:0:0@worker] get_hw_obj_list (topo.c:354): unrecognized directive "x"', 'unrecognized directive "x"'),
    ],
)
def test_arguments_that_mpirun_does_not_know_are_not_tried_again(text: str, said: str) -> None:
    job = Simulation(mpi={"implementation": "MPICH"}).started()
    job.ended("digits-launcher", 1, text)
    job.settle()
    assert job.why(names.FAILED) == "MPIArgumentsRefused"
    assert said in job.said(names.FAILED)
    assert "the image's MPI is MPICH (spec.mpi.implementation)" in job.said(names.FAILED)


@pytest.mark.parametrize("text", ["No user exists for uid 2000", "penstock@10.0.0.2: Permission denied (publickey)."])
def test_a_user_that_the_image_does_not_know_is_no_broken_ring(text: str) -> None:
    job = Simulation().started()
    job.ended("digits-launcher", 1, f"{text}\nORTE was unable to reliably start one or more daemons.")
    job.settle()
    assert job.why(names.FAILED) == "UnusableUser"
    assert text.rstrip(".") in job.said(names.FAILED)


@pytest.mark.parametrize("host", ["github.com", "10.9.9.9"])
def test_ssh_to_other_hosts_is_the_programs_own(host: str) -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-launcher", 1, f"git@{host}: Permission denied (publickey).\n{OPEN_MPI_LOST}")
    job.later(4)
    job.settle()
    assert job.why(names.RESTARTING) == "RingBroken"


def test_an_init_container_that_speaks_of_users_says_nothing_of_the_ring() -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-launcher", 128, "init container clone: Cloning\nNo user exists for uid 2000")
    job.later(4)
    job.settle()
    assert job.why(names.FAILED) == "ProgramFailed"


def test_a_program_that_writes_like_mpirun_is_judged_by_its_own_end() -> None:
    job = Simulation(runPolicy={"maxRestarts": 0}).started()
    job.ended("digits-launcher", 7, f'mpirun: Error: unknown option "--x"\n{OPEN_MPI_EXIT_7}')
    job.settle()
    assert job.why(names.FAILED) == "ProgramFailed"
