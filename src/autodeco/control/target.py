"""What a command asks for, head by head, and which of several commands counts. Knows no wording and no model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

HEADS = ("temperature", "top_p")


@dataclass(frozen=True)
class Target:
    """What decoding is asked to be. Of each head the first that applies: its value; the level; no change (level 0).

    The temperature and top-p themselves are this project's: the paper's commands have a direction only, ``level`` -1
    and 1.

    Attributes:
        level: how diverse, against no command: 0 as without one, 1 more diverse, -1 less; graded commands lie between
            or beyond (-2 is «much less»).
        temperature: the temperature asked for, or ``None``.
        top_p: the top-p asked for, or ``None``.
    """

    level: float = 0.0
    temperature: float | None = None
    top_p: float | None = None

    @property
    def is_neutral(self) -> bool:
        """Whether decoding is to stay as it is without a command."""
        return self == Target()

    def value(self, head: str) -> float | None:
        """The value asked of one of :data:`HEADS`, or ``None``."""
        found: float | None = getattr(self, head)
        return found

    def then(self, later: Target) -> Target:
        """What counts when ``later`` is said after this: **the later command wins**.

        A later level replaces everything; a later value replaces what was asked of its head before, and leaves the
        other head's; what is no command changes nothing.
        """
        if later.level:
            return later
        return Target(
            self.level,
            self.temperature if later.temperature is None else later.temperature,
            self.top_p if later.top_p is None else later.top_p,
        )


def combined(targets: Iterable[Target]) -> Target:
    """What several commands ask for together, in the order in which they are read (see :meth:`Target.then`)."""
    return reduce(Target.then, targets, Target())
