"""Curves of the page as SVG: one value a token, drawn as steps, with a running mean where there are many tokens.

Widths are in tokens and stretch to the page, so nothing is drawn again when it is resized or printed.
"""

from __future__ import annotations

from collections.abc import Sequence

HEIGHT = 100  # of every chart, in its own units

# From this many tokens on, single steps are thinner than a pixel and a mean says more.
_MANY = 240
_WINDOWS = 60  # a running mean covers this part of the run


def chart(
    values: Sequence[float], *, width: int, name: str, symbol: str, largest: float, kind: str, reference: float
) -> str:
    """One curve with its axis.

    Args:
        values: one a token, from 0 to ``largest``; what is above is drawn at the edge.
        width: tokens that the axis has room for.
        name: in words, for those who hear the page.
        symbol: shown beside the curve.
        largest: top of the axis.
        kind: CSS class, for the colour.
        reference: where a thin horizontal line is drawn.
    """
    heights = [HEIGHT * (1 - min(max(value / largest, 0.0), 1.0)) for value in values]
    steps = "".join(f"V{height:.1f}H{end}" for end, height in enumerate(heights, start=1))
    marks = f'<path class="area" d="M0 {HEIGHT}{steps}V{HEIGHT}Z"/>' if values else ""
    if len(values) >= _MANY:
        marks += f'<path class="fine" d="M0 {heights[0]:.1f}{steps}"/><path class="mean" d="{_mean_path(heights)}"/>'
    elif values:
        marks += f'<path class="mean" d="M0 {heights[0]:.1f}{steps}"/>'
    level = HEIGHT * (1 - reference / largest)
    label = _label(values, name)
    return (
        f'<figure class="chart {kind}"><figcaption>{symbol}</figcaption>'
        f'<span class="axis" aria-hidden="true"><span>{largest:g}</span><span>0</span></span>'
        f'<span class="plot"><svg viewBox="0 0 {width} {HEIGHT}" preserveAspectRatio="none" role="img"'
        f' aria-label="{label}">'
        f'<path class="reference" d="M0 {level:g}H{width}"/>{marks}</svg>'
        f'<span class="cursor"></span></span></figure>'
    )


def _label(values: Sequence[float], name: str) -> str:
    if not values:
        return f"{name}: no tokens"
    mean = sum(values) / len(values)
    return f"{name} at each token: mean {mean:.2f}, from {min(values):.2f} to {max(values):.2f}"


def _mean_path(heights: Sequence[float]) -> str:
    """A curve through the means of the tokens around every few tokens."""
    half = max(1, len(heights) // _WINDOWS // 2)
    sums = [0.0]
    for height in heights:
        sums.append(sums[-1] + height)
    points = []
    for middle in range(0, len(heights), half):
        start, end = max(0, middle - half), min(len(heights), middle + half + 1)
        points.append(f"{middle + 0.5:g} {(sums[end] - sums[start]) / (end - start):.1f}")
    return "M" + "L".join(points)
