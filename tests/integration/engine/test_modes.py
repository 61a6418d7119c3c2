"""The plug-in with what else vLLM does to a model: bfloat16, LoRA, quantised weights, drafts, several processes."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm runs this in vLLM's own environment")
from safetensors.torch import load_file, save_file
from tests.integration.engine.conftest import apart, assert_parity, prompt_ids, start_engine, stop, trace_of
from vllm import SamplingParams
from vllm.lora.request import LoRARequest

from autodeco import AutoDecoForCausalLM
from autodeco.bundled import BUNDLED_MODEL, resolve_model

REPEATING = "the fox and the fox and the fox and the "


@pytest.mark.real_model
def test_bfloat16_on_the_real_model(tmp_path):
    """bf16 rounds hidden states and logits to 8 bits, each engine at other places: parity is that of bf16 itself."""
    folder = resolve_model(BUNDLED_MODEL)
    model = AutoDecoForCausalLM.from_base(folder, dtype="bfloat16")
    model.save_pretrained(tmp_path / "heads")
    engine = start_engine(folder, dtype="bfloat16", **apart(tmp_path / "heads"))
    try:
        parameters = SamplingParams(max_tokens=32, temperature=0, ignore_eos=True, extra_args={"autodeco_trace": "a"})
        (output,) = engine.generate(["The capital of France is"], parameters)
        trace = torch.tensor(trace_of(engine, "a"))
    finally:
        stop(engine)
    ids = list(output.prompt_token_ids) + list(output.outputs[0].token_ids)
    with torch.no_grad():
        expected = model(torch.tensor([ids]))
    start = len(output.prompt_token_ids) - 1
    steps = slice(start, start + len(trace))
    assert (trace[:, 0] - expected.temperature[0, steps]).abs().max() < 0.02
    assert (trace[:, 1] - expected.top_p[0, steps]).abs().max() < 0.02


def test_lora_on_the_base(tiny_checkpoints, tmp_path):
    torch.manual_seed(1)
    base = load_file(tiny_checkpoints["base"] / "model.safetensors")
    adapter, changed = {}, dict(base)
    for layer in range(2):
        name = f"model.layers.{layer}.self_attn.q_proj"
        down, up = torch.randn(8, 128) * 0.3, torch.randn(128, 8) * 0.3
        adapter |= {
            f"base_model.model.{name}.lora_A.weight": down,
            f"base_model.model.{name}.lora_B.weight": up,
        }
        changed[f"{name}.weight"] = base[f"{name}.weight"] + 2.0 * up @ down
    (tmp_path / "lora").mkdir()
    save_file(adapter, tmp_path / "lora" / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none"}
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps({**settings, "task_type": "CAUSAL_LM"}))
    shutil.copytree(tiny_checkpoints["base"], tmp_path / "changed")
    save_file(changed, tmp_path / "changed" / "model.safetensors", {"format": "pt"})
    model = AutoDecoForCausalLM.from_pretrained(
        tiny_checkpoints["heads"], base_model=tmp_path / "changed", dtype="float32"
    )
    engine = start_engine(
        tiny_checkpoints["base"], enable_lora=True, max_lora_rank=8, **apart(tiny_checkpoints["heads"])
    )
    try:
        parameters = SamplingParams(max_tokens=8, logprobs=5, prompt_logprobs=5, ignore_eos=True)
        request = LoRARequest("lora", 1, str(tmp_path / "lora"))
        (output,) = engine.generate([prompt_ids()], parameters, lora_request=request)
        (plain,) = engine.generate([prompt_ids()], parameters)
    finally:
        stop(engine)
    assert assert_parity(output, model, 2e-3) > 20
    reference = AutoDecoForCausalLM.from_pretrained(tiny_checkpoints["merged"], dtype="float32")
    assert assert_parity(plain, reference, 2e-3) > 20


def test_quantised_base(tiny_checkpoints, tmp_path):
    """8-bit weights (compressed-tensors); the heads stay in float32 and see the quantised model's hidden states."""
    tensors = load_file(tiny_checkpoints["base"] / "model.safetensors")
    quantised, restored = {}, {}
    for name, tensor in tensors.items():
        if "proj" in name:
            scale = tensor.abs().amax(1, keepdim=True) / 127
            quantised[name] = (tensor / scale).round().to(torch.int8)
            quantised[name + "_scale"] = scale
            restored[name] = quantised[name].float() * scale
        else:
            quantised[name] = restored[name] = tensor
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
    activations = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    section = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": activations}},
    }
    for folder, own in (("quantised", quantised), ("restored", restored)):
        shutil.copytree(tiny_checkpoints["base"], tmp_path / folder)
        save_file(own, tmp_path / folder / "model.safetensors", {"format": "pt"})
    config = tmp_path / "quantised" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": section}))
    engine = start_engine(tmp_path / "quantised", dtype="bfloat16", **apart(tiny_checkpoints["heads"]))
    try:
        parameters = SamplingParams(max_tokens=1, temperature=0, extra_args={"autodeco_trace": "a"})
        engine.generate([prompt_ids()], parameters)
        ((temperature, top_p, _),) = trace_of(engine, "a")
    finally:
        stop(engine)
    model = AutoDecoForCausalLM.from_pretrained(
        tiny_checkpoints["heads"], base_model=tmp_path / "restored", dtype="float32"
    )
    with torch.no_grad():
        expected = model(torch.tensor([prompt_ids()["prompt_token_ids"]]))
    # Activations are rounded to 8 bits as well.
    assert temperature == pytest.approx(float(expected.temperature[0, -1]), abs=0.1)
    assert top_p == pytest.approx(float(expected.top_p[0, -1]), abs=0.1)


def test_every_draft_row_is_shaped(tiny_checkpoints):
    """n-gram drafts: what is accepted and what is drawn instead have the shaped distribution's log-probabilities."""
    engine = start_engine(
        tiny_checkpoints["merged"],
        logits_processors=None,  # vLLM refuses them together with drafts
        speculative_config={
            "method": "ngram",
            "num_speculative_tokens": 3,
            "prompt_lookup_max": 2,
            "prompt_lookup_min": 1,
        },
        disable_log_stats=False,
    )
    try:
        parameters = SamplingParams(max_tokens=24, logprobs=5, ignore_eos=True, repetition_penalty=1.0)
        outputs = engine.generate([prompt_ids(REPEATING * 2)] * 4, parameters)
        counts = {metric.name: getattr(metric, "value", None) for metric in engine.get_metrics()}
    finally:
        stop(engine)
    model = AutoDecoForCausalLM.from_pretrained(tiny_checkpoints["merged"], dtype="float32")
    assert counts["vllm:spec_decode_num_draft_tokens"] > 0  # how many depends on what was drawn
    assert sum(assert_parity(output, model, 2e-3) for output in outputs) > 50


@pytest.mark.parametrize("setting", ["tensor_parallel_size", "pipeline_parallel_size"])
def test_two_processes(tiny_checkpoints, monkeypatch, setting):
    """Heads on every tensor-parallel rank, or on the last pipeline stage alone."""
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
    # vLLM 0.32's CPU runner needs its compiled warm-up for pipeline stages: bare models fail without, too.
    eager = setting == "tensor_parallel_size"
    if not eager and shutil.which("c++") is None:
        pytest.skip("no C++ compiler here")
    engine = start_engine(
        tiny_checkpoints["base"],
        enforce_eager=eager,
        distributed_executor_backend="mp",
        **{setting: 2},
        **apart(tiny_checkpoints["heads"]),
    )
    try:
        parameters = SamplingParams(max_tokens=8, logprobs=5, prompt_logprobs=5, ignore_eos=True)
        (output,) = engine.generate([prompt_ids()], parameters)
    finally:
        stop(engine)
    model = AutoDecoForCausalLM.from_pretrained(tiny_checkpoints["merged"], dtype="float32")
    assert assert_parity(output, model, 2e-3) > 20
