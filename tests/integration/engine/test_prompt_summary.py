"""Heads that see a summary of the prompt: the choices of Transformers' path, however vLLM reads the prompts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm runs this in vLLM's own environment")
import torch
import transformers
from tests.conftest import byte_tokenizer
from tests.integration.engine.conftest import apart, prompt_ids, start_engine, stop, trace_of
from tests.integration.engine.test_architectures import ARCHITECTURES, SIZES
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.forward_context import set_forward_context
from vllm.model_executor.models import ModelRegistry

from autodeco import AutoDecoConfig, AutoDecoForCausalLM, DecodingHeads
from autodeco.errors import CheckpointError
from autodeco.rollouts import Sampling
from autodeco.serving.samplers import open_sampler
from autodeco.serving.vllm.prompt_conditions import prepare_engine
from autodeco.serving.vllm.prompts import Prompt, Prompts

READER = "autodeco.serving.vllm.requests:PromptOptions"
NEEDED = {"enable_prefix_caching": False, "enforce_eager": True, "logits_processors": [READER]}
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
            if ".prompt." in name:  # not so much that T ends near a bound, where wrong summaries would not show
                parameter.normal_(std=0.007 if name.endswith(".up") else 0.3)
            else:
                parameter.mul_(1.5)
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
    # GPT-OSS's own logits differ by up to 8e-4 between the engines (T by 3e-5, P by 6e-6), more when divided by T.
    of_log_probs = 2e-3 if model.config.model_type == "gpt_oss" else tolerance
    prompt = list(output.prompt_token_ids)
    (completion,) = output.outputs
    temperature, top_p, log_probs = expected(model, [*prompt, *completion.token_ids], len(prompt))
    found = torch.tensor(trace)
    torch.testing.assert_close(found[:, 0], temperature, atol=tolerance, rtol=0)
    torch.testing.assert_close(found[:, 1], top_p, atol=tolerance, rtol=0)
    for step, row in enumerate(completion.logprobs):
        for token_id, entry in row.items():
            if entry.logprob > -1000:
                assert entry.logprob == pytest.approx(float(log_probs[step, token_id]), abs=of_log_probs)


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
    others = expected(model, [*outputs[1].prompt_token_ids, *outputs[1].outputs[0].token_ids], 1)
    begin = len(outputs[1].prompt_token_ids) - 1
    for found, other, difference in zip(torch.tensor(traces[1]).T, others[:2], (0.05, 0.02), strict=False):
        assert (found - other[begin:]).abs().max() > difference


@pytest.mark.parametrize("layer", [0, 2, LAYERS])
def test_more_requests_than_places_decode_as_in_transformers(layer, tmp_path):
    model = made("Llama", layer, tmp_path)
    engine = started(tmp_path, max_num_seqs=4)
    try:
        assert_a_mixed_load(engine, model)
        engine.generate([prompt_ids()], parameters("off", autodeco=0))
        assert all(tuple(values[:2]) == (1.0, 1.0) for values in trace_of(engine, "off"))
        with pytest.raises(VLLMValidationError, match=r"prompt_logprobs .* see a summary of the whole prompt"):
            engine.generate([prompt_ids()], SamplingParams(prompt_logprobs=1))
    finally:
        stop(engine)


@pytest.mark.parametrize(
    ("architecture", "layer"), [("Qwen2", 3), ("Qwen3", 2), ("Qwen3Moe", 2), ("GptOss", 2), ("Gemma3", 0)]
)
def test_other_architectures(architecture, layer, tmp_path):
    model = made(architecture, layer, tmp_path)
    engine = started(tmp_path, architecture)
    try:
        assert_a_mixed_load(engine, model, rounds=1)
    finally:
        stop(engine)


def test_rollouts(tmp_path):
    """As `autodeco rollout` starts it: several samples of each prompt, the heads exchanged for strategies."""
    model = made("Llama", 2, tmp_path)
    prompts = [[{"role": "user", "content": text}] for text in TEXTS[:3]]
    with open_sampler(str(tmp_path / "heads"), engine="vllm", dtype="float32", batch_size=4, max_length=160) as sampler:
        for strategy in ("autodeco", "temperature-head", "default"):
            sampling = Sampling(samples_per_prompt=3, max_new_tokens=6, strategy=strategy, trace=True, log_probs=True)
            samples = [one for batch in sampler.draw(prompts, sampling) for one in batch]
            assert len(samples) == 9
            for one in samples:
                with model.decode_with(strategy):
                    wanted = expected(model, one.prompt_ids + one.completion_ids, len(one.prompt_ids))
                chosen = wanted[2].gather(1, torch.tensor(one.completion_ids)[:, None])[:, 0]
                for found, value in ((one.temperature, wanted[0]), (one.top_p, wanted[1]), (one.log_probs, chosen)):
                    torch.testing.assert_close(torch.tensor(found), value, atol=1e-3, rtol=0)


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


@pytest.fixture(scope="module")
def engine_config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("summary")
    made("Llama", 2, folder)
    arguments = {**apart(folder / "heads"), **NEEDED, "max_model_len": 64}
    return EngineArgs(str(folder / "base"), **arguments).create_engine_config()


def base_class(architecture="Llama"):
    return ModelRegistry.models[f"{architecture}ForCausalLM"].load_model_cls()


@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        ("cache_config.enable_prefix_caching", True, "Give --no-enable-prefix-caching"),
        ("model_config.enforce_eager", False, "Give --enforce-eager"),
        ("cache_config.kv_sharing_fast_prefill", True, "Leave --kv-sharing-fast-prefill out"),
        ("kv_transfer_config", SimpleNamespace(), "Leave --kv-transfer-config out"),
        ("speculative_config", SimpleNamespace(), "Leave --speculative-config out"),
        ("parallel_config.world_size", 2, "2 processes .* Leave --tensor-parallel-size"),
        ("model_config.enable_prompt_embeds", True, "Leave --enable-prompt-embeds out"),
        ("model_config.logits_processors", None, f"Give --logits-processors {READER}"),
        ("additional_config", SimpleNamespace(), "Leave --additional-config out"),
    ],
)
def test_an_engine_that_would_leave_states_out_is_refused(engine_config, monkeypatch, setting, value, advice):
    *path, name = setting.split(".")
    owner = getattr(engine_config, path[0]) if path else engine_config
    monkeypatch.setattr(owner, name, value)
    with pytest.raises(CheckpointError, match=advice):
        prepare_engine(AutoDecoConfig(hidden_size=128, prompt_summary=True), engine_config, base_class())


def test_vllms_other_model_runner_is_refused(engine_config, monkeypatch):
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "1")
    with pytest.raises(CheckpointError, match=r"only vLLM's V1 model runner on CPUs.*--engine transformers"):
        prepare_engine(AutoDecoConfig(hidden_size=128, prompt_summary=True), engine_config, base_class())


def test_layers_that_vllm_cannot_give_are_named(engine_config):
    with pytest.raises(CheckpointError, match=r"after layer 5 \(prompt_layer\), and the base has 4 layers"):
        prepare_engine(
            AutoDecoConfig(hidden_size=128, prompt_summary=True, prompt_layer=5), engine_config, base_class()
        )
    layer_1 = AutoDecoConfig(hidden_size=128, prompt_summary=True, prompt_layer=1)
    with pytest.raises(CheckpointError, match="Gemma3ForCausalLM gives out the last states alone"):
        prepare_engine(layer_1, engine_config, base_class("Gemma3"))


def test_compiled_models_of_different_layers_have_different_keys(engine_config):
    keys = []
    for layer in (0, 1, 2, 1):
        prepare_engine(
            AutoDecoConfig(hidden_size=128, prompt_summary=True, prompt_layer=layer), engine_config, base_class()
        )
        keys.append(engine_config.compute_hash())
    assert len(set(keys)) == 3
    assert keys[1] == keys[3]


def test_states_that_cannot_be_told_apart_are_an_error(engine_config):
    heads = DecodingHeads(AutoDecoConfig(hidden_size=8, prompt_summary=True))
    with pytest.raises(RuntimeError, match="goes on at position 3, and its prompt was read up to 0"):
        Prompt(5).read(heads, torch.zeros(2, 8), 3)
    prompts = Prompts()
    prompts.rows = {0: Prompt(5), 1: Prompt(5)}
    with pytest.raises(RuntimeError, match=r"logits of 3 rows .* the batch has 2 requests"):
        prompts.beside(heads, torch.zeros(3, 8))
    for metadata in ({"layer": SimpleNamespace(query_start_loc=torch.tensor([0, 5]), seq_lens=torch.tensor([5]))}, []):
        with (
            set_forward_context(metadata, engine_config),
            pytest.raises(RuntimeError, match="which tokens belong to which of 2 requests"),
        ):
            prompts.read(heads, torch.zeros(5, 8))
