"""What the playground asks of whatever answers: a model on this machine, or a server. Answers nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from autodeco.playground.request import Request, Way
from autodeco.trace.format import Trace


class DrawnToken(Protocol):
    """A token as it comes. T and P are ``None`` where they are not known yet, or never will be."""

    @property
    def text(self) -> str:
        """What it adds to the text."""

    @property
    def temperature(self) -> float | None:
        """``T``."""

    @property
    def top_p(self) -> float | None:
        """``P``."""


OnToken = Callable[[Any], None]  # with a DrawnToken


class AnsweringModel(Protocol):
    """What answers requests, several visitors' at a time.

    Attributes:
        name: what it is called.
        has_heads: whether AutoDeco is among the ways to decode.
        can_steer: whether ``decoding=`` is.
        notice: what a visitor has to know of it, in a sentence or two; empty for nothing.
        strategies: specs to offer beside AutoDeco; others can be typed.
    """

    name: str
    has_heads: bool
    can_steer: bool
    notice: str
    strategies: Sequence[str]

    def fit(self, request: Request) -> Request:
        """The request as it can be answered; raises an :class:`AutoDecoError` that says why it cannot."""

    def stream(self, request: Request, way: Way, on_token: OnToken) -> None:
        """Draws one answer; calls ``on_token`` with each token. What that raises ends the drawing."""

    def trace(self, request: Request, way: Way, tokens: Sequence[Any]) -> Trace | None:
        """What happened at each of the tokens that :meth:`stream` gave; ``None`` where nobody can say."""

    def script(self, request: Request) -> str:
        """Python that prints the answers to a request, in its order."""
