import random
from collections import Counter

import pytest

from autodeco.control import Target, load_commands
from autodeco.control.versions import Versions
from autodeco.errors import ConfigError

PACKAGED = load_commands()
TASK = [{"role": "user", "content": "Name a bird."}]


def draw(counts, positions=("system", "before", "after"), split="train", prompts=200):
    versions = Versions(PACKAGED, split, counts, positions)
    return [version for seed in range(prompts) for version in versions.draw(TASK, random.Random(seed))]


def test_as_many_of_each_kind_as_asked_for_and_of_one_split():
    found = draw({"low": 2, "high": 1, "lookalike": 0})
    assert Counter(version.command.split("/")[0] for version in found) == {"low": 400, "high": 200}
    split_of = {command.id: command.split for command in PACKAGED}
    assert {split_of[version.command] for version in found} == {"train"}
    assert {version.target for version in found} == {Target(-1), Target(1)}


def test_every_position_is_used():
    found = draw({"low": 1})
    assert {len(version.messages) for version in found} == {1, 2}
    texts = [version.messages[0]["content"] for version in found if len(version.messages) == 1]
    assert {text.startswith("Name a bird.") for text in texts} == {True, False}


def test_values_of_absolute_commands_do_not_crowd_out_the_others():
    found = Counter(version.command.split("/")[1] for version in draw({"absolute": 1}, prompts=1000))
    subkinds = {"temperature", "temperature-in-words", "top-p", "both", "no-randomness", "plain-sampling"}
    assert set(found) == subkinds
    assert all(120 < count < 215 for count in found.values())  # a sixth each


def test_ignored_commands_are_quoted_or_out_of_place_and_ask_for_nothing():
    found = draw({"ignored": 1}, positions=["system"])
    assert {version.target for version in found} == {Target()}
    ways = Counter(version.command.split(" ")[0] for version in found)
    assert set(ways) == {"quoted", "before", "after"}
    assert all(len(version.messages) == 1 for version in found if not version.command.startswith("quoted"))
    assert {version.command.split(" ")[0] for version in draw({"ignored": 1})} == {"quoted"}


def test_commands_outside_the_positions_are_never_obeyed():
    found = draw({"low": 1, "absolute": 1, "ignored": 2}, positions=["after"])
    for version in found:
        if not version.target.is_neutral:
            assert version.messages[-1]["content"].startswith("Name a bird.")
            assert len(version.messages) == 1


def test_of_contradictory_commands_the_later_counts():
    found = draw({"contradictory": 1}, prompts=400)
    targets = {command.id: command.target for command in PACKAGED}
    texts = {command.id: command.text for command in PACKAGED}
    for version in found:
        first, second = version.command.split(", then ")
        assert version.target == targets[first].then(targets[second])
        read = "".join(message["content"] for message in version.messages)
        assert 0 <= read.find(texts[first]) < read.rfind(texts[second])
    assert {len(version.messages) for version in found} == {1, 2}


def test_a_kind_without_phrasings_is_named():
    only_low = [command for command in PACKAGED if command.kind == "low"]
    with pytest.raises(ConfigError, match="asks for 'high', and the commands have none in the split 'train'"):
        Versions(only_low, "train", {"low": 1, "high": 1}, ["system"])
