"""Traces in the terminal: text tinted token by token by temperature, and a table of the tokens.

The scale runs from blue (low) over grey to orange (high): told apart by every common kind of colour blindness, and the
text stays readable without colour, which rich drops for pipes and under ``NO_COLOR``.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autodeco.trace.format import Trace
from autodeco.trace.text import shown, visible

# Background colours (24-bit) from T = 0 to T = 2, dark enough under white text.
_SCALE = ((8, 69, 148), (33, 102, 172), (84, 106, 128), (96, 96, 96), (140, 96, 60), (170, 84, 16), (190, 60, 0))
_LEGEND_STEPS = (0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8)


def tinted(pieces: Sequence[str], temperatures: Sequence[float]) -> Text:
    """Returns the pieces as one rich text, each on the colour of its temperature.

    What a model wrote may hold terminal escape sequences; control characters are replaced by visible ones.
    """
    text = Text()
    for piece, temperature in zip(pieces, temperatures, strict=True):
        text.append(visible(piece), style=_style(temperature))
    return text


def legend() -> Text:
    """One line that says what the colours mean."""
    text = Text("temperature ")
    for temperature in _LEGEND_STEPS:
        text.append(f" {temperature:.1f} ", style=_style(temperature))
    return text


def print_trace(console: Console, trace: Trace) -> None:
    """Prints a trace: its text in colour with a legend and the means, or, where output is piped, its text alone."""
    tokens = trace.tokens
    if not console.is_terminal:
        console.print(Text(visible(trace.text)), soft_wrap=True)
        return
    console.print(Text(visible(f"{trace.header.model} · {trace.header.strategy}"), style="bold"))
    console.print(tinted([token.text for token in tokens], [token.temperature for token in tokens]))
    console.print(legend(), Text(f" {trace.summary}"))


def token_table(trace: Trace) -> Table:
    """A row a token with its numbers; says without colour what the tint says."""
    table = Table(box=None, pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("token", no_wrap=True, max_width=24)
    for heading in ("T", "P", "nucleus", "entropy", "after", "rank", "prob.", "after"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    table.add_column("best alternative", no_wrap=True, max_width=32)
    for number, token in enumerate(trace.tokens, start=1):
        best = token.alternatives[0] if token.alternatives else None
        table.add_row(
            str(number),
            Text(shown(token.text, token.partial_bytes), style=_style(token.temperature)),
            f"{token.temperature:.2f}",
            f"{token.top_p:.2f}",
            _known(token.nucleus_size, "d"),
            _known(token.base_entropy, ".2f"),
            _known(token.entropy, ".2f"),
            _known(token.rank, "d"),
            _known(token.base_probability, ".3f"),
            _known(token.probability, ".3f"),
            Text(f"{best.probability:.3f} {shown(best.text, best.partial_bytes)}" if best else ""),
        )
    return table


def _known(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _style(temperature: float) -> str:
    position = min(max(temperature / 2.0, 0.0), 1.0) * (len(_SCALE) - 1)
    low = min(int(position), len(_SCALE) - 2)
    share = position - low
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(_SCALE[low], _SCALE[low + 1], strict=True))
    return f"white on rgb({red},{green},{blue})"
