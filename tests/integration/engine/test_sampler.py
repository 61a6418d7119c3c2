"""Rollouts on the engine: the same interface as with Transformers, resumable, every strategy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm runs this in vLLM's own environment")
from tests.adapters import adapted_model
from tests.rollouts.letters import Letters

from autodeco import AutoDecoForCausalLM
from autodeco.checkpoint.adapter import adapter_disabled
from autodeco.errors import ConfigError
from autodeco.files import read_jsonl
from autodeco.rollouts import RolloutSettings, Sampling, rollout
from autodeco.serving.samplers import open_sampler

PROMPTS = [[{"role": "user", "content": text}] for text in ("a", "a longer one", "mid")]


@pytest.fixture(scope="module")
def sampler(tiny_checkpoints):
    with open_sampler(
        str(tiny_checkpoints["heads"]), engine="vllm", dtype="float32", batch_size=4, max_length=128
    ) as opened:
        yield opened


def drawn(sampler, done=frozenset(), **settings):
    batches = sampler.draw(PROMPTS, Sampling(**settings), done=done)
    return {(one.prompt_index, one.sample_index): one for batch in batches for one in batch}


def test_samples_do_not_depend_on_where_a_run_goes_on(sampler):
    settings = {"samples_per_prompt": 4, "max_new_tokens": 10, "strategy": "autodeco", "seed": 3}
    whole = drawn(sampler, **settings)
    assert len(whole) == 12
    assert len({tuple(one.completion_ids) for one in whole.values()}) > 8
    rest = drawn(sampler, done=set(list(whole)[:7]), **settings)
    assert {key: one.completion_ids for key, one in rest.items()} == {
        key: one.completion_ids for key, one in whole.items() if key in rest
    }
    assert len(rest) == 5


def assert_traced_as_by(model, one, strategy):
    """T, P, entropy and log-probabilities of a sample are those of Transformers' forward pass over it."""
    ids = torch.tensor([one.prompt_ids + one.completion_ids])
    steps = slice(len(one.prompt_ids) - 1, -1)
    with torch.no_grad(), model.decode_with(strategy):
        output = model(ids)
    log_probs = output.logits[0, steps].log_softmax(-1)
    chosen = log_probs.gather(1, ids[0, len(one.prompt_ids) :, None])[:, 0]
    torch.testing.assert_close(torch.tensor(one.log_probs), chosen, atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.tensor(one.temperature), output.temperature[0, steps], atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.tensor(one.top_p), output.top_p[0, steps], atol=1e-3, rtol=0)
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    torch.testing.assert_close(torch.tensor(one.entropy), entropy, atol=2e-3, rtol=0)


@pytest.mark.parametrize("strategy", ["autodeco", "default", "p-less"])
def test_traces_and_log_probs_are_those_of_transformers(sampler, tiny_checkpoints, strategy):
    model = AutoDecoForCausalLM.from_pretrained(tiny_checkpoints["heads"], dtype="float32")
    one = drawn(sampler, max_new_tokens=12, strategy=strategy, trace=True, log_probs=True)[0, 0]
    assert_traced_as_by(model, one, strategy)


def test_greedy(sampler, tiny_checkpoints):
    model = AutoDecoForCausalLM.from_pretrained(tiny_checkpoints["heads"], dtype="float32")
    one = drawn(sampler, max_new_tokens=12, strategy="greedy")[1, 0]
    inputs = torch.tensor([one.prompt_ids])
    expected = model.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=12, do_sample=False)
    assert one.completion_ids == expected[0, inputs.shape[1] :].tolist()


def test_a_rollout_is_resumed(sampler, tmp_path):
    settings = RolloutSettings(problems=4, samples_per_problem=3, max_new_tokens=4, strategy="autodeco")

    def stop(done, total):
        if 4 < done < total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rollout(Letters(), sampler, tmp_path / "r.jsonl", settings, model_name="tiny", on_progress=stop)
    assert rollout(Letters(), sampler, tmp_path / "r.jsonl", settings, model_name="tiny").samples == 12
    rows = [row for _, row in read_jsonl(tmp_path / "r.jsonl")]
    assert len({(row["id"], row["sample"]) for row in rows}) == 12


# Those below open engines of their own: the end of one takes vLLM's process groups from every other in the process.


def test_a_plain_base_takes_every_strategy_that_needs_no_heads(tiny_checkpoints):
    with open_sampler(
        str(tiny_checkpoints["base"]), engine="vllm", dtype="float32", batch_size=4, max_length=128
    ) as plain:
        assert len(drawn(plain, max_new_tokens=3, strategy="static:temperature=0.5")) == 3
        with pytest.raises(ConfigError, match="needs decoding heads"):
            drawn(plain, strategy="autodeco")


def test_heads_with_an_adapter_choose_as_in_transformers(tiny_checkpoints, tmp_path):
    adapted_model(tiny_checkpoints["base"], dtype=torch.float32).save_pretrained(tmp_path / "adapted")
    with open_sampler(
        str(tmp_path / "adapted"), engine="vllm", dtype="float32", batch_size=4, max_length=128
    ) as adapted:
        one = drawn(adapted, max_new_tokens=12, strategy="autodeco", trace=True, log_probs=True)[0, 0]
    model = AutoDecoForCausalLM.from_pretrained(tmp_path / "adapted")
    assert_traced_as_by(model, one, "autodeco")
    with adapter_disabled(model), pytest.raises(AssertionError, match="not close"):
        assert_traced_as_by(model, one, "autodeco")


_KILLED = """
import os, signal, sys
from autodeco.rollouts import Sampling
from autodeco.serving.samplers import open_sampler

if __name__ == "__main__":
    with open_sampler(sys.argv[1], engine="vllm", dtype="float32", batch_size=4, max_length=128) as sampler:
        prompts = [[{"role": "user", "content": "a"}]] * 50
        for _ in sampler.draw(prompts, Sampling(max_new_tokens=100, strategy="autodeco")):
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_goes_on_after_a_kill(tiny_checkpoints, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    mark = f"mark-{tmp_path.name}-{os.getpid()}"
    environment = {**os.environ, "AUTODECO_TEST_MARK": mark}
    found = subprocess.run([sys.executable, script, tiny_checkpoints["heads"]], env=environment, capture_output=True)
    assert found.returncode == -signal.SIGKILL, found.stderr[-2000:]
    deadline = time.monotonic() + 30
    while left := [process.pid for process in psutil.process_iter() if _environment(process) == mark]:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def _environment(process):
    try:
        return process.environ().get("AUTODECO_TEST_MARK")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
