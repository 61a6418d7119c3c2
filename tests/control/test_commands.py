from collections import Counter

import pytest

from autodeco.control import KINDS, Target, load_commands, select
from autodeco.control.patterns import near
from autodeco.errors import DataError
from autodeco.tasks import get_task

PACKAGED = load_commands()


def phrasings(commands):
    """Templates count once, however many values they are filled with."""
    return {command.id.split(" ")[0] for command in commands}


def test_enough_english_phrasings_of_every_kind():
    own = [command for command in PACKAGED if command.language == "en" and command.subkind != "published"]
    assert len(phrasings(own)) >= 300
    for kind in KINDS:
        for split in ("train", "validation", "test"):
            assert select(own, split=split, kinds=[kind]), (kind, split)


def test_groups_of_one_name_go_on_counting(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("- {kind: low, subkind: calm, train: [One., Two.]}\n- {kind: low, subkind: calm, test: [Three.]}\n")
    assert [command.id for command in load_commands(path)] == ["low/calm/en1", "low/calm/en2", "low/calm/en3"]


def test_test_phrasings_are_unseen():
    seen = {command.text.lower() for command in PACKAGED if command.split == "train"}
    assert not [command for command in PACKAGED if command.split != "train" and command.text.lower() in seen]
    others = [command.text for command in PACKAGED if command.split != "train"]
    assert not any(near([command.text for command in PACKAGED if command.pattern], others))


def test_values_of_test_commands_are_unseen():
    for head in ("temperature", "top_p"):
        values = {
            split: {
                command.target.value(head)
                for command in PACKAGED
                if command.split == split and command.subkind in ("temperature", "top-p", "both")
            }
            - {None}
            for split in ("train", "test")
        }
        assert values["test"]
        assert not values["train"] & values["test"]


def test_targets_agree_with_their_kinds():
    for command in PACKAGED:
        level = command.target.level
        if command.kind in ("low", "high"):
            assert command.target == Target(-1.0 if command.kind == "low" else 1.0)
        elif command.kind == "graded":
            assert (level < 0) == ("lower" in command.subkind)
            assert (abs(level) > 1) == ("much" in command.subkind)
        elif command.kind in ("lookalike", "scoped"):
            assert command.target.is_neutral
            assert bool(command.scope) == (command.kind == "scoped")
        else:
            assert {command.target.temperature, command.target.top_p} != {None}
    assert {c.target for c in PACKAGED if c.subkind == "no-randomness"} == {Target(-1, temperature=0)}


def test_templates_are_filled_with_each_value():
    texts = {c.text: c.target for c in PACKAGED if c.subkind in ("temperature", "top-p", "both")}
    assert texts["Use a temperature of 0.4."] == Target(0, temperature=0.4)
    assert texts["Sample from the top 85 percent of the probability mass."] == Target(0, top_p=0.85)
    assert texts["temperature=1.2, top_p=0.85"] == Target(0, 1.2, 0.85)
    assert not [text for text in texts if "{" in text]


def test_the_languages_of_tests_are_in_training_as_look_alikes_alone():
    tested = {c.language for c in PACKAGED if c.split == "test"} - {"en"}
    assert tested == {"de", "fr", "es"}
    trained = {(c.language, c.kind) for c in PACKAGED if c.split == "train"}
    assert {kind for language, kind in trained if language in tested} == {"lookalike"}
    assert {language for language, kind in trained if kind == "low"} >= {"en", "it", "nl"}
    assert {c.language for c in select(PACKAGED, split="test", language="de")} == {"de"}


def test_ids_are_unique():
    assert max(Counter(command.id for command in PACKAGED).values()) == 1


OWN = """
- kind: low
  subkind: calm
  texts: [Keep calm., "Stay calm: now.", Calmly please.]
- kind: absolute
  values: [{temperature: 0.3}, {temperature: 0.7, top_p: 0.5}]
  train: ["T is {temperature}."]
"""


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    commands = load_commands(path)
    assert [command.text for command in commands][-2:] == ["T is 0.3.", "T is 0.7."]
    assert commands[-1].target == Target(0, 0.7, 0.5)
    assert {command.subkind for command in commands} == {"calm", "absolute"}
    assert len(select(commands, split="train", kinds=["absolute"])) == 2


PATTERNS = """
- kind: low
  subkind: calm
  train: ["[Keep|Stay] [calm|quiet] about it all.", "Be calm."]
  test: ["Please, keep quiet about it.", "[Be|Remain] calm."]
- kind: absolute
  values: [{temperature: 0.3}, {temperature: 0.7}]
  train: ["T [is|=] {temperature}[.|, please.|, thanks.]"]
"""


def test_texts_with_alternatives(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(PATTERNS)
    found = {command.id: command for command in load_commands(path)}
    assert [command.text for command in found.values() if command.kind == "low"] == [
        "Be calm.",
        "Please, keep quiet about it.",
        "Keep calm about it all.",
        "Stay calm about it all.",
        "Stay quiet about it all.",  # «Keep quiet about it all.» has four of its five words in common with the test's
        "Remain calm.",
    ]
    absolute = [command for command in found.values() if command.kind == "absolute"]
    assert len(absolute) == 6  # each text with one of the values
    assert {command.target.temperature for command in absolute} == {0.3, 0.7}
    assert all(f"{command.target.temperature:g}" in command.text for command in absolute)
    assert {command.pattern for command in absolute} == {"T [is|=] {temperature}[.|, please.|, thanks.]"}


def test_a_text_left_out_of_training_is_still_there_for_tests(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text('- {kind: low, train: ["[Be|Stay] calm."]}\n- {kind: low, test: ["[Be|Remain] calm.", "So."]}\n')
    found = {command.text: command.split for command in load_commands(path)}
    assert found == {"So.": "test", "Be calm.": "test", "Remain calm.": "test", "Stay calm.": "train"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "own.yaml is empty"),
        ("# nothing\n", "own.yaml is empty"),
        ("a: [1", "not valid YAML"),
        ("kind: low", "must hold a list of groups .*found dict"),
        ("- low", "group 1: a group must be .*found str"),
        ("- {kind: lower, texts: [a]}", "unknown kind 'lower'. Did you mean 'low'"),
        ("- {kind: 3, texts: [a]}", "unknown kind 3. Valid names: low, high"),
        ("- {kind: low, text: [a]}", "'text' is no field of the kind 'low'. Did you mean 'texts'"),
        ("- {kind: lookalike, level: 1, texts: [a]}", "'level' is no field of the kind 'lookalike'"),
        ("- {kind: low}", "it has no texts"),
        ("- {kind: low, texts: []}", "'texts' must be a list of texts"),
        ("- {kind: low, texts: ['  ']}", "a text must be words"),
        ("- {kind: low, texts: [be: sure]}", "a text must be words, .*Quote it"),
        ("- {kind: low, level: 1, texts: [a]}", "level of a 'low' command must be below 0, found 1"),
        ("- {kind: high, level: -1, texts: [a]}", "level of a 'high' command must be above 0"),
        ("- {kind: graded, texts: [a]}", "needs 'level', between -3 and 3"),
        ("- {kind: graded, level: 0, texts: [a]}", "must be other than 0"),
        ("- {kind: graded, level: 9, texts: [a]}", "'level' must lie between -3 and 3, found 9"),
        ("- {kind: scoped, texts: [a]}", "needs 'scope'"),
        ("- {kind: scoped, scope: [1, 1], texts: [a]}", "first and the last level of 'scope' must differ"),
        ("- {kind: absolute, texts: [a]}", "needs 'values'"),
        ("- {kind: absolute, values: [{top_p: 0.5}, {top_p: 0.7}], texts: [a]}", "'a' would ask for 2 things at once"),
        (
            "- {kind: absolute, values: [{top_p: 0.5}, {top_p: 0.7}], texts: ['[Draw|P is {top_p}].']}",
            r"'Draw\.' would ask for 2 things at once",
        ),
        ("- {kind: low, texts: ['[Be calm.|]']}", r"'\[Be calm\.\|\]' may stand for nothing at all"),
        ("- {kind: absolute, values: [{temperatur: 1}], texts: [a]}", "Did you mean 'temperature'"),
        (
            "- {kind: absolute, values: [{temperature: 2.5}], texts: [a]}",
            "'temperature' must lie between 0 and 2, .*2.5",
        ),
        ("- {kind: absolute, values: [{top_p: -0.1}], texts: [a]}", "'top_p' must lie between 0 and 1, found -0.1"),
        ("- {kind: absolute, values: [{top_p: .nan}], texts: [a]}", "'top_p' must be a number"),
        (
            "- {kind: absolute, values: [{top_p: 0.5}], texts: ['at {temperature}']}",
            r"has \{temperature\}, and its values",
        ),
        ("- {kind: absolute, values: {train: [{top_p: 0.5}]}, test: [a]}", "found None for 'test'"),
        ("- {kind: low, train: [Be calm.], test: [be  calm]}", "is there twice"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, text, message):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_commands(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"absent.yaml cannot be read: No such file"):
        load_commands(tmp_path / "absent.yaml")


def test_open_prompts():
    task = get_task("open-prompts")
    splits = {split: task.examples(split, None, 0) for split in ("train", "validation", "test")}
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 100, "validation": 20, "test": 100}
    assert len({example.id for examples in splits.values() for example in examples}) == 220
    assert task.examples("test", 5, 1) != task.examples("test", 5, 2)
    assert task.judge(splits["test"][0], "Some text.").correct
    assert not task.judge(splits["test"][0], " \n").correct
    assert task.judge(splits["test"][0], "Some text.").answer is None
