"""What the end of a launcher means: success, a program that failed, or a ring that broke under it.

mpirun's exit code alone does not tell: when a node dies, mpirun fails too, often seconds before Kubernetes notices. So the
workers' state and mpirun's own words (the end of the log, kept in the pod's status by FallbackToLogsOnError) decide, and where
neither is conclusive a short settling time lets a lost worker show.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from penstock_operator.names import Reason
from penstock_operator.trainingjob.observe import Observed, PodView
from penstock_operator.trainingjob.verdict import Finish, Restart, Rules, Verdict, Wait

# Open MPI 4 and 5, hydra (MPICH, Intel) and OpenSSH, each when a remote daemon or its connection is gone.
_RING_BROKEN = re.compile(
    r"lost communication with|ORTE was unable to reliably start|PRTE has lost communication|A daemon .{0,40}died unexpectedly"
    r"|ssh: connect to host|Connection (closed|reset|timed out)|client_loop: send disconnect|Timeout, server .* not responding"
    r"|HYD.*assert .*(sock|pmi)|unexpected (EOF|disconnect).*proxy|Connection to .* closed by remote host",
    re.IGNORECASE | re.DOTALL,
)
_NOT_FOUND = re.compile(
    r"could not (be )?(found|access|execute)|unable to (find|launch the specified application)|No such file or directory"
    r"|execvp error",
    re.IGNORECASE,
)
_OPEN_MPI_EXIT = re.compile(r"Process name:\s*\[\[\d+,\d+\],(?P<rank>\d+)\]\s*Exit code:\s*(?P<code>\d+)")
_OPEN_MPI_SIGNAL = re.compile(
    r"process rank (?P<rank>\d+) with PID \d+ on node (?P<host>\S+) exited on\s+signal (?P<signal>\d+)"
)
_PRTE_EXIT = re.compile(r"Process name:\s*\[\S+,(?P<rank>\d+)\]\s*Exit code:\s*(?P<code>\d+)")
_HYDRA_EXIT = re.compile(r"PID \d+ RUNNING AT (?P<host>\S+)\s*=\s*EXIT CODE:\s*(?P<code>\d+)")
_HYDRA_RANK = re.compile(
    r"RANK (?P<rank>\d+) PID \d+ RUNNING AT (?P<host>\S+)\s*=\s*(EXIT CODE|KILLED BY SIGNAL):\s*(?P<code>\d+)"
)


def launcher_outcome(observed: Observed, rules: Rules, now: datetime) -> Verdict | None:
    """Judge the current launcher. None: there is none, or it still runs."""
    launcher = observed.launcher
    if launcher is None:
        return None
    if launcher.exit_code == 0 or (launcher.exit_code is None and launcher.phase == "Succeeded"):
        return Finish(True, Reason.PROGRAM_SUCCEEDED, f"the program ended with exit code 0 on all {launcher.workers} workers")
    if launcher.lost and launcher.exit_code is None:
        what = launcher.reason or ("deleted" if launcher.deleting else "ended without an exit code")
        return Restart(
            "infrastructure",
            Reason.LAUNCHER_LOST,
            f"launcher {launcher.name} on {launcher.node or 'no node'} was lost: {what}",
            describe(observed, launcher),
        )
    if launcher.exit_code is None:
        return None
    return _failed(observed, launcher, rules, now)


def _failed(observed: Observed, launcher: PodView, rules: Rules, now: datetime) -> Verdict:
    failure = describe(observed, launcher)
    text = launcher.exit_message
    if launcher.exit_reason in ("StartError", "ContainerCannotRun"):
        return Finish(
            False,
            Reason.PROGRAM_NOT_FOUND,
            f"{launcher.name} could not start: {_first_line(text)}; does the image hold mpirun?",
            failure,
        )
    named = "rank" in failure and failure.get("signal") != 9  # SIGKILL may come with a dying node
    if not named and (lost := _lost_worker(observed)):
        where = f" on {lost.node}" if lost.node else ""
        return Restart(
            "infrastructure",
            Reason.WORKER_LOST,
            f"worker {lost.name}{where} was lost: {lost.reason or lost.exit_reason or 'deleted'}",
            failure | {"pod": lost.name, "node": lost.node},
        )
    if not named and _NOT_FOUND.search(text) and not _RING_BROKEN.search(text):
        program = observed.job.spec.command[0] if observed.job.spec else "?"
        return Finish(
            False,
            Reason.PROGRAM_NOT_FOUND,
            f"spec.command: {program!r} could not be run in the image (exit code {launcher.exit_code}); check the path",
            failure,
        )
    if not named and _RING_BROKEN.search(text):
        return Restart(
            "infrastructure",
            Reason.RING_BROKEN,
            f"mpirun lost a worker (exit code {launcher.exit_code}): {_ring_line(text)}",
            failure,
        )
    if not named and launcher.finished_at and now - launcher.finished_at < rules.settle:
        return Wait(launcher.finished_at + rules.settle - now)
    place = f" on {failure['pod']}" if failure.get("pod") != launcher.name else ""
    who = f"rank {failure['rank']}{place}" if "rank" in failure else "the program"
    how = f"was ended by signal {failure['signal']}" if failure.get("signal") else f"ended with exit code {failure['exitCode']}"
    return Restart("code", Reason.PROGRAM_FAILED, f"{who} {how}", failure)


def describe(observed: Observed, launcher: PodView) -> dict[str, Any]:
    """`status.failure`: the first failing rank, its pod and node, as mpirun names them."""
    text = launcher.exit_message
    built: dict[str, Any] = {
        "attempt": launcher.attempt,
        "pod": launcher.name,
        "node": launcher.node,
        "reason": launcher.exit_reason or launcher.reason or "Error",
        "logTail": [line[:500] for line in text.splitlines() if line.strip()][-20:],
    }
    if launcher.exit_code is not None:
        built["exitCode"] = launcher.exit_code
    if launcher.exit_signal:
        built["signal"] = launcher.exit_signal
    ring = observed.ring
    if found := _OPEN_MPI_EXIT.search(text) or _PRTE_EXIT.search(text):
        built |= {"rank": int(found["rank"]), "exitCode": int(found["code"])}
    elif found := _OPEN_MPI_SIGNAL.search(text):
        built |= {"rank": int(found["rank"]), "signal": int(found["signal"])}
    elif found := _HYDRA_RANK.search(text):
        built |= {"rank": int(found["rank"])}
    elif found := _HYDRA_EXIT.search(text):
        built |= {"exitCode": int(found["code"])}
    spec = observed.job.spec
    if spec and "rank" in built and (worker := ring.get(built["rank"] // spec.slots)):
        built |= {"pod": worker.name, "node": worker.node}
    return built


def _lost_worker(observed: Observed) -> PodView | None:
    """A worker that is gone or going, though the launcher had it."""
    ring = observed.ring
    return next((pod for pod in observed.workers if not pod.alive and pod.lost and pod.index not in ring), None)


def _ring_line(text: str) -> str:
    found = _RING_BROKEN.search(text)
    return next((line.strip() for line in text.splitlines() if found and found[0].splitlines()[0] in line), "")[:200]


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:200]
