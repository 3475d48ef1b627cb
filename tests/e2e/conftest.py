"""The cluster of all tests on real nodes, and a namespace for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.ring_cluster import Space, bring_up

from penstock_local.tools import Target


@pytest.fixture(scope="session")
def target() -> Target:
    return bring_up()


@pytest.fixture
def space(target: Target) -> Iterator[Space]:
    made = Space(target)
    yield made
    made.drop()
