"""The page's colour scales, as CSS classes: temperature (blue, grey, orange) and amounts (pale to violet).

Both are told apart by every common kind of colour blindness. An underline that thickens along the scale says the same
without colour. Text on every step has a contrast of at least 4.5 (WCAG 2, AA).
"""

from __future__ import annotations

STEPS = 20  # a scale has one class more than this

_Colour = tuple[int, int, int]

# Backgrounds at the ends and in the middle, light and dark.
_TEMPERATURE = {
    "light": ((158, 199, 233), (240, 240, 237), (246, 178, 108)),
    "dark": ((27, 82, 128), (47, 50, 54), (138, 72, 16)),
}
_AMOUNT = {
    "light": ((246, 244, 248), (219, 203, 233), (190, 162, 215)),
    "dark": ((36, 36, 41), (68, 54, 90), (104, 74, 140)),
}
# Underlines: the same hues, darker on light and lighter on dark.
_TEMPERATURE_LINES = {
    "light": ((56, 118, 176), (150, 150, 146), (196, 96, 12)),
    "dark": ((110, 170, 222), (140, 144, 150), (238, 148, 70)),
}
_AMOUNT_LINES = {
    "light": ((168, 150, 184), (136, 104, 168), (104, 64, 148)),
    "dark": ((110, 100, 124), (150, 124, 184), (190, 154, 226)),
}
_THICKEST = 4.0  # pixels


def step(value: float, largest: float) -> int:
    """The step of ``value`` on a scale from 0 to ``largest``: 0 to :data:`STEPS`."""
    return round(min(max(value / largest, 0.0), 1.0) * STEPS)


def scale_classes() -> str:
    """CSS of the classes ``t0`` to ``t20`` (temperature from 0 to 2) and ``s0`` to ``s20`` (any amount)."""
    rules = []
    for prefix, grounds, lines in (("t", _TEMPERATURE, _TEMPERATURE_LINES), ("s", _AMOUNT, _AMOUNT_LINES)):
        for number in range(STEPS + 1):
            share = number / STEPS
            ground, line = (
                f"light-dark({_hexadecimal(_between(of['light'], share))},{_hexadecimal(_between(of['dark'], share))})"
                for of in (grounds, lines)
            )
            rules.append(
                f".{prefix}{number}{{background-color:{ground};box-shadow:inset 0 -{_THICKEST * share:.1f}px {line}}}"
            )
    return "\n".join(rules)


def _between(ends: tuple[_Colour, _Colour, _Colour], share: float) -> _Colour:
    low, high = (ends[0], ends[1]) if share < 0.5 else (ends[1], ends[2])
    within = 2 * share if share < 0.5 else 2 * share - 1
    red, green, blue = (round(a + within * (b - a)) for a, b in zip(low, high, strict=True))
    return red, green, blue


def _hexadecimal(colour: _Colour) -> str:
    return "#" + bytes(colour).hex()
