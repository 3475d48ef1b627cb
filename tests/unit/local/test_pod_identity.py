"""What is refused before anything is written."""

from __future__ import annotations

import pytest

from penstock_local.eks import pod_identity
from penstock_local.errors import LocalError


@pytest.mark.parametrize(
    "role", ["admin", "arn:aws:iam::12345:role/x", "arn:aws:iam::123456789012:user/x", "arn:aws:iam::123456789012:role/"]
)
def test_what_is_no_arn_of_a_role_is_refused_and_nothing_is_written(role: str) -> None:
    asked: list[tuple[str, ...]] = []

    def kubectl(*arguments: str, stdin: str | None = None) -> str:
        asked.append(arguments)
        return ""

    with pytest.raises(LocalError, match="expected an ARN such as arn:aws:iam::123456789012:role/NAME"):
        pod_identity.associate(kubectl, "space", "account", role)
    assert asked == []
