"""The plug-in in a real engine: the distribution of Transformers' path, and requests that behave as people expect."""

from __future__ import annotations

import json
import math

import pytest
import torch
from scipy import stats

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm runs this in vLLM's own environment")
from tests.integration.engine.conftest import PROMPT, apart, assert_parity, prompt_ids, start_engine, stop, trace_of
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import StructuredOutputsParams

from autodeco import AutoDecoForCausalLM
from autodeco.bundled import BUNDLED_MODEL, resolve_model


def reference(folder):
    return AutoDecoForCausalLM.from_pretrained(folder, dtype="float32")


def test_every_registered_architecture_has_a_class_with_its_base_abilities():
    from vllm.model_executor.models import ModelRegistry
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    for architecture in ("Llama", "Qwen2", "Qwen3", "Qwen3Moe", "GptOss", "DeepseekV3", "Gemma3"):
        base = ModelRegistry.models[f"{architecture}ForCausalLM"].load_model_cls()
        made = ModelRegistry.models[f"AutoDeco{architecture}ForCausalLM"].load_model_cls()
        assert issubclass(made, base)
        assert made.__name__ == f"AutoDeco{architecture}ForCausalLM"
        for flag in ("supports_pp", "supports_lora", "is_text_generation_model"):
            assert getattr(made, flag, None) == getattr(base, flag, None)


@pytest.mark.real_model
def test_real_model_and_heads_apart_decode_as_in_transformers(tmp_path):
    folder = resolve_model(BUNDLED_MODEL)
    model = AutoDecoForCausalLM.from_base(folder, dtype="float32")
    with torch.no_grad():
        model.decoding_heads.top_p_head.mlp[2].bias.fill_(2.0)
    model.save_pretrained(tmp_path / "heads")
    engine = start_engine(folder, **apart(tmp_path / "heads"))
    try:
        texts = ["Once upon a time", "The capital of France is", "2 + 2 ="]
        parameters = SamplingParams(max_tokens=24, logprobs=5, prompt_logprobs=5, extra_args={"autodeco_trace": "a"})
        (first,) = engine.generate(texts[:1], parameters)
        trace = trace_of(engine, "a")
        others = engine.generate(texts[1:], SamplingParams(max_tokens=24, logprobs=5, prompt_logprobs=5))
        assert sum(assert_parity(output, model, 1e-4) for output in (first, *others)) > 100
        ids = list(first.prompt_token_ids) + list(first.outputs[0].token_ids)
        with torch.no_grad():
            output = model(torch.tensor([ids]))
        start = len(first.prompt_token_ids) - 1
        assert len(trace) == len(first.outputs[0].token_ids)
        for position, (temperature, top_p, _) in enumerate(trace):
            assert temperature == pytest.approx(float(output.temperature[0, start + position]), abs=1e-4)
            assert top_p == pytest.approx(float(output.top_p[0, start + position]), abs=1e-4)
        greedy = engine.generate(texts[:1], SamplingParams(max_tokens=16, temperature=0))[0].outputs[0].token_ids
        inputs = torch.tensor([list(first.prompt_token_ids)])
        expected = model.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=16, do_sample=False)
        assert list(greedy) == expected[0, inputs.shape[1] :].tolist()
    finally:
        stop(engine)


def test_released_checkpoint_decodes_as_in_transformers(tiny_checkpoints):
    engine = start_engine(tiny_checkpoints["released"], max_num_batched_tokens=64, enable_chunked_prefill=True)
    try:
        parameters = SamplingParams(max_tokens=12, logprobs=5, prompt_logprobs=5, ignore_eos=True)
        outputs = engine.generate([prompt_ids(), prompt_ids(PROMPT * 6)], parameters)  # the second in several chunks
        model = reference(tiny_checkpoints["merged"])
        assert sum(assert_parity(output, model, 5e-4) for output in outputs) > 50
    finally:
        stop(engine)


def test_merged_checkpoint_draws_from_the_exact_distribution(merged_engine, tiny_checkpoints):
    """Chi-square over 20,000 draws of one next token, with the engine's seed fixed."""
    model = reference(tiny_checkpoints["merged"])
    draws = 20_000
    outputs = merged_engine.generate([prompt_ids()] * 2, SamplingParams(n=draws // 2, max_tokens=1, ignore_eos=True))
    with torch.no_grad():
        expected = model(torch.tensor([prompt_ids()["prompt_token_ids"]])).logits[0, -1].double().softmax(-1)
    counts = torch.zeros_like(expected)
    for choice in (choice for output in outputs for choice in output.outputs):
        counts[choice.token_ids[0]] += 1
    assert counts.sum() == draws
    assert counts[expected == 0].sum() == 0
    common = expected * draws >= 5
    assert common.sum() > 3
    found = torch.cat([counts[common], counts[~common].sum().view(1)])
    wanted = torch.cat([expected[common], expected[~common].sum().view(1)]) * draws
    if wanted[-1] < 5:
        found, wanted = found[:-1], wanted[:-1] * (found[:-1].sum() / wanted[:-1].sum())
    assert stats.chisquare(found.numpy(), wanted.numpy()).pvalue > 1e-4


def first_token(engine, **parameters):
    output = engine.generate([prompt_ids()], SamplingParams(max_tokens=1, logprobs=3, ignore_eos=True, **parameters))[0]
    return output.outputs[0].logprobs[0]


def test_options_of_single_requests_in_one_batch(merged_engine, tiny_checkpoints):
    model = reference(tiny_checkpoints["merged"])
    ids = torch.tensor([prompt_ids()["prompt_token_ids"]])
    with torch.no_grad():
        output = model(ids)
        base = output.base_logits[0, -1].float()
    limit = float(output.temperature[0, -1]) / 2
    options = [{"autodeco": 0}, None, {"autodeco_max_temperature": limit}]
    parameters = [SamplingParams(max_tokens=1, logprobs=3, ignore_eos=True, extra_args=one) for one in options]
    off, plain, bounded = merged_engine.generate([prompt_ids()] * 3, parameters)
    for result, expected in (
        (off, base.log_softmax(-1)),
        (plain, output.logits[0, -1].log_softmax(-1)),
    ):
        for token_id, found in result.outputs[0].logprobs[0].items():
            if found.logprob > -1000:
                assert found.logprob == pytest.approx(float(expected[token_id]), abs=5e-4)
    scaled = (base / limit).log_softmax(-1)
    likely = [(token_id, found.logprob) for token_id, found in bounded.outputs[0].logprobs[0].items()]
    inside = [(token_id, value) for token_id, value in likely if value > -1000][:2]
    if len(inside) == 2:  # ratios do not depend on where the nucleus is cut
        (one, first), (other, second) = inside
        assert first - second == pytest.approx(float(scaled[one] - scaled[other]), abs=1e-3)


@pytest.mark.parametrize(
    "options", [{"autodeco_max_temperature": 0}, {"autodeco_max_temprature": 1.0}, {"autodeco_trace": ""}]
)
def test_bad_options_are_refused(merged_engine, options):
    with pytest.raises(VLLMValidationError, match="autodeco_"):
        merged_engine.generate([prompt_ids()], SamplingParams(max_tokens=1, extra_args=options))


def test_a_temperature_multiplies_the_learned_one(merged_engine):
    def gap(found):
        values = sorted((entry.logprob for entry in found.values() if entry.logprob > -1000), reverse=True)
        return values[0] - values[1]

    once, twice = (
        merged_engine.generate(
            [prompt_ids()], SamplingParams(max_tokens=1, logprobs=2, temperature=temperature, ignore_eos=True)
        )[0]
        for temperature in (1.0, 0.5)
    )
    # vLLM reports log-probabilities before a request's own temperature, so both are the same: the shaped distribution.
    assert gap(once.outputs[0].logprobs[0]) == pytest.approx(gap(twice.outputs[0].logprobs[0]), abs=1e-4)


def test_a_grammar_that_forbids_the_whole_nucleus_still_gets_its_token(merged_engine, tiny_checkpoints):
    model = reference(tiny_checkpoints["merged"])
    with torch.no_grad():
        logits = model(torch.tensor([prompt_ids()["prompt_token_ids"]])).logits[0, -1]
    outside = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    tokenizer = merged_engine.get_tokenizer()
    forbidden = [letter for letter in outside if float(logits[tokenizer.convert_tokens_to_ids(letter)]) < -5000]
    assert forbidden, "some letter is outside the nucleus"
    guided = SamplingParams(
        max_tokens=1, structured_outputs=StructuredOutputsParams(choice=forbidden[:2]), ignore_eos=True
    )
    text = merged_engine.generate([prompt_ids()], guided)[0].outputs[0].text
    assert text in forbidden[:2]


@pytest.mark.parametrize(
    "parameters",
    [
        {"top_k": 3},
        {"min_p": 0.1},
        {"presence_penalty": 0.5, "frequency_penalty": 0.5, "repetition_penalty": 1.1},
        {"logit_bias": {40: 5.0}},
        {"stop_token_ids": [40]},
        {"n": 3},
        {"prompt_logprobs": 2},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_the_engines_own_parameters_work(merged_engine, parameters):
    (output,) = merged_engine.generate([prompt_ids()], SamplingParams(max_tokens=8, ignore_eos=True, **parameters))
    assert len(output.outputs) == parameters.get("n", 1)
    assert all(0 < len(choice.token_ids) <= 8 for choice in output.outputs)


def test_seeded_requests_repeat(merged_engine):
    outputs = [
        merged_engine.generate([prompt_ids()], SamplingParams(max_tokens=16, seed=7, ignore_eos=True))[0]
        for _ in range(2)
    ]
    assert outputs[0].outputs[0].token_ids == outputs[1].outputs[0].token_ids


def test_json_schema(merged_engine):
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    guided = SamplingParams(max_tokens=60, structured_outputs=StructuredOutputsParams(json=schema))
    text = merged_engine.generate([prompt_ids()], guided)[0].outputs[0].text
    assert isinstance(json.loads(text)["a"], bool)


def test_heads_with_temperature_features_decode_as_in_transformers(tiny_checkpoints, tmp_path):
    base = str(tiny_checkpoints["base"])
    model = AutoDecoForCausalLM.from_base(base, temperature_features=True, dtype="float32")
    with torch.no_grad():
        model.decoding_heads.temp_head.mlp[0].weight[:, -4:].mul_(10)  # so that T differs with the statistics
        model.decoding_heads.top_p_head.mlp[2].bias.fill_(1.5)
    model.save_pretrained(tmp_path / "heads")
    engine = start_engine(base, **apart(tmp_path / "heads"))
    try:
        (output,) = engine.generate([prompt_ids()], SamplingParams(max_tokens=24, logprobs=5, prompt_logprobs=5))
        assert assert_parity(output, model, 1e-4) > 50
    finally:
        stop(engine)


def test_heads_of_another_model_are_refused(tiny_checkpoints, tmp_path):
    from autodeco import AutoDecoConfig, DecodingHeads
    from autodeco.checkpoint import save_heads

    save_heads(DecodingHeads(AutoDecoConfig(hidden_size=64, vocab_size=100)), tmp_path / "heads")
    with pytest.raises(Exception, match=r"Engine core initialization failed|hidden size 64"):
        start_engine(tiny_checkpoints["base"], **apart(tmp_path / "heads"))


def test_no_lesser_path_to_unshaped_logits(merged_engine):
    from autodeco.serving.vllm import models

    made = models.AutoDecoLlamaForCausalLM
    assert not hasattr(made.__new__(made), "compute_logits_local")
    assert math.isfinite(next(iter(first_token(merged_engine).values())).logprob)
