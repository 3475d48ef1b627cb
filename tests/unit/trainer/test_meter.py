"""Samples a second and time left: smoothed, never from before the first reading, never negative."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_trainer.meter import TIME_CONSTANT, Rate, eta_seconds


def test_one_reading_is_no_rate() -> None:
    rate = Rate()
    rate.observe(1000, 50.0)
    assert rate.per_second() is None


@given(
    per_second=st.floats(0.01, 1e6),
    gaps=st.lists(st.floats(0.05, 500.0), min_size=1, max_size=30),
    start=st.integers(0, 10**9),
)
def test_a_steady_counter_shows_its_true_rate_from_the_second_reading_on(
    per_second: float, gaps: list[float], start: int
) -> None:
    rate, now = Rate(), 0.0
    rate.observe(start, now)
    for gap in gaps:
        now += gap
        rate.observe(start + per_second * now, now)
        # The counter is a sum of floats, so small rates on a large start lose digits.
        assert rate.per_second() == pytest.approx(per_second, rel=1e-6, abs=1e-3)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 100)), min_size=1, max_size=50))
def test_a_rate_lies_between_the_slowest_and_the_fastest_stretch(stretches: list[tuple[float, float]]) -> None:
    rate, count, now, speeds = Rate(), 0.0, 0.0, []
    rate.observe(count, now)
    for added, gap in stretches:
        count, before, now = count + added, now, now + gap
        rate.observe(count, now)
        if now > before:
            speeds.append(added / (now - before))
    found = rate.per_second()
    if found is not None and len(speeds) == len(stretches):
        assert min(speeds) * 0.99 - 1e-6 <= found <= max(speeds) * 1.01 + 1e-6


def test_after_a_slowdown_the_rate_follows_within_the_time_constant() -> None:
    rate, count = Rate(), 0.0
    rate.observe(count, 0.0)
    for second in range(1, 61):
        count += 100
        rate.observe(count, float(second))
    for second in range(61, 61 + int(TIME_CONSTANT)):
        count += 50
        rate.observe(count, float(second))
    found = rate.per_second()
    assert found is not None
    assert 65 < found < 72


def test_a_counter_that_starts_over_is_a_new_base_line_and_keeps_the_old_rate() -> None:
    rate = Rate()
    rate.observe(0, 0.0)
    rate.observe(100, 10.0)
    rate.observe(0, 20.0)
    assert rate.per_second() == pytest.approx(10)
    rate.observe(100, 30.0)
    assert rate.per_second() == pytest.approx(10)


@pytest.mark.parametrize(
    ("done", "total", "per_second", "left"),
    [
        (10, 110, 10.0, 10),
        (0, None, 10.0, None),
        (0, 0, 10.0, None),
        (5, 10, None, None),
        (5, 10, 0.0, None),
        (10, 10, None, 0),
        (12, 10, 1.0, 0),
        (9, 10, 1000.0, 1),
    ],
)
def test_time_left_is_whole_seconds_and_0_only_when_done(
    done: int, total: int | None, per_second: float | None, left: int | None
) -> None:
    assert eta_seconds(done, total, per_second) == left
