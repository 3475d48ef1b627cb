"""The way back: which field of the job a field of one of its pods was made from.

The API server names what it refuses by the pod's fields, and nobody wrote that pod: the user's file has
`spec.volumes[data].mountPath`, not `spec.containers[0].volumeMounts[3].mountPath`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from penstock_operator import names
from penstock_operator.trainingjob.children.common import Child

_QUOTED = re.compile(r'"((?:spec|metadata)\.[^"]+)"')
_ENTRY = re.compile(r"spec\.(volumes|containers)\[(\d+)\](.*)")
_LISTED = re.compile(r"\.(env|envFrom|volumeMounts)\[(\d+)\](.*)")


def origin(pod: Child, job: Mapping[str, Any], path: str) -> str:
    """The job's field behind `path` of a pod; `job` is the TrainingJob's spec as the user wrote it."""
    if pod["kind"] != "Pod" or not path:
        return path
    role = pod["metadata"]["labels"][names.LABEL_ROLE]
    section = "workers" if role == names.ROLE_WORKER else "launcher"
    template = f"spec.{section}.template"
    found = _ENTRY.fullmatch(path)
    if found is None:
        return f"{template}.{path}"
    kind, index, rest = found[1], int(found[2]), found[3]
    entry = _at(pod["spec"].get(kind), index)
    name = entry.get("name", str(index))
    if kind == "volumes" and name in _named(job.get("volumes")):
        return f"spec.volumes[{name}]{rest}"
    if kind == "containers" and name == role:
        written = _named(((job.get(section) or {}).get("template") or {}).get("spec", {}).get("containers")).get(role, {})
        return _of_main(entry, job, section, rest, written) or f"{template}.spec.containers[{role}]{rest}"
    return f"{template}.spec.{kind}[{name}]{rest}"


def origins(pod: Child, job: Mapping[str, Any], message: str) -> str:
    """A message of the API server with each quoted field of the pod replaced by the job's."""
    return _QUOTED.sub(lambda match: f'"{origin(pod, job, match[1])}"', message)


def _of_main(container: Mapping[str, Any], job: Mapping[str, Any], section: str, rest: str, written: Mapping[str, Any]) -> str:
    """The job's field behind the main container's; empty where it is the template's, in which `written` stands."""
    listed = _LISTED.fullmatch(rest)
    if listed and listed[1] != "envFrom":  # merged by name
        kind, tail = listed[1], listed[3]
        name = _at(container.get(kind), int(listed[2])).get("name", "")
        if name in _named(written.get(kind)):
            return f"spec.{section}.template.spec.containers[{container['name']}].{kind}[{name}]{tail}"
        own = "env" if kind == "env" else "volumes"
        return f"spec.{own}[{name}]{tail}" if name in _named(job.get(own)) else ""
    head = re.match(r"\.(\w+)", rest)
    if head is None or head[1] in written:
        return ""
    places = {"image": "spec", "resources": f"spec.{section}", "envFrom": "spec"}
    if section == "launcher":
        places["command"] = "spec"
    return f"{places[head[1]]}{rest}" if head[1] in places else ""


def _at(entries: Any, index: int) -> Mapping[str, Any]:
    one = entries[index] if isinstance(entries, Sequence) and index < len(entries) else {}
    return one if isinstance(one, Mapping) else {}


def _named(entries: Any) -> dict[str, Mapping[str, Any]]:
    return {one["name"]: one for one in entries or () if isinstance(one, Mapping) and "name" in one}
