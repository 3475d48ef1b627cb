"""Kinds that a cluster has to serve before anything else goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from penstock_local import readiness
from penstock_local.errors import LocalError

SERVED = [{"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"}]


def crd(name: str, conditions: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"conditions": conditions}}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "POLL_SECONDS", 0.0)


def test_a_kind_that_is_not_there_or_has_no_conditions_yet_is_waited_for() -> None:
    refused = [{"type": "Established", "status": "False"}]
    answers: Iterator[list[dict[str, Any]]] = iter(
        [[], [{"metadata": {"name": "a"}}], [crd("a", None)], [crd("a", refused)], [crd("a", SERVED), crd("b", None)]]
    )
    readiness.wait_crds(lambda *_: json.dumps({"items": next(answers)}), "a")
    assert list(answers) == []


def test_after_the_deadline_the_missing_ones_are_named() -> None:
    with pytest.raises(LocalError, match=r"^not served after 0 s: b, c$"):
        readiness.wait_crds(lambda *_: json.dumps({"items": [crd("a", SERVED), crd("b", None)]}), "a", "b", "c", seconds=0)
