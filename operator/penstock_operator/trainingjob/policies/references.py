"""Which fields a kubelet's words are about: a Secret, ConfigMap or key that is missing, a volume that does not mount.

The words name the object or the volume, not what refers to it. Where none of ours does, it is the template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from penstock_operator import names
from penstock_operator.api.trainingjob import TrainingJobSpec
from penstock_operator.trainingjob.observe import PodView

# A key of an environment variable; sources of whole objects and of volumes say it otherwise. Source: kubelet_pods.go,
# makeEnvironmentVariables.
_KEY = re.compile(r"find key (?P<key>\S+) in (?P<kind>Secret|ConfigMap) [^/\s]+/(?P<name>\S+)")
# Of the environment: the kubelet's Secret and ConfigMap managers.
_OBJECT = re.compile(r'\b(?P<kind>secret|configmap) "(?P<name>[^"]+)" not found')
# MountVolume.SetUp failed for volume "settings" : configmap "settings" not found
_VOLUME = re.compile(r'for volume "(?P<volume>[^"]+)"')
_SUB_PATH = re.compile(r'subPath for volumeMount "(?P<volume>[^"]+)"')
_OF_KEY = {"secret": "secretKeyRef", "configmap": "configMapKeyRef"}
_OF_ALL = {"secret": "secretRef", "configmap": "configMapRef"}


def template_of(pod: PodView) -> str:
    """The field that is merged over the built pod."""
    return f"spec.{'launcher' if pod.role == names.ROLE_LAUNCHER else 'workers'}.template.spec"


def or_by_type(spec: TrainingJobSpec) -> str:
    """What else may have given a worker a resource: after `spec.workers.resources`."""
    return f", or what instanceType {spec.workers.instance_type!r} gives" if spec.workers.instance_type else ""


def referring(pod: PodView, spec: TrainingJobSpec, words: str) -> str:
    """Fields, with commas between them; "" where the words name nothing that a field could refer to."""
    if found := _SUB_PATH.search(words):
        return _volume(pod, spec, found["volume"], "subPath")
    if found := _VOLUME.search(words):
        return _volume(pod, spec, found["volume"])
    if (found := _KEY.search(words)) or (found := _OBJECT.search(words)):
        given = found.groupdict()
        return ", ".join(_environment(spec, given["kind"].lower(), given["name"], given.get("key"))) or template_of(pod)
    return ""


def _environment(spec: TrainingJobSpec, kind: str, name: str, key: str | None) -> Iterator[str]:
    def is_it(reference: object) -> bool:
        """The kubelet does not ask for what is optional."""
        if not isinstance(reference, Mapping) or reference.get("optional") is True:
            return False
        return reference.get("name") == name and (key is None or reference.get("key") == key)

    variables = ((one.name, (one.value_from or {}).get(_OF_KEY[kind])) for one in spec.env)
    yield from (f"spec.env[{variable}].valueFrom.{_OF_KEY[kind]}" for variable, reference in variables if is_it(reference))
    yield from (f"spec.envFrom[{at}].{_OF_ALL[kind]}" for at, one in enumerate(spec.env_from) if is_it(one.get(_OF_ALL[kind])))


def _volume(pod: PodView, spec: TrainingJobSpec, name: str, field: str = "") -> str:
    for one in spec.volumes:
        if one.name == name:
            source = "lustreVolume" if one.lustre_volume is not None else next(iter(one.source))
            return f"spec.volumes[{name}].{field or source}"
    return "" if name.startswith("penstock-") else template_of(pod)
