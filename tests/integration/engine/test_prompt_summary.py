"""Heads that see a summary of the prompt: the choices of Transformers' path, however vLLM reads the prompts."""

from __future__ import annotations

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm runs this in vLLM's own environment")
import torch
import transformers
from tests.conftest import byte_tokenizer
from tests.integration.engine.conftest import apart, prompt_ids, start_engine, stop, trace_of
from tests.integration.engine.test_architectures import ARCHITECTURES, SIZES
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError

from autodeco import AutoDecoForCausalLM
from autodeco.errors import CheckpointError
from autodeco.rollouts import Sampling
from autodeco.serving.samplers import open_sampler

READER = "autodeco.serving.vllm.requests:PromptOptions"
NEEDED = {"enable_prefix_caching": False, "logits_processors": [READER]}
LAYERS = 4
# Of lengths that end within and at the borders of the parts that prompts are read in below.
TEXTS = ["a", "two of them ", "the quick brown fox " * 3, "x" * 31, "jumps over the lazy dog " * 7]


def made(architecture, layer, folder):
    """A base in ``folder/base``; heads for it in ``folder/heads`` whose choices depend visibly on the summary."""
    torch.manual_seed(layer)
    tokenizer = byte_tokenizer()
    sizes = {**SIZES, "num_hidden_layers": LAYERS, "vocab_size": len(tokenizer), **ARCHITECTURES.get(architecture, {})}
    name = "Gemma3TextConfig" if architecture == "Gemma3" else f"{architecture}Config"
    config = getattr(transformers, name)(**sizes)
    getattr(transformers, f"{architecture}ForCausalLM")(config).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    model = AutoDecoForCausalLM.from_base(
        str(folder / "base"), dtype="float32", prompt_summary=True, prompt_layer=layer
    )
    with torch.no_grad():
        for name, parameter in model.decoding_heads.named_parameters():
            parameter.normal_(std=0.3) if ".prompt." in name else parameter.mul_(1.5)
        model.decoding_heads.top_p_head.mlp[2].bias.fill_(1.5)
    model.save_pretrained(folder / "heads")
    return model


def started(folder, architecture="Llama", **settings):
    return start_engine(
        folder / "base", **apart(folder / "heads", f"{architecture}ForCausalLM"), **{**NEEDED, **settings}
    )


def expected(model, ids, prompt_length):
    """T, P and log-probabilities at each token after the prompt, from one pass of Transformers."""
    mask = torch.zeros(1, len(ids))
    mask[:, :prompt_length] = 1
    with torch.no_grad():
        output = model(torch.tensor([ids]), prompt_mask=mask)
    steps = slice(prompt_length - 1, -1)
    return output.temperature[0, steps], output.top_p[0, steps], output.logits[0, steps].log_softmax(-1)


def assert_as_in_transformers(model, output, trace, tolerance=5e-4):
    prompt = list(output.prompt_token_ids)
    (completion,) = output.outputs
    temperature, top_p, log_probs = expected(model, [*prompt, *completion.token_ids], len(prompt))
    found = torch.tensor(trace)
    torch.testing.assert_close(found[:, 0], temperature, atol=tolerance, rtol=0)
    torch.testing.assert_close(found[:, 1], top_p, atol=tolerance, rtol=0)
    for step, row in enumerate(completion.logprobs):
        for token_id, entry in row.items():
            if entry.logprob > -1000:
                assert entry.logprob == pytest.approx(float(log_probs[step, token_id]), abs=tolerance)


def parameters(name, tokens=8, **options):
    return SamplingParams(
        max_tokens=tokens, logprobs=3, ignore_eos=True, extra_args={"autodeco_trace": name, **options}
    )


def assert_a_mixed_load(engine, model, rounds=2):
    """Prompts of all lengths, several samples each, of different lengths: rows move whenever one ends."""
    prompts = [prompt_ids(text) for text in TEXTS] * rounds
    names = [str(index) for index in range(len(prompts))]
    outputs = engine.generate(prompts, [parameters(name, 3 + 5 * (int(name) % 3)) for name in names])
    traces = [trace_of(engine, name) for name in names]
    for output, trace in zip(outputs, traces, strict=True):
        assert_as_in_transformers(model, output, trace)
    # The summary is what is seen: choices for one prompt are not those with another's summary.
    other = expected(model, [*outputs[1].prompt_token_ids, *outputs[1].outputs[0].token_ids], 1)[0]
    begin = len(outputs[1].prompt_token_ids) - 1
    assert (torch.tensor(traces[1])[:, 0] - other[begin:]).abs().max() > 0.01


@pytest.mark.parametrize("layer", [0, 2, LAYERS])
def test_more_requests_than_places_decode_as_in_transformers(layer, tmp_path):
    model = made("Llama", layer, tmp_path)
    engine = started(tmp_path, max_num_seqs=4)
    try:
        assert_a_mixed_load(engine, model)
    finally:
        stop(engine)


def test_prompts_read_in_parts_and_requests_that_make_room(tmp_path):
    """Memory for the cache of two long requests: those that have to make room are read again, tokens drawn included."""
    model = made("Llama", 2, tmp_path)
    engine = started(
        tmp_path,
        max_num_seqs=4,
        max_num_batched_tokens=32,
        enable_chunked_prefill=True,
        block_size=32,
        kv_cache_memory_bytes=9 * 32 * LAYERS * 2 * 2 * 32 * 4,  # nine blocks of keys and values, two heads of 32
        disable_log_stats=False,
    )
    try:
        assert_a_mixed_load(engine, model)
        names = [f"long {index}" for index in range(4)]
        outputs = engine.generate(
            [prompt_ids(TEXTS[2] + "x" * index) for index in range(4)], [parameters(name, 90) for name in names]
        )
        preempted = next(one for one in engine.get_metrics() if one.name == "vllm:num_preemptions")
        assert preempted.value > 0
        for output, name in zip(outputs, names, strict=True):
            assert_as_in_transformers(model, output, trace_of(engine, name))
    finally:
        stop(engine)
