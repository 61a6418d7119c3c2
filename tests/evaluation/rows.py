"""Rows of results for tests, made to order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def row(**values: Any) -> dict[str, Any]:
    return {
        "model": "tiny",
        "task": "sums",
        "strategy": "default",
        "split": "test",
        "problem": "p0",
        "sample": 0,
        "seed": 0,
        "correct": True,
        "error": None,
        "text": "the answer is 2",
        "answer": "2",
        "tokens": 5,
        "finish": "stop",
        "entropy": 0.5,
        "mean_temperature": None,
        "mean_top_p": None,
        "details": None,
    } | values


def simulated(
    strategies: dict[str, float],
    *,
    problems: int = 20,
    samples: int = 8,
    spread: float = 0.15,
    tasks: tuple[str, ...] = ("sums",),
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Rows of strategies with the given chances of success, which differ between problems alike for all of them."""
    draws = np.random.default_rng(seed)
    rows = []
    for task in tasks:
        shift = draws.uniform(-spread, spread, problems)
        for strategy, chance in strategies.items():
            for problem in range(problems):
                for sample in range(samples):
                    right = bool(draws.random() < np.clip(chance + shift[problem], 0, 1))
                    answer = "2" if right else str(draws.integers(3, 6))
                    words = " ".join(draws.choice(list("abcdef"), 6))
                    rows.append(
                        row(
                            task=task,
                            strategy=strategy,
                            problem=f"p{problem}",
                            sample=sample,
                            seed=sample,
                            correct=right,
                            answer=answer,
                            text=f"{words} {answer}",
                            entropy=float(chance + 0.1 * draws.random()),
                        )
                    )
    return rows


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows).astype({"correct": "boolean"})
