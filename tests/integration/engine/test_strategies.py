"""Strategies in a real engine: set between requests, the distribution of Transformers' path with the same strategy."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm runs this in vLLM's own environment")
from tests.integration.engine.test_engine import prompt_ids, reference
from vllm import SamplingParams

from autodeco.strategies import save_bank


@pytest.fixture
def engine(merged_engine):
    yield merged_engine
    set_strategy(merged_engine, None)


def set_strategy(engine, spec):
    (canonical,) = engine.collective_rpc("autodeco_set_strategy", args=(spec,))
    return canonical


def next_token(engine, **extra):
    parameters = SamplingParams(max_tokens=1, logprobs=5, ignore_eos=True, **extra)
    return engine.generate([prompt_ids()], parameters)[0].outputs[0].logprobs[0]


def assert_next_token(found, logits):
    expected = logits[0, -1].log_softmax(-1)
    for token_id, entry in found.items():
        assert (entry.logprob < -1000) == (float(expected[token_id]) < -1000)
        if entry.logprob > -1000:
            assert entry.logprob == pytest.approx(float(expected[token_id]), abs=5e-4)


@pytest.mark.parametrize(
    "spec",
    [
        *("default", "static:temperature=0.6,top_p=0.7", "static:top_k=5,min_p=0.1", "p-less", "p-less-norm"),
        *("min-k:tau=3", "top-n-sigma:n=1", "edt:theta=0.5,base=0.8", "dynatemp:range=0.5,exponent=1"),
        *("temperature-head", "top-p-head", "autodeco"),
    ],
)
def test_same_distribution_as_in_transformers(engine, tiny_checkpoints, spec):
    model = reference(tiny_checkpoints["merged"])
    assert set_strategy(engine, spec) == spec
    with torch.no_grad(), model.decode_with(spec):
        shaped = model(torch.tensor([prompt_ids()["prompt_token_ids"]])).logits
    assert_next_token(next_token(engine), shaped)
    set_strategy(engine, None)
    with torch.no_grad():
        assert_next_token(next_token(engine), model(torch.tensor([prompt_ids()["prompt_token_ids"]])).logits)


def test_traces_hold_the_strategys_values_and_options_still_count(engine):
    set_strategy(engine, "mean-shift:temperature=0.6,top_p=0.9")
    options = [{"autodeco_trace": "fixed"}, {"autodeco_trace": "off", "autodeco": 0}]
    parameters = [SamplingParams(max_tokens=4, ignore_eos=True, extra_args=one) for one in options]
    engine.generate([prompt_ids()] * 2, parameters)
    for name, value in (("fixed", (0.6, 0.9)), ("off", (1.0, 1.0))):
        (trace,) = engine.collective_rpc("autodeco_take_trace", args=(name,))
        assert len(trace) == 4
        for temperature, top_p, _ in trace:
            assert (temperature, top_p) == pytest.approx(value)


def test_shuffled_deals_the_banks_pairs(engine, tmp_path):
    save_bank(tmp_path / "bank", torch.tensor([0.5, 1.5]), torch.tensor([0.9, 0.4]))
    set_strategy(engine, f"shuffled:bank={tmp_path / 'bank'},seed=1")
    parameters = SamplingParams(max_tokens=40, ignore_eos=True, extra_args={"autodeco_trace": "dealt"})
    engine.generate([prompt_ids()], parameters)
    (trace,) = engine.collective_rpc("autodeco_take_trace", args=("dealt",))
    assert {(round(temperature, 3), round(top_p, 3)) for temperature, top_p, _ in trace} == {(0.5, 0.9), (1.5, 0.4)}


def test_greedy_is_the_engines_own_greedy(engine):
    own = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)
    set_strategy(engine, "default")
    expected = engine.generate([prompt_ids()], own)[0].outputs[0].token_ids
    assert set_strategy(engine, "greedy") == "greedy"
    sampled = SamplingParams(max_tokens=12, ignore_eos=True)
    for parameters in (own, sampled):
        assert engine.generate([prompt_ids()], parameters)[0].outputs[0].token_ids == expected


def test_an_unknown_strategy_is_refused_and_the_engine_goes_on(engine):
    set_strategy(engine, "mean-shift:temperature=0.6,top_p=0.9")
    with pytest.raises(Exception, match="Did you mean 'p-less'"):
        set_strategy(engine, "p-les")
    parameters = SamplingParams(max_tokens=1, ignore_eos=True, extra_args={"autodeco_trace": "still"})
    engine.generate([prompt_ids()], parameters)
    (trace,) = engine.collective_rpc("autodeco_take_trace", args=("still",))
    assert trace[0][:2] == pytest.approx((0.6, 0.9))
