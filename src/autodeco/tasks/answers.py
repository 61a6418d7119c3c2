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


_LETTER = r"[(\[{]?\s*(?:\\(?:text|textbf|mathrm|mathbf)\s*\{\s*)?[(]?([A-J])(?![A-Za-z'’])"
_BOXED_LETTER = re.compile(r"\\boxed\s*\{\s*" + _LETTER)
# As in: the answer is (B); Answer: **B**; the correct option is B; I choose B.
_STATED_LETTER = re.compile(
    r"\b(?:answer|choice|option|choose|pick|select)\b\W{0,6}"
    r"(?:(?:is|would be|must be|should be|option|choice)\b[\s:*_]*){0,3}"
    r"[\s:=*_`\"“$]*" + _LETTER,
    re.IGNORECASE,
)
_LONE_LETTER = re.compile(r"[\s*_`$(\[]*([A-J])[\s*_`$)\].:]*(?:$|[).:]\s)")


def extract_choice(completion: str) -> str | None:
    """Returns the letter (A to J) that a completion chooses, or ``None``.

    In this order: the last boxed letter; the last letter after "answer is", "Answer:", "option" or the like; a last or
    first line that is a letter ("B", "(B)", "**B.**") or begins with one as lists do ("B) because"). Letters elsewhere
    in prose do not count: "A" and "I" are words.
    """
    for pattern in (_BOXED_LETTER, _STATED_LETTER):
        letters = [letter for letter in pattern.findall(completion) if letter.isupper()]
        if letters:
            return str(letters[-1])
    lines = [line.strip() for line in completion.strip().splitlines() if line.strip()]
    for line in (lines[-1], lines[0]) if lines else ():
        lone = _LONE_LETTER.match(line)
        if lone:
            return lone[1]
    return None


def same_choice(answer: str, completion: str) -> bool:
    """Whether the completion chooses this letter."""
    return extract_choice(completion) == answer.strip().upper()


def same_math(answer: str, completion: str) -> bool:
    """Whether the completion's final answer equals this LaTeX expression, by math-verify.

    Raises:
        MissingDependencyError: math-verify is not installed.
    """
    from autodeco.tasks.mathematics import compare

    return compare(answer, completion).correct


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


VERIFIERS: dict[str, Callable[[str, str], bool]] = {
    "choice": same_choice,
    "exact": same_text,
    "math": same_math,
    "number": same_number,
}


def get_verifier(name: str) -> Callable[[str, str], bool]:
    """Returns ``verify(answer, completion)`` by name.

    Raises:
        DataError: there is no verifier of that name.
        MissingDependencyError: the package it needs is not installed.
    """
    if name not in VERIFIERS:
        raise DataError(f"unknown verifier '{name}'.{did_you_mean(name, VERIFIERS)}")
    if name == "math":
        from autodeco.tasks.mathematics import check_math_verify

        check_math_verify()  # now rather than as an error of every sample
    return VERIFIERS[name]


def final_answer(verifier: str, completion: str) -> str | None:
    """Returns what a verifier compares, equal for answers that it takes as equal; ``None`` if there is none.

    Of mathematics that is as far as SymPy writes equal expressions alike: 1/2 and 2/4, not always more.
    """
    if verifier == "choice":
        return extract_choice(completion)
    if verifier == "math":
        from autodeco.tasks.mathematics import compare

        return compare("0", completion).answer
    if verifier == "number":
        number = extract_number(completion)
        return None if number is None else f"{float(number):.15g}"
    return " ".join(extract_answer(completion).split()).casefold() or None
