"""The command line as a user meets it: help with examples, one clear error and status 2 for bad input."""

import json

import pytest

from autodeco.cli.app import app, main
from tests.conftest import tiny_autodeco

COMMANDS = [command.name for command in app.registered_commands]


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n}+1=", "completion": str(n + 1)}) + "\n" for n in range(6)))
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(capsys, command):
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert "Examples:" in out
    assert f"autodeco {command}" in out


@pytest.mark.parametrize(("words", "found"), [("autodeco tr", ["train", "trace"]), ("autodeco eval --sp", ["--split"])])
def test_a_shell_completes_commands_and_options(capsys, monkeypatch, words, found):
    monkeypatch.setenv("_AUTODECO_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert run(capsys)[1].split() == found


def test_version(capsys):
    assert run(capsys, "--version")[0] == 0


def test_bad_usage_is_status_2(capsys):
    assert run(capsys, "train", "--learning-rate", "fast")[0] == 2
    assert run(capsys, "tran")[0] == 2


def test_a_bug_keeps_its_traceback(capsys, monkeypatch):
    import autodeco.training

    monkeypatch.setattr(autodeco.training, "training_config", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["train", "--model", "m", "--data", "d", "--output", "o"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "absent.jsonl"}, "absent.jsonl does not exist"),
        ({"--model": "nobody/nothing"}, "nobody/nothing"),
        ({"--objective": "paper"}, "'end_to_end' or 'released'"),
        ({"--set": "soft_top_p_decay=-1"}, "soft_top_p_decay: found -1"),
        ({"--set": "soft_top_p_deca=1"}, "Did you mean 'soft_top_p_decay'?"),
        ({"--max-length": "3"}, "leaves no room"),
        ({"--recipe": "r1-distil"}, "r1-distill-qwen-7b"),
        ({"--config": "absent.yaml"}, "absent.yaml cannot be read"),
    ],
)
def test_bad_training_input_is_one_line_and_status_2(capsys, base_folder, data, tmp_path, changes, message):
    arguments = {"--model": base_folder, "--data": data, "--output": tmp_path / "run", "--max-steps": 1} | changes
    status, _, err = run(capsys, "train", *[part for pair in arguments.items() for part in pair])
    assert status == 2
    assert message in err.replace("\n", " ")
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_debug_shows_the_traceback(base_folder, tmp_path):
    with pytest.raises(Exception, match="does not exist"):
        main(
            ["train", "--model", str(base_folder), "--data", "absent.jsonl", "--output", str(tmp_path / "o"), "--debug"]
        )


def test_train_then_generate(capsys, base_folder, data, tmp_path):
    heads = tmp_path / "run"
    yaml = tmp_path / "train.yaml"
    yaml.write_text(f"model: {base_folder}\ndata: {data}\nmax_steps: 5\ngradient_accumulation: 1\n")
    status, out, _ = run(capsys, "train", "--config", yaml, "--output", heads, "--max-steps", 2)
    assert status == 0
    assert "step 2: loss" in out.replace("\n", " ")  # the flag wins over the file
    status, out, _ = run(capsys, "generate", heads, "2+2=", "--max-new-tokens", "5")
    assert status == 0
    assert "\x1b[" not in out  # a pipe gets plain text
    prompts, answers = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    prompts.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    for _ in range(2):  # the second time there is nothing left to do
        assert run(capsys, "generate", heads, "--prompts", prompts, "--output", answers, "--max-new-tokens", 3)[0] == 0
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [row["prompt"] for row in rows] == ["a", "b"]
    assert all(len(row["temperature"]) == len(row["token_ids"]) for row in rows)


def test_unknown_keys_of_a_command_configuration(capsys, tmp_path):
    path = tmp_path / "generate.yaml"
    path.write_text("max_new_token: 5\n")
    status, _, err = run(capsys, "generate", "x", "y", "--config", path)
    assert status == 2
    assert "Did you mean 'max_new_tokens'?" in err.replace("\n", " ")


def test_heads_with_nan_are_refused(capsys, base_folder, tmp_path):
    import torch

    model = tiny_autodeco()
    with torch.no_grad():
        model.decoding_heads.temp_head.mlp[0].weight[0, 0] = float("nan")
    heads = tmp_path / "heads"
    try:
        model.save_pretrained(heads)
    except Exception:  # refusing to write them is as good
        return
    status, _, err = run(capsys, "generate", heads, "x", "--base-model", base_folder)
    assert status == 2
    assert "nan" in err.lower()


def test_list_of_recipes(capsys):
    assert "gpt-oss-20b" in run(capsys, "train", "--recipe", "list")[1]
