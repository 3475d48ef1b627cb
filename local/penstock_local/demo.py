"""`make demo`: from nothing to a trained model on this machine, with the time of every part.

Brings up what is missing (Kubernetes' programs, images, cluster, operator), applies manifests/examples/digits.yaml with kubectl
and follows it to its end. Every part is idempotent: run it again and it starts where the last run stopped.
With CLUSTER=current it uses the kubeconfig at hand, starts no cluster and builds no image.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from penstock_local import binaries, images, paths
from penstock_local.cluster import Cluster
from penstock_local.config import default_name
from penstock_local.errors import LocalError
from penstock_local.images import ImagesError
from penstock_local.seeds import Archive
from penstock_local.steps import Steps
from penstock_local.tools import OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, Target

NAMESPACE, JOB = "demo", "digits"
REQUIRED_ACCURACY = 0.95
FINISH_SECONDS = 900.0


def main() -> None:
    """Entry point of `make demo`."""
    try:
        run()
    except (LocalError, ImagesError) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("\ndemo: interrupted; `make demo` goes on from here, `.venv/bin/penstock local down` removes everything")


def run() -> None:
    """Set up, train, report. Raises LocalError when the model is not good enough."""
    steps = Steps()
    begun = time.monotonic()
    chosen = os.environ.get("CLUSTER", "")
    if chosen not in ("", "current"):
        raise LocalError(
            f"CLUSTER is {chosen!r}; it can be 'current' (of your kubeconfig), or unset for a cluster on this machine"
        )
    target = _current(steps) if chosen else bring_up(steps, ("operator", "trainer"))[1]
    with steps.step("apply"):
        target.namespace(NAMESPACE)
        _clear_finished(target)
        target.kubectl("-n", NAMESPACE, "apply", "-f", str(paths.checkout() / "manifests/examples/digits.yaml"))
    moments = _follow(target, steps)
    accuracy = _accuracy(target)
    _report(target, steps, moments, accuracy, time.monotonic() - begun)


def bring_up(steps: Steps, names: Sequence[str], *, cluster: str = "", aws: bool = False) -> tuple[Cluster, Target]:
    """The cluster of that name (else the default one) with these images and the operator, whatever of it is missing; `aws`:
    with the fake AWS too.

    Programs and images are made side by side: one is bound by the compiler, the other mostly by the network.
    """
    if _is_cold():
        steps.say(
            "first run: Kubernetes is compiled and the images are built; allow 20 to 30 minutes on two cores. "
            "Later runs reuse both."
        )
    with ThreadPoolExecutor(2) as pool:
        programs = pool.submit(binaries.ensure, binaries.ALL, steps)
        made = pool.submit(_images, steps, names)
        programs.result()
        archives = made.result()
    running = Cluster(cluster or default_name())
    running.up(images=archives, aws=aws, steps=steps)
    target = Target(running.kubeconfig)
    # A new image under the same tag needs new pods, and so does an identity: annotations make them.
    values = [f"podAnnotations.penstock\\.dev/image={archives['operator'].digest}"]
    if aws:
        role = running.associate(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
        values.append(f"podAnnotations.penstock\\.dev/role={role}")
    with steps.step("operator"):
        target.install_operator(values=values)
    return running, target


def _is_cold() -> bool:
    return not (binaries.folder() / "helm").exists()


def _images(steps: Steps, names: Sequence[str]) -> dict[str, Archive]:
    made = {}
    for name in names:
        with steps.step(f"image {name}"):
            made[name] = Archive.of(images.archive(name))
    return made


def _current(steps: Steps) -> Target:
    target = Target(None)
    steps.say(
        f"using the current context {target.kubectl('config', 'current-context').strip()!r}; "
        "its nodes must be able to pull the images"
    )
    with steps.step("operator"):
        target.install_operator()
    return target


def _clear_finished(target: Target) -> None:
    """A run that goes on is followed; one that is over makes room."""
    found = target.get("trainingjob", JOB, NAMESPACE)
    if found and (found.get("status") or {}).get("phase") in ("Complete", "Failed"):
        target.kubectl("-n", NAMESPACE, "delete", "trainingjob", JOB, "--wait=true")
        target.kubectl(
            "-n", NAMESPACE, "wait", "pod", "-l", f"penstock.dev/job-name={JOB}", "--for=delete", "--timeout=60s", check=False
        )


def _follow(target: Target, steps: Steps) -> dict[str, float]:
    """Print what changes until the job is over; returns seconds from apply to each milestone."""
    begun, last, moments = time.monotonic(), "", {}
    while True:
        status = (target.get("trainingjob", JOB, NAMESPACE) or {}).get("status") or {}
        elapsed = time.monotonic() - begun
        for name, reached in _milestones(status).items():
            if reached and name not in moments:
                moments[name] = elapsed
        line = describe(status)
        if line != last:
            steps.say(line)
            last = line
        if status.get("phase") == "Complete":
            return moments
        if status.get("phase") == "Failed":
            failed = next(one for one in status["conditions"] if one["type"] == "Failed")
            tail = "\n".join((status.get("failure") or {}).get("logTail", []))
            raise LocalError(f"{failed['reason']}: {failed['message']}\n{tail}")
        if elapsed > FINISH_SECONDS:
            raise LocalError(f"not over after {FINISH_SECONDS:.0f} s; {line}\n{target.kubectl('-n', NAMESPACE, 'get', 'pods')}")
        time.sleep(0.25)


def _milestones(status: dict[str, Any]) -> dict[str, bool]:
    conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
    return {
        "workers ready": conditions.get("WorkersReady") == "True",
        "first step": (status.get("progress") or {}).get("step", 0) > 0,
        "complete": conditions.get("Complete") == "True",
    }


def describe(status: dict[str, Any]) -> str:
    """One line for people: phase, workers, step, loss, speed, time to go."""
    summary, progress = status.get("summary") or {}, status.get("progress") or {}
    parts = [
        f"{status.get('phase', 'Pending'):<18}",
        f"{status.get('reason', ''):<18}",
        f"workers {summary.get('workers', '-')}",
    ]
    if "progress" in summary:
        parts.append(f"step {summary['progress']}")
    if "loss" in (progress.get("metrics") or {}):
        parts.append(f"loss {progress['metrics']['loss']:.3f}")
    if progress.get("samplesPerSecond"):
        parts.append(f"{progress['samplesPerSecond']:.0f} samples/s")
    if "eta" in summary:
        parts.append(f"ETA {summary['eta']}")
    return "  ".join(parts)


def _accuracy(target: Target) -> float:
    """The program's own last word, from the launcher's log."""
    status = (target.get("trainingjob", JOB, NAMESPACE) or {})["status"]
    log = target.kubectl("-n", NAMESPACE, "logs", status["launcher"]["pod"])
    found = re.findall(r"test accuracy (\d\.\d+)", log)
    if not found:
        raise LocalError(f"the launcher's log names no test accuracy:\n{log[-2000:]}")
    return float(found[-1])


def _report(target: Target, steps: Steps, moments: dict[str, float], accuracy: float, seconds: float) -> None:
    print(f"\ntest accuracy {accuracy:.4f} (needed: {REQUIRED_ACCURACY})\n\nwhere the time went")
    for name, length in steps.seconds.items():
        if length >= 0.5:
            print(f"  {name:<42}{length:8.1f} s")
    print("  apply -> " + ", ".join(f"{name} {moment:.1f} s" for name, moment in moments.items()))
    print(f"  {'all of it':<42}{seconds:8.1f} s\n")
    config = f"export KUBECONFIG={target.kubeconfig}" if target.kubeconfig else "kubectl config current-context"
    print(f"next\n  {config}\n  kubectl -n {NAMESPACE} describe trainingjob {JOB}")
    status = (target.get("trainingjob", JOB, NAMESPACE) or {}).get("status") or {}
    print(f"  kubectl -n {NAMESPACE} logs {(status.get('launcher') or {}).get('pod', f'{JOB}-launcher')}")
    if accuracy < REQUIRED_ACCURACY:
        raise LocalError(f"test accuracy {accuracy:.4f} is below {REQUIRED_ACCURACY}")


if __name__ == "__main__":
    main()
