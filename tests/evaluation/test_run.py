"""Whole evaluations with a tiny model: resumed, extended, refused, and every row where it belongs."""

import json

import pytest
import torch
from filelock import FileLock

from autodeco import AutoDecoForCausalLM
from autodeco.errors import ConfigError, DataError, RunFolderError
from autodeco.evaluation import run as running
from autodeco.evaluation.config import evaluation_config
from autodeco.evaluation.results import read_results
from autodeco.evaluation.run import evaluate
from autodeco.evaluation.summary import summaries
from autodeco.serving.load import load_model_and_tokenizer
from autodeco.strategies import load_bank
from tests.conftest import byte_tokenizer, tiny_llama

# A task whose verifier fails on some completions.
TASK = """
from autodeco.tasks import Example, Task
from autodeco.tasks.base import take


class Letters(Task):
    name = "letters"

    def __init__(self, fails_on=""):
        self.fails_on = fails_on

    def examples(self, split, count, seed):
        texts = [f"Say {number}" for number in range(seed, seed + 60)]
        pairs = ((text, Example(text, [{"role": "user", "content": text}], "e")) for text in texts)
        return take(pairs, split, count, self.name)

    def verify(self, example, completion):
        if self.fails_on and self.fails_on in completion:
            raise RuntimeError("no verdict")
        return example.answer in completion
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base, heads for it, a task, and training trajectories."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    tokenizer = byte_tokenizer()
    tiny_llama(vocab_size=len(tokenizer), eos_token_id=20).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    model = AutoDecoForCausalLM.from_base(str(folder / "base"))
    with torch.no_grad():
        for parameter in model.decoding_heads.parameters():
            parameter.mul_(3)
    model.save_pretrained(folder / "heads")
    (folder / "letters.py").write_text(TASK)
    rows = [_trajectory(f"Tell {number}", "abcde" * number) for number in range(1, 9)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _trajectory(prompt, completion):
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": completion}],
    }


@pytest.fixture
def start(folder, tmp_path):
    """Starts an evaluation with changed settings; what is said is kept in ``start.said``."""

    def start(on_progress=lambda _: None, task=None, **changes):
        values = {
            "models": [str(folder / "heads")],
            "tasks": [{"name": f"{folder / 'letters.py'}:Letters", "problems": 4, **(task or {})}],
            "strategies": ["default", "autodeco"],
            "output": str(tmp_path / "run"),
            "samples": 2,
            "max_new_tokens": 6,
            "batch_size": 3,
            "engine": "transformers",
        }
        start.said = []
        return evaluate(evaluation_config({**values, **changes}), on_progress=on_progress, say=start.said.append)

    start.said = []
    start.file = tmp_path / "run" / "samples.jsonl"
    return start


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def keys(path):
    return [(row["model"], row["strategy"], row["problem"], row["sample"]) for row in rows(path)]


def texts(path, strategy):
    return {(row["problem"], row["sample"]): row["text"] for row in rows(path) if row["strategy"] == strategy}


def test_rows_hold_what_the_report_needs(start):
    results = start()
    frame = read_results(results)
    assert len(frame) == len(set(keys(start.file))) == 2 * 4 * 2
    assert set(frame["strategy"]) == {"default", "autodeco"}
    assert set(frame["split"]) == {"test"}
    assert frame["correct"].notna().all()
    default, heads = (frame[frame["strategy"] == name] for name in ("default", "autodeco"))
    assert (default["mean_temperature"] == 1).all()
    assert heads["mean_temperature"].nunique() > 1
    assert (default["entropy"] > heads["entropy"].max()).all()  # nothing is cut
    assert frame["tokens"].between(1, 6).all()
    for name in ("provenance.json", "evaluation.json", "speed.json"):
        json.loads((start.file.parent / name).read_text())
    (summary,) = summaries(start.file.parent)
    assert [row[0] for row in summary.rows] == ["default", "autodeco"]
    assert summary.tasks == ["letters"]


def test_strategies_take_turns_on_the_same_problems_and_seeds(start):
    start(strategies=["default", "autodeco", "p-less"], samples=4, block=2)
    order = [(row["strategy"], row["sample"] // 2) for row in rows(start.file)]
    turns = list(dict.fromkeys(order))
    assert turns == [(name, block) for block in (0, 1) for name in ("default", "autodeco", "p-less")]
    assert order == sorted(order, key=turns.index)
    seeds = {(row["sample"] // 2, row["seed"]) for row in rows(start.file)}
    assert len(seeds) == 2  # one a block, whatever the strategy
    problems = {name: {row["problem"] for row in rows(start.file) if row["strategy"] == name} for name, _ in turns}
    assert problems["default"] == problems["autodeco"] == problems["p-less"]


def test_samples_of_a_problem_differ(start):
    start(samples=4)
    assert len(set(texts(start.file, "default").values())) > 4


@pytest.mark.parametrize("share", [0, 0.1, 0.45, 0.8, 0.97])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(start, share):
    start()
    whole = start.file.read_bytes()
    start.file.write_bytes(whole[: int(share * len(whole))])  # what kill -9 leaves, in the middle of a line or not
    progress = []
    start(on_progress=lambda found: progress.append((found.done, found.total)))
    assert start.file.read_bytes() == whole
    assert progress[-1] == (16, 16)


def test_ctrl_c_keeps_what_is_judged(start):
    def stop(found):
        if found.judged >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(on_progress=stop)
    assert 6 <= len(rows(start.file)) < 16
    start()
    assert len(set(keys(start.file))) == len(rows(start.file)) == 16


def test_a_finished_run_loads_no_model(start, monkeypatch):
    start()
    monkeypatch.setattr(running, "open_sampler", None)
    start()


def test_more_strategies_and_samples_extend_a_run(start, folder):
    start(samples=1)
    first = start.file.read_bytes()
    start(samples=2, strategies=["default", "autodeco", "p-less"])
    assert start.file.read_bytes().startswith(first)
    assert len(set(keys(start.file))) == len(rows(start.file)) == 3 * 4 * 2
    extended = texts(start.file, "default")
    start(output=str(folder / "at-once"))
    assert texts(folder / "at-once" / "samples.jsonl", "default") == extended  # as if all had been asked for at once


def test_more_tasks_and_models_extend_a_run(start, folder):
    start()
    other = {"name": f"{folder / 'letters.py'}:Letters", "problems": 3, "label": "again"}
    task = {"name": f"{folder / 'letters.py'}:Letters", "problems": 4}
    start(tasks=[task, other], models=[str(folder / "heads"), str(folder / "base")])
    frame = read_results(start.file.parent)
    sizes = frame.groupby(["model", "task"])["strategy"].nunique().to_dict()
    assert sizes == {("base", "again"): 1, ("base", "letters"): 1, ("heads", "again"): 2, ("heads", "letters"): 2}
    assert "base has no decoding heads, so it is run without autodeco." in start.said
    assert [summary.model for summary in summaries(start.file.parent)] == ["base", "heads"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "settings.seed is 0 there and 1 here"),
        ({"block": 2}, "settings.block is 1 there and 2 here"),
        ({"batch_size": 4}, "settings.batch_size"),
        ({"max_new_tokens": 7}, "tasks.letters.max_new_tokens is 6 there and 7 here"),
        ({"task": {"problems": 5}}, "tasks.letters.problems is 4 there and 5 here"),
        ({"dtype": "bfloat16"}, "settings.dtype"),
    ],
)
def test_other_settings_are_refused_and_named(start, changes, message):
    start()
    before = start.file.read_bytes()
    with pytest.raises(RunFolderError, match=message):
        start(**changes)
    assert start.file.read_bytes() == before


def test_other_weights_under_the_same_name_are_refused(start, folder, tmp_path):
    start()
    model, _ = load_model_and_tokenizer(str(folder / "heads"))
    with torch.no_grad():
        model.decoding_heads.temp_head.mlp[2].bias.add_(0.5)
    model.save_pretrained(tmp_path / "retrained")
    with pytest.raises(RunFolderError, match=r"models\.heads\.weights"):
        start(models=[{"path": str(tmp_path / "retrained"), "name": "heads"}])


def test_results_of_unknown_origin_and_a_second_process_are_refused(start):
    start()
    with FileLock(start.file.parent / "evaluation.lock"), pytest.raises(RunFolderError, match="another process"):
        start()
    (start.file.parent / "evaluation.json").unlink()
    with pytest.raises(RunFolderError, match=r"evaluation\.json.*cannot be continued"):
        start()


def test_a_verifier_that_fails_is_counted_and_the_run_goes_on(start):
    start(samples=6, max_new_tokens=60, task={"settings": {"fails_on": "a"}})
    found = rows(start.file)
    failed = [row for row in found if row["correct"] is None]
    assert failed
    assert {row["error"] for row in failed} == {"RuntimeError: no verdict"}
    assert all("a" in row["text"] for row in failed)
    assert len(found) == 2 * 4 * 6
    assert f"{len(failed)} samples could not be judged: they count as neither right nor wrong." in start.said


def test_greedy_is_drawn_once(start):
    start(strategies=["greedy", "default"], samples=4, block=2)
    assert len(texts(start.file, "greedy")) == 4
    assert len(texts(start.file, "default")) == 16
    start(strategies=["greedy"], samples=8, block=2)
    assert len(texts(start.file, "greedy")) == 4


def test_a_strategy_that_needs_heads_and_no_model_with_heads(start, folder):
    with pytest.raises(ConfigError, match="strategy 'autodeco' needs decoding heads, and none of the models has any"):
        start(models=[str(folder / "base")])
    assert not start.file.parent.exists()


def test_absent_data_and_models_are_found_before_any_model_is_loaded(start, folder, monkeypatch):
    monkeypatch.setattr(running, "open_sampler", None)
    with pytest.raises(DataError, match=r"absent\.jsonl: no such file"):
        start(tasks=[{"name": "absent.jsonl"}])
    with pytest.raises(ConfigError, match="two tasks are called 'letters'"):
        start(tasks=[{"name": f"{folder / 'letters.py'}:Letters", "problems": 2}] * 2)
    with pytest.raises(ConfigError, match=r"measure_on: .* cannot be read"):
        start(strategies=["mean-shift"], measure_on="absent.jsonl")


def test_the_oracle_sweeps_in_two_stages(start):
    start(strategies=["oracle"], samples=3)
    frame = read_results(start.file.parent)
    (choice,) = json.loads((start.file.parent / "choices.json").read_text())["choices"]
    scores = frame.groupby(["strategy", "problem"])["correct"].mean().groupby("strategy").mean()
    first = {"default", *(f"static:temperature={tenth / 10:g}" for tenth in range(1, 16) if tenth != 10)}
    assert first < set(scores.index)
    best = max(scores[list(first)])
    second = set(scores.index) - first
    assert len(second) == 9  # P = 0.1 to 0.9 at one temperature, which is among the best
    (temperature,) = {spec.rpartition("top_p=")[0].rstrip(",:").removeprefix("static") for spec in second}
    assert scores[f"static{temperature}" if temperature else "default"] == best
    assert choice["score"] == max(scores)
    assert choice["chosen_on"] == "test"
    assert frame.groupby("strategy")["sample"].nunique().eq(3).all()


def test_a_setting_chosen_on_validation_is_evaluated_on_test_and_its_sweep_kept_apart(start):
    start(strategies=["oracle:split=validation"])
    frame = read_results(start.file.parent)
    (choice,) = json.loads((start.file.parent / "choices.json").read_text())["choices"]
    assert set(frame["strategy"]) == {choice["strategy"]}
    assert set(frame["split"]) == {"test"}
    validation = read_results(start.file.parent / "validation")
    assert validation["strategy"].nunique() == 24
    assert (start.file.parent / "validation" / "results.parquet").is_file()
    assert set(validation["split"]) == {"validation"}
    assert not set(validation["problem"]) & set(frame["problem"])
    before = start.file.read_bytes()
    start(strategies=["oracle:split=validation"])
    assert start.file.read_bytes() == before


def test_means_are_measured_on_the_training_rows_once(start, folder):
    strategies = ["mean-shift", "shuffled"]
    start(strategies=strategies, measure_on=str(folder / "train.jsonl"))
    measured = json.loads((start.file.parent / "measured" / "heads" / "means.json").read_text())
    assert measured["trajectories"] == 8
    temperatures, top_ps = _choices_one_row_at_a_time(folder)
    assert measured["tokens"] == len(temperatures)
    assert measured["means"]["temperature"] == pytest.approx(sum(temperatures) / len(temperatures), abs=1e-4)
    assert measured["means"]["top_p"] == pytest.approx(sum(top_ps) / len(top_ps), abs=1e-4)
    bank = load_bank(start.file.parent / "measured" / "heads" / "bank.safetensors")
    assert sorted(bank[:, 0].tolist()) == pytest.approx(sorted(temperatures), abs=1e-5)
    t, p = (measured["means"][name] for name in ("temperature", "top_p"))
    assert {row["strategy"] for row in rows(start.file)} == {
        f"mean-shift:temperature={t:g},top_p={p:g}",
        "shuffled:bank=measured/heads/bank.safetensors,seed=0",
    }
    whole = start.file.read_bytes()
    start(strategies=strategies, measure_on=str(folder / "train.jsonl"))
    assert start.file.read_bytes() == whole
    assert not any("measuring" in text for text in start.said)


def _choices_one_row_at_a_time(folder):
    """The heads' T and P at the completions' tokens, from the model's own forward pass."""
    model, tokenizer = load_model_and_tokenizer(str(folder / "heads"))
    temperatures, top_ps = [], []
    for line in (folder / "train.jsonl").read_text().splitlines():
        row = json.loads(line)
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
        text = prompt + row["completion"][0]["content"] + "<|im_end|>"
        start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            output = model(ids)
        temperatures += output.temperature[0, start - 1 : -1].tolist()
        top_ps += output.top_p[0, start - 1 : -1].tolist()
    return temperatures, top_ps


def test_means_are_never_measured_on_evaluated_problems_or_on_changed_data(start, folder, tmp_path):
    test_problem = _first_test_problem(folder)
    data = tmp_path / "train.jsonl"
    data.write_text(json.dumps(_trajectory("Tell 1", "abc")) + "\n" + json.dumps(_trajectory(test_problem, "e")) + "\n")
    with pytest.raises(
        DataError, match=r"train\.jsonl:2 is a trajectory of a problem that is evaluated here \(letters"
    ):
        start(strategies=["mean-shift"], measure_on=str(data))
    data.write_text(json.dumps(_trajectory("Tell 1", "abc")) + "\n")
    start(strategies=["mean-shift"], measure_on=str(data))
    data.write_text(json.dumps(_trajectory("Tell 1", "abcd")) + "\n")
    with pytest.raises(RunFolderError, match="was measured on other data"):
        start(strategies=["mean-shift"], measure_on=str(data))


def _first_test_problem(folder):
    from autodeco.tasks import get_task

    return get_task(f"{folder / 'letters.py'}:Letters").examples("test", 4, 0)[0].messages[0]["content"]
