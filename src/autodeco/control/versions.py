"""Which commands a training prompt is met with: drawn by a seed, so many of each kind. Knows no tokens."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autodeco.control.command import Command
from autodeco.control.placement import POSITIONS, Position, place, quote
from autodeco.control.target import Target, combined
from autodeco.errors import ConfigError
from autodeco.rollouts.sampler import Message

_SEPARATORS = ("\n\n", "\n", " ")
# Kinds of versions that take the commands of others: an ignored one what would steer if it were obeyed.
_OF_OTHER_KINDS = {"ignored": ("low", "high", "graded", "absolute"), "contradictory": ("low", "high", "absolute")}


@dataclass(frozen=True)
class Version:
    """One prompt with one command.

    Attributes:
        command: its id, with ``quoted`` or the position before it where it is to be ignored.
        messages: the conversation with it.
        target: what the heads are to do; neutral where the command is to be ignored.
    """

    command: str
    messages: list[Message]
    target: Target


class Versions:
    """Draws the commanded versions of prompts.

    Args:
        commands: all phrasings.
        split: whose phrasings are used.
        counts: how many versions of each kind; ``"ignored"`` and ``"contradictory"`` beside the kinds of commands.
        positions: where commands are obeyed.

    Raises:
        ConfigError: there is no command of a kind that is asked for.
    """

    def __init__(
        self, commands: Sequence[Command], split: str, counts: Mapping[Any, int], positions: Sequence[Position]
    ) -> None:
        self._counts = {kind: count for kind, count in counts.items() if count}
        self._positions = positions
        self._elsewhere = [position for position in POSITIONS if position not in positions]
        own = [command for command in commands if command.split == split]
        kinds = {kind: _OF_OTHER_KINDS.get(kind, (kind,)) for kind in self._counts}
        self._commands = {
            kind: _by_subkind(command for command in own if command.kind in taken) for kind, taken in kinds.items()
        }
        for kind, found in self._commands.items():
            if not found:
                raise ConfigError(
                    f"commands_per_prompt asks for '{kind}', and the commands have none in the split '{split}'. Add "
                    f"some, or set its count to 0."
                )

    def draw(self, messages: list[Message], random_numbers: random.Random) -> list[Version]:
        """Versions of one prompt. Each sub-kind is equally likely, however many phrasings and values it has.

        Raises:
            DataError: the prompt does not end with a user's message.
        """
        return [
            self._version(messages, kind, random_numbers) for kind, count in self._counts.items() for _ in range(count)
        ]

    def _version(self, messages: list[Message], kind: str, random_numbers: random.Random) -> Version:
        if kind == "contradictory":
            return self._contradictory(messages, random_numbers)
        command = self._drawn(kind, random_numbers)
        text, name, target = command.text, command.id, command.target
        position = random_numbers.choice(self._positions)
        if kind == "ignored":
            target = Target()
            if self._elsewhere and random_numbers.random() < 0.5:
                position = random_numbers.choice(self._elsewhere)
                name = f"{position} {name}"
            else:
                position, text, name = random_numbers.choice(POSITIONS), quote(text, command.split), f"quoted {name}"
        placed = place(text, messages, position, random_numbers.choice(_SEPARATORS))
        return Version(name, placed, target)

    def _contradictory(self, messages: list[Message], random_numbers: random.Random) -> Version:
        """Two commands, side by side or apart; where they contradict each other the later one wins."""
        first, second = (self._drawn("contradictory", random_numbers) for _ in range(2))
        positions = sorted(random_numbers.choices(self._positions, k=2), key=POSITIONS.index)  # as they are read
        separator = random_numbers.choice(_SEPARATORS)
        if positions[0] == positions[1]:
            placed = place(f"{first.text}{separator}{second.text}", messages, positions[0], separator)
        else:
            placed = messages
            for command, position in zip((first, second), positions, strict=True):
                placed = place(command.text, placed, position, separator)
        return Version(f"{first.id}, then {second.id}", placed, combined([first.target, second.target]))

    def _drawn(self, kind: str, random_numbers: random.Random) -> Command:
        subkinds = self._commands[kind]
        return random_numbers.choice(subkinds[random_numbers.choice(list(subkinds))])


def _by_subkind(commands: Iterable[Command]) -> dict[tuple[str, str], list[Command]]:
    found: dict[tuple[str, str], list[Command]] = {}
    for command in commands:
        found.setdefault((command.kind, command.subkind), []).append(command)
    return found
