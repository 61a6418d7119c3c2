"""The trace file: what is written is read back, and what is no trace is refused with a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodeco.errors import DataError
from autodeco.trace.format import FORMAT, VERSION, Trace, read_trace, write_trace
from tests.trace.traces import token, trace

NASTY = ["</script>", "\u2028\u2029\x85", "\x1b[2J", "\ud800", "\u202e", '"\\', "{{x}}`${y}`", "\n"]


def test_a_trace_is_read_back_as_it_was(tmp_path):
    made = trace(
        [token(text, special=text == "\n", partial_bytes="e282") for text in NASTY],
        prompt="".join(NASTY),
        settings={"seed": 3, "top_k": None, "stop": ["\u2028"]},
        versions={"torch": "2.13.0"},
    )
    path = tmp_path / "trace.jsonl"
    write_trace(path, made)
    assert read_trace(path) == made
    assert read_trace(path).text == "".join(NASTY)
    assert len(path.read_text().splitlines()) == len(NASTY) + 1


@given(st.floats(0, 1), st.floats(0, 50))
def test_numbers_keep_six_digits(tmp_path_factory, probability, entropy):
    path = tmp_path_factory.getbasetemp() / "numbers.jsonl"
    write_trace(path, trace([token(probability=probability, entropy=entropy)]))
    found = read_trace(path).tokens[0]
    assert found.probability == pytest.approx(probability, rel=1e-5, abs=1e-300)
    assert found.entropy == pytest.approx(entropy, rel=1e-5, abs=1e-300)


def test_an_empty_completion(tmp_path):
    write_trace(tmp_path / "t.jsonl", trace([]))
    assert read_trace(tmp_path / "t.jsonl").tokens == ()


def lines_of(made: Trace, tmp_path) -> list[str]:
    write_trace(tmp_path / "good.jsonl", made)
    return (tmp_path / "good.jsonl").read_text().splitlines()


def refused(tmp_path, text: str | bytes) -> str:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as error:
        read_trace(path)
    assert str(path) in str(error.value)
    return str(error.value)


def test_files_that_are_no_trace(tmp_path):
    assert "the file is empty" in refused(tmp_path, "")
    assert "not a trace" in refused(tmp_path, '{"prompt": "1+1="}\n')
    assert "not a trace" in refused(tmp_path, '{"format": "parquet"}\n')
    assert "not JSON" in refused(tmp_path, "once upon a time\n")
    assert "not UTF-8" in refused(tmp_path, b'{"a": "\xff"}\n')
    with pytest.raises(DataError, match="no such file"):
        read_trace(tmp_path / "absent.jsonl")


def test_another_version(tmp_path):
    row = {"format": FORMAT, "version": 2, "model": "m", "prompt": "", "tokens": 0, "versions": {"autodeco": "9.1"}}
    message = refused(tmp_path, json.dumps(row))
    assert "version 2" in message
    assert f"reads version {VERSION}" in message
    assert "autodeco 9.1" in message


def test_files_that_were_cut_off(tmp_path):
    lines = lines_of(trace([token("a"), token("b"), token("c")]), tmp_path)
    assert "announces 3 tokens and 1 follow" in refused(tmp_path, "\n".join(lines[:2]) + "\n")
    assert "cut off" in refused(tmp_path, "\n".join(lines)[:-20])
    assert "more follow" in refused(tmp_path, "\n".join([*lines, lines[-1]]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"temperature": "hot"}, "field 'temperature': found 'hot'; input should be a valid number"),
        ({"temperature": None}, "field 'temperature'"),
        ({"probability": 1.5}, "less than or equal to 1"),
        ({"nucleus_size": 0}, "greater than or equal to 1"),
        ({"token_id": -1}, "field 'token_id'"),
        ({"entropy": float("nan")}, "finite"),
        ({"alternatives": [{"token_id": 1}]}, "field 'alternatives.0.text': field required"),
        ({"alternatives": "none"}, "field 'alternatives'"),
        ({"partial_bytes": "zz"}, "field 'partial_bytes'"),
    ],
)
def test_values_out_of_bounds_are_named_with_their_line(tmp_path, change, expected):
    lines = lines_of(trace([token("a"), token("b")]), tmp_path)
    lines[2] = json.dumps({**json.loads(lines[2]), **change})
    message = refused(tmp_path, "\n".join(lines))
    assert "line 3" in message
    assert expected in message


def test_fields_of_a_later_package_are_ignored(tmp_path):
    lines = lines_of(trace([token("a")]), tmp_path)
    lines = [json.dumps({**json.loads(line), "new": {"x": 1}}) for line in lines]
    path = tmp_path / "later.jsonl"
    path.write_text("\n".join(lines))
    assert read_trace(path) == trace([token("a")])
