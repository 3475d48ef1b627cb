"""What a training loop hands over becomes a report that the operator's own parser accepts, whatever it was."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_operator.runtime.progress import Report
from penstock_trainer.report import count, document, metric_values, number


class Scalar:
    """What torch tensors and numpy scalars have in common."""

    shape = ()

    def __init__(self, value: object) -> None:
        self._value = value

    def item(self) -> object:
        return self._value


class Vector:
    """An array of several elements: item() raises, as in torch and numpy."""

    shape = (3,)

    def item(self) -> float:
        raise ValueError("can only convert an array of size 1 to a Python scalar")


class Lost:
    """A tensor whose device is gone: every look at it raises."""

    @property
    def shape(self) -> tuple[int, ...]:
        raise RuntimeError("the device is lost")

    item = shape


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (0.5, 0.5),
        (3, 3.0),
        (True, 1.0),
        (Scalar(0.25), 0.25),
        (Scalar(7), 7.0),
        (Scalar(math.nan), None),
        (math.inf, None),
        (-math.inf, None),
        (Vector(), None),
        (Lost(), None),
        (None, None),
        ("low", None),
        (10**400, None),
        ([1.0], None),
    ],
)
def test_a_number_is_any_finite_scalar_and_nothing_raises(value: object, found: float | None) -> None:
    assert number(value) == found


@pytest.mark.parametrize(("value", "found"), [(5, 5), (Scalar(5), 5), (2.9, 2), (-1, None), (math.nan, None), ("x", None)])
def test_a_count_is_whole_and_not_negative(value: object, found: int | None) -> None:
    assert count(value) == found


def test_a_metric_that_is_no_number_is_left_out_and_named_and_the_others_stay() -> None:
    said: dict[str, str] = {}
    values = metric_values({"loss": math.nan, "top-1": 0.5, "logits": Vector(), "note": "x", "gpu": Lost()}, said.__setitem__)
    assert values == {"top-1": 0.5}
    assert said == {
        "metric loss": "metric 'loss' is left out while it is nan, not a finite number",
        "metric logits": "metric 'logits' is left out while it is a Vector of shape (3,), not a finite number",
        "metric gpu": "metric 'gpu' is left out while it is a Lost, not a finite number",
        "metric note": "metric 'note' is left out while it is a str, not a finite number",
    }


def test_values_have_the_seven_digits_of_a_float32_and_whole_numbers_all_of_theirs() -> None:
    assert metric_values({"loss": 2.2943828105926514, "tiny": 1.23456789e-12, "tokens": 123456789012}, _ignore) == {
        "loss": 2.294383,
        "tiny": 1.234568e-12,
        "tokens": 123456789012.0,
    }


def test_names_are_made_acceptable_and_only_32_metrics_go() -> None:
    said: dict[str, str] = {}
    assert metric_values({"val loss (mean)": 1}, said.__setitem__) == {"val_loss__mean_": 1.0}
    values = metric_values({f"metric-{n}": n for n in range(40)}, said.__setitem__)
    assert len(values) == 32
    assert "only the first 32 metrics are reported; 'metric-32' and later ones are not" in said["metrics"]


def _ignore(about: str, message: str) -> None:
    return None


@given(
    metrics=st.dictionaries(
        st.text(max_size=80),
        st.one_of(st.floats(), st.integers(), st.text(max_size=5), st.none(), st.floats().map(Scalar)),
        max_size=50,
    ),
    step=st.integers(0, 2**62),
    total=st.one_of(st.none(), st.integers(0, 2**62)),
)
def test_the_operator_accepts_whatever_metrics_a_loop_reports(metrics: dict[str, Any], step: int, total: int | None) -> None:
    values = metric_values(metrics, _ignore)
    parsed = Report.model_validate_json(document({"step": step, "totalSteps": total}, values))
    assert (parsed.step, parsed.total_steps) == (step, total)
    assert parsed.metrics == pytest.approx(values)
