"""The training's page: what it was, how it went, and the loss over its steps."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from penstock_components import report

from .progress import History


def render(job_name: str, values: Mapping[str, object], history: History) -> str:
    """A whole HTML page."""
    parts = [report.facts(values)]
    if history.points:
        parts += [report.heading(f"{history.name} by step"), report.plot(_figure(history), f"{history.name} by step")]
    else:
        parts.append(report.paragraph("The program reported no loss while this step was watching."))
    return report.page(f"Training {job_name}", *parts)


def _figure(history: History) -> Figure:
    figure = Figure(figsize=(8, 4))
    axes = figure.add_subplot()
    for attempt in sorted({point.attempt for point in history.points}):
        its = [point for point in history.points if point.attempt == attempt]
        steps, losses = [each.step for each in its], [each.loss for each in its]
        axes.plot(steps, losses, marker="." if len(its) < 50 else "", label=f"attempt {attempt}")
    axes.set(xlabel="step", ylabel=history.name)
    axes.grid(alpha=0.3)
    if len({point.attempt for point in history.points}) > 1:
        axes.legend()
    return figure
