"""``autodeco trace``, and the trace that ``autodeco generate`` writes."""

import json

import pytest

from autodeco import AutoDecoForCausalLM
from autodeco.cli.app import main
from autodeco.cli.prompts import prompt_token_ids
from autodeco.serving.load import load_model_and_tokenizer
from autodeco.trace.format import read_trace, write_trace
from tests.trace.traces import long_trace, token, trace


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


def test_text_alone_where_output_is_piped(capsys, tmp_path):
    write_trace(tmp_path / "t.jsonl", trace([token("Hello"), token(" you\x1b[2J")]))
    assert run(capsys, "trace", tmp_path / "t.jsonl") == (0, "Hello you\\x1b[2J\n", "")


def test_a_table_of_tokens(capsys, tmp_path):
    write_trace(tmp_path / "t.jsonl", trace([token("Hello"), token("\n")]))
    status, out, _ = run(capsys, "trace", tmp_path / "t.jsonl", "--tokens")
    assert status == 0
    assert "↵" in out
    assert "nucleus" in out


def test_a_page(capsys, tmp_path):
    for name in ("a", "b"):
        write_trace(tmp_path / f"{name}.jsonl", long_trace(20))
    status, out, _ = run(capsys, "trace", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--html", tmp_path / "page.html")
    assert status == 0
    assert "page.html" in out
    assert (tmp_path / "page.html").read_text().count('<section class="run"') == 2


def test_bad_input(capsys, tmp_path):
    (tmp_path / "no.jsonl").write_text('{"prompt": "1"}\n')
    write_trace(tmp_path / "t.jsonl", long_trace(2))
    assert "not a trace" in run(capsys, "trace", tmp_path / "no.jsonl")[2]
    assert "no such file" in run(capsys, "trace", tmp_path / "absent.jsonl")[2]
    status, _, err = run(capsys, "trace", *[tmp_path / "t.jsonl"] * 5, "--html", tmp_path / "page.html")
    assert status == 2
    assert "found 5" in err
    assert run(capsys, "trace", tmp_path / "t.jsonl", "--tokens", "--html", tmp_path / "page.html")[0] == 2


@pytest.fixture
def heads(base_folder, tmp_path):
    AutoDecoForCausalLM.from_base(base_folder).save_pretrained(tmp_path / "heads")
    return tmp_path / "heads"


def test_generate_writes_a_trace(capsys, heads, tmp_path):
    path = tmp_path / "t.jsonl"
    options = ("--max-new-tokens", "5", "--seed", "3", "--trace-file", path)
    status, _, err = run(capsys, "generate", heads, "Hi", *options)
    assert status == 0, err
    made = read_trace(path)
    assert made.header.model == str(heads)
    assert made.header.settings == {"seed": 3, "temperature_factor": 1.0}
    assert made.header.prompt.endswith("assistant\n")
    assert 1 <= len(made.tokens) <= 5
    options = ("--max-new-tokens", "5", "--strategy", "static:temperature=0.5", "--trace-file", path)
    assert run(capsys, "generate", heads, "Hi", *options)[0] == 0
    assert {one.temperature for one in read_trace(path).tokens} == {0.5}


def test_generate_refuses_a_trace_of_many_prompts_and_an_unknown_strategy(capsys, heads, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "1"}\n')
    status, _, err = run(capsys, "generate", heads, "--prompts", tmp_path / "p.jsonl", "--trace-file", tmp_path / "t")
    assert status == 2
    assert "--trace-file holds the trace of one prompt" in err
    assert "Did you mean 'default'" in run(capsys, "generate", heads, "Hi", "--strategy", "defualt")[2]


def test_a_trace_of_a_servers_answer(capsys, heads, tmp_path):
    generated, path = tmp_path / "generated.jsonl", tmp_path / "answer.json"
    run(capsys, "generate", heads, "Hi", "--max-new-tokens", "5", "--trace-file", generated)
    tokens = read_trace(generated).tokens
    prompt_ids = prompt_token_ids(load_model_and_tokenizer(str(heads))[1], "Hi")
    choice = {"token_ids": [token.token_id for token in tokens]}
    path.write_text(json.dumps({"prompt_token_ids": prompt_ids, "choices": [choice]}))
    status = run(capsys, "trace", path, "--model", heads, "--output", tmp_path / "made.jsonl")[0]
    assert status == 0
    assert read_trace(tmp_path / "made.jsonl").tokens == tokens


def test_a_trace_of_any_text(capsys, heads, tmp_path):
    (tmp_path / "text.txt").write_text("Good.")
    options = ("--model", heads, "--prompt", "Hi", "--strategy", "default", "--output", tmp_path / "made.jsonl")
    assert run(capsys, "trace", tmp_path / "text.txt", *options)[0] == 0
    made = read_trace(tmp_path / "made.jsonl")
    assert made.text == "Good."
    assert {token.temperature for token in made.tokens} == {1.0}


def test_options_of_making_a_trace(capsys, heads, tmp_path):
    (tmp_path / "text.bin").write_bytes(b"\xff")
    assert "--model" in run(capsys, "trace", tmp_path / "text.bin", "--prompt", "Hi")[2]
    assert "UTF-8" in run(capsys, "trace", tmp_path / "text.bin", "--prompt", "Hi", "--model", heads)[2]
    two = (tmp_path / "a.json", tmp_path / "b.json")
    assert "2 were given" in run(capsys, "trace", *two, "--model", heads, "--output", tmp_path / "o.jsonl")[2]
