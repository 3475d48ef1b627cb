"""`make bench-ring`: Horovod in the ring against the same mpirun by hand in the same pods; ratio of samples per second.

A TrainingJob trains a small network on random data and prints its speed every few seconds. Between its rounds its ranks are
stopped (SIGSTOP), and the same program runs by an mpirun that is typed into the launcher's container, with nothing of the
operator's environment but the ssh that reaches the workers. Rounds alternate, so that whatever else the machine does meets
both, and the figure is the median of the ratios of neighbouring rounds: many short ones, as one ratio alone is anything between
0.7 and 1.5 on a virtual machine.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import yaml

from penstock_local import binaries
from penstock_local.demo import bring_up
from penstock_local.steps import Steps
from penstock_local.tools import Target

NAMESPACE, JOB = "bench-ring", "synthetic"
ROUNDS = 80
BOUND = 0.98
RESULTS = Path(__file__).parent / "results" / "ring.json"
WORKERS = (f"{JOB}-worker-0", f"{JOB}-worker-1")

PROGRAM = """
import sys, time
import horovod.torch as hvd, torch
from torch import nn
hvd.init(); torch.set_num_threads(1); torch.manual_seed(0)
layers = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 24 * 24, 64)]
model = nn.Sequential(*layers)
optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.01), named_parameters=model.named_parameters())
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
images, labels = torch.randn(16, 3, 28, 28), torch.randint(0, 64, (16,))
def steps(count):
    for _ in range(count):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
steps(5)
for number in range(int(sys.argv[1])):
    hvd.barrier()
    begun = time.time()
    steps(10)
    hvd.barrier()
    if hvd.rank() == 0:
        print("samples/s", round(10 * 16 * hvd.size() / (time.time() - begun), 2), "since", begun, flush=True)
hvd.shutdown()
"""


def job() -> dict[str, object]:
    """Two workers; the program comes by a ConfigMap, so that the image need not know it."""
    return {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": JOB},
        "spec": {
            "image": "penstock/trainer:0.1.0",
            "command": ["python3", "/bench/program.py", "100000"],
            "workers": {"replicas": 2, "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}}},
            "launcher": {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}},
            "volumes": [{"name": "bench", "mountPath": "/bench", "configMap": {"name": "bench"}}],
        },
    }


def by_hand(target: Target) -> list[str]:
    """The mpirun that somebody would type into the launcher's container, as arguments of kubectl."""
    line = (
        "env -i PATH=$PATH HOME=/tmp mpirun -np 2 --hostfile /etc/penstock/hosts/hostfile --bind-to none --map-by slot "
        "--mca plm_rsh_agent /etc/penstock/ring/ssh --mca plm_rsh_no_tree_spawn 1 --mca pml ob1 --mca btl ^openib "
        "--mca mpi_yield_when_idle 1 python3 /bench/program.py 100000"
    )
    return ["exec", f"{JOB}-launcher", "--", "bash", "-c", line]


class Contestant:
    """One set of ranks, stopped but for its turns. `condition` is shell that tells its processes (environment in $p)."""

    def __init__(self, target: Target, condition: str, *following: str) -> None:
        self._kubectl = [str(binaries.ensure(("kubectl",)) / "kubectl"), f"--kubeconfig={target.kubeconfig}", "-n", NAMESPACE]
        self._condition = condition
        # Followed, not asked for again and again: kubectl takes a tenth of the machine from the ranks each time.
        self.process = subprocess.Popen([*self._kubectl, *following], stdout=subprocess.PIPE, text=True)
        self._shells: list[subprocess.Popen[str]] = []

    def begin(self) -> None:
        """Wait for its first round, find its ranks on both workers, and stop them until their turn."""
        self._next()
        ours = f"{self._condition} && grep -qzsx python3 $p/cmdline && grep -qs program.py $p/cmdline"
        for worker in WORKERS:
            command = [*self._kubectl, "exec", "-i", worker, "--", "bash"]
            self._shells.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        self._say(f"ranks=$(for p in /proc/[0-9]*; do {ours} && echo ${{p#/proc/}}; done); kill -STOP $ranks")

    def round(self) -> float:
        """Speed of three rounds that began when the other's ranks were stopped."""
        self._say("kill -CONT $ranks")
        still = time.time() + 0.1
        speeds: list[float] = []
        while len(speeds) < 3:
            speed, begun = self._next()
            speeds += [speed] if begun > still else []
        self._say("kill -STOP $ranks")
        return round(statistics.harmonic_mean(speeds), 2)

    def end(self) -> None:
        for each in (self.process, *self._shells):
            each.terminate()

    def _say(self, script: str) -> None:
        """Run this on both workers, in one shell each."""
        for each in self._shells:
            assert each.stdin is not None
            each.stdin.write(f"{script}; echo done $ranks\n")
            each.stdin.flush()
        for each in self._shells:
            assert each.stdout is not None
            answer = each.stdout.readline().split()
            if len(answer) < 2:
                raise RuntimeError(f"no rank of {self._condition} on a worker")

    def _next(self) -> tuple[float, float]:
        """Speed and beginning of the next round that is told."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if match := re.search(r"samples/s (\S+) since (\S+)", line):
                return float(match[1]), float(match[2])
        raise RuntimeError("the ranks ended")


def measure(target: Target) -> tuple[list[float], list[float]]:
    """Speeds of the job's ranks and of those by hand, in turns: both live all the time, and only one of them runs."""
    target.kubectl("-n", NAMESPACE, "wait", "tj", JOB, "--for=condition=Running", "--timeout=120s")
    jobs_own = "grep -qzs '^PENSTOCK_ATTEMPT=1$' $p/environ"
    ring = Contestant(target, jobs_own, "logs", "--follow", f"{JOB}-launcher")
    contestants = [ring]
    try:
        ring.begin()
        contestants.append(hand := Contestant(target, f"! {jobs_own}", *by_hand(target)))
        hand.begin()
        speeds: dict[Contestant, list[float]] = {ring: [], hand: []}
        for number in range(ROUNDS):
            for each in (ring, hand) if number % 2 else (hand, ring):
                speeds[each].append(each.round())
    finally:
        for each in contestants:
            each.end()
    return speeds[ring], speeds[hand]


def main() -> None:
    _, target = bring_up(Steps(), ("operator", "trainer"))
    target.namespace(NAMESPACE)
    try:
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bench"}, "data": {"program.py": PROGRAM}}
        target.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=yaml.safe_dump_all([config, job()]))
        ring, hand = measure(target)
    finally:
        target.kubectl("delete", "namespace", NAMESPACE, "--wait=true", check=False)
    ratio = statistics.median(one / other for one, other in zip(ring, hand, strict=True))
    line = {"name": "Horovod in the ring against mpirun by hand", "value": round(ratio, 3), "unit": "ratio of samples/s"}
    line |= {"bound": BOUND, "ok": ratio >= BOUND, "ring": ring, "hand": hand}
    print(json.dumps(line))
    RESULTS.write_text(json.dumps(line) + "\n")
    if not line["ok"]:
        sys.exit("a figure misses its bound")


if __name__ == "__main__":
    main()
