"""IFEval: each instruction on responses that follow it and that do not, and the published prompts."""

from __future__ import annotations

import json

import pytest

from autodeco.errors import DataError, MissingDependencyError
from autodeco.tasks import get_task
from autodeco.tasks.base import Example
from autodeco.tasks.benchmarks.ifeval import IFEval
from autodeco.tasks.benchmarks.ifeval_checks import CHECKS
from autodeco.tasks.benchmarks.ifeval_text import sentence_model

ENGLISH = "this is a short note about the weather in the north of the country"
AT_LEAST, LESS = "at least", "less than"

# Instruction, its arguments, responses that follow it, responses that do not.
CASES = [
    ("keywords:existence", {"keywords": ["sun", "rain"]}, ["Rain, then SUNshine"], ["sun only", ""]),
    ("keywords:frequency", {"keyword": "sun ", "frequency": 2, "relation": AT_LEAST}, ["sun Sunny"], ["sun"]),
    ("keywords:frequency", {"keyword": "sun", "frequency": 2, "relation": LESS}, ["sun", "x"], ["sun sun"]),
    ("keywords:forbidden_words", {"forbidden_words": ["sun"]}, ["sunny"], ["the SUN.", "sun"]),
    ("keywords:letter_frequency", {"letter": "A", "let_frequency": 3, "let_relation": AT_LEAST}, ["aAa"], ["aa"]),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": LESS}, ["#"], ["##"]),
    (
        "language:response_language",
        {"language": "de"},
        ["Das ist ein kurzer deutscher Satz über das Wetter."],
        [ENGLISH],
    ),
    ("language:response_language", {"language": "en"}, [ENGLISH, "123 456"], ["Das ist ein Satz auf Deutsch."]),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": AT_LEAST},
        ["We ran. They won."],
        ["Mr. Fox ran."],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": LESS},
        ["Dr. No vs. Mr. X ran."],
        ["A! B?"],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["a\n***\nb", "a***b\n***"],
        ["a", "a\n***\n***\nb"],
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": AT_LEAST}, ["a b c", "a-b-c"], ["a b", "don't"]),
    ("length_constraints:number_words", {"num_words": 3, "relation": LESS}, ["a b", "don't"], ["a b c"]),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Well"},
        ["One.\n\nwell, two.", "One.\n\n'Well' two."],
        ["well\n\none", "well", "a\n\nb\n\nwell", "a\n\nwells"],
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] [b]"], ["[a]", "[a\nb] [c]"]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["x\np.s. y", "x P. S. y"], ["PS y", "x"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["x\nP.P.S y", "p. p.s"], ["P.S. y"]),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n* b", "- a\n * b"],
        ["* a", "**a**\n* b", "x"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["My answer is yes.", "x My answer is maybe."],
        ["Yes.", "my answer is no."],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* *b*", "**a** x **b**"],
        ["*a*", "* * **"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        ["Section 1\na\nSection 2\nb"],
        ["Section 1\na", "SECTION 1 SECTION 2", "Section one Section two"],
    ),
    ("detectable_format:json_format", {}, ['{"a": 1}', '```json\n{"a": 1}\n```', "[]"], ["{a: 1}", 'Here: {"a": 1}']),
    ("detectable_format:title", {}, ["<<A title>>\nx", "x <<a>>"], ["<<>>", "<a>", "<<a\nb>>", "<< >>"]),
    (
        "combination:two_responses",
        {},
        ["a******b", "******a******b******"],
        ["a", "a******a", "a******b******c", "a************b"],
    ),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Do it."}, ["do it. Done."], ["Sure: Do it.", "Do"]),
    ("startend:end_checker", {"end_phrase": "The End."}, ["x the end.", 'x The End."'], ["the end. x", "end"]),
    ("startend:quotation", {}, ['"a"', ' "a b" '], ['"', "a", '"a" b', "'a'"]),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": AT_LEAST, "capital_frequency": 2},
        ["YES and NO.", "A-B C"],
        ["YES", "Yes No"],
    ),
    ("change_case:capital_word_frequency", {"capital_relation": LESS, "capital_frequency": 2}, ["YES"], ["YES NO"]),
    (
        "change_case:english_capital",
        {},
        [ENGLISH.upper()],
        [ENGLISH, "DAS IST EIN KURZER DEUTSCHER SATZ ÜBER DAS WETTER"],
    ),
    ("change_case:english_lowercase", {}, [ENGLISH], [ENGLISH.upper(), ENGLISH.capitalize()]),
    ("punctuation:no_comma", {}, ["a; b"], ["a, b"]),
]


def _example(*instructions):
    names, given = zip(*instructions, strict=True)
    return Example("x", [], "", {"instructions": list(names), "arguments": list(given)})


@pytest.fixture
def task():
    return IFEval("unused")


def test_there_are_25_instructions_and_all_are_tested():
    assert len(CHECKS) == 25
    assert {case[0] for case in CASES} == CHECKS.keys()


@pytest.mark.parametrize(("name", "given", "follow", "break_"), CASES)
def test_instruction(name, given, follow, break_, task):
    for response in follow:
        assert task.verify(_example((name, given)), response), response
    for response in break_:
        assert not task.verify(_example((name, given)), response), response


def test_four_measures(task):
    example = _example(("punctuation:no_comma", {}), ("startend:quotation", {}))
    strict = task.check(example, '"no commas"')
    assert (strict.correct, strict.details["prompt_loose"]) == (True, True)
    loose = task.check(example, 'Sure, here:\n"no commas"')
    assert loose.correct is False
    assert loose.details == {
        "prompt_strict": False,
        "prompt_loose": True,
        "instruction_strict": [False, False],
        "instruction_loose": [True, True],
    }
    neither = task.check(example, "*a, b*")
    assert neither.details["instruction_loose"] == [False, False]
    assert task.check(example, '*"a"*').details["instruction_loose"] == [True, True]  # without asterisks
    assert task.check(example, "").details["instruction_loose"] == [False, False]
    assert neither.answer is None


def test_each_instruction_may_be_followed_by_another_variant(task):
    """As published: the prompt is followed loosely although no single variant follows both instructions."""
    example = _example(("startend:end_checker", {"end_phrase": "bye"}), ("keywords:existence", {"keywords": ["hi"]}))
    found = task.check(example, "bye\nhi")
    assert found.details["prompt_loose"] is True


def test_an_unknown_relation_is_an_error_not_a_wrong_answer(task):
    example = _example(("length_constraints:number_words", {"num_words": 1, "relation": "about"}))
    found = task.judge(example, "a")
    assert found.correct is None
    assert found.error.startswith("ValueError: the relation must be")


RESPONSES = [
    "",
    "   \n\n  ",
    "word",
    "Hello, world. How are you?\n\nP.S. I am *fine*, **really**.\n\n* a\n* b\n- c",
    '"<<Title>>\n\nSECTION 1\n[name] [address]\n***\nSection 2\n******\nMy answer is yes."',
    '```json\n{"a": [1, 2]}\n```',
    "ALL CAPITALS AND NOTHING ELSE IN THIS RESPONSE",
    "\\ ( [ { * + ? ^ $ | . \x00 \ud7ff 😀 नमस्ते दुनिया",
]


def test_all_published_prompts_can_be_checked(benchmark_data):
    task = get_task("ifeval", data=benchmark_data)
    examples = task.examples("test", None, 0)
    assert len(examples) == 541
    assert sum(len(example.metadata["instructions"]) for example in examples) == 834  # as the paper counts them
    for example in examples:
        for response in [*RESPONSES, example.messages[0]["content"]]:
            assert task.judge(example, response).error is None


def test_the_hubs_form_is_read(tmp_path):
    given = {"num_words": 3, "relation": "at least", "keywords": None, "num_highlights": None}
    row = {"key": 7, "prompt": "Write.", "instruction_id_list": ["length_constraints:number_words"], "kwargs": [given]}
    path = tmp_path / "ifeval.jsonl"
    path.write_text(json.dumps(row))
    [example] = IFEval(path).examples("test", None, 0)
    assert example.metadata["arguments"] == [{"num_words": 3, "relation": "at least"}]
    path.write_text(json.dumps({**row, "instruction_id_list": ["length_constraints:number_of_cats"]}))
    with pytest.raises(DataError, match=r"problem 1: instructions length_constraints:number_of_cats"):
        IFEval(path).examples("test", None, 0)


def test_the_way_sentences_are_counted_is_part_of_the_fingerprint(benchmark_data):
    assert get_task("ifeval", data=benchmark_data).fingerprint()["sentences"] == sentence_model()
    assert sentence_model() in ("punkt_tab", "abbreviations")


def test_without_its_packages_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"needs langdetect.*autodeco\[tasks\]"):
        IFEval("unused")
