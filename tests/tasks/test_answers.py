from __future__ import annotations

import pytest

from autodeco.errors import DataError
from autodeco.tasks.answers import extract_answer, extract_number, get_verifier, same_number, same_text


@pytest.mark.parametrize(
    ("completion", "number"),
    [
        ("The answer is: 12.", "12"),
        ("Answer: 12", "12"),
        ("**Answer:** **-3**", "-3"),
        ("**The final answer is 7**", "7"),
        ("5 - 9 = -4", "-4"),
        ("5 - 9 = - 4", "-4"),
        ("5 − 9 = −4", "-4"),
        ("-4", "-4"),
        ("(-4)", "-4"),
        ("3-1=2", "2"),
        ("so \\boxed{14}, and not 15", "14"),
        ("\\boxed{\\frac{1}{2}} then \\boxed{3}", "3"),
        ("The answer is $1,234.5$. I used 3 steps.", "1234.5"),
        ("The answer is 3 + 4 = 7.", "7"),
        ("The answer is 4. Wait, the answer is 5.", "5"),
        ("4 + 5 = 9\n\nThat is how it is done.", "9"),
        ("It is 12.50 dollars", "12.50"),
        ("4%", "4"),
        ("x2 is the 3rd", None),
        ("", None),
        ("none at all", None),
    ],
)
def test_extract_number(completion, number):
    assert extract_number(completion) == number


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("The answer is **tac**.", "tac"),
        ('Backward it is t, a, c.\nThe answer is: "tac"', "tac"),
        ("I think.\n\n`tac`\n", "tac"),
        ("ANSWER = tac", "tac"),
        ("  ", ""),
    ],
)
def test_extract_answer(completion, answer):
    assert extract_answer(completion) == answer


def test_verifiers():
    assert same_number("12", "The answer is 12.0")
    assert not same_number("12", "The answer is 13")
    assert not same_number("12", "no idea")
    assert same_text("New  York", "Answer: new york.")
    assert not same_text("York", "Answer: New York")
    assert get_verifier("exact") is same_text


def test_an_unknown_verifier_is_named():
    with pytest.raises(DataError, match="Did you mean 'number'"):
        get_verifier("numbers")
