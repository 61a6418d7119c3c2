"""``autodeco eval`` and ``autodeco diagnose`` as a user meets them."""

import json

import pytest

from tests.cli.test_app import run


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "numbers.jsonl"
    lines = [json.dumps({"prompt": f"Say {n}", "answer": n, "split": "test"}) for n in range(6)]
    path.write_text("\n".join(lines) + "\n")
    return path


def quick(heads, task, tmp_path, *more):
    return [
        *("eval", "--model", heads, "--task", task, "--strategy", "default", "--strategy", "autodeco"),
        *("--samples", 2, "--max-new-tokens", 5, "--engine", "transformers", "--output", tmp_path / "run", *more),
    ]


def test_the_quick_form_then_a_report(capsys, heads, task, tmp_path):
    status, out, err = run(capsys, *quick(heads, task, tmp_path))
    assert status == 0, err
    for text in ("default", "autodeco", "Pass@1", "results.parquet", "numbers"):
        assert text in out
    status, _, err = run(capsys, *quick(heads, task, tmp_path, "--seed", 1))
    assert status == 2
    assert "settings.seed is 0 there and 1 here" in err.replace("\n", " ")
    assert run(capsys, "report", tmp_path / "run", "--resamples", 100)[0] == 0


def test_a_yaml_file_and_flags_that_win(capsys, heads, task, tmp_path):
    path = tmp_path / "eval.yaml"
    path.write_text(
        f"models: [{heads}]\ntasks:\n  - name: {task}\n    problems: 2\nstrategies: [greedy, default]\n"
        f"samples: 1\nmax_new_tokens: 4\nengine: transformers\noutput: {tmp_path / 'run'}\n"
    )
    assert run(capsys, "eval", path)[0] == 0
    assert run(capsys, "eval", path, "--samples", 3)[0] == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * (1 + 3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--strategy", "p-les"], "Did you mean 'p-less'?"),
        (["--task", "ifevall"], "unknown task 'ifevall'. Did you mean 'ifeval'?"),
        (["--samples", "0"], "samples: found 0"),
        (["--model", "nobody/nothing"], "nobody/nothing"),
        (["--strategy", "mean-shift"], "name a JSONL file"),
        (["--task", "aime24", "--data", "absent"], "--data is of one --task"),
        (["--engine", "vlm"], "Did you mean 'vllm'?"),
    ],
)
def test_bad_input_is_one_line_status_2_and_leaves_no_folder(capsys, heads, task, tmp_path, more, message):
    status, _, err = run(capsys, *quick(heads, task, tmp_path, *more))
    assert status == 2
    assert message in err.replace("\n", " ")
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_task_options_need_a_task(capsys, tmp_path):
    status, _, err = run(capsys, "eval", "--model", "m", "--problems", 3, "--output", tmp_path / "run")
    assert status == 2
    assert "--problems is of a --task" in err


def test_the_configuration_file_is_named_in_errors(capsys, tmp_path):
    path = tmp_path / "eval.yaml"
    path.write_text("models: [m]\ntask: [ifeval]\nstrategies: [default]\noutput: x\n")
    status, _, err = run(capsys, "eval", path)
    assert status == 2
    assert "eval.yaml: " in err
    assert "Did you mean 'tasks'?" in err.replace("\n", " ")


def test_diagnose(capsys, heads, tmp_path):
    data = tmp_path / "right.jsonl"
    rows = [{"prompt": f"{n}+1=", "completion": str(n + 1) * 3} for n in range(12)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, err = run(capsys, "diagnose", heads, "--data", data, "--output", tmp_path / "run", "--rows", 10)
    assert status == 0, err
    assert "trajectories" in out
    assert json.loads((tmp_path / "run" / "diagnosis.json").read_text())["overall"]["tokens"] > 0
    assert run(capsys, "diagnose", heads, "--data", tmp_path / "absent.jsonl")[0] == 2
