"""Settings that cannot be read stop the start with one line."""

from __future__ import annotations

import pytest

from penstock_operator.settings import SettingsError, load


def test_variables_are_read_with_the_type_of_their_default() -> None:
    found = load(
        {
            "PENSTOCK_WORKERS": "3",
            "PENSTOCK_LEADER_ELECTION": "false",
            "PENSTOCK_WATCH_NAMESPACES": "a, b",
            "PENSTOCK_SETTLE_SECONDS": "0.5",
        }
    )
    assert (found.workers, found.leader_election, found.watch_namespaces, found.settle_seconds) == (3, False, ("a", "b"), 0.5)
    assert found.service_url == "http://penstock-operator.penstock-system.svc:8080"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PENSTOCK_WORKERS", "many"),
        ("PENSTOCK_WORKERS", "0"),
        ("PENSTOCK_LEADER_ELECTION", "yes please"),
        ("PENSTOCK_LOG_FORMAT", "xml"),
        ("PENSTOCK_LEASE_RENEW_SECONDS", "8"),
    ],
)
def test_a_value_that_cannot_be_read_is_named(variable: str, text: str) -> None:
    with pytest.raises(SettingsError, match=rf"{variable}: found '?{text}"):
        load({variable: text})
