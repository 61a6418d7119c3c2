"""Text in the terminal, tinted token by token by temperature.

The scale runs from blue (low) over grey to orange (high): told apart by every common kind of colour blindness, and the
text stays readable without colour, which rich drops for pipes and under ``NO_COLOR``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

# Background colours (24-bit) from T = 0 to T = 2, dark enough under white text.
_SCALE = ((8, 69, 148), (33, 102, 172), (84, 106, 128), (96, 96, 96), (140, 96, 60), (170, 84, 16), (190, 60, 0))
_LEGEND_STEPS = (0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8)


def token_pieces(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """The text that each token adds.

    A character whose bytes are split over several tokens belongs to the last of them; the others are empty.

    Args:
        tokenizer: of the model.
        token_ids: any number of token ids.

    Returns:
        One string a token; together they are the decoded text.
    """
    pieces: list[str] = []
    pending: list[int] = []
    for token_id in token_ids:
        pending.append(int(token_id))
        text = tokenizer.decode(pending, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if text.endswith("\ufffd") and len(pending) < 8:  # in the middle of a character
            pieces.append("")
        else:
            pieces.append(text)
            pending = []
    if pending:
        pieces[-1] = tokenizer.decode(pending, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return pieces


def tinted(pieces: Sequence[str], temperatures: Sequence[float]) -> Text:
    """Returns the pieces as one rich text, each on the colour of its temperature.

    What a model wrote may hold terminal escape sequences; control characters are replaced by visible ones.
    """
    text = Text()
    for piece, temperature in zip(pieces, temperatures, strict=True):
        text.append(_visible(piece), style=_style(temperature))
    return text


def legend() -> Text:
    """One line that says what the colours mean."""
    text = Text("temperature ")
    for temperature in _LEGEND_STEPS:
        text.append(f" {temperature:.1f} ", style=_style(temperature))
    return text


def visible(text: str) -> str:
    """``text`` without anything that could steer a terminal."""
    return _visible(text)


def _visible(text: str) -> str:
    return "".join(
        character if character in "\n\t" or character.isprintable() else f"\\x{ord(character):02x}"
        for character in text
    )


def _style(temperature: float) -> str:
    position = min(max(temperature / 2.0, 0.0), 1.0) * (len(_SCALE) - 1)
    low = min(int(position), len(_SCALE) - 2)
    share = position - low
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(_SCALE[low], _SCALE[low + 1], strict=True))
    return f"white on rgb({red},{green},{blue})"
