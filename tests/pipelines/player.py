"""Operator, FSx, training and model server as a run meets them: statuses are written, and files appear where they would.

Where a TrainingJob's data and model lie is found as its pods would find it: mounted volume, repositories, the command's paths.
"""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any
from urllib.parse import quote

from tests.api.cluster import PODS, now
from tests.components.played import Played, complete

from penstock_components import s3
from penstock_components.deployment.deploy.request import ENDPOINT
from penstock_components.kube import Object

API = "/apis/penstock.dev/v1alpha1/namespaces/{namespace}"
HISTORY = [
    {"epoch": 1, "loss": 1.0, "validation_loss": 1.1, "validation_accuracy": 0.5},
    {"epoch": 2, "loss": 0.2, "validation_loss": 0.3, "validation_accuracy": 0.9},
]


KINDS = {
    f"{API}/lustrevolumes": "LustreVolume",
    f"{API}/trainingjobs": "TrainingJob",
    "/apis/batch/v1/namespaces/{namespace}/jobs": "Job",
    "/apis/apps/v1/namespaces/{namespace}/deployments": "Deployment",
    PODS: "Pod",
}


class Player:
    """Called with each object that is new or changed. `fails`: steps whose remote part fails; `right`: the model's predictions
    are."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.right = True
        self.fails: set[str] = set()
        self.made: dict[str, str] = {}  # everything ever seen but pods: uid to "Kind name"
        self._answered: set[str] = set()
        self._addresses: dict[str, str] = {}  # of pods, by uid

    def __call__(self, mine: Played, path: str, seen: Object) -> None:
        kind, name, uid = KINDS[path], seen["metadata"]["name"], seen["metadata"]["uid"]
        if kind != "Pod":
            self.made[uid] = f"{kind} {name}"
        if kind == "Pod" and ENDPOINT in seen["metadata"].get("labels", {}):
            self._serve(mine, seen)
        elif uid not in self._answered:
            match kind:
                case "LustreVolume":
                    mine.call("PATCH", f"{path}/{name}/status", {"status": self._linked(seen)})
                case "TrainingJob":
                    self._train(mine, seen)
                case "Pod":
                    self._predict(mine, seen)
            self._answered.add(uid)  # not where it was refused: then it has changed, and comes again

    def kinds(self) -> list[str]:
        """Kinds of all that was ever made, sorted."""
        return sorted(each.partition(" ")[0] for each in self.made.values())

    def _linked(self, volume: Object) -> Object:
        bad = "training-ground" in self.fails
        status, reason = ("False", "CreationFailed") if bad else ("True", "Created")
        words = "Insufficient capacity in the zone" if bad else ""
        condition = {"type": "FileSystemAvailable", "status": status, "reason": reason, "message": words}
        return {
            "phase": "Failed" if bad else "Available",
            "reason": reason,
            "observedGeneration": volume["metadata"]["generation"],
            "conditions": [{**condition, "lastTransitionTime": now()}],
        }

    def _train(self, mine: Played, job: Object) -> None:
        name = job["metadata"]["name"]
        if "train" in self.fails:
            condition = {"type": "Failed", "status": "True", "reason": "ProgramFailed", "message": "exit code 2"}
            mine.training_status(name, phase="Failed", conditions=[{**condition, "lastTransitionTime": now()}])
            return
        options = dict(part.split("=", 1) for part in job["spec"]["command"] if "=" in part)
        about = json.loads(s3.read(self._in_s3(mine, job, f"{options['--data']}/dataset.json")))
        assert about["counts"]["train"]
        model = {
            "model": "model.pt2",
            "bytes": 4,
            "sha256": "0" * 64,
            "metrics": {"validation_accuracy": 0.9},
            "history": HISTORY,
        }
        for file, data in (("model.pt2", b"real"), ("model.json", json.dumps(model).encode())):
            s3.write(self._in_s3(mine, job, f"{options['--out']}/{file}"), data)
        mine.training_status(name, **complete())

    def _in_s3(self, mine: Played, job: Object, path: str) -> str:
        """Where FSx keeps the file of this path in the job's pods."""
        mount = next(
            each for each in job["spec"]["volumes"] if "lustreVolume" in each and path.startswith(f"{each['mountPath']}/")
        )
        volume = mine.call("GET", f"{API}/lustrevolumes/{mount['lustreVolume']}")
        inside = path.removeprefix(mount["mountPath"])
        for each in volume["spec"]["repositories"]:
            if inside.startswith(f"{each['path'].rstrip('/')}/"):
                return str(each["s3"]).rstrip("/") + inside.removeprefix(each["path"].rstrip("/"))
        raise AssertionError(f"{path} is in no repository of {volume['spec']}")

    def _serve(self, mine: Played, pod: Object) -> None:
        name = pod["metadata"]["name"]
        if pod["metadata"].get("deletionTimestamp"):
            mine.call("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
        elif not pod["spec"].get("nodeName"):
            mine.place(pod, self.node)
        elif "deploy" in self.fails:
            mine.pod_waits(pod, "InvalidImageName", "couldn't parse image name")
        elif pod["status"]["phase"] == "Pending":
            address = self._addresses.setdefault(pod["metadata"]["uid"], f"10.1.0.{len(self._addresses) + 1}")
            mine.pod_runs(pod, ip=address)

    def _predict(self, mine: Played, pod: Object) -> None:
        command = pod["spec"]["containers"][0]["command"]
        options = dict(zip(command[3::2], command[4::2], strict=True))
        step = "evaluate" if "/evaluation/" in options["--output"] else "predict"
        if step not in self.fails:
            s3.write(options["--output"], self._predictions(options["--input"]))
        mine.pod_ends(pod, 65 if step in self.fails else 0)

    def _predictions(self, uri: str) -> bytes:
        lines = []
        for shard in s3.objects(s3.join(uri, "")):
            with tarfile.open(fileobj=io.BytesIO(s3.read(shard.uri))) as tar:
                for member in (each for each in tar if each.name.endswith(".cls")):
                    file = tar.extractfile(member)
                    assert file is not None
                    label = int(file.read())
                    probabilities = [0.05] * 3
                    probabilities[label if self.right else (label + 1) % 3] = 0.9
                    lines.append({"key": member.name.removesuffix(".cls"), "label": label, "probabilities": probabilities})
        return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


def objects(mine: Played, path: str) -> list[Any]:
    """All objects under an API path of the namespace."""
    return list(mine.call("GET", quote(path, safe="/{}?=,"))["items"])
