"""Traces for tests: plausible numbers, any text."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from autodeco.trace.format import Alternative, Header, Trace, TracedToken

VALUES = {
    "temperature": 0.8,
    "top_p": 0.9,
    "nucleus_size": 12,
    "rank": 1,
    "base_entropy": 1.5,
    "entropy": 1.25,
    "base_probability": 0.5,
    "probability": 0.625,
}


def token(text: str = "a", **fields: Any) -> TracedToken:
    best = Alternative(token_id=8, text=" best", base_probability=0.25, probability=0.3)
    cut = Alternative(token_id=9, text=" cut", base_probability=0.01, probability=0.0)
    return TracedToken(**{"token_id": 7, "text": text, "alternatives": (best, cut), **VALUES, **fields})


def trace(tokens: Sequence[TracedToken], **header: Any) -> Trace:
    return Trace(header=Header(**{"model": "m", "prompt": "Say it.", **header}), tokens=tuple(tokens))


def long_trace(count: int, seed: int = 0, **header: Any) -> Trace:
    """Many tokens whose temperatures wander."""
    draws = random.Random(seed)
    words = [" the", " sum", " of", " three", " and", " four", " is", " seven", ".", "\n", " So", " we"]
    temperature, tokens = 0.8, []
    for _ in range(count):
        temperature = min(max(temperature + draws.gauss(0, 0.15), 0.05), 1.95)
        top_p = min(1.0, 0.5 + draws.random() / 2)
        tokens.append(token(draws.choice(words), temperature=temperature, top_p=top_p))
    return trace(tokens, **header)
