"""Rows of a measurement, made to order."""

from __future__ import annotations

from typing import Any


def row(condition: str, problem: str, temperature: float, top_p: float = 0.8, **values: Any) -> dict[str, Any]:
    return {
        "case": 0,
        "sample": 0,
        "condition": condition,
        "problem": problem,
        "command": None,
        "subkind": None,
        "position": None,
        "level": {"low": -1.0, "high": 1.0}.get(condition, 0.0),
        "temperature": None,
        "top_p": None,
        "scope": [],
        "text": "one two three",
        "tokens": 4,
        "mean_temperature": temperature,
        "mean_top_p": top_p,
        "mean_entropy": 1.0,
        "temperature_of_parts": [temperature, temperature],
        "top_p_of_parts": [top_p, top_p],
    } | values
