"""The smoke test against a real HTTP server: what it sends, what it refuses, how long it waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.components.model_server import Model

from penstock_components.deployment.deploy import smoke
from penstock_components.errors import ComponentError


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda answer: {"error": "bad"}, "answers no tensor"),
        (lambda answer: {"outputs": [{**answer["outputs"][0], "data": [float("nan"), 1.0]}]}, "not finite"),
        (lambda answer: {"outputs": [{"shape": [1], "data": [1.0]}]}, r"answers shape \[1\], expected \[1, classes\]"),
        (lambda answer: [], "answers list, expected an object"),
    ],
)
def test_a_smoke_test_refuses_answers_of_another_form(model: Model, change: Callable[[Any], Any], message: str) -> None:
    model.change = change
    with pytest.raises(smoke.SmokeFailed, match=message):
        smoke.try_out(model, "m", [[2.0, 1.0]])


def test_a_smoke_test_waits_for_a_proxy_but_not_for_a_refusal(model: Model) -> None:
    model.statuses = [503, 502, 200, 504]
    slept: list[float] = []
    assert smoke.try_out(model, "m", [[2.0, 1.0], [0.0, 3.0]], ["cat", "dog"], sleep=slept.append) == ["cat", "dog"]
    assert slept == [1.0, 1.0, 1.0]
    assert model.asked[-1][1]["inputs"] == [
        {"name": "image", "datatype": "FP32", "shape": [2, 2], "data": [2.0, 1.0, 0.0, 3.0]}
    ]
    model.statuses = [404]
    with pytest.raises(smoke.SmokeFailed, match="GET /v2/models/m answers 404"):
        smoke.try_out(model, "m", [[2.0, 1.0]])
    model.statuses = [503] * 100
    with pytest.raises(smoke.SmokeFailed, match="answers 503"):
        smoke.try_out(model, "m", [[2.0, 1.0]], patience=5.0, sleep=slept.append)


def test_a_model_without_names_is_compared_by_index(model: Model) -> None:
    model.about = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [-1, 2]}]}
    assert smoke.try_out(model, "m", [[1, 2]], ["1"]) == ["1"]
    assert model.asked[-1][1]["inputs"][0]["data"] == [1, 2]


def test_samples_of_different_shapes_are_refused(model: Model) -> None:
    with pytest.raises(ComponentError, match="not rows of one shape"):
        smoke.try_out(model, "m", [[1.0, 2.0], [1.0]])
