"""What can be changed while the fake AWS runs: how long things take, which files and objects fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DEFAULTS: Final[dict[str, Any]] = {
    "fsx.createSeconds": 2.0,  # CREATING to AVAILABLE; about five minutes on AWS
    "fsx.updateSeconds": 1.0,
    "fsx.deleteSeconds": 1.0,
    "fsx.associationSeconds": 1.0,  # creation, update and deletion of an association, one at a time per file system
    "fsx.taskSeconds": 1.0,
    "fsx.failPaths": [],  # patterns (fnmatch) of paths from the root of a file system, "data/*.bin": a task fails these files
    "fsx.badBucket": "refuse",  # a missing or foreign bucket: "refuse" the association, or make it "misconfigured"
    "labelling.startSeconds": 0.3,  # Initializing
    "labelling.secondsPerObject": 0.02,
    "labelling.stopSeconds": 0.3,
    "labelling.failObjects": [],  # patterns of object URIs that workers cannot label
    "labelling.statusAtLimit": "Stopped",  # how a job ends whose StoppingConditions are met: "Stopped" or "Completed"
}
_CHOICES: Final = {"fsx.badBucket": ("refuse", "misconfigured"), "labelling.statusAtLimit": ("Stopped", "Completed")}


class Settings:
    """The values by name; thread-safe, since every change replaces the whole."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = dict(DEFAULTS)

    def seconds(self, name: str) -> float:
        return float(self._values[name])

    def patterns(self, name: str) -> list[str]:
        return list(self._values[name])

    def choice(self, name: str) -> str:
        return str(self._values[name])

    def all(self) -> dict[str, Any]:
        return dict(self._values)

    def change(self, given: Mapping[str, Any]) -> None:
        """Take over `{"fsx.createSeconds": 0}` or `{"fsx": {"createSeconds": 0}}`, all or nothing.

        Raises:
            ValueError: an unknown name or a wrong value.
        """
        flat: dict[str, Any] = {}
        for name, value in given.items():
            flat |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
        for name, value in flat.items():
            _check(name, value)
        self._values = {**self._values, **flat}


def _check(name: str, value: object) -> None:
    if name not in DEFAULTS:
        raise ValueError(f"no setting {name!r}; there are {', '.join(DEFAULTS)}")
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise ValueError(f"{name} is {value!r}; choose {' or '.join(_CHOICES[name])}")
    elif isinstance(DEFAULTS[name], list):
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError(f"{name} is {value!r}; give a list of patterns")
    elif isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{name} is {value!r}; give a number of seconds, 0 or more")
