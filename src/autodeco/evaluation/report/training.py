"""The section on training: Figure 6 (the loss over steps), and the heads' temperature and top-p over steps.

From the logs that ``autodeco train`` keeps in its output folders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from autodeco.evaluation.report import figures
from autodeco.evaluation.report.document import Figure, Section, Table
from autodeco.evaluation.report.published import published_means
from autodeco.evaluation.report.records import Step, TrainingLog

# More points than this are not told apart in a picture of this width.
_MOST_POINTS = 200
# Steps that the table's means are taken over: a single step's batch is small.
_AT_END = 20


def training_section(logs: Sequence[TrainingLog]) -> Section | None:
    """Curves of all runs in one picture each, and where they began, ended and came nearest to the published means."""
    if not logs:
        return None
    published = published_means()
    runs = {log.name: thinned(log.steps) for log in logs}
    most = max(math.ceil(len(log.steps) / _MOST_POINTS) for log in logs)
    each = "Each point is one logged step." if most == 1 else f"Each point is the mean of up to {most} logged steps."
    band = f"{each} The band is one standard deviation over the tokens of a step to either side, not an interval."
    line = f"{band} The dashed line is published ({published.source})."
    loss = _points(runs, lambda at: (at.loss, 0.0), math.inf)
    temperature = _points(runs, lambda at: (at.temperature_mean, at.temperature_std), 2)
    top_p = _points(runs, lambda at: (at.top_p_mean, at.top_p_std), 1)
    losses = f"{each} Losses of different objectives are not on one scale."
    shown = (
        ("training-loss", "Figure 6: training loss", "loss", loss, None, losses),
        ("training-temperature", "Temperature over steps", "T", temperature, published.temperature, line),
        ("training-top-p", "Top-p over steps", "P", top_p, published.top_p, line),
    )
    section = Section("Training")
    for name, title, axis, points, level, note in shown:
        section.parts.append(Figure(name, title, figures.curves(points, "step", axis, level), note))
    section.parts.append(_ways(logs))
    return section


def _points(
    runs: Mapping[str, Sequence[Step]], of: Callable[[Step], tuple[float, float]], largest: float
) -> list[figures.Point]:
    """Mean and band of each run's steps; the band ends at 0 and at the largest value that there can be."""
    points = []
    for name, steps in runs.items():
        for at in steps:
            mean, spread = of(at)
            low, high = max(min(0.0, mean), mean - spread), min(largest, mean + spread)
            points.append((name, float(at.step), mean, low, high))
    return points


def _ways(logs: Sequence[TrainingLog]) -> Table:
    published = published_means()
    rows = []
    for log in logs:
        first, last = log.steps[0], together(log.steps[-_AT_END:])
        nearest = min(log.steps, key=_from_published)
        rows.append(
            [
                log.name,
                f"{log.steps[-1].step:,}",
                _pair(first),
                _pair(last),
                f"{last.temperature_std:.3f}, {last.top_p_std:.3f}",
                f"step {nearest.step:,}: {_pair(nearest)}",
            ]
        )
    goal = f"({published.temperature:g}, {published.top_p:g})"
    note = (
        f"The end is the mean of the last {_AT_END} logged steps, or of all if there are fewer. The last column is the "
        f"single step whose (T, P) is nearest to the published {goal}: whether those means are a stop on the way. A "
        "step's means are those of its batch, so they scatter."
    )
    columns = ["run", "steps", "first step", "end", "spread of T, P at the end", f"nearest to {goal}"]
    return Table("The way of the heads' means", columns, rows, note)


def _from_published(step: Step) -> float:
    published = published_means()
    return math.hypot(step.temperature_mean - published.temperature, step.top_p_mean - published.top_p)


def _pair(step: Step) -> str:
    return f"T = {step.temperature_mean:.3f}, P = {step.top_p_mean:.3f}"


def thinned(steps: Sequence[Step], most: int = _MOST_POINTS) -> list[Step]:
    """At most ``most`` steps: neighbours :func:`together`, as many in each but the last."""
    size = math.ceil(len(steps) / most)
    return [together(steps[at : at + size]) for at in range(0, len(steps), size)]


def together(steps: Sequence[Step]) -> Step:
    """Steps as one of as many tokens each: mean of means, and the spread within steps and between them."""
    temperature, temperature_std = _pooled([(one.temperature_mean, one.temperature_std) for one in steps])
    top_p, top_p_std = _pooled([(one.top_p_mean, one.top_p_std) for one in steps])
    loss = sum(one.loss for one in steps) / len(steps)
    return Step(steps[-1].step, loss, temperature, temperature_std, top_p, top_p_std)


def _pooled(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    mean = sum(own for own, _ in parts) / len(parts)
    variance = sum(spread**2 + (own - mean) ** 2 for own, spread in parts) / len(parts)
    return mean, math.sqrt(variance)
