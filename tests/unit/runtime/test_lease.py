"""Who leads: the whole decision as a table."""

from __future__ import annotations

from typing import Any

import pytest

from penstock_operator.runtime.lease import Seen, next_step


def lease(holder: str, version: str = "7") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}}


@pytest.mark.parametrize(
    ("found", "seen", "now", "step"),
    [
        pytest.param(None, Seen(), 0.0, "create", id="no lease yet"),
        pytest.param(lease("me"), Seen(), 0.0, "renew", id="ours"),
        pytest.param(lease(""), Seen(), 0.0, "take", id="released"),
        pytest.param(lease("other"), Seen(), 0.0, "wait", id="another's, first seen now"),
        pytest.param(lease("other"), Seen("7", 0.0), 14.0, "wait", id="another's, not expired"),
        pytest.param(lease("other"), Seen("7", 0.0), 16.0, "take", id="another's, unchanged for its whole duration"),
        pytest.param(lease("other", "8"), Seen("7", 0.0), 100.0, "wait", id="another's, renewed since"),
    ],
)
def test_the_lease_is_taken_only_when_nobody_keeps_it(found: dict[str, Any] | None, seen: Seen, now: float, step: str) -> None:
    assert next_step(found, "me", seen, now) == step
