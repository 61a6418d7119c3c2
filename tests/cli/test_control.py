"""``autodeco control`` as a user meets it."""

import json

import pytest

from autodeco import AutoDecoForCausalLM
from autodeco.cli.control import app
from tests.cli.test_app import run
from tests.control.conftest import rollouts  # noqa: F401

COMMANDS = [command.name for command in app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(capsys, command):
    status, out, _ = run(capsys, "control", command, "--help")
    assert status == 0
    assert f"autodeco control {command}" in out


def test_train(capsys, tmp_path, base_folder, rollouts):  # noqa: F811
    settings = tmp_path / "control.yaml"
    settings.write_text(f"model: {base_folder}\ndata: {rollouts}\nmax_length: 256\ncompletion_tokens: 8\n")
    flags = ["--config", settings, "--output", tmp_path / "run", "--max-steps", 2, "--set", "positions=[system]"]
    status, out, err = run(capsys, "control", "train", *flags)
    assert status == 0, err
    assert "8 prompts with their commands" in out
    assert "T in the commanded order in" in " ".join(out.split())
    assert "heads saved in" in out


def test_bad_input_is_one_line_and_status_2(capsys, tmp_path, base_folder):
    output = tmp_path / "run"
    given = ["--model", base_folder, "--data", "absent.jsonl", "--output", output]
    status, _, err = run(capsys, "control", "train", *given)
    assert status == 2
    assert "absent.jsonl does not exist" in err
    assert not output.exists()
    assert run(capsys, "control", "train", *given, "--set", "marginn=1")[0] == 2


def test_train_by_a_recipe(capsys, tmp_path, base_folder, rollouts):  # noqa: F811
    assert "prompt-summary" in run(capsys, "control", "train", "--recipe", "list")[1].split()
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    settings = tmp_path / "control.yaml"
    settings.write_text("max_steps: 2\nbatch_size: 1\ncommands_per_prompt: {low: 1, high: 1}\n")
    flags = ["--model", base_folder, "--data", rollouts, "--config", settings, "--max-steps", 1]
    flags += ["--output", tmp_path / "run"]
    status, _, err = run(capsys, "control", "train", "--recipe", "prompt-summary", *flags)
    assert status == 2  # the recipe keeps trained heads as they are without a command
    assert "heads" in err
    flags += ["--heads", tmp_path / "heads"]
    status, _, err = run(capsys, "control", "train", "--recipe", "prompt-summary", *flags)
    assert status == 0, err
    assert AutoDecoForCausalLM.from_pretrained(tmp_path / "run").autodeco_config.prompt_summary
    recorded = json.loads((tmp_path / "run" / "autodeco_run.json").read_text())["config"]
    # Of the recipe, of the file, of the options: each overrules the one before.
    assert (recorded["learning_rate"], recorded["batch_size"], recorded["max_steps"]) == (5e-3, 1, 1)
    status, _, err = run(capsys, "control", "train", "--recipe", "prompt-sumary", *flags)
    assert status == 2
    assert "Did you mean 'prompt-summary'" in err


def test_eval(capsys, tmp_path, base_folder):
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    flags = ["--output", tmp_path / "out", "--prompts", 2, "--max-new-tokens", 4, "--engine", "transformers"]
    status, out, err = run(capsys, "control", "eval", tmp_path / "heads", *flags, "--position", "system")
    assert status == 0, err
    assert "Table 4" in out
    assert "control.md" in out
    status, _, err = run(capsys, "control", "eval", tmp_path / "heads", *flags, "--position", "sistem")
    assert status == 2
    assert "Did you mean 'system'" in err


def test_try(capsys, tmp_path, base_folder):
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    status, out, err = run(
        capsys, "control", "try", tmp_path / "heads", "Name a bird.", "Surprise me.", "--max-new-tokens", 8
    )
    assert status == 0, err
    assert "no command" in out
    assert "Surprise me." in out
    assert out.count("mean T") == 2
    assert "shift: T" in out


def test_show(capsys, tmp_path, base_folder):
    pytest.importorskip("vl_convert")
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    flags = [tmp_path / "heads", "Name a bird.", "--max-new-tokens", 8]
    status, out, err = run(capsys, "control", "show", *flags, "--output", tmp_path / "figure.svg")
    assert status == 0, err
    assert out.count("mean T") == 3
    assert (tmp_path / "figure.svg").exists()
    status, _, err = run(capsys, "control", "show", *flags, "--output", tmp_path / "figure.pdf")
    assert status == 2
    assert ".svg or .png" in err
