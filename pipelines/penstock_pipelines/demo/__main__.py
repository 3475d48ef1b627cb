"""`make demo-pipeline`: label, prepare, train on a Lustre file system, measure, deploy, predict, on this machine.

A real Kubernetes with the operator, a fake AWS, and pipelines/end_to_end.yaml step by step. RUN=name goes on with an earlier
run: what it made is found, nothing remote is started again.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import Any, Final

import numpy as np

from penstock_components import aws, jobs, s3
from penstock_components.kube import Kube
from penstock_local import demo, paths
from penstock_local.aws.client import Control
from penstock_local.cluster import Cluster
from penstock_local.config import default_name
from penstock_local.eks import ACCOUNT as ACCOUNT_ID
from penstock_local.errors import LocalError
from penstock_local.images import ImagesError
from penstock_local.steps import Steps
from penstock_local.tools import Target

from . import digits, road

NAMESPACE: Final = "demo-pipeline"
ENDPOINT: Final = "digits"
ACCOUNT: Final = "serving"
REQUIRED_ACCURACY: Final = 0.95
ZONE: Final = "us-east-1a"
RUNS: Final = f"{digits.ROOT}/runs"
FOLDER: Final = paths.checkout() / "build" / "demo-pipeline"
IMAGES: Final = ("operator", "trainer", "serving")
SERVING_IMAGE: Final = "penstock/serving:0.1.0"
ASKED: Final = 3
ASKING: Final = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
# What the pod that asks runs: the request any program in the cluster would send.
ASK: Final = """
import os, urllib.request
request = urllib.request.Request(os.environ["URL"], os.environ["BODY"].encode(), {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""
_RUN: Final = re.compile(rf"{RUNS}/([^/]+)/run\.json")
_STATE: Final = re.compile(r"INFO\]: (\[\d+:\d\d:\d\d\] .+|TrainingJob \S+: .+)")
_INK: Final = " .:-=+*#%@"
# Of the environment that runs this: `make demo-pipeline` alone makes no other.
PENSTOCK: Final = os.path.relpath(os.path.join(os.path.dirname(sys.executable), "penstock"))


def main() -> None:
    """Entry point of `make demo-pipeline`."""
    try:
        run(os.environ.get("RUN", ""))
    except (LocalError, ImagesError) as error:
        sys.exit(f"demo-pipeline: {error}")
    except KeyboardInterrupt:
        sys.exit(
            f"\ndemo-pipeline: interrupted; `make demo-pipeline` goes on from here, `{PENSTOCK} local down` removes everything"
        )


def run(again: str) -> None:
    """Set up, run, ask, report. Raises LocalError when a step fails or the model is not good enough."""
    steps = Steps()
    begun = time.monotonic()
    if again and not Cluster(default_name()).exists:
        raise _no_such(again, [])  # not after the 20 minutes of a first cluster
    cluster, target = demo.bring_up(steps, IMAGES, aws=True)
    os.environ.update(cluster.aws_environment() | {"KUBECONFIG": str(cluster.kubeconfig)})
    with steps.step("namespace and identity"):
        target.namespace(NAMESPACE)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": NAMESPACE}}
        target.kubectl("apply", "-f", "-", stdin=json.dumps(account))
        cluster.associate(NAMESPACE, ACCOUNT)
    with steps.step("images, work team and held-out digits into the fake AWS"):
        ready = digits.prepare(Control(os.environ["AWS_ENDPOINT_URL"]))
    name = choose(again)
    folder = FOLDER / name
    with steps.step(f"pipeline, run {name}"):
        went = road.follow(parameters(name, ready), folder, steps, from_yaml=bool(again), during=_Shown(steps, target))
    if "deploy" not in went.seconds:
        raise LocalError(f"the gate held the model back; what was measured: {went.outputs['evaluate']}")
    with steps.step("prediction from inside the cluster"):
        answers = ask(target, name, went.outputs["deploy"]["endpoint_url"], ready.held)
    labels = digits.labels(ready, went.outputs["ground-truth-labelling"]["worker_responses_uri"])
    accuracy = digits.accuracy(went.outputs["predict"]["predictions_uri"], ready.held)
    (folder / "report.html").write_bytes(s3.read(s3.join(RUNS, name, "report.html")))
    (folder / "done").touch()
    _tell(target, went, labels, accuracy, answers, ready.held, name, time.monotonic() - begun)
    if accuracy < REQUIRED_ACCURACY:
        raise LocalError(f"accuracy {accuracy:.4f} on the held-out digits is below {REQUIRED_ACCURACY}")


def parameters(name: str, ready: digits.Ready) -> dict[str, Any]:
    """Of the pipeline, for a machine of two cores."""
    zone = [{"Name": "availability-zone", "Values": [ZONE]}]
    subnet = aws.client("ec2").describe_subnets(Filters=zone)["Subnets"][0]["SubnetId"]
    return {
        "manifest_uri": ready.manifest_uri,
        "output_uri": RUNS,
        "label_attribute": "digit",
        "label_categories": digits.CLASSES,
        "role_arn": f"arn:aws:iam::{ACCOUNT_ID}:role/ground-truth",
        "workteam_arn": ready.workteam_arn,
        "title": "Which digit is it?",
        "endpoint": ENDPOINT,
        "volume": {"create": {"subnetId": subnet}},
        "image_size": digits.PIXELS,
        "worker_resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        "new_data_uri": ready.held.uri,
        "serving_service_account": ACCOUNT,
        "run": name,
        "namespace": NAMESPACE,
        "poll_seconds": 1.0,
    }


class _Shown:
    """What the steps tell about what they wait for; and once, while the training runs, what kubectl shows."""

    def __init__(self, steps: Steps, target: Target) -> None:
        self._steps, self._target = steps, target
        self._listed = False

    def __call__(self, line: str) -> None:
        if match := _STATE.search(line):
            self._steps.say(f"    {match[1]}")
            if "Running" in match[1] and not self._listed:
                self._listed = True
                listed = self._target.kubectl("-n", NAMESPACE, "get", "lvol,tj", "-o", "wide")
                print(f"\n$ kubectl -n {NAMESPACE} get lvol,tj -o wide\n{listed}", file=sys.stderr)


def choose(again: str) -> str:
    """The run that RUN names; without RUN the last one, if it was interrupted, else a new one.

    Raises:
        LocalError: the fake AWS knows no run of that name. None is begun under it: an old one was asked for.
    """
    known = sorted(match[1] for each in s3.objects(f"{RUNS}/") if (match := _RUN.fullmatch(each.uri)))
    if again:
        if again not in known:
            raise _no_such(again, known)
        return again
    last = max((path for path in FOLDER.glob("*") if path.is_dir()), key=lambda path: path.stat().st_mtime, default=None)
    if last and last.name in known and not (last / "done").exists():
        return last.name
    return f"digits-{time.strftime('%m%d-%H%M%S')}"


def _no_such(again: str, known: list[str]) -> LocalError:
    there = ", ".join(known) or "none"
    return LocalError(f"RUN is {again!r}, and there is no such run; there are: {there}. Without RUN a new one begins")


def ask(target: Target, name: str, url: str, held: digits.Held) -> list[tuple[str, int]]:
    """A pod in the cluster asks the endpoint about the first held-out digits; their keys, and the class of each answer."""
    keys = list(held.arrays)[:ASKED]
    rows = np.stack([held.arrays[key] for key in keys])
    tensor = {"name": "image", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    env = {"URL": f"{url}/v2/models/{ENDPOINT}/infer", "BODY": json.dumps({"inputs": [tensor]})}
    job = jobs.build("ask", name, SERVING_IMAGE, ["python3", "-c", ASK], env=env, resources=ASKING)
    jobs.run(Kube(NAMESPACE), job, every=0.2)
    answer = json.loads(target.kubectl("-n", NAMESPACE, "logs", f"job/{job['metadata']['name']}"))["outputs"][0]
    scores = np.array(answer["data"]).reshape(answer["shape"])
    return [(key, int(best)) for key, best in zip(keys, scores.argmax(1), strict=True)]


def _tell(
    target: Target,
    went: road.Run,
    labels: digits.Labels,
    accuracy: float,
    answers: list[tuple[str, int]],
    held: digits.Held,
    name: str,
    seconds: float,
) -> None:
    print("\nthe road")
    for step, length in went.seconds.items():
        print(f"  {step:<42}{length:8.1f} s")
    print(f"  {'all of it':<42}{seconds:8.1f} s\n")
    print(f"labels that are right: {labels.majority:.4f} by majority vote, {labels.dawid_skene:.4f} by Dawid and Skene")
    print(f"test accuracy against the team's labels: {went.outputs['evaluate']['accuracy']:.4f}")
    print(f"accuracy on {len(held.truth)} held-out digits against the truth: {accuracy:.4f} (needed: {REQUIRED_ACCURACY})\n")
    print(f"from inside the cluster, {went.outputs['deploy']['endpoint_url']} says")
    print(_side_by_side([held.arrays[key] for key, _ in answers]))
    print("".join(f"{f'{best} (is {held.truth[key]})':^{2 * digits.PIXELS + 2}}" for key, best in answers))
    print(f"\nresults page\n  {FOLDER / name / 'report.html'}\n\nnext")
    print(f"  RUN={name} make demo-pipeline    # again, from the YAML: everything is found, nothing remote is started")
    print(f"  export KUBECONFIG={target.kubeconfig}\n  kubectl -n {NAMESPACE} get tj,lvol,jobs,deployments,services")
    print(f"  {PENSTOCK} local down    # removes everything")


def _side_by_side(arrays: list[Any]) -> str:
    """Pictures for a terminal, two characters a pixel, every second row."""
    rows = []
    for row in range(0, digits.PIXELS, 2):
        rows.append("  ".join("".join(_INK[int(value * (len(_INK) - 1))] * 2 for value in array[0][row]) for array in arrays))
    return "\n".join(rows)


if __name__ == "__main__":
    main()
