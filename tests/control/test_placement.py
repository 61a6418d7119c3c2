import pytest

from autodeco.control import place, quote
from autodeco.errors import DataError

TASK = [{"role": "user", "content": "Name a bird."}]


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("system", [{"role": "system", "content": "Be bold."}, *TASK]),
        ("before", [{"role": "user", "content": "Be bold.\n\nName a bird."}]),
        ("after", [{"role": "user", "content": "Name a bird.\n\nBe bold."}]),
    ],
)
def test_positions(position, expected):
    assert place("Be bold.", TASK, position) == expected
    assert TASK == [{"role": "user", "content": "Name a bird."}]


def test_a_system_message_that_is_there_is_kept():
    messages = [{"role": "system", "content": "You are a poet."}, *TASK]
    assert place("Be bold.", messages, "system", " ")[0]["content"] == "You are a poet. Be bold."


def test_what_cannot_be_placed():
    with pytest.raises(DataError, match="Did you mean 'after'"):
        place("Be bold.", TASK, "afterwards")
    with pytest.raises(DataError, match="last message is of 'assistant'"):
        place("Be bold.", [{"role": "assistant", "content": "Hello."}], "after")


def test_a_quoted_command_holds_its_words_and_more():
    for text in ("Be bold.", "Use {temperature}.", "Surprise me.", "Go wild."):
        for split in ("train", "test"):
            assert text in quote(text, split)
            assert len(quote(text, split)) > len(text) + 10
        assert quote(text, "train") == quote(text, "validation")


def test_ways_to_quote_in_tests_are_unseen():
    ways = [{quote(f"<{n}>", split).replace(f"<{n}>", "") for n in range(200)} for split in ("train", "test")]
    assert min(map(len, ways)) >= 4
    assert not ways[0] & ways[1]
