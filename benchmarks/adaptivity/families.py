"""The experiment's procedural tasks: families with thousands of different problems, so that intervals can be narrow.

Named in configurations as ``benchmarks/adaptivity/families.py:Sums``. Those with worked examples are for the smaller
model, which otherwise rarely ends with an answer.
"""

from __future__ import annotations

from typing import Any

from autodeco.tasks.demo import LETTERS_SHOTS, SUM_QUESTION
from autodeco.tasks.reasoning_gym import ReasoningGymTask


class _Family(ReasoningGymTask):
    def fingerprint(self) -> dict[str, Any]:
        """The family's: it says all that results depend on, whatever else is changed in this file."""
        return super().fingerprint()


class Sums(_Family):
    """Sums and differences of two numbers of one or two digits."""

    def __init__(self) -> None:
        super().__init__(
            "chain_sum",
            name="sums",
            settings={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
            shots=[
                (SUM_QUESTION.format("6 + 13"), "6 + 13 = 19, so the answer is 19."),
                (SUM_QUESTION.format("2 - 7"), "2 - 7 = -5, so the answer is -5."),
            ],
        )


class LongSums(_Family):
    """Sums and differences of three one-digit numbers, worked out in two steps."""

    def __init__(self) -> None:
        super().__init__(
            "chain_sum",
            name="long-sums",
            settings={"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1},
            shots=[
                (SUM_QUESTION.format("6 + 3 - 2"), "First 6 + 3 = 9. Then 9 - 2 = 7. The answer is 7."),
                (SUM_QUESTION.format("2 + 7 + 5"), "First 2 + 7 = 9. Then 9 + 5 = 14. The answer is 14."),
            ],
        )


class Letters(_Family):
    """How often a letter occurs in a word."""

    def __init__(self) -> None:
        super().__init__(
            "letter_counting",
            name="letters",
            settings={"min_words": 1, "max_words": 1},
            shots=LETTERS_SHOTS,
        )


class Gcd(_Family):
    """Greatest common divisor of two numbers up to 30, in the model's own words."""

    def __init__(self) -> None:
        super().__init__("gcd", name="gcd", settings={"min_value": 1, "max_value": 30})


class Arithmetic(_Family):
    """One operation on numbers of one or two digits."""

    def __init__(self) -> None:
        super().__init__(
            "basic_arithmetic",
            name="arithmetic",
            settings={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
            shots=[
                ("Calculate 6 / 3.", "6 / 3 = 2, so the answer is 2."),
                ("Calculate 12 - 17.", "12 - 17 = -5, so the answer is -5."),
                ("Calculate 3 * 4.", "3 * 4 = 12, so the answer is 12."),
            ],
        )


class LongerSums(_Family):
    """Sums and differences of three numbers of two digits, worked out in two steps. For the larger model."""

    def __init__(self) -> None:
        super().__init__(
            "chain_sum",
            name="longer-sums",
            settings={"min_terms": 3, "max_terms": 3, "min_digits": 2, "max_digits": 2},
            shots=[
                (SUM_QUESTION.format("46 + 33 - 12"), "First 46 + 33 = 79. Then 79 - 12 = 67. The answer is 67."),
                (SUM_QUESTION.format("25 + 17 + 58"), "First 25 + 17 = 42. Then 42 + 58 = 100. The answer is 100."),
            ],
        )


class Products(_Family):
    """Products of two numbers of one or two digits, worked out in parts. For the larger model."""

    def __init__(self) -> None:
        super().__init__(
            "products",
            name="products",
            settings={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
            shots=[
                (
                    "Solve the following multiplication: 14 * 23. Give only the result as your final answer.",
                    "14 * 20 = 280 and 14 * 3 = 42, and 280 + 42 = 322. The answer is 322.",
                ),
                (
                    "Solve the following multiplication: 7 * 58. Give only the result as your final answer.",
                    "7 * 50 = 350 and 7 * 8 = 56, and 350 + 56 = 406. The answer is 406.",
                ),
            ],
        )
