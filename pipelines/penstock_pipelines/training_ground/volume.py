"""One LustreVolume for a run: made or found again, available, and writable for the training's user.

The dataset is linked for reading only, the model's folder with automatic export. A run that names a volume uses that one as it
is; it must hold both folders, and is never deleted by the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from penstock_components import adoption, aws, s3, waiting
from penstock_components.errors import ComponentError
from penstock_components.kube import Kube, Object
from penstock_pipelines import run as runs

USER: Final = 1000
# A file system that goes is exported first, and its deletion takes FSx minutes; the pods of the run before must let go of it.
GONE: Final = 1800.0


def problems(spec: Mapping[str, Any], name: str) -> Iterator[str]:
    """What is wrong with `volume` and `volume_name` as parameters; what is in them is the API server's to judge."""
    if name:
        if spec:
            yield "volume and volume_name are both given; volume makes one, volume_name uses one that is there"
        return
    chosen = [key for key in ("create", "fileSystemId") if key in spec]
    unknown = sorted(set(spec) - {"create", "fileSystemId", "reclaimPolicy"})
    if unknown:
        yield f"volume has {', '.join(unknown)}; allowed are create or fileSystemId, and reclaimPolicy: the run makes the links"
    if len(chosen) != 1:
        yield f"volume has {' and '.join(chosen) or 'nothing'}; give create or fileSystemId, or else volume_name"


def build(run_uri: str, dataset_uri: str, model_uri: str, spec: Mapping[str, Any]) -> Object:
    """The run's LustreVolume. On a file system that is there already the run's folders have its name: two runs may share it."""
    name = runs.volume(run_uri)
    root = f"/{name}" if "fileSystemId" in spec else ""
    repositories = [
        {"path": f"{root}/dataset", "s3": s3.join(dataset_uri, "")},
        {"path": f"{root}/model", "s3": s3.join(model_uri, ""), "exportEvents": ["New", "Changed"]},
    ]
    metadata: Object = {
        "name": name,
        "labels": {"app.kubernetes.io/managed-by": "penstock-components"},
        "annotations": {runs.RUN: run_uri},
    }
    wish = {**adoption.plain(dict(spec)), "repositories": repositories}
    return adoption.marked({"apiVersion": runs.PENSTOCK, "kind": runs.LUSTRE_VOLUME, "metadata": metadata, "spec": wish})


def make(kube: Kube, wish: Object, model_uri: str, seconds: float, every: float) -> None:
    """Make the volume, or go on with the run's own, and wait until it is available. A cancelled step deletes it.

    Raises:
        ComponentError: it failed or is not available in time, with its conditions; or the API server refuses it.
    """
    with waiting.stop_on_signal(lambda: adoption.delete(kube, wish)):
        make_writable(model_uri)
        adoption.start(kube, wish, failed=lambda found: found.get("status", {}).get("phase") == "Failed", gone_seconds=GONE)
        wait(kube, wish["metadata"]["name"], seconds, every)


def make_writable(uri: str) -> None:
    """Leave a folder marker in S3 with the owner and mode that FSx gives the folder: its root is root's else, mode 0755.

    FSx for Lustre User Guide, "POSIX metadata support for data repositories". One that is there stays as it is.
    """
    bucket, key = s3.parse(s3.join(uri, ""))
    client = aws.client("s3")
    if key in {each["Key"] for each in client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])}:
        return
    metadata = {"file-owner": str(USER), "file-group": str(USER), "file-permissions": "0040775"}
    client.put_object(Bucket=bucket, Key=key, Body=b"", Metadata=metadata)


def existing(kube: Kube, name: str) -> Object:
    """A volume that is there. Raises ComponentError if it is not."""
    found = kube.get(runs.PENSTOCK, runs.LUSTRE_VOLUME, name)
    if found is None:
        raise ComponentError(f"there is no LustreVolume {kube.namespace}/{name}; `kubectl get lvol` shows those that are")
    return found


def wait(kube: Kube, name: str, seconds: float, every: float = 5.0) -> Object:
    """The volume, once it is available. Raises as `make`."""

    def describe() -> Object:
        found = kube.get(runs.PENSTOCK, runs.LUSTRE_VOLUME, name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            raise ComponentError(f"LustreVolume {name} was deleted while this step waited for it; run the step again")
        if found.get("status", {}).get("phase") == "Failed":
            raise ComponentError(f"LustreVolume {name} failed: {line(found)}")
        return found

    return waiting.poll(describe, until=available, every=every, deadline=seconds, describe_state=line)


def available(found: Object) -> bool:
    """Linked and bound, as its newest spec says."""
    status = found.get("status", {})
    seen = int(status.get("observedGeneration", 0)) >= int(found["metadata"]["generation"])
    return seen and status.get("phase") == "Available"


def line(found: Object) -> str:
    """Phase, reason, and the conditions that are not as they should be, in the operator's words."""
    status = found.get("status", {})
    phase = f"{status.get('phase', 'Pending')} ({status.get('reason', 'not seen yet')})"
    words = [f"LustreVolume {found['metadata']['name']}: {phase}"]
    for each in status.get("conditions", []):
        if each["type"] == "Reconciling":
            continue  # repeats what another condition says
        good = "False" if each["type"] == "Stalled" else "True"
        if each["status"] != good and each.get("message"):
            words.append(f"{each['type']} {each['status']}: {each['reason']}: {each['message']}")
    return "; ".join(words)


def places(found: Object, dataset_uri: str, model_uri: str) -> list[str]:
    """The paths of both folders in the volume.

    Raises:
        ComponentError: no repository holds one of them, or it does not follow S3, or is not exported.
    """
    name = found["metadata"]["name"]
    own = found["metadata"].get("annotations", {}).get(runs.RUN) is not None
    result = []
    for uri, events in ((dataset_uri, "importEvents"), (model_uri, "exportEvents")):
        for each in found["spec"].get("repositories", []):
            prefix = s3.join(each["s3"], "")
            if s3.join(uri, "").startswith(prefix):
                break
        else:
            raise ComponentError(f"LustreVolume {name} links no prefix that holds {uri}; add it to spec.repositories")
        # The run's own volume is made when the dataset is complete.
        if "New" not in each.get(events, []) and not (own and events == "importEvents"):
            raise ComponentError(f"LustreVolume {name}: the repository {each['path']} has no {events} New, which {uri} needs")
        below = s3.join(uri, "").removeprefix(prefix).rstrip("/")
        result.append(each["path"].rstrip("/") + (f"/{below}" if below else ""))
    return result
