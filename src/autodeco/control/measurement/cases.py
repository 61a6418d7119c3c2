"""What is measured: every test prompt without a command and with one of each condition. Draws no text."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from autodeco.control.command import Command
from autodeco.control.placement import POSITIONS, Position, place, quote
from autodeco.errors import ConfigError, DataError, did_you_mean
from autodeco.rollouts.sample import batch_seed
from autodeco.rollouts.sampler import Message
from autodeco.tasks.base import Example

PLAIN, AGAIN = "none", "none again"


def _english(*kinds: str, level: float | None = None) -> Callable[[Command], bool]:
    return lambda one: one.language == "en" and one.kind in kinds and (level is None or one.target.level == level)


def _foreign(kind: str) -> Callable[[Command], bool]:
    return lambda one: one.language != "en" and one.kind == kind


# Of each condition the commands that it takes; those of the first two are without one.
CONDITIONS: dict[str, Callable[[Command], bool]] = {
    PLAIN: lambda _: False,
    AGAIN: lambda _: False,  # another sample of the same: what shifts and consistency are by chance alone
    "low": _english("low"),
    "high": _english("high"),
    "much lower": _english("graded", level=-2),
    "slightly lower": _english("graded", level=-0.5),
    "slightly higher": _english("graded", level=0.5),
    "much higher": _english("graded", level=2),
    "absolute": _english("absolute"),
    "scoped": _english("scoped"),
    "look-alike": _english("lookalike"),
    "quoted low": _english("low"),
    "quoted high": _english("high"),
    "other language low": _foreign("low"),
    "other language high": _foreign("high"),
    "low, then high": _english("high"),  # the later of two commands, which is to win
    "high, then low": _english("low"),
}
# What stands before the command of a condition, in the same place.
_BEFORE = {"low, then high": "low", "high, then low": "high"}


@dataclass(frozen=True)
class Case:
    """One prompt under one condition.

    Attributes:
        condition: of :data:`CONDITIONS`.
        problem: id of the prompt.
        messages: the conversation, with the command.
        command: its id; ``None`` without one. Of two commands the later one, here and below.
        subkind: its sub-kind.
        position: where it stands.
        level: that it asks for, also where it is quoted and should not be obeyed.
        temperature: asked for, or ``None``.
        top_p: likewise.
        scope: levels of the answer's parts, of a scoped command.
    """

    condition: str
    problem: str
    messages: list[Message]
    command: str | None = None
    subkind: str | None = None
    position: Position | None = None
    level: float = 0.0
    temperature: float | None = None
    top_p: float | None = None
    scope: tuple[float, ...] = ()

    def record(self) -> dict[str, Any]:
        """As JSON types."""
        return {**asdict(self), "scope": list(self.scope)}


def make_cases(
    commands: Sequence[Command],
    examples: Sequence[Example],
    split: str,
    seed: int,
    positions: Sequence[Position],
    conditions: Sequence[str] = tuple(CONDITIONS),
) -> list[Case]:
    """Every prompt without a command, and under every condition that there are commands for.

    Each sub-kind (of other languages: each language) is equally likely, and so is each position.

    Args:
        commands: all phrasings.
        examples: the prompts.
        split: whose phrasings are used.
        seed: of the choice; that of a prompt depends on its id and the condition alone.
        positions: where commands are placed.
        conditions: which; ``none`` is always among them.

    Raises:
        ConfigError: there is no such condition.
        DataError: there is no command in that split for any of the conditions.
    """
    for name in conditions:
        if name not in CONDITIONS:
            raise ConfigError(f"unknown condition '{name}'.{did_you_mean(name, CONDITIONS)}")
    own = [command for command in commands if command.split == split]
    chosen = {
        name: [command for command in own if takes(command)]
        for name, takes in CONDITIONS.items()
        if name == PLAIN or name in conditions
    }
    if not any(chosen.values()):
        raise DataError(f"the commands have none in the split '{split}' for {', '.join(conditions)}.")
    before = {name: [one for one in own if CONDITIONS[_BEFORE[name]](one)] for name in chosen if name in _BEFORE}
    cases = []
    for example in examples:
        for condition, candidates in chosen.items():
            if condition in (PLAIN, AGAIN):
                cases.append(Case(condition, example.id, example.messages))
            elif candidates and (condition not in before or before[condition]):
                draws = random.Random(batch_seed(seed, f"{example.id} {condition}"))
                cases.append(_case(condition, example, candidates, draws, positions, before.get(condition, ())))
    return cases


def _case(
    condition: str,
    example: Example,
    candidates: Sequence[Command],
    draws: random.Random,
    positions: Sequence[Position],
    before: Sequence[Command],
) -> Case:
    subkind = draws.choice(sorted({command.subkind for command in candidates}))
    command = draws.choice([command for command in candidates if command.subkind == subkind])
    is_quoted = condition.startswith("quoted")
    position = draws.choice(POSITIONS if is_quoted else positions)
    text = quote(command.text, command.split) if is_quoted else command.text
    if before:
        text = f"{draws.choice(before).text} {text}"
    return Case(
        condition,
        example.id,
        place(text, example.messages, position),
        command.id,
        subkind,
        position,
        command.target.level,
        command.target.temperature,
        command.target.top_p,
        command.scope,
    )
