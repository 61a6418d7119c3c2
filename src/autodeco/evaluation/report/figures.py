"""Draws the report's figures with Altair, as SVG. Takes numbers, computes none."""

from __future__ import annotations

import io
from typing import Any

from autodeco.errors import MissingDependencyError
from autodeco.evaluation.frontier import Frontier
from autodeco.evaluation.statistics import Estimate

_WIDTH, _HEIGHT = 520, 320
_PERCENT = ".0%"

Mark = tuple[str, float, Estimate]  # series, x, estimate


def altair() -> Any:
    """Altair, with what it needs to write SVG.

    Raises:
        MissingDependencyError: one of the two is not installed.
    """
    try:
        import altair
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"reports need {error.name} for their figures: pip install 'autodeco[report]'."
        ) from None
    return altair


def lines(marks: list[Mark], x: str, y: str, *, log_x: bool = False) -> str:
    """A line with whiskers for each series.

    Args:
        marks: points in any order.
        x: title of the axis.
        y: likewise.
        log_x: a base-2 logarithmic axis, for k of Pass@k.
    """
    alt = altair()
    values = [{"series": name, "x": at, **_ends(estimate)} for name, at, estimate in marks]
    scale = alt.Scale(type="log", base=2) if log_x else alt.Scale(zero=False)
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("x:Q", title=x, scale=scale), color=alt.Color("series:N", title=None, legend=alt.Legend(labelLimit=400))
    )
    drawn = base.mark_line(point=True).encode(y=alt.Y("y:Q", title=y, scale=alt.Scale(zero=False), axis=_axis(alt)))
    whiskers = base.mark_rule().encode(y="low:Q", y2="high:Q")
    return _svg(drawn + whiskers)


def bars(estimates: dict[str, Estimate], x: str) -> str:
    """A horizontal bar with its whisker for each estimate."""
    alt = altair()
    values = [{"name": name, **_ends(estimate)} for name, estimate in estimates.items()]
    base = alt.Chart(alt.Data(values=values)).encode(
        y=alt.Y("name:N", sort=list(estimates), title=None, axis=alt.Axis(labelLimit=300))
    )
    drawn = base.mark_bar(color="#7f9fc5").encode(x=alt.X("y:Q", title=x, axis=_axis(alt)))
    return _svg(drawn + base.mark_rule(color="#333", strokeWidth=2).encode(x="low:Q", x2="high:Q"), height=None)


def frontier_plot(found: Frontier) -> str:
    """The curve of static temperatures, and every other strategy beside it, with intervals in both directions."""
    alt = altair()
    values = [
        {
            "name": point.strategy,
            "kind": "sweep of T" if point.on_curve else "other static" if point.setting else point.strategy,
            "order": at,
            **_ends(point.accuracy),
            "x": point.diversity.value,
            "x_low": _or_value(point.diversity.low, point.diversity),
            "x_high": _or_value(point.diversity.high, point.diversity),
        }
        for at, point in enumerate(found.points)
    ]
    data = alt.Data(values=values)
    x = alt.X("x:Q", title=found.measure, scale=alt.Scale(zero=False))
    y = alt.Y("y:Q", title="Pass@1", scale=alt.Scale(zero=False), axis=_axis(alt))
    curve = (
        alt.Chart(data)
        .transform_filter("datum.kind == 'sweep of T'")
        .mark_line(color="#999")
        .encode(x=x, y=y, order="order:O")
    )
    base = alt.Chart(data).encode(color=alt.Color("kind:N", title=None, legend=alt.Legend(labelLimit=400)))
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y)
    upright = base.mark_rule(opacity=0.6).encode(x=x, y="low:Q", y2="high:Q")
    level = base.mark_rule(opacity=0.6).encode(y=y, x="x_low:Q", x2="x_high:Q")
    return _svg(curve + upright + level + dots)


def _axis(alt: Any) -> Any:
    return alt.Axis(format=_PERCENT)


def _ends(estimate: Estimate) -> dict[str, float]:
    return {
        "y": estimate.value,
        "low": _or_value(estimate.low, estimate),
        "high": _or_value(estimate.high, estimate),
    }


def _or_value(bound: float | None, estimate: Estimate) -> float:
    return estimate.value if bound is None else bound


def _svg(chart: Any, height: int | None = _HEIGHT) -> str:
    sized = chart.properties(width=_WIDTH) if height is None else chart.properties(width=_WIDTH, height=height)
    buffer = io.StringIO()
    sized.save(buffer, format="svg")
    return buffer.getvalue()
