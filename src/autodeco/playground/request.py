"""What somebody asks the playground for: a prompt, and the ways in which it is to be answered. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autodeco.control.placement import place
from autodeco.errors import DataError
from autodeco.rollouts.sampler import Message
from autodeco.steering import Decoding
from autodeco.strategies import get_strategy
from autodeco.trace.page import MAX_RUNS


@dataclass(frozen=True)
class Way:
    """One way to decode.

    Attributes:
        strategy: spec of the strategy.
        decoding: how the heads' choices are steered, if they are.
    """

    strategy: str = "autodeco"
    decoding: Decoding | None = None

    @property
    def name(self) -> str:
        """What a trace of it is called."""
        return self.strategy if self.decoding is None else f"{self.strategy}, decoding={self.decoding!r}"


@dataclass(frozen=True)
class Request:
    """One prompt, answered in up to four ways from the same seed.

    Attributes:
        prompt: of the user.
        ways: how it is answered, in this order.
        system: system message; empty for none.
        command: a decoding command in words, put after the prompt; empty for none.
        max_new_tokens: longest answer.
        seed: of the sampling of each answer.
    """

    prompt: str
    ways: Sequence[Way]
    system: str = ""
    command: str = ""
    max_new_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks what can be checked without a model.

        Raises:
            DataError: the prompt is empty, or there are no ways or too many.
            ConfigError: a strategy is unknown.
        """
        if not self.prompt.strip():
            raise DataError("The prompt is empty. Write something for the model to answer.")
        if not 1 <= len(self.ways) <= MAX_RUNS:
            raise DataError(f"One to {MAX_RUNS} ways of decoding are shown beside each other, found {len(self.ways)}.")
        for way in self.ways:
            get_strategy(way.strategy)

    @property
    def messages(self) -> list[Message]:
        """The conversation."""
        messages: list[Message] = [{"role": "system", "content": self.system}] if self.system.strip() else []
        messages.append({"role": "user", "content": self.prompt})
        return place(self.command.strip(), messages, "after") if self.command.strip() else messages
