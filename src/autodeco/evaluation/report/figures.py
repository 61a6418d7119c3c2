"""Draws the report's figures with Altair, as SVG. Takes numbers, computes none."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from autodeco.errors import MissingDependencyError
from autodeco.evaluation.frontier import Frontier
from autodeco.statistics import Estimate

_WIDTH, _PANEL_WIDTH, _HEIGHT = 520, 360, 320
_PERCENT = ".0%"
_OWN = "autodeco"

Mark = tuple[str, float, Estimate]  # series, x, estimate
Point = tuple[str, float, float, float, float]  # series, x, y, lower and upper end of the band


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


def lines(panels: Mapping[str, Sequence[Mark]], x: str, y: str, *, log_x: bool = False) -> str:
    """A line with whiskers for each series.

    Args:
        panels: by title (not shown if there is one only), points in any order.
        x: title of the axis.
        y: likewise.
        log_x: a base-2 logarithmic axis, for k of Pass@k.
    """
    alt = altair()
    scale = alt.Scale(type="log", base=2) if log_x else alt.Scale(zero=False)
    charts = {}
    for title, marks in panels.items():
        values = [{"series": name, "x": at, **_ends(estimate)} for name, at, estimate in marks]
        base = alt.Chart(alt.Data(values=values)).encode(x=alt.X("x:Q", title=x, scale=scale), color=_series(alt))
        drawn = base.mark_line(point=True).encode(y=alt.Y("y:Q", title=y, scale=alt.Scale(zero=False), axis=_axis(alt)))
        charts[title] = drawn + base.mark_rule().encode(y="low:Q", y2="high:Q")
    return _beside(alt, charts, _HEIGHT)


def bars(panels: Mapping[str, Mapping[str, Estimate]], x: str) -> str:
    """A horizontal bar with its whisker for each estimate; panels by title."""
    alt = altair()
    charts = {}
    for title, estimates in panels.items():
        values = [{"name": name, **_ends(estimate)} for name, estimate in estimates.items()]
        base = alt.Chart(alt.Data(values=values)).encode(
            y=alt.Y("name:N", sort=list(estimates), title=None, axis=alt.Axis(labelLimit=300))
        )
        drawn = base.mark_bar(color="#7f9fc5").encode(x=alt.X("y:Q", title=x, axis=_axis(alt)))
        charts[title] = drawn + base.mark_rule(color="#333", strokeWidth=2).encode(x="low:Q", x2="high:Q")
    return _beside(alt, charts, None)


def curves(points: Sequence[Point], x: str, y: str, level: float | None = None) -> str:
    """A line with a band for each series.

    Args:
        points: those of a series in their order.
        x: title of the axis.
        y: likewise.
        level: of a dashed line across.
    """
    alt = altair()
    values = [dict(zip(("series", "x", "y", "low", "high"), point, strict=True)) for point in points]
    base = alt.Chart(alt.Data(values=values)).encode(x=alt.X("x:Q", title=x), color=_series(alt))
    band = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title=y, scale=alt.Scale(zero=False)), y2="high:Q")
    drawn = band + base.mark_line().encode(y="y:Q")
    if level is not None:
        across = alt.Chart(alt.Data(values=[{"y": level}])).mark_rule(strokeDash=[6, 4], color="#333")
        drawn += across.encode(y="y:Q")
    return _beside(alt, {"": drawn}, _HEIGHT)


def frontier_plot(found: Frontier) -> str:
    """The curve of static temperatures, and every other strategy beside it, with intervals in both directions."""
    alt = altair()
    values = [
        {
            "name": point.strategy,
            "kind": "sweep of T" if point.on_curve else "other static" if point.setting else _short(point.strategy),
            "order": at,
            **_ends(point.accuracy),
            "x": point.diversity.value,
            "x_low": _or_value(point.diversity.low, point.diversity),
            "x_high": _or_value(point.diversity.high, point.diversity),
        }
        for at, point in enumerate(found.points)
    ]
    # Large and below the others: the temperature head alone often lies in the same place.
    values.sort(key=lambda value: value["kind"] != _OWN)
    data = alt.Data(values=values)
    x = alt.X("x:Q", title=found.measure, scale=alt.Scale(zero=False))
    y = alt.Y("y:Q", title="Pass@1", scale=alt.Scale(zero=False), axis=_axis(alt))
    curve = (
        alt.Chart(data)
        .transform_filter("datum.kind == 'sweep of T'")
        .mark_line(color="#999")
        .encode(x=x, y=y, order="order:O")
    )
    base = alt.Chart(data).encode(color=_series(alt, "kind").scale(scheme="tableau20"))
    size = alt.condition(f"datum.kind == '{_OWN}'", alt.value(260), alt.value(60))
    shape = alt.Shape(
        "kind:N", title=None, legend=alt.Legend(labelLimit=400)
    )  # beside colour, for who sees or prints none
    dots = base.mark_point(filled=True, opacity=1).encode(x=x, y=y, size=size, shape=shape)
    upright = base.mark_rule(opacity=0.6).encode(x=x, y="low:Q", y2="high:Q")
    level = base.mark_rule(opacity=0.6).encode(y=y, x="x_low:Q", x2="x_high:Q")
    return _beside(alt, {"": curve + upright + level + dots}, _HEIGHT)


def _short(strategy: str) -> str:
    """A spec without its settings, which tables have."""
    return strategy.partition(":")[0]


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


def _series(alt: Any, field: str = "series") -> Any:
    return alt.Color(f"{field}:N", title=None, legend=alt.Legend(labelLimit=400))


def _beside(alt: Any, charts: Mapping[str, Any], height: int | None) -> str:
    """Charts under their titles, two in a row; one alone is larger and has none."""
    several = len(charts) > 1
    size = {"width": _PANEL_WIDTH if several else _WIDTH} | ({} if height is None else {"height": height})
    drawn = [chart.properties(**size, **({"title": name} if several else {})) for name, chart in charts.items()]
    buffer = io.StringIO()
    (alt.concat(*drawn, columns=2) if several else drawn[0]).save(buffer, format="svg")
    return buffer.getvalue()
