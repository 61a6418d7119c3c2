"""Decoding commands in words: the packaged phrasings, a user's own, and what is checked of all. Knows no model."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from autodeco.control.command import KINDS, Command, commands_of
from autodeco.control.patterns import near
from autodeco.errors import DataError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where LibYAML is there
_PACKAGED = ("commands.yaml", "training_phrasings.yaml", "training_patterns.yaml")


def load_commands(path: str | Path | None = None) -> list[Command]:
    """Reads commands from a YAML file.

    The file is a list of groups::

        - kind: low                 # one of KINDS
          subkind: calm             # any name
          texts:                    # or train:, validation:, test: with a list each
            - Keep calm with your wording.
        - kind: absolute
          subkind: temperature
          values: [{temperature: 0.3}, {temperature: 0.7}]    # or a list for each split
          texts:
            - Use a temperature of {temperature}.

    ``texts`` are divided over the splits by a hash. Further fields: ``level`` (of low, high, graded, absolute),
    ``scope`` (two or more levels) and ``language``. A text with ``{temperature}``, ``{top_p}`` or ``{top_p_percent}``
    becomes one command for each value.

    A text with alternatives, ``[Keep|Hold] it [plain|simple].``, stands for all that can be made of it, at most 40;
    with values, each takes one of them. A text that is there already stays what it was. Those of the split ``train``
    that are near a text kept for validation or tests (more than 0.7 of the words of either) are left out.

    Args:
        path: a user's file; ``None`` for the packaged phrasings.

    Raises:
        DataError: the file is missing, empty or not YAML, or a group cannot be used; names the group and the value.
    """
    return list(_packaged()) if path is None else _load([path], str(path))


@cache
def _packaged() -> tuple[Command, ...]:
    files = [resources.files("autodeco.control") / "data" / name for name in _PACKAGED]
    return tuple(_load(files, "the packaged commands"))


def _load(files: Sequence[str | Path | Traversable], name: str) -> list[Command]:
    found: list[Command] = []
    numbers: Counter[str] = Counter()  # groups of one name go on counting
    for number, group in enumerate((group for file in files for group in _read(file, name)), start=1):
        found.extend(commands_of(group, f"{name}, group {number}", numbers))
    commands = [command for command in found if not command.pattern]
    _check_unique(commands, name)
    return commands + _unseen([command for command in found if command.pattern], commands)


def _unseen(expanded: Sequence[Command], commands: Sequence[Command]) -> list[Command]:
    """Those made from patterns: each text once, none for training that is near a text kept for validation or tests."""
    kept = [command.text for command in (*commands, *expanded) if command.split != "train"]
    is_near = near([command.text for command in expanded], kept)
    texts = {_key(command.text) for command in commands}
    unseen = []
    for command, is_own_near in zip(expanded, is_near, strict=True):
        key = _key(command.text)
        if key not in texts and not (command.split == "train" and is_own_near):
            unseen.append(command)
            texts.add(key)
    return unseen


def select(
    commands: Sequence[Command],
    *,
    split: str,
    kinds: Collection[str] = tuple(KINDS),
    language: str = "en",
) -> list[Command]:
    """The commands of one split, of the given kinds and language."""
    return [
        command
        for command in commands
        if command.split == split and command.kind in kinds and command.language == language
    ]


def digest(commands: Sequence[Command]) -> str:
    """What tells one set of commands from another: a hash of all that is in them."""
    return hashlib.sha256(json.dumps([asdict(command) for command in commands]).encode()).hexdigest()


def _read(path: str | Path | Traversable, name: str) -> list[Any]:
    try:
        file = Path(path) if isinstance(path, str) else path
        groups = yaml.load(file.read_text(encoding="utf-8"), _LOADER)
    except OSError as error:
        raise DataError(f"commands file {name} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{name} is not valid YAML: {error}") from None
    if not groups:
        raise DataError(f"{name} is empty; a list of groups is needed, each with 'kind' and 'texts'.")
    if not isinstance(groups, list):
        raise DataError(f"{name} must hold a list of groups ('- kind: ...'), found {type(groups).__name__}.")
    return groups


def _check_unique(commands: Sequence[Command], name: str) -> None:
    """No text twice: the same words in two splits would make a test phrasing a seen one."""
    seen: dict[str, Command] = {}
    for command in commands:
        key = _key(command.text)
        if key in seen:
            raise DataError(
                f"{name}: '{command.text}' is there twice ({seen[key].id} in '{seen[key].split}' and {command.id} in "
                f"'{command.split}'). Each phrasing belongs to one kind and one split."
            )
        seen[key] = command


def _key(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".!")
