"""What a report consists of. Everything here is plain text: renderers escape it, nothing in it is ever markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autodeco.statistics import Estimate


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: above it.
        columns: heads.
        rows: cells, as many as columns in each row.
        note: below it: what the figures are.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        name: of its file, without suffix.
        title: above it.
        svg: the picture.
        note: below it.
    """

    name: str
    title: str
    svg: str
    note: str = ""


@dataclass
class Section:
    """A part of the report under one heading; its parts in the order in which they are shown."""

    title: str
    parts: list[str | Table | Figure] = field(default_factory=list)

    @property
    def figures(self) -> list[Figure]:
        """Its figures, in order."""
        return [part for part in self.parts if isinstance(part, Figure)]


@dataclass
class Document:
    """The whole report."""

    title: str
    sections: list[Section] = field(default_factory=list)

    @property
    def figures(self) -> list[Figure]:
        """All figures, in order."""
        return [figure for section in self.sections for figure in section.figures]


def percent(estimate: Estimate | None) -> str:
    """``45.1 (42.0 to 48.2)``: in percent, with the 95 % interval where there is one."""
    return "" if estimate is None else _with_interval(estimate, 100, 1)


def number(estimate: Estimate | None, digits: int = 2) -> str:
    """``0.45 (0.42 to 0.48)``."""
    return "" if estimate is None else _with_interval(estimate, 1, digits)


def _with_interval(estimate: Estimate, scale: float, digits: int) -> str:
    text = f"{scale * estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({scale * estimate.low:.{digits}f} to {scale * estimate.high:.{digits}f})"


def points(value: float, low: float | None, high: float | None) -> str:
    """A difference in points: ``+1.2 (-0.3 to +2.7)``."""
    if low is None or high is None:
        return f"{100 * value:+.1f}"
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
