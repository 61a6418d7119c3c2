"""The three tasks of ``autodeco demo``: what the bundled 135M model gets right now and then, in a short sentence.

Chosen with ``benchmarks/demo_families.py`` (numbers in ``benchmarks/results/demo_families/``) from the candidates
there: under default sampling (T = 1) a fifth to three fifths of the completions are right, so there are right
trajectories to learn from and mistakes to avoid; they are 12 to 29 tokens long on average, so that a thousand are
sampled in some two minutes on two CPU cores; and a lower temperature helps. Wording and worked examples were tuned
there too, on train problems only: what the demo reports is measured on test problems, which that never saw.
"""

from __future__ import annotations

from autodeco.tasks.base import Task
from autodeco.tasks.reasoning_gym import ReasoningGymTask

# How reasoning-gym words these families' questions, for worked examples.
SUM_QUESTION = "State the final answer to the following arithmetic problem: {} ="
LETTERS_QUESTION = 'How many times does the letter "{}" appear in the text: "{}"?'
LETTERS_SHOTS = [
    (LETTERS_QUESTION.format("e", "tree"), "t, r, e, e: the answer is 2."),
    (LETTERS_QUESTION.format("o", "dog"), "d, o, g: the answer is 1."),
]


def demo_tasks() -> list[Task]:
    """Returns the demo's tasks: one-digit sums and differences, one-digit products, letters in a word.

    Raises:
        MissingDependencyError: reasoning-gym is not installed.
    """
    return [_sums(), _products(), _letters()]


def _sums() -> Task:
    return ReasoningGymTask(
        "chain_sum",
        name="demo-sums",
        settings={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
        shots=[
            (SUM_QUESTION.format("6 + 3"), "6 + 3 = 9, so the answer is 9."),
            (SUM_QUESTION.format("2 - 7"), "2 - 7 = -5, so the answer is -5."),
        ],
    )


def _products() -> Task:
    # No worked examples: with them the model is right four times out of five whatever the temperature.
    return ReasoningGymTask(
        "products",
        name="demo-products",
        settings={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    )


def _letters() -> Task:
    return ReasoningGymTask(
        "letter_counting",
        name="demo-letters",
        settings={"min_words": 1, "max_words": 1},
        shots=LETTERS_SHOTS,
    )
