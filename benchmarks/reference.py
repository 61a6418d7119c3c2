"""The real model and the real text that benchmarks run on, and the floors that they are held against."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from autodeco import AutoDecoForCausalLM
from autodeco.bundled import BUNDLED_MODEL, resolve_model
from autodeco.files import atomic_write_text

# Positions of one lm_head product, as in objectives/fused.py: fewer are slower, more no faster.
_CHUNK_ELEMENTS = 16_777_216
# Up to this many, short stories do.
_QUICK_TOKENS = 256


def real_model() -> tuple[AutoDecoForCausalLM, Any]:
    """SmolLM2-135M with new heads, in float32 (CPUs without bfloat16 instructions are several times slower in it)."""
    folder = resolve_model(BUNDLED_MODEL)
    torch.manual_seed(0)
    return AutoDecoForCausalLM.from_base(folder, dtype="float32"), AutoTokenizer.from_pretrained(folder)


def real_token_ids(model: Any, tokenizer: Any, count: int) -> Tensor:
    """``[1, count]``: text that the model itself wrote at temperature 1, as in training, one story after the other.

    Written once a machine and kept, so that a process that measures memory need not write it again.
    """
    length = 512 if count > _QUICK_TOKENS else 64
    kept = Path(tempfile.gettempdir()) / f"autodeco-benchmark-text-{length}.json"
    if not kept.exists():
        atomic_write_text(kept, json.dumps(_stories(model, tokenizer, length)))
    ids = torch.tensor(json.loads(kept.read_text()))
    return ids.repeat(-(-count // len(ids)))[:count].unsqueeze(0)


def _stories(model: Any, tokenizer: Any, length: int) -> list[int]:
    things = ("a river", "a clock", "the sea", "a robot")
    messages = [[{"role": "user", "content": f"Write a story about {thing}."}] for thing in things]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    torch.manual_seed(0)
    with model.disable_heads():
        written = model.generate(**inputs, max_new_tokens=length, min_new_tokens=length, top_k=0)
    return [int(token_id) for row in written for token_id in row]


def real_hidden_states(model: Any, tokenizer: Any, count: int) -> Tensor:
    """``[1, count, H]``: the inputs of ``lm_head`` on that text, read 2,048 tokens at a time."""
    ids = real_token_ids(model, tokenizer, min(count, 2048))
    states: Tensor = model.lm_head_inputs(ids)
    return states.repeat(1, -(-count // states.shape[1]), 1)[:, :count]


def product(hidden: Tensor, weight: Tensor) -> Callable[[], None]:
    """One ``lm_head`` product of all positions ``[N, H]``, chunk by chunk into the same memory: the floor."""
    size = max(1, min(len(hidden), _CHUNK_ELEMENTS // len(weight)))
    out = torch.empty(size, len(weight), dtype=hidden.dtype, device=hidden.device)

    @torch.no_grad()
    def run() -> None:
        for start in range(0, len(hidden), size):
            chunk = hidden[start : start + size]
            torch.mm(chunk, weight.T, out=out[: len(chunk)])

    return run
