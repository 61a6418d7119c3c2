"""merge, split, convert and inspect from the command line: output, exit status, help."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from autodeco import AutoDecoForCausalLM
from autodeco.checkpoint import load_heads
from autodeco.cli import convert, inspect, merge, split
from autodeco.errors import CheckpointError, ConfigError
from tests.adapters import adapted_model
from tests.checkpoint.conftest import all_tensors, assert_same_tensors

app = typer.Typer()
for name, module in {"merge": merge, "split": split, "convert": convert, "inspect": inspect}.items():
    app.command(name=name)(module.command)


@pytest.fixture
def heads_folder(tmp_path: Path, base_folder: Path) -> Path:
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    return tmp_path / "heads"


@pytest.fixture
def merged_folder(tmp_path: Path, base_folder: Path, heads_folder: Path) -> Path:
    run("merge", "--heads", heads_folder, "--output", tmp_path / "merged")
    return tmp_path / "merged"


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if status == 0 and result.exception is not None:
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def test_merge_then_split(tmp_path: Path, base_folder: Path, heads_folder: Path) -> None:
    merged, heads, base = tmp_path / "m", tmp_path / "h", tmp_path / "b"
    result = run("merge", "--base", base_folder, "--heads", heads_folder, "--output", merged)
    assert str(merged) in result.output
    assert "hard-linked" in result.output
    result = run("split", merged, "--output", heads, "--output-base", base)
    assert str(heads) in result.output
    assert str(base) in result.output
    assert_same_tensors(all_tensors(heads), all_tensors(heads_folder))
    assert_same_tensors(all_tensors(base), all_tensors(base_folder))


def test_merge_with_the_recorded_base_as_a_copy(tmp_path: Path, base_folder: Path, heads_folder: Path) -> None:
    result = run("merge", "--heads", heads_folder, "--output", tmp_path / "m", "--copy")
    assert "hard-linked" not in result.output
    for path in base_folder.glob("*.safetensors"):
        assert not (tmp_path / "m" / path.name).samefile(path)


def test_options_from_a_file(tmp_path: Path, base_folder: Path, heads_folder: Path) -> None:
    config = tmp_path / "merge.yaml"
    config.write_text(f"base: {base_folder}\nheads: {heads_folder}\noutput: {tmp_path / 'm'}\n")
    run("merge", "--config", config)
    assert load_heads(tmp_path / "m")


def test_convert(tmp_path: Path, heads_folder: Path) -> None:
    result = run("convert", heads_folder, "--to", "released-full", "--output", tmp_path / "full")
    assert "released-full" in result.output
    assert json.loads((tmp_path / "full" / "config.json").read_text())["model_type"] == "autodeco"


def test_inspect(merged_folder: Path, base_folder: Path) -> None:
    text = run("inspect", merged_folder).output
    for part in ("merged", "temperature and top-p", "llama", "F32", "temp_head.mlp.0.weight"):
        assert part in text
    assert json.loads(run("inspect", merged_folder, "--json").output)["layout"] == "merged"
    assert "plain model without decoding heads" in run("inspect", base_folder).output


def test_inspect_shows_a_summary_of_the_prompt(tmp_path: Path, base_folder: Path, heads_folder: Path) -> None:
    AutoDecoForCausalLM.from_base(str(base_folder), prompt_summary=True).save_pretrained(tmp_path / "with-summary")
    text = run("inspect", tmp_path / "with-summary").output
    assert "prompt summary" in text
    assert "Transformers, and vLLM on CPUs; cannot be merged" in text
    assert "temp_head.prompt.query" in text
    assert "prompt summary" not in run("inspect", heads_folder).output


def test_inspecting_damaged_heads_exits_with_1(heads_folder: Path) -> None:
    path = heads_folder / "autodeco_heads.safetensors"
    save_file({**load_file(path), "temp_head.mlp.2.bias": torch.tensor([float("nan")])}, path)
    assert "problem: 'temp_head.mlp.2.bias' has 1 values" in run("inspect", heads_folder, status=1).output
    assert json.loads(run("inspect", heads_folder, "--json", status=1).output)["problems"]


def test_errors_reach_the_caller(tmp_path: Path, heads_folder: Path) -> None:
    with pytest.raises(ConfigError, match="no checkpoint layout"):
        run("convert", heads_folder, "--to", "tar", "--output", tmp_path / "x")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        run("inspect", tmp_path / "nothing")


@pytest.mark.parametrize("command", ["merge", "split", "convert", "inspect"])
def test_help_prints_examples_line_by_line(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "120"}, terminal_width=120)
    lines = [line.strip(" │") for line in result.output.splitlines()]
    examples = lines[lines.index("Examples:") + 1 :]
    assert examples[0].startswith(f"autodeco {command} ")
    assert sum(line.startswith(f"autodeco {command} ") for line in examples) >= 2


def test_heads_with_an_adapter(tmp_path: Path, base_folder: Path) -> None:
    folder = tmp_path / "adapted"
    adapted_model(base_folder).save_pretrained(folder)
    assert re.search(
        r"LoRA adapter +4,\d+ \(0\.02 MB\), rank 4, alpha 8, on down_proj, gate_proj", run("inspect", folder).output
    )
    assert json.loads(run("inspect", folder, "--json").output)["adapter"]["rank"] == 4
    assert "hard-linked" not in run("merge", "--heads", folder, "--output", tmp_path / "merged").output
    assert "not recorded" in run("inspect", tmp_path / "merged").output
    (folder / "adapter_model.safetensors").unlink()
    assert "adapter_model.safetensors is missing" in run("inspect", folder, status=1).output.replace("\n", "")
