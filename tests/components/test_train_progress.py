"""What of a training's progress is written and kept."""

from __future__ import annotations

from typing import Any

from penstock_components.training.train import progress


def test_progress_alone_is_written_every_ten_seconds_but_a_change_of_state_at_once() -> None:
    lines = progress.Lines(every=10.0)

    def job(step: int, phase: str = "Running") -> dict[str, Any]:
        return {"status": {"phase": phase, "reason": "R", "progress": {"step": step}}}

    written = [lines.next(job(step), now) for step, now in [(1, 0.0), (1, 1.0), (2, 2.0), (3, 11.0)]]
    assert written == ["Running (R), step 1", None, None, "Running (R), step 3"]
    assert lines.next(job(4, "Restarting"), 12.0) == "Restarting (R), step 4"


def test_a_long_history_is_thinned_evenly() -> None:
    history = progress.History()
    for step in range(10_000):
        history.add({"status": {"attempt": 1, "progress": {"step": step, "metrics": {"train_loss": 1.0}}}})
    steps = [point.step for point in history.points]
    assert history.name == "train_loss"
    assert 1000 <= len(steps) <= 2000
    assert steps == sorted(steps)
    assert steps[0] < 20
    assert steps[-1] > 9980
