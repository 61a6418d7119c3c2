"""Phrasings with alternatives in brackets, ``[Keep|Hold] it [plain|simple].``, and how near two phrasings are."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

# Brackets without a bar are text.
_ALTERNATIVES = re.compile(r"\[([^\[\]|]*(?:\|[^\[\]|]*)+)\]")
MOST = 40  # texts of one pattern: more would be the same words once more
NEAR = 0.7


def is_pattern(text: str) -> bool:
    """Whether there are alternatives in it."""
    return bool(_ALTERNATIVES.search(text))


def expansions(pattern: str, most: int = MOST) -> list[str]:
    """The texts that a pattern stands for: all, or so many drawn evenly, always the same.

    Args:
        pattern: groups of alternatives are not nested; an alternative may be empty.
        most: how many at most.
    """
    parts = _ALTERNATIVES.split(pattern)  # text, alternatives, text, ..., text
    choices = [part.split("|") if place % 2 else [part] for place, part in enumerate(parts)]
    count = math.prod(len(own) for own in choices)
    places = range(count) if count <= most else sorted(random.Random(pattern).sample(range(count), most))
    return list(dict.fromkeys(_at(place, choices) for place in places))


def _at(place: int, choices: list[list[str]]) -> str:
    parts = []
    for own in choices:
        place, index = divmod(place, len(own))
        parts.append(own[index])
    return "".join(parts)


def near(texts: Sequence[str], others: Iterable[str]) -> list[bool]:
    """Of each text whether more than :data:`NEAR` of its words, or of those of one of the others, are in both.

    Args:
        texts: thousands of them, so this is one product of matrices of words.
        others: to compare them with.
    """
    own, kept = [_words(text) for text in texts], [_words(text) for text in others]
    if not own or not kept:
        return [False] * len(own)
    columns = {word: column for column, word in enumerate(sorted(set().union(*kept)))}
    shared = _incidence(own, columns) @ _incidence(kept, columns).T
    fewest = np.minimum.outer([len(words) for words in own], [len(words) for words in kept])
    return [bool(row.any()) for row in shared > NEAR * fewest]


def _incidence(texts: list[set[str]], columns: dict[str, int]) -> NDArray[np.float32]:
    """``[texts, words]``: 1 where the word is in the text."""
    matrix = np.zeros((len(texts), len(columns)), dtype=np.float32)
    for row, words in enumerate(texts):
        matrix[row, [columns[word] for word in words if word in columns]] = 1.0
    return matrix


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", text.lower()))
