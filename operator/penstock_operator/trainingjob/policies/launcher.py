"""What the end of a launcher means: success, a program that failed, or a ring that broke under it.

mpirun's exit code alone does not tell: when a node dies, mpirun fails too, often seconds before Kubernetes notices. So the
workers' state and mpirun's own words (mpirun_words.py) decide, and where neither is conclusive a short settling time lets a
lost worker show.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from penstock_operator import names
from penstock_operator.names import Reason
from penstock_operator.trainingjob.children.common import launcher_name
from penstock_operator.trainingjob.observe import Observed, PodView
from penstock_operator.trainingjob.policies.mpirun_words import (
    NO_USER,
    NOT_FOUND,
    RING_BROKEN,
    SHELL_NOT_FOUND,
    USAGE,
    culprit_of,
    first_line,
    host_of,
    ring_line,
)
from penstock_operator.trainingjob.policies.workers import memory_of
from penstock_operator.trainingjob.verdict import Finish, Restart, Rules, Verdict, settling

# SIGKILL and SIGTERM, as a signal or as a shell's exit code: they come from outside, and may come with a dying node.
_KILLED_SIGNALS, _KILLED_CODES = {9, 15}, {137, 143}


def launcher_succeeded(observed: Observed) -> Finish | None:
    """Exit code 0 is the end of the job, whatever else is going on; but not where mpirun was told to go."""
    launcher = observed.launcher
    if launcher is None or not launcher.ended_by_itself:
        return None
    if launcher.exit_code != 0 and not (launcher.exit_code is None and launcher.phase == "Succeeded"):
        return None
    return Finish(True, Reason.PROGRAM_SUCCEEDED, f"the program ended with exit code 0 on all {launcher.workers} workers")


def launcher_outcome(observed: Observed, rules: Rules, now: datetime) -> Verdict | None:
    """Judge the current launcher that did not succeed. None: there is none, it still runs, or a dead worker says more."""
    launcher = observed.launcher
    if launcher is None:
        return _vanished(observed)
    if launcher.over_limit:
        why = f"launcher {launcher.name} was evicted: {launcher.message.rstrip('. ')}"
        return Restart("code", Reason.PROGRAM_FAILED, why, describe(observed, launcher))
    if launcher.lost:  # with or without an exit code: the kubelet's SIGTERM made it
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


def _vanished(observed: Observed) -> Restart | None:
    """The launcher that the status names is gone without a trace: deleted by force, or with its node. Its ranks may still run,
    so this is a new attempt: they are killed when it connects."""
    job = observed.job
    name = (job.status.get("launcher") or {}).get("pod")
    if name is None or name != launcher_name(job, job.attempt):
        return None
    return Restart("infrastructure", Reason.LAUNCHER_LOST, f"launcher {name} vanished")


def _failed(observed: Observed, launcher: PodView, rules: Rules, now: datetime) -> Verdict | None:
    failure = describe(observed, launcher)
    text = launcher.exit_message
    if launcher.exit_reason in ("StartError", "ContainerCannotRun"):
        return Finish(
            False,
            Reason.PROGRAM_NOT_FOUND,
            f"{launcher.name} could not start: {first_line(text)}; does the image hold mpirun?",
            failure,
        )
    if launcher.exit_reason == "OOMKilled":  # no rank runs in it
        more = "raise spec.launcher.resources.limits.memory"
        return Restart("code", Reason.PROGRAM_FAILED, f"launcher {launcher.name} ran out of memory; {more}", failure)
    culprit = culprit_of(text)
    named = bool(culprit) and culprit.get("signal") not in _KILLED_SIGNALS and culprit.get("code") not in _KILLED_CODES
    if lost := _lost_worker(observed, launcher):  # whatever the ranks said: they fail when a peer is gone
        where = f" on {lost.node}" if lost.node else ""
        return Restart(
            "infrastructure",
            Reason.WORKER_LOST,
            f"worker {lost.name}{where} was lost: {lost.reason or lost.exit_reason or 'deleted'}",
            failure | {"pod": lost.name, "node": lost.node},
        )
    if not named and any(pod.ended and not pod.deleting for pod in _without_successor(observed, launcher)):
        return None  # `dead_worker` knows why: a worker out of memory breaks the ring too
    shell = culprit == {} and launcher.exit_code in (126, 127) and SHELL_NOT_FOUND.search(text)
    if (NOT_FOUND.search(text) or shell) and not RING_BROKEN.search(text):
        program = observed.job.spec.command[0] if observed.job.spec else "?"
        return Finish(
            False,
            Reason.PROGRAM_NOT_FOUND,
            f"spec.command: {program!r} could not be run in the image (exit code {launcher.exit_code}); check the path",
            failure,
        )
    if culprit == {} and (unusable := _unusable(observed, launcher)):
        return Finish(False, *unusable, failure)
    if not named and (soon := settling(launcher.finished_at, rules, now)):
        return soon
    if not named and RING_BROKEN.search(text):
        return Restart(
            "infrastructure",
            Reason.RING_BROKEN,
            f"mpirun lost a worker (exit code {launcher.exit_code}): {ring_line(text)}",
            failure,
        )
    place = f" on {failure['pod']}" if failure.get("pod") != launcher.name else ""
    who = f"rank {failure['rank']}{place}" if "rank" in failure else "the program"
    how = f"was ended by signal {failure['signal']}" if failure.get("signal") else f"ended with exit code {failure['exitCode']}"
    killed = failure.get("signal") == 9 or failure.get("exitCode") == 137  # the shell's number for it
    if killed and observed.job.spec:
        how += f" (SIGKILL, mostly for more memory than there is: {memory_of(observed.job.spec)})"
    return Restart("code", Reason.PROGRAM_FAILED, f"{who} {how}", failure)


def _unusable(observed: Observed, launcher: PodView) -> tuple[str, str] | None:
    """Reason and message where mpirun began nothing, and would begin nothing the next time."""
    spec, text = observed.job.spec, launcher.exit_message
    if text.startswith("init container "):  # those are not mpirun's words
        return None
    implementation = spec.mpi.implementation.value if spec else ""
    if found := USAGE.search(text):
        said = " ".join(found[0].split())[:200]
        return (
            Reason.MPI_ARGUMENTS,
            f"mpirun did not take its arguments ({said}); check spec.mpi.args, and that the image's MPI is {implementation} "
            "(spec.mpi.implementation)",
        )
    addresses = {None, *(pod.ip for pod in observed.workers if pod.ip)}  # programs use ssh for other hosts
    if found := next((one for one in NO_USER.finditer(text) if one["host"] in addresses), None):
        return (
            Reason.UNUSABLE_USER,
            f"ssh refused ({found[0]}): launcher and workers run as one user, and the image's /etc/passwd must know it; "
            f"set runAsUser in neither template (it is {names.RUN_AS}), or add the user to the image",
        )
    return None


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
    culprit, spec = culprit_of(text), observed.job.spec
    built |= {
        ours: culprit[theirs]
        for ours, theirs in (("rank", "rank"), ("exitCode", "code"), ("signal", "signal"))
        if theirs in culprit
    }
    workers = {pod.index: pod for pod in observed.workers} | observed.ring
    worker = next((pod for pod in workers.values() if pod.ip and pod.ip == host_of(text)), None)
    if worker is None and spec and "rank" in culprit:
        worker = workers.get(culprit["rank"] // spec.slots)
    return built | ({"pod": worker.name, "node": worker.node} if worker else {})


def _without_successor(observed: Observed, launcher: PodView) -> list[PodView]:
    """Workers of this launcher that are gone or going. (Surplus ones and leftovers of earlier attempts are not its own.)"""
    ring = observed.ring
    return [pod for pod in observed.workers if not pod.alive and pod.index not in ring and pod.index < launcher.workers]


def _lost_worker(observed: Observed, launcher: PodView) -> PodView | None:
    return next((pod for pod in _without_successor(observed, launcher) if pod.lost), None)
