"""Every verifier against answers written by hand: right answer, completion, and whether it should count as right."""

from __future__ import annotations

import threading
import time

import pytest

from autodeco.errors import MissingDependencyError
from autodeco.tasks.answers import VERIFIERS, final_answer, get_verifier
from autodeco.tasks.mathematics import compare, verify
from autodeco.tasks.mathematics.prepare import candidates, last_box

RIGHT, WRONG = True, False

NUMBER = [
    ("12", "The answer is 12.", RIGHT),
    ("12", "The answer is 13.", WRONG),
    ("12", "12", RIGHT),
    ("12", "12.0", RIGHT),
    ("12", "012", RIGHT),
    ("12", "12.5", WRONG),
    ("12", "-12", WRONG),
    ("-12", "-12", RIGHT),
    ("-12", "The answer is - 12", RIGHT),
    ("-12", "−12", RIGHT),
    ("-12", "12", WRONG),
    ("3", "5 - 2 = 3", RIGHT),
    ("-2", "5-2", WRONG),
    ("1234567", "1,234,567", RIGHT),
    ("1234567", "The answer is 1,234,567 people.", RIGHT),
    ("1234567", "1,234", WRONG),
    ("18", "She makes $18 every day.", RIGHT),
    ("18", "**Answer:** $18.00", RIGHT),
    ("18", "so \\boxed{18} dollars", RIGHT),
    ("18", "\\boxed{17}, then \\boxed{18}", RIGHT),
    ("18", "\\boxed{18}, then \\boxed{17}", WRONG),
    ("18", "The answer is 17. Wait, the answer is 18.", RIGHT),
    ("18", "The answer is 9 * 2 = 18.", RIGHT),
    ("18", "Answer: 18\nI used 3 steps.", RIGHT),
    ("18", "I used 18 steps.\nAnswer: 3", WRONG),
    ("18", "It is eighteen.", WRONG),
    ("18", "", WRONG),
    ("18", "18th", WRONG),
    ("0.5", ".5", RIGHT),
    ("0.5", "0.50", RIGHT),
    ("0.5", "5", WRONG),
    ("50", "50%", RIGHT),
    ("3", "x3", WRONG),
    ("0", "The answer is 0.", RIGHT),
    ("0", "The answer is 10.", WRONG),
]

EXACT = [
    ("tac", "tac", RIGHT),
    ("tac", "The answer is tac.", RIGHT),
    ("tac", "The answer is: **tac**", RIGHT),
    ("tac", 'Answer: "tac"', RIGHT),
    ("tac", "Answer: `tac`.", RIGHT),
    ("tac", "TAC", RIGHT),
    ("tac", "t a c", WRONG),
    ("tac", "tact", WRONG),
    ("tac", "The answer is cat.", WRONG),
    ("tac", "tac is the answer, I think", WRONG),
    ("tac", "cat\ntac", RIGHT),
    ("tac", "tac\ncat", WRONG),
    ("tac", "Thinking...\n\n  tac  \n", RIGHT),
    ("tac", "\\boxed{tac}", RIGHT),
    ("tac", "\\boxed{cat} and then \\boxed{tac}", RIGHT),
    ("tac", "\\boxed{tac} and then \\boxed{cat}", WRONG),
    ("tac", "The answer is cat. No: the answer is tac.", RIGHT),
    ("tac", "", WRONG),
    ("tac", "   ", WRONG),
    ("New York", "new  york", RIGHT),
    ("New York", "The answer is New York.", RIGHT),
    ("New York", "York", WRONG),
    ("New York", "NewYork", WRONG),
    ("yes", "Answer = yes", RIGHT),
    ("yes", "Final answer: Yes", RIGHT),
    ("yes", "no", WRONG),
    ("yes", "The answer is not yes", WRONG),
    ("12", "The answer is 12", RIGHT),
    ("12", "12.0", WRONG),
    ("a, b", "Answer: a, b", RIGHT),
    ("a, b", "Answer: b, a", WRONG),
]

CHOICE = [
    ("B", "B", RIGHT),
    ("B", "(B)", RIGHT),
    ("B", "B.", RIGHT),
    ("B", "B)", RIGHT),
    ("B", "**B**", RIGHT),
    ("B", "[B]", RIGHT),
    ("B", "C", WRONG),
    ("B", "b", WRONG),
    ("B", "The answer is B.", RIGHT),
    ("B", "The answer is (B).", RIGHT),
    ("B", "the answer is **(B)**", RIGHT),
    ("B", "The correct answer is: B", RIGHT),
    ("B", "Answer: B", RIGHT),
    ("B", "**Answer:** B", RIGHT),
    ("B", "Answer: $B$", RIGHT),
    ("B", "Answer: $\\boxed{B}$", RIGHT),
    ("B", "\\boxed{B}", RIGHT),
    ("B", "\\boxed{\\text{B}}", RIGHT),
    ("B", "\\boxed{\\textbf{(B) } 17}", RIGHT),
    ("B", "\\boxed{(B)}", RIGHT),
    ("B", "\\boxed{A} no, \\boxed{B}", RIGHT),
    ("B", "\\boxed{B} no, \\boxed{A}", WRONG),
    ("B", "The answer is A. Wait: the answer is B.", RIGHT),
    ("B", "Therefore the correct option is B.", RIGHT),
    ("B", "I choose option B because A is wrong.", RIGHT),
    ("B", "Answer: B) Paris", RIGHT),
    ("B", "B) Paris is the capital.", RIGHT),
    ("B", "Long thought about A and C.\n\nB", RIGHT),
    ("A", "A cat sat on the mat.", WRONG),
    ("I", "I think it is hard to say.", WRONG),
    ("I", "The answer is I.", RIGHT),
    ("B", "Both are possible.", WRONG),
    ("A", "The answer is Antarctica.", WRONG),
    ("A", "The answer is a matter of taste.", WRONG),
    ("J", "the answer is (J).", RIGHT),
    ("B", "", WRONG),
    ("B", "The answer is 2.", WRONG),
]

MATH = [
    ("204", "\\boxed{204}", RIGHT),
    ("204", "\\boxed{205}", WRONG),
    ("204", "So it is 204.", RIGHT),
    ("204", "The final answer is $204$.", RIGHT),
    ("204", "$$\\boxed{204.0}$$", RIGHT),
    ("204", "\\boxed{ 204 \\, }", RIGHT),
    ("204", "\\boxed {204}", RIGHT),
    ("204", "\\fbox{204}", RIGHT),
    ("204", "\\boxed{\\text{204 minutes}}", RIGHT),
    ("204", "\\boxed{204 \\text{ minutes}}", RIGHT),
    ("204", "\\boxed{204\\ \\mathrm{min}}", RIGHT),
    ("204", "\\boxed{t = 204}", RIGHT),
    ("204", "\\boxed{\\$204}", RIGHT),
    ("204", "\\boxed{204^\\circ}", RIGHT),
    ("204", "\\boxed{\\boxed{204}}", RIGHT),
    ("204", "\\boxed{203} is too small, so \\boxed{204}", RIGHT),
    ("204", "\\boxed{204} is too big, so \\boxed{203}", WRONG),
    ("204", "\\boxed{}", WRONG),
    ("204", "\\boxed{204", WRONG),
    ("204", "", WRONG),
    ("204", "no idea", WRONG),
    ("204", "either 204 or 205", WRONG),
    ("-984", "\\boxed{-984}", RIGHT),
    ("-984", "\\boxed{−984}", RIGHT),
    ("-984", "\\boxed{984}", WRONG),
    ("33124147", "\\boxed{33,124,147}", RIGHT),
    ("33124147", "\\boxed{33{,}124{,}147}", RIGHT),
    ("33124147", "\\boxed{33\\,124\\,147}", RIGHT),
    ("33124147", "\\boxed{33,124,148}", WRONG),
    ("\\frac{1}{9}", "\\boxed{\\frac{1}{9}}", RIGHT),
    ("\\frac{1}{9}", "\\boxed{\\dfrac19}", RIGHT),
    ("\\frac{1}{9}", "\\boxed{1/9}", RIGHT),
    ("\\frac{1}{9}", "\\boxed{\\frac{2}{18}}", RIGHT),
    ("\\frac{1}{9}", "\\boxed{9}", WRONG),
    ("\\frac{1}{9}", "\\boxed{-\\frac{1}{9}}", WRONG),
    ("\\frac{1}{9}", "\\boxed{0.1}", WRONG),
    ("-\\frac{2431}{50}", "\\boxed{-48.62}", RIGHT),
    ("\\frac{1}{2}", "\\boxed{50\\%}", RIGHT),
    ("\\frac{\\sqrt{13}}{2}", "\\boxed{\\tfrac{1}{2}\\sqrt{13}}", RIGHT),
    ("\\frac{\\sqrt{13}}{2}", "\\boxed{\\sqrt{13}/2}", RIGHT),
    ("\\frac{\\sqrt{13}}{2}", "\\boxed{\\sqrt{\\frac{13}{2}}}", WRONG),
    ("\\frac{9 \\sqrt{23}}{23}", "\\boxed{\\frac{9}{\\sqrt{23}}}", RIGHT),
    ("3+2\\sqrt{2}", "\\boxed{(1+\\sqrt 2)^2}", RIGHT),
    ("14+4\\sqrt{37}", "\\boxed{4\\sqrt{37}+14}", RIGHT),
    ("\\sqrt{23}-2 \\sqrt{3}", "\\boxed{\\sqrt{23}-\\sqrt{12}}", RIGHT),
    ("2^{99}", "\\boxed{2^{99}}", RIGHT),
    ("2^{99}", "\\boxed{2^{100}}", WRONG),
    ("2^{25} \\cdot 26!", "\\boxed{26!\\cdot 2^{25}}", RIGHT),
    ("20\\pi", "\\boxed{20\\pi\\text{ cm}}", RIGHT),
    ("20\\pi", "\\boxed{62.83}", WRONG),
    ("1-\\frac{2}{\\pi}", "\\boxed{\\frac{\\pi-2}{\\pi}}", RIGHT),
    ("\\frac{-1+\\sqrt{17}}{2}, \\frac{-1-\\sqrt{17}}{2}", "\\boxed{\\frac{-1\\pm\\sqrt{17}}{2}}", RIGHT),
    ("\\frac{-1+\\sqrt{17}}{2}, \\frac{-1-\\sqrt{17}}{2}", "\\boxed{\\frac{-1+\\sqrt{17}}{2}}", WRONG),
    ("2,3,\\frac{3+i\\sqrt{3}}{2},\\frac{3-i\\sqrt{3}}{2}", "\\boxed{3, 2, \\frac{3 \\pm i\\sqrt{3}}{2}}", RIGHT),
    ("2,3", "\\boxed{3, 2}", RIGHT),
    ("2,3", "\\boxed{2} and \\boxed{3}", RIGHT),
    ("\\{1,2\\}", "\\boxed{\\{2,1\\}}", RIGHT),
    ("\\{1,2\\}", "\\boxed{\\{1,2,3\\}}", WRONG),
    ("[0,1)", "\\boxed{[0, 1)}", RIGHT),
    ("[0,1)", "\\boxed{[0,1]}", WRONG),
    ("(3, 4)", "\\boxed{(3,4)}", RIGHT),
    ("(3, 4)", "\\boxed{(4,3)}", WRONG),
]

TABLES = {"number": NUMBER, "exact": EXACT, "choice": CHOICE, "math": MATH}


def test_every_verifier_has_a_table():
    assert TABLES.keys() == VERIFIERS.keys()
    assert all(len(table) >= 30 for table in TABLES.values())


@pytest.mark.parametrize(
    ("verifier", "answer", "completion", "right"),
    [(name, *row) for name, table in TABLES.items() for row in table],
)
def test_verifier(verifier, answer, completion, right):
    assert get_verifier(verifier)(answer, completion) is right


@pytest.mark.parametrize(
    ("verifier", "completion", "answer"),
    [
        ("number", "The answer is 1,250.0", "1250"),
        ("number", "none", None),
        ("exact", "Answer:  New  York.", "new york"),
        ("exact", "", None),
        ("choice", "the answer is (C)", "C"),
        ("choice", "none", None),
        ("math", "\\boxed{\\frac{2}{4}}", "1/2"),
        ("math", "\\boxed{0.5}", "1/2"),
        ("math", "none", None),
    ],
)
def test_final_answers_are_equal_for_equal_answers(verifier, completion, answer):
    assert final_answer(verifier, completion) == answer


def test_boxes():
    assert last_box("\\boxed{\\frac{1}{2}} and \\boxed{a{b}c}") == "a{b}c"
    assert last_box("\\boxed{1} and \\boxed{2") == "1"
    assert last_box("\\boxed{\\boxed{7}}") == "7"
    assert last_box("none") is None
    assert candidates("\\boxed{" + "1" * 5000 + "}") == []
    assert candidates("1 " * 100_000 + "\\boxed{5}") == ["\\boxed{5}"]


def test_mathematics_works_outside_the_main_thread():
    found = []
    for _ in range(2):  # the second after the worker's first thread has ended
        thread = threading.Thread(target=lambda: found.append(compare("\\frac12", "\\boxed{0.5}").correct))
        thread.start()
        thread.join()
    assert found == [True, True]
    assert compare("\\frac12", "\\boxed{0.5}").correct


@pytest.mark.parametrize("answer", ["9^{9^{9^{9}}}", "100000!!!", "(" * 300 + "1" + ")" * 300, "\\sin" * 200 + "x"])
def test_mathematics_never_hangs(answer):
    started = time.monotonic()
    assert not compare("12", f"\\boxed{{{answer}}}").correct
    assert time.monotonic() - started < 60
    assert compare("12", "\\boxed{12}").correct


def test_a_worker_that_hangs_is_killed_and_started_again(monkeypatch):
    assert compare("12", "\\boxed{12}").correct
    monkeypatch.setattr(verify, "SECONDS", 0.3)
    found = compare("12", "\\boxed{9^{9^{9^{9}}}}")
    assert (found.correct, found.timed_out) == (False, True)
    monkeypatch.undo()
    assert compare("12", "\\boxed{12}").correct


def test_a_right_answer_that_cannot_be_read_is_an_error():
    with pytest.raises(ValueError, match="cannot be read"):
        compare("", "\\boxed{12}")


def test_without_math_verify_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"autodeco\[tasks\]"):
        compare("12", "\\boxed{12}")
