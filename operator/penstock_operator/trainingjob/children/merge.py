"""Strategic merge of a user's pod template over a built pod: lists of named things merge by name, all else is replaced.

The merge keys are those of the pod types in k8s.io/api/core/v1 (patchMergeKey tags). `$patch: delete` and `$patch: replace`
work as in kubectl; `null` removes a field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "schedulingGates": "name",
}


def merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `patch` merged over it. Neither is changed."""
    merged = {} if patch.get("$patch") == "replace" else dict(base)
    for key, value in patch.items():
        if key == "$patch":
            continue
        if value is None or (isinstance(value, Mapping) and value.get("$patch") == "delete"):
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            before = merged.get(key)
            merged[key] = merge(before if isinstance(before, Mapping) else {}, value)
        elif key in MERGE_KEYS and isinstance(value, Sequence) and not isinstance(value, str):
            before = merged.get(key)
            merged[key] = _merge_list(before if isinstance(before, Sequence) else (), value, MERGE_KEYS[key])
        else:
            merged[key] = value
    return merged


def _merge_list(base: Sequence[Any], patch: Sequence[Any], key: str) -> list[Any]:
    if not all(isinstance(one, Mapping) for one in patch):
        return list(patch)  # not what the API server takes; it will say so, with the field
    if any(one.get("$patch") == "replace" for one in patch):
        return [one for one in patch if one.get("$patch") != "replace"]
    if not base:  # nothing to merge with: even two entries of one key stay two, for the API server to judge
        return [merge({}, one) for one in patch if one.get("$patch") != "delete"]
    merged = {one[key]: one for one in base}
    extra = []
    for one in patch:
        if key not in one:
            extra.append(one)
        elif one.get("$patch") == "delete":
            merged.pop(one[key], None)
        else:
            merged[one[key]] = merge(merged.get(one[key], {}), one)
    return [*merged.values(), *extra]
