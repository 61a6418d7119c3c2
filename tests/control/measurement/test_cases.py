import pytest

from autodeco.control import POSITIONS, load_commands, quote
from autodeco.control.measurement import CONDITIONS, make_cases
from autodeco.errors import ConfigError, DataError
from autodeco.tasks import get_task

PACKAGED = load_commands()
PROMPTS = get_task("open-prompts").examples("test", None, 0)
CASES = make_cases(PACKAGED, PROMPTS, "test", 0, POSITIONS)


def test_every_prompt_under_every_condition():
    assert len(CASES) == 100 * len(CONDITIONS)
    assert {case.condition for case in CASES} == set(CONDITIONS)


def test_phrasings_are_of_the_split_and_the_condition():
    by_id = {command.id: command for command in PACKAGED}
    for case in CASES:
        if case.command is None:
            assert case.condition in ("none", "none again")
            continue
        command = by_id[case.command]
        assert command.split == "test"
        assert (command.language != "en") == case.condition.startswith("other language")
        assert command.text in "\n".join(message["content"] for message in case.messages)
        is_quoted = any(quote(command.text, "test") in message["content"] for message in case.messages)
        assert is_quoted == case.condition.startswith("quoted")
    levels = {case.condition: {c.level for c in CASES if c.condition == case.condition} for case in CASES}
    assert levels["quoted low"] == levels["low"] == {-1}
    assert levels["much higher"] == {2}
    assert levels["look-alike"] == {0}


def test_a_prompt_has_the_same_commands_whatever_the_other_prompts_are():
    assert make_cases(PACKAGED, PROMPTS[3:5], "test", 0, POSITIONS) == [
        case for case in CASES if case.problem in (PROMPTS[3].id, PROMPTS[4].id)
    ]
    assert make_cases(PACKAGED, PROMPTS[:3], "test", 1, POSITIONS) != CASES[: 3 * len(CONDITIONS)]


def test_of_contradictory_commands_the_later_one_is_asked_for():
    by_id = {command.id: command for command in PACKAGED}
    for condition, level in (("low, then high", 1), ("high, then low", -1)):
        for case in (case for case in CASES if case.condition == condition):
            (text,) = [m["content"] for m in case.messages if by_id[case.command].text in m["content"]]
            earlier = text.split(by_id[case.command].text)[0]
            assert any(one.text in earlier for one in PACKAGED if one.target.level == -level)
            assert case.level == level


def test_positions():
    only = make_cases(PACKAGED, PROMPTS[:9], "test", 0, ["system"])
    assert {case.position for case in only if case.command and "quoted" not in case.condition} == {"system"}


def test_conditions_without_commands_are_left_out():
    low = [command for command in PACKAGED if command.kind == "low" and command.language == "en"]
    assert "high, then low" not in {case.condition for case in make_cases(low, PROMPTS[:2], "test", 0, POSITIONS)}
    few = [command for command in PACKAGED if command.kind in ("low", "high") and command.language == "en"]
    assert {case.condition for case in make_cases(few, PROMPTS[:2], "test", 0, POSITIONS)} == {
        "none", "none again", "low", "high", "quoted low", "quoted high", "low, then high", "high, then low"
    }  # fmt: skip
    with pytest.raises(DataError, match="have none in the split 'train' for none, none again, low"):
        make_cases([c for c in PACKAGED if c.split == "test"], PROMPTS[:2], "train", 0, POSITIONS)


def test_chosen_conditions_are_what_they_are_among_all():
    chosen = make_cases(PACKAGED, PROMPTS[:4], "test", 0, POSITIONS, ["look-alike"])
    assert chosen == [case for case in CASES[: 4 * len(CONDITIONS)] if case.condition in ("none", "look-alike")]
    with pytest.raises(ConfigError, match="Did you mean 'look-alike'"):
        make_cases(PACKAGED, PROMPTS[:4], "test", 0, POSITIONS, ["lookalike"])
