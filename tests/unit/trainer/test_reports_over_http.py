"""penstock_trainer against the operator's real endpoint over loopback: what arrives, and what never disturbs a training."""

from __future__ import annotations

import functools
import logging
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from penstock_trainer import Progress

if TYPE_CHECKING:
    from tests.unit.trainer.conftest import Operator


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_first_report_goes_at_once_and_the_last_on_close_and_none_between_within_the_interval(
    operator: Operator,
) -> None:
    with Progress(total_steps=100, total_epochs=4, interval=60) as progress:
        progress.update(1, epoch=1, loss=2.5)
        operator.eventually(lambda: operator.steps == [1])
        for step in range(2, 51):
            progress.update(step, epoch=2, loss=1.0 / step)
        progress.update(50, test_accuracy=0.5)
    assert operator.steps == [1, 50]
    assert operator.latest is not None
    latest = dict(operator.latest)
    assert latest.pop("etaSeconds")
    assert latest.pop("updatedAt")
    assert latest == {
        "step": 50,
        "totalSteps": 100,
        "percent": 50,
        "epoch": 2,
        "totalEpochs": 4,
        "metrics": {"loss": 0.02, "test_accuracy": 0.5},
    }


def test_samples_per_second_counts_all_ranks_and_time_left_follows_the_steps(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("penstock_trainer.progress.time", SimpleNamespace(monotonic=lambda: now.seconds))
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with Progress(total_steps=6101, batch_size=32, interval=0.01) as progress:
        progress.update(5001)
        operator.eventually(lambda: operator.steps == [5001])
        assert operator.latest is not None
        assert "samplesPerSecond" not in operator.latest, "the steps before a resume are nobody's speed"
        now.seconds += 10
        progress.update(5101)
    assert operator.latest is not None
    assert operator.latest["samplesPerSecond"] == pytest.approx(10 * 32 * 4)
    assert operator.latest["etaSeconds"] == 100


def test_nothing_is_posted_again_when_nothing_is_new(operator: Operator) -> None:
    with Progress(interval=0.01) as progress:
        progress.update(1)
        operator.eventually(lambda: operator.steps == [1])
    assert operator.answers == [204]
    progress.update(2)
    progress.close()
    assert operator.answers == [204], "an update after close is ignored"


def test_one_connection_serves_all_reports(operator: Operator) -> None:
    with Progress(interval=0.01) as progress:
        for step in (1, 2, 3):
            progress.update(step)
            operator.eventually(functools.partial(lambda step: operator.steps[-1:] == [step], step))
    assert len(operator.client_ports) == 1


def test_a_killed_operator_disturbs_nothing_and_gets_the_next_report_when_it_is_back(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    with Progress(interval=0.02, timeout=1) as progress:
        progress.update(1)
        operator.eventually(lambda: operator.steps == [1])
        operator.stop()
        progress.update(2)
        operator.eventually(lambda: "cannot be reached" in caplog.text)
        for step in range(3, 2000):
            progress.update(step)
        operator.start()
        operator.eventually(lambda: operator.steps[-1] == 1999)
        progress.update(2000)
    assert operator.steps[-1] == 2000
    assert caplog.text.count("cannot be reached") == 1, "said once"


def test_an_operator_that_stays_away_costs_the_close_timeout_and_no_more(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    operator.stop()
    progress = Progress(interval=0.02, close_timeout=0.5)
    progress.update(1)
    begin = time.monotonic()
    progress.close()
    assert time.monotonic() - begin < 5
    assert "the training goes on" in caplog.text


def test_an_operator_that_does_not_answer_never_holds_up_an_update_or_the_end(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    operator.delay = 120.0
    progress = Progress(interval=0.01, timeout=60, close_timeout=0.3)
    begin = time.monotonic()
    for step in range(20_000):
        progress.update(step, loss=0.5)
    assert time.monotonic() - begin < 10, "20,000 updates while one post hangs"
    begin = time.monotonic()
    progress.close()
    assert time.monotonic() - begin < 5
    assert "not delivered within 0.3 s" in caplog.text


def test_a_wrong_token_is_warned_about_once_and_a_renewed_one_is_picked_up(
    operator: Operator, secret: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret.write_text("wrong")
    with Progress(interval=0.02) as progress:
        progress.update(1)
        operator.eventually(lambda: operator.answers == [401])
        progress.update(2)
        operator.eventually(lambda: operator.answers == [401, 401])
        renewed = secret.with_name("renewed")
        renewed.write_text(operator.token)
        renewed.replace(secret)
        progress.update(3)
        operator.eventually(lambda: operator.steps == [3])
    assert caplog.text.count("401") == 1
    assert "wrong" not in caplog.text, "a token is never logged"


@pytest.mark.parametrize("content", [None, b"", b"two words", b"line\r\nX-Injected: 1", b"\xff\xfe"])
def test_a_token_file_that_is_missing_or_malformed_is_a_warning_without_its_content(
    operator: Operator, secret: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    if content is None:
        secret.unlink()
    else:
        secret.write_bytes(content)
    with Progress(close_timeout=0.1) as progress:
        progress.update(1)
        operator.eventually(lambda: f"no token in {secret}" in caplog.text)
    assert operator.answers == []
    assert "Injected" not in caplog.text


def test_a_503_is_tried_again_over_a_new_connection_until_the_leader_answers(operator: Operator) -> None:
    operator.leader = False
    with Progress(interval=0.02) as progress:
        progress.update(7)
        operator.eventually(lambda: len(operator.answers) >= 2)
        operator.leader = True
        operator.eventually(lambda: operator.steps == [7])
    refused = operator.answers.count(503)
    assert operator.answers == [503] * refused + [204]
    assert len(operator.client_ports) == refused + 1


def test_a_report_the_operator_refuses_is_dropped_and_the_next_one_is_sent(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    with Progress(interval=0.02) as progress:
        progress.update(2**70)
        operator.eventually(lambda: 400 in operator.answers)
        progress.update(2)
    assert operator.steps == [2]
    assert "step: Input should be less than" in caplog.text


def test_bad_arguments_are_warnings_and_the_good_ones_still_arrive(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    with Progress(total_steps="many", interval=0.02) as progress:  # type: ignore[arg-type]
        progress.update("x")  # type: ignore[arg-type]
        progress.update(3, loss=float("nan"), lr=0.1)
    assert operator.latest is not None
    assert operator.latest["metrics"] == {"lr": 0.1}
    assert "an update is ignored: ValueError" in caplog.text
    assert "total_steps is left out" in caplog.text
    assert "metric 'loss' is left out while it is nan" in caplog.text


@pytest.mark.parametrize("variable", ["HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "RANK"])
def test_every_rank_but_0_is_silent(operator: Operator, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    threads = threading.active_count()
    with Progress(interval=0.01) as progress:
        progress.update(1)
        assert threading.active_count() == threads
    assert operator.answers == []


def test_outside_a_job_it_is_silent_or_prints_when_asked(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PENSTOCK_PROGRESS_URL")
    with Progress() as progress:
        progress.update(1, loss=0.5)
    assert capsys.readouterr().err == ""
    with Progress(verbose=True) as progress:
        progress.update(1, loss=0.5)
    assert capsys.readouterr().err == 'progress: {"step":1,"metrics":{"loss":0.5}}\n'
    assert operator.answers == []


def test_a_forked_child_reports_nothing_and_the_parent_goes_on(operator: Operator) -> None:
    done = run("""
        import os
        from penstock_trainer import Progress
        progress = Progress(interval=0.01)
        progress.update(1)
        child = os.fork()
        if child == 0:
            progress.update(999)
            progress.close()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        progress.update(2)
        progress.close()
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert operator.steps[-1] == 2
    assert 999 not in operator.steps


@pytest.mark.parametrize(("end", "status"), [("", 0), ("raise SystemExit(3)", 3), ("raise RuntimeError('boom')", 1)])
def test_a_program_that_ends_without_close_still_reports_its_last_step_and_keeps_its_exit_code(
    operator: Operator, end: str, status: int
) -> None:
    done = run(f"""
        from penstock_trainer import Progress
        progress = Progress(interval=60)
        for step in range(1, 6):
            progress.update(step)
        {end}
    """)
    assert done.returncode == status
    assert operator.steps[-1] == 5


def test_the_import_needs_only_the_standard_library(operator: Operator) -> None:
    import penstock_trainer

    folder = Path(penstock_trainer.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); import penstock_trainer"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_library_logs_under_its_own_name(operator: Operator, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "penstock_trainer"), Progress() as progress:
        progress.update(1, loss="low")
    assert {record.name for record in caplog.records} == {"penstock_trainer"}
