"""What can be asked for, and what cannot."""

import pytest

from autodeco.errors import ConfigError, DataError
from autodeco.playground.request import Request, Way


def test_messages():
    assert Request("Hi", [Way()]).messages == [{"role": "user", "content": "Hi"}]
    full = Request("Hi", [Way()], system="Be brief.", command=" No randomness. ")
    assert full.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi\n\nNo randomness."},
    ]


def test_names_of_ways():
    assert Way().name == "autodeco"
    assert Way("p-less").name == "p-less"
    assert Way(decoding={"top_p": 0.5}).name == "autodeco, decoding={'top_p': 0.5}"


@pytest.mark.parametrize(
    ("prompt", "ways", "error", "message"),
    [
        (" \n", [Way()], DataError, "prompt is empty"),
        ("Hi", [], DataError, "found 0"),
        ("Hi", [Way()] * 5, DataError, "One to 4 ways"),
        ("Hi", [Way("defualt")], ConfigError, "Did you mean 'default'"),
    ],
)
def test_what_cannot_be_asked(prompt, ways, error, message):
    with pytest.raises(error, match=message):
        Request(prompt, ways)
