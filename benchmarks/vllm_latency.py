"""vLLM with heads against the bare model: start-up of the engine and time to the first token, on CPU.

Both sides are timed in turn in one run: the engine's start in processes of their own, the first token (prompt read, one
token drawn, nothing cached) in two engines that are alive together. Runs in vLLM's own environment (``make vllm``):

    .venv-vllm/bin/python benchmarks/vllm_latency.py
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import torch
from harness import in_fresh_process, interleaved, parser, ratio, save, spread

from autodeco import AutoDecoForCausalLM
from autodeco.bundled import BUNDLED_MODEL, resolve_model

PROMPT_TOKENS = (32, 512)
STARTS = 5


def engine(heads: str) -> Any:
    """The engine that ``autodeco serve`` starts, with the heads of this folder; bare if it is empty."""
    from vllm import LLM

    requests = "autodeco.serving.vllm.requests"
    own = {
        "hf_overrides": {"architectures": ["AutoDecoLlamaForCausalLM"], "autodeco": {"heads": heads}},
        "logits_processors": [f"{requests}:RequestOptions"],
        "worker_extension_cls": f"{requests}.WorkerExtension",
    }
    return LLM(
        resolve_model(BUNDLED_MODEL),
        dtype="float32",
        max_model_len=1024,
        enforce_eager=True,
        kv_cache_memory_bytes=1 << 30,
        enable_chunked_prefill=False,
        enable_prefix_caching=False,
        generation_config="vllm",
        seed=0,
        **(own if heads else {}),
    )


def started(heads: str) -> None:
    """In a process of its own: seconds from before vLLM is imported to an engine that takes requests."""
    before = time.perf_counter()
    llm = engine(heads)
    seconds = time.perf_counter() - before
    llm.llm_engine.engine_core.shutdown()
    print(json.dumps(seconds))


def main() -> None:
    arguments = parser(__doc__).parse_args()
    if arguments.worker:
        started(arguments.worker[1])
        return
    rounds = 1 if arguments.quick else 2 * arguments.rounds
    with tempfile.TemporaryDirectory() as name:
        heads = str(Path(name) / "heads")
        torch.manual_seed(0)
        AutoDecoForCausalLM.from_base(resolve_model(BUNDLED_MODEL), dtype="float32").save_pretrained(heads)
        sides = {"bare": "", "autodeco": heads}
        rows = [
            {"measure": "engine's start, s", **columns}
            for columns in _columns(_starts(sides, 1 if arguments.quick else STARTS))
        ]
        engines = {side: engine(own) for side, own in sides.items()}
        for length in PROMPT_TOKENS:
            seconds = interleaved({side: _first_token(llm, length) for side, llm in engines.items()}, rounds)
            rows += [{"measure": f"first token after {length}, s", **columns} for columns in _columns(seconds)]
    save("vllm_latency", "vLLM with heads: start-up and time to the first token, on CPU", rows, quick=arguments.quick)


def _first_token(llm: Any, length: int) -> Any:
    from vllm import SamplingParams

    prompt = {"prompt_token_ids": [(7 * position) % 40_000 + 100 for position in range(length)]}
    return lambda: llm.generate([prompt], SamplingParams(max_tokens=1), use_tqdm=False)


def _starts(sides: dict[str, str], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(1 + rounds):  # the first of each reads files that are not in memory yet
        for side, heads in sides.items():
            found = in_fresh_process(__file__, side, heads)
            if number:
                seconds[side].append(found)
        print(f"  start {number} of {rounds}", file=sys.stderr, flush=True)
    return seconds


def _columns(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    return [
        {"side": side, "seconds": spread(own), "times bare": ratio(own, seconds["bare"])}
        for side, own in seconds.items()
    ]


if __name__ == "__main__":
    main()
