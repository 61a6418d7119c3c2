"""Finding the final answer in a completion, and comparing it. Pure functions on text."""

from __future__ import annotations

import re
from collections.abc import Callable

from autodeco.errors import DataError, did_you_mean

_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
# "The answer is: 12", "Answer: 12", "final answer = 12", with or without Markdown around it.
_STATED = re.compile(r"\banswer\W{0,4}(?:\bis\b|\bwould be\b|:|=)[\s:=*_]*", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])[-+−]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w])|(?<![\w])[-+−]?\.\d+")
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")


def extract_answer(completion: str) -> str:
    """Returns the final answer that a completion states, as text without decoration.

    In this order: the last ``\\boxed{...}``; what follows the last "answer is" or "answer:", up to the end of that
    sentence; the last line. Markdown, quotes, ``$`` and a closing full stop are taken off.
    """
    boxed = _BOXED.findall(completion)
    if boxed:
        return _undecorated(boxed[-1])
    stated = [match.end() for match in _STATED.finditer(completion)]
    if stated and completion[stated[-1] :].strip():
        line = completion[stated[-1] :].splitlines()[0]
        return _undecorated(_SENTENCE_END.split(line, maxsplit=1)[0])
    lines = [line for line in completion.splitlines() if line.strip()]
    return _undecorated(lines[-1]) if lines else ""


def extract_number(completion: str) -> str | None:
    """Returns the number that a completion ends at, in plain digits, or ``None`` if it holds none.

    It is the last number of what :func:`extract_answer` finds ("the answer is 3 + 4 = 7" gives 7), or, if that holds
    none, the last number of the whole completion.
    """
    for text in (extract_answer(completion), completion):
        numbers = _NUMBER.findall(_minus_tightened(text))
        if numbers:
            return re.sub(r"[,+\s]", "", numbers[-1].replace("−", "-"))
    return None


def _minus_tightened(text: str) -> str:
    # In "5 - 3" the sign belongs to the sum, in "= -3" and "= - 3" to the number.
    return re.sub(r"(?<=[\w)])\s*[-+−]\s*(?=[\d.])", " ", text)


def _undecorated(text: str) -> str:
    return text.strip().strip("*_`$\"'“”").removesuffix(".").strip("*_`$\"'“” ")


def same_text(answer: str, completion: str) -> bool:
    """Whether the completion's final answer is this text, apart from case and white space."""
    return " ".join(extract_answer(completion).split()).casefold() == " ".join(answer.split()).casefold()


def same_number(answer: str, completion: str) -> bool:
    """Whether the completion's final number equals this one (12, 12.0 and 012 are equal)."""
    found = extract_number(completion)
    if found is None:
        return False
    needed = extract_number(answer)
    return needed is not None and abs(float(found) - float(needed)) <= 1e-9 * max(1.0, abs(float(needed)))


VERIFIERS: dict[str, Callable[[str, str], bool]] = {"exact": same_text, "number": same_number}


def get_verifier(name: str) -> Callable[[str, str], bool]:
    """Returns ``verify(answer, completion)`` by name.

    Raises:
        DataError: there is no verifier of that name.
    """
    if name not in VERIFIERS:
        raise DataError(f"unknown verifier '{name}'.{did_you_mean(name, VERIFIERS)}")
    return VERIFIERS[name]
