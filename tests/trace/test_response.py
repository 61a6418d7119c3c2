"""Token ids out of a server's answer."""

import json

import pytest

from autodeco.errors import DataError
from autodeco.trace.response import read_response

CHAT = {
    "model": "heads",
    "prompt_token_ids": [1, 2],
    "choices": [{"message": {"content": "a"}, "token_ids": [3]}, {"message": {"content": "b"}, "token_ids": [4, 5]}],
}
COMPLETION = {"model": "heads", "choices": [{"text": "a", "prompt_token_ids": [1], "token_ids": [3, 2]}]}


@pytest.fixture
def written(tmp_path):
    def write(body):
        path = tmp_path / "answer.json"
        path.write_text(body if isinstance(body, str) else json.dumps(body))
        return path

    return write


def test_chat_and_completion(written):
    assert read_response(written(CHAT)) == ([1, 2], [3], "heads")
    assert read_response(written(CHAT), choice=1) == ([1, 2], [4, 5], "heads")
    assert read_response(written(COMPLETION)) == ([1], [3, 2], "heads")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('data: {"choices": []}', "streamed"),
        ({"error": {"message": "no such model"}}, "no such model"),
        ({"object": "list"}, "'choices'"),
        ([1], "'choices'"),
        ({"choices": []}, "has 0 choices"),
        ({"choices": [{"text": "a"}]}, "return_token_ids"),
        ({"prompt_token_ids": [1], "choices": [{"token_ids": None}]}, "return_token_ids"),
        ({"prompt_token_ids": [1], "choices": [{"token_ids": ["3"]}]}, "list of token ids"),
    ],
)
def test_what_is_no_answer_with_token_ids(written, body, reason):
    with pytest.raises(DataError, match=reason):
        read_response(written(body))


def test_an_absent_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_response(tmp_path / "absent.json")
