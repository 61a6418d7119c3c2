"""Draws T and P token by token, a panel for each command, with Altair: the paper's Figure 5 for any prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autodeco.control.comparison import Decoded
from autodeco.errors import ConfigError
from autodeco.evaluation.report.figures import altair
from autodeco.files import replaced_atomically

SUFFIXES = (".svg", ".png")
_WIDTH, _HEIGHT = 640, 130
_LONGEST_TITLE = 100


def check_suffix(path: Path) -> None:
    """Raises :class:`ConfigError` if a figure cannot be written under that name."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: a figure is written as {' or '.join(SUFFIXES)}, found '{path.suffix}'.")


def draw_panels(versions: Sequence[Decoded], path: Path) -> None:
    """Writes a figure with a panel for each version: T and P over the tokens, their means as broken lines.

    Args:
        versions: in the order of the panels, top to bottom.
        path: ``.svg`` or ``.png``.

    Raises:
        ConfigError: another suffix.
        MissingDependencyError: Altair or what writes its pictures is not installed.
        RunFolderError: the file cannot be written.
    """
    check_suffix(path)
    alt = altair()
    longest = max(len(one.temperature) for one in versions)
    panels = [_panel(alt, one, longest) for one in versions]
    chart = alt.vconcat(*panels, title="Temperature and top-p, token by token (broken lines: means)")
    with replaced_atomically(path) as temporary:
        chart.save(str(temporary))


def _panel(alt: Any, version: Decoded, longest: int) -> Any:
    curves = {"T": version.temperature, "P": version.top_p}
    points = [
        {"head": head, "token": index + 1, "value": value}
        for head, values in curves.items()
        for index, value in enumerate(values)
    ]
    means = [{"head": head, "value": sum(values) / len(values)} for head, values in curves.items()]
    y = alt.Y("value:Q", title=None, scale=alt.Scale(domain=[0, 2]))
    colour = alt.Color("head:N", title=None, scale=alt.Scale(domain=["T", "P"], range=["#c0561a", "#2166ac"]))
    x = alt.X("token:Q", title="token", scale=alt.Scale(domain=[1, max(2, longest)], nice=False))
    line = alt.Chart(alt.Data(values=points)).mark_line(strokeWidth=1.2).encode(x=x, y=y, color=colour)
    mean = alt.Chart(alt.Data(values=means)).mark_rule(strokeDash=[5, 4]).encode(y=y, color=colour)
    return (line + mean).properties(width=_WIDTH, height=_HEIGHT, title=_title(version))


def _title(version: Decoded) -> str:
    command = "no command" if version.command is None else f"{version.name}: {version.command}"
    if len(command) > _LONGEST_TITLE:
        command = command[: _LONGEST_TITLE - 1] + "…"
    return f"{command}  (mean T {version.mean_temperature:.2f}, mean P {version.mean_top_p:.2f})"
