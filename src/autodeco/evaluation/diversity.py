"""How different the texts sampled for one problem are: distinct-n and self-BLEU. Words are what whitespace separates.

Both depend on how many texts there are: strategies are compared at the same number of samples.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

_BLEU_ORDER = 4
# In the place of a count of 0, so that one order without a match does not make the whole BLEU 0 (Chen and Cherry
# 2014, smoothing 1, with NLTK's value).
_SMOOTHING = 0.1

_Gram = tuple[str, ...]


def distinct_n(texts: Sequence[str], n: int) -> float | None:
    """Different n-grams as a share of all n-grams of the texts (Li et al. 2016, arXiv 1510.03055).

    Args:
        texts: the samples of one problem.
        n: 1 for words, 2 for pairs of neighbours, and so on; none reaches from one text into the next.

    Returns:
        In (0, 1]; ``None`` if no text has ``n`` words.
    """
    grams = Counter[_Gram]()
    for text in texts:
        grams.update(_grams(text.split(), n))
    return len(grams) / grams.total() if grams else None


def self_bleu(texts: Sequence[str]) -> float | None:
    """Mean BLEU of each text against all the others as references (Zhu et al. 2018, arXiv 1802.01886).

    BLEU-4 with uniform weights, clipped counts and brevity penalty (closest reference length, the shorter of two);
    counts of 0 are taken as 0.1; of a text shorter than four words only the orders that it has count, so that equal
    texts have 1. Libraries count every reference's n-grams again for each text, which is quadratic; the most that
    another text holds of an n-gram is known from the two largest counts.

    Args:
        texts: the samples of one problem.

    Returns:
        In [0, 1], 1 where all texts are equal; ``None`` for fewer than two texts.
    """
    if len(texts) < 2:
        return None
    words = [text.split() or [""] for text in texts]  # an empty text is equal to an empty text
    lengths = sorted(len(own) for own in words)
    orders = [[Counter(_grams(own, n)) for own in words] for n in range(1, _BLEU_ORDER + 1)]
    largest = [_two_largest(counts) for counts in orders]
    scores = []
    for index, own in enumerate(words):
        logs = []
        for counts, top in zip(orders, largest, strict=True):
            total = counts[index].total()
            if total:
                matches = sum(min(count, _most_elsewhere(top[gram], count)) for gram, count in counts[index].items())
                logs.append(math.log((matches or _SMOOTHING) / total))
        closest = _closest_other(lengths, len(own))
        penalty = min(0.0, 1 - closest / len(own))
        scores.append(math.exp(penalty + sum(logs) / len(logs)))
    return sum(scores) / len(scores)


def _grams(words: Sequence[str], n: int) -> list[_Gram]:
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def _two_largest(counts: list[Counter[_Gram]]) -> dict[_Gram, tuple[int, int]]:
    """The largest and second largest count that any of the texts has of each n-gram."""
    largest: dict[_Gram, tuple[int, int]] = {}
    for own in counts:
        for gram, count in own.items():
            first, second = largest.get(gram, (0, 0))
            largest[gram] = (count, first) if count > first else (first, max(second, count))
    return largest


def _most_elsewhere(largest: tuple[int, int], own: int) -> int:
    first, second = largest
    return second if own == first else first


def _closest_other(lengths: list[int], own: int) -> int:
    """Of the sorted lengths, less one that is ``own``, the closest to it; the shorter of two as close."""
    at = bisect_left(lengths, own)
    others = [lengths[near] for near in (at - 1, at + 1) if 0 <= near < len(lengths)]
    return min(others, key=lambda length: (abs(length - own), length))
