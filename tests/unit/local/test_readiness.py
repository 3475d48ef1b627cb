"""Kinds that a cluster has to serve before anything else goes on."""

from __future__ import annotations

import json
from collections.abc import Container
from typing import Any

import pytest

from penstock_local import readiness
from penstock_local.errors import LocalError

SERVED = [{"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"}]


def crd(name: str, conditions: Any) -> dict[str, Any]:
    versions = [{"name": "v1", "served": False}, {"name": "v2", "served": True}]
    spec = {"group": "example.org", "versions": versions, "names": {"plural": name}}
    return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": conditions}}


class Answers:
    """kubectl that says each time what the next look finds, and lists the objects of those kinds that are `listed`."""

    def __init__(self, *looks: list[dict[str, Any]], listed: Container[str]) -> None:
        self.looks = list(looks)
        self._listed = listed

    def __call__(self, verb: str, what: str, *arguments: str) -> str:
        if what == "crd":
            return json.dumps({"items": self.looks.pop(0)})
        if arguments[0] not in {f"/apis/example.org/v2/{name}" for name in self._listed}:
            raise LocalError("storage is (re)initializing")
        return "{}"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "KUBECTL_POLL_SECONDS", 0.0)


def test_a_kind_that_is_not_there_or_has_no_conditions_yet_is_waited_for() -> None:
    unlike = {"metadata": {"name": "a"}}
    refused = crd("a", [{"type": "Established", "status": "False"}])
    answers = Answers([], [unlike], [crd("a", None)], [refused], [crd("a", SERVED), crd("b", None)], listed={"a", "b"})
    readiness.wait_crds(answers, "a")
    assert answers.looks == []


def test_a_kind_is_served_when_its_objects_can_be_listed() -> None:
    listed: set[str] = set()
    looks = ([crd("a", SERVED)] for _ in range(3))
    answers = Answers(*looks, listed=listed)
    with pytest.raises(LocalError, match=r"^not served after 0 s: a \(storage is \(re\)initializing\)$"):
        readiness.wait_crds(answers, "a", seconds=0)
    listed.add("a")
    readiness.wait_crds(answers, "a", seconds=0)
    assert len(answers.looks) == 1


def test_after_the_deadline_the_missing_ones_are_named_with_the_reason() -> None:
    answers = Answers([crd("a", SERVED), crd("b", None)], listed={"a", "b"})
    with pytest.raises(LocalError, match=r"^not served after 0 s: b \(not Established\), c \(not there\)$"):
        readiness.wait_crds(answers, "a", "b", "c", seconds=0)
