"""Progress: each step with its length."""

from __future__ import annotations

import io
import re

import pytest

from penstock_local.steps import Steps


def test_a_step_says_when_it_begins_and_how_long_it_took() -> None:
    stream = io.StringIO()
    steps = Steps(stream)
    with steps.step("compile etcd 1/2, then kubectl", "a minute"):
        pass
    first, last = stream.getvalue().splitlines()
    assert re.fullmatch(r"\[ +0\.\d s\] compile etcd 1/2, then kubectl \(a minute\) …", first)
    assert re.fullmatch(r"\[ +0\.\d s\] compile etcd 1/2, then kubectl: 0\.\d s", last)
    assert list(steps.seconds) == ["compile etcd 1/2, then kubectl"]


def test_a_step_that_fails_is_not_counted_as_done() -> None:
    steps = Steps(quiet=True)
    with pytest.raises(ValueError, match="no"), steps.step("broken"):
        raise ValueError("no")
    assert steps.seconds == {}
