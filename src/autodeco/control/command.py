"""A decoding command in words, and the group of a commands file that makes some: its fields, checked."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from autodeco.control.patterns import expansions, is_pattern
from autodeco.control.target import HEADS, Target
from autodeco.errors import DataError, did_you_mean
from autodeco.tasks.base import split_of

SPLITS = ("train", "validation", "test")
# Of each kind what it is, and the fields that a group of it may have beside its texts.
KINDS = {
    "low": ("asks for less diversity", {"level"}),
    "high": ("asks for more diversity", {"level"}),
    "graded": ("asks for a little or a lot of either", {"level"}),
    "absolute": ("asks for a temperature, a top-p or both", {"level", "values"}),
    "scoped": ("asks for different things in different parts of the answer", {"scope"}),
    "lookalike": ("speaks of such things and asks for nothing", set[str]()),
}
MAX_LEVEL = 3.0
MAX_TEMPERATURE = 2.0  # the paper's head reaches no more
_DEFAULT_LEVEL = {"low": -1.0, "high": 1.0}
_PLACEHOLDERS = ("{temperature}", "{top_p}", "{top_p_percent}")
_COMMON = {"kind", "subkind", "language", "texts", *SPLITS}


@dataclass(frozen=True)
class Command:
    """One phrasing of a command, or a look-alike.

    Attributes:
        id: ``kind/subkind/number``, with its values where it was made from a template; unique in a file.
        text: what the user writes.
        kind: one of :data:`KINDS`.
        subkind: a finer name.
        split: ``"train"``, ``"validation"`` or ``"test"``; a phrasing is in one of them only.
        target: what it asks for; neutral for look-alikes, and for scoped commands, whose parts are in ``scope``.
        scope: levels of the answer's parts, in order; empty but for scoped commands.
        language: ISO 639-1.
        pattern: with the alternatives that it was made from; empty where it was written out.
    """

    id: str
    text: str
    kind: str
    subkind: str
    split: str
    target: Target
    scope: tuple[float, ...] = ()
    language: str = "en"
    pattern: str = ""


def commands_of(group: Any, where: str, numbers: Counter[str]) -> list[Command]:
    """The commands of one group, see :func:`autodeco.control.commands.load_commands`.

    Args:
        group: as it was read.
        where: file and number of the group, for errors.
        numbers: of texts so far, by what their ids have in common; counted on.

    Raises:
        DataError: the group cannot be used.
    """
    if not isinstance(group, dict):
        raise DataError(f"{where}: a group must be 'name: value' lines, found {type(group).__name__}.")
    kind = group.get("kind")
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS) if isinstance(kind, str) else f" Valid names: {', '.join(KINDS)}."
        raise DataError(f"{where}: unknown kind {kind!r}.{hint}")
    allowed = _COMMON | KINDS[kind][1]
    for field in group:
        if field not in allowed:
            raise DataError(f"{where}: '{field}' is no field of the kind '{kind}'.{did_you_mean(str(field), allowed)}")
    subkind, language = _name(group, "subkind", kind, where), _name(group, "language", "en", where)
    level = _level(group, kind, where)
    scope = _scope(group, kind, where)
    commands = []
    stem = f"{kind}/{subkind}/{language}"
    for split, text in _texts(group, where):
        numbers[stem] += 1
        pattern = text if is_pattern(text) else ""
        choices = _values(group, split, where) if kind == "absolute" else [{}]
        for suffix, filled, values in _filled(text, choices, where):
            target = Target(level, values.get("temperature"), values.get("top_p"))
            identity = f"{stem}{numbers[stem]}{suffix}"
            commands.append(Command(identity, filled, kind, subkind, split, target, scope, language, pattern))
    return commands


def _filled(text: str, choices: list[dict[str, float]], where: str) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Of each command that a text stands for what tells it from the others, its words and its values."""
    texts = [one.strip() for one in expansions(text)]
    for one in texts:
        if not one:
            raise DataError(f"{where}: '{text}' may stand for nothing at all: a text must be words.")
        if len(choices) > 1 and not any(name in one for name in _PLACEHOLDERS):
            raise DataError(
                f"{where}: '{one}' would ask for {len(choices)} things at once. Give one entry of 'values', or texts "
                f"with {' or '.join(_PLACEHOLDERS)}."
            )
    if is_pattern(text):
        shuffled = random.Random(text).sample(choices, len(choices))
        for number, (one, values) in enumerate(zip(texts, cycle(shuffled), strict=False), start=1):
            filled, suffix = _fill(one, values, where)
            yield f".{number}{suffix}", filled, values
    else:
        for values in choices:
            filled, suffix = _fill(text, values, where)
            yield suffix, filled, values


def _name(group: dict[str, Any], field: str, default: str, where: str) -> str:
    value = group.get(field, default)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: '{field}' must be a name, found {value!r}.")
    return value


def _texts(group: dict[str, Any], where: str) -> list[tuple[str, str]]:
    """Split and text of each phrasing."""
    lists = {key: group[key] for key in ("texts", *SPLITS) if key in group}
    if not lists:
        raise DataError(f"{where}: it has no texts; give 'texts', or 'train', 'validation' and 'test'.")
    found = []
    for key, texts in lists.items():
        if not isinstance(texts, list) or not texts:
            raise DataError(f"{where}: '{key}' must be a list of texts, found {texts!r:.80}.")
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{where}: a text must be words, found {text!r:.80}. (Quote it if it holds a colon.)")
            found.append((split_of(text) if key == "texts" else key, text.strip()))
    return found


def _level(group: dict[str, Any], kind: str, where: str) -> float:
    if "level" not in group:
        if kind == "graded":
            raise DataError(f"{where}: a graded command needs 'level', between {-MAX_LEVEL:g} and {MAX_LEVEL:g}.")
        return _DEFAULT_LEVEL.get(kind, 0.0)
    level = _number(group["level"], "level", -MAX_LEVEL, MAX_LEVEL, where)
    sign = _DEFAULT_LEVEL.get(kind, level)
    if level * sign <= 0:
        needed = "other than 0" if kind not in _DEFAULT_LEVEL else "above 0" if kind == "high" else "below 0"
        raise DataError(f"{where}: the level of a '{kind}' command must be {needed}, found {level:g}.")
    return level


def _scope(group: dict[str, Any], kind: str, where: str) -> tuple[float, ...]:
    if kind != "scoped":
        return ()
    scope = group.get("scope")
    if not isinstance(scope, list) or len(scope) < 2:
        raise DataError(f"{where}: a scoped command needs 'scope', a list of two levels or more, found {scope!r}.")
    levels = tuple(_number(level, "scope", -MAX_LEVEL, MAX_LEVEL, where) for level in scope)
    if levels[0] == levels[-1]:
        raise DataError(f"{where}: the first and the last level of 'scope' must differ, found {scope!r}.")
    return levels


def _values(group: dict[str, Any], split: str, where: str) -> list[dict[str, float]]:
    values = group.get("values")
    own = values.get(split) if isinstance(values, dict) else values
    if not isinstance(own, list) or not own or not all(isinstance(entry, dict) and entry for entry in own):
        raise DataError(
            f"{where}: an 'absolute' command needs 'values', a list such as [{{temperature: 0.3}}, {{top_p: 0.9}}] or "
            f"one for each split; found {own!r:.80} for '{split}'."
        )
    for entry in own:
        for head in entry:
            if head not in HEADS:
                raise DataError(f"{where}: '{head}' is no value that can be asked for.{did_you_mean(str(head), HEADS)}")
    bounds = {"temperature": MAX_TEMPERATURE, "top_p": 1.0}
    return [{head: _number(value, head, 0.0, bounds[head], where) for head, value in entry.items()} for entry in own]


def _number(value: Any, field: str, low: float, high: float, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{where}: '{field}' must be a number, found {value!r}.")
    if not low <= value <= high:
        raise DataError(f"{where}: '{field}' must lie between {low:g} and {high:g}, found {value:g}.")
    return float(value)


def _fill(text: str, values: dict[str, float], where: str) -> tuple[str, str]:
    """The text with its values, and what tells it apart from the same template with others."""
    temperature, top_p = values.get("temperature"), values.get("top_p")
    percent = None if top_p is None else 100 * top_p
    shown = dict(zip(_PLACEHOLDERS, (temperature, top_p, percent), strict=True))
    used = [name for name in shown if name in text]
    for name in used:
        if (number := shown[name]) is None:
            raise DataError(f"{where}: '{text}' has {name}, and its values have none: {values}.")
        text = text.replace(name, f"{number:g}")
    suffix = "".join(f" {head}={value:g}" for head, value in values.items()) if used else ""
    return text, suffix
