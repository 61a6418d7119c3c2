"""A vLLM engine, real, on CPU. Tests are skipped where vLLM is not installed: it has an environment of its own."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import byte_tokenizer, tiny_llama

from autodeco import AutoDecoForCausalLM

os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")


def saved_with_heads(base: Any, tokenizer: Any, folder: Path) -> AutoDecoForCausalLM:
    """Saves a base in ``folder/base``; new heads on it whose T and P differ from token to token."""
    base.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    model = AutoDecoForCausalLM.from_base(str(folder / "base"), dtype="float32")
    with torch.no_grad():
        for parameter in model.decoding_heads.parameters():
            parameter.mul_(1.5)
        model.decoding_heads.top_p_head.mlp[2].bias.fill_(1.5)
    return model


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny model in every layout: numbers only. vLLM on CPUs needs attention heads of at least 32."""
    from autodeco.checkpoint import convert, merge

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    base = tiny_llama(vocab_size=len(tokenizer), hidden_size=128, intermediate_size=128, head_dim=32)
    model = saved_with_heads(base, tokenizer, folder)
    with torch.no_grad():
        model.decoding_heads.temp_head.mlp[2].bias.fill_(0.5)
    model.save_pretrained(folder / "heads")
    merge(None, folder / "heads", folder / "merged")
    convert(folder / "heads", folder / "released", "released-full")
    tokenizer.save_pretrained(folder / "released")
    return {name: folder / name for name in ("base", "heads", "merged", "released")}


def start_engine(model: Path | str, **settings: Any) -> Any:
    from vllm import LLM

    return LLM(
        str(model),
        **{
            "dtype": "float32",
            "max_model_len": 256,
            "enforce_eager": True,
            "kv_cache_memory_bytes": 1 << 28,
            "max_num_seqs": 64,
            "seed": 0,
            "generation_config": "vllm",
            "logits_processors": ["autodeco.serving.vllm.requests:RequestOptions"],
            "worker_extension_cls": "autodeco.serving.vllm.requests.WorkerExtension",
            **settings,
        },
    )


def apart(heads: Path, architecture: str = "LlamaForCausalLM") -> dict[str, Any]:
    """The setting that serves a base and its heads without merging them."""
    return {"hf_overrides": {"architectures": [f"AutoDeco{architecture}"], "autodeco": {"heads": str(heads)}}}


PROMPT = "the quick brown fox "


def prompt_ids(text: str = PROMPT) -> Any:
    return {"prompt_token_ids": [1, *(5 + ord(letter) % 200 for letter in text)]}


def trace_of(engine: Any, name: str) -> list[tuple[float, float, float]]:
    """T, P and entropy at each token of a finished request."""
    return next(values for values in engine.collective_rpc("autodeco_take_trace", args=(name,)) if values)


def assert_parity(output: Any, model: AutoDecoForCausalLM, tolerance: float) -> int:
    """Log-probabilities of prompt and sampled tokens are those of Transformers' path; how many were compared."""
    ids = list(output.prompt_token_ids) + list(output.outputs[0].token_ids)
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    start = 0 if output.prompt_logprobs else len(output.prompt_token_ids) - 1
    rows = [*(output.prompt_logprobs or [None])[1:], *output.outputs[0].logprobs]
    compared = 0
    for position, row in enumerate(rows, start):
        for token_id, found in row.items():
            wanted = float(expected[position, token_id])
            assert (found.logprob < -1000) == (wanted < -1000)  # outside the nucleus
            if wanted > -1000:
                assert found.logprob == pytest.approx(wanted, abs=tolerance)
                compared += 1
    return compared


def stop(engine: Any) -> None:
    engine.llm_engine.engine_core.shutdown()
    gc.collect()


@pytest.fixture(scope="module")
def merged_engine(tiny_checkpoints: dict[str, Path]) -> Iterator[Any]:
    engine = start_engine(tiny_checkpoints["merged"])
    yield engine
    stop(engine)
