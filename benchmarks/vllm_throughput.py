"""vLLM with heads against the bare model on the same engine: SmolLM2-135M on CPU, batch 1, 16 and 64.

Both engines are alive in one run and generate in turn, the same number of tokens from the same prompts. Runs in vLLM's
own environment (``make vllm``):

    .venv-vllm/bin/python benchmarks/vllm_throughput.py
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")  # both engines on all cores
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import torch
from harness import bars, interleaved, parser, ratio, save, spread

from autodeco import AutoDecoForCausalLM
from autodeco.bundled import BUNDLED_MODEL, resolve_model

NEW = {1: 64, 16: 48, 64: 24}


def engine(model: str, **settings: Any) -> Any:
    from vllm import LLM

    common = {"dtype": "float32", "max_model_len": 256, "enforce_eager": True, "kv_cache_memory_bytes": 1 << 30}
    return LLM(model, generation_config="vllm", max_num_seqs=64, seed=0, **common, **settings)


def main() -> None:
    from vllm import SamplingParams

    arguments = parser(__doc__).parse_args()
    folder = resolve_model(BUNDLED_MODEL)
    with tempfile.TemporaryDirectory() as name:
        heads = Path(name) / "heads"
        torch.manual_seed(0)
        model = AutoDecoForCausalLM.from_base(folder, dtype="float32")
        with torch.no_grad():
            model.decoding_heads.top_p_head.mlp[2].bias.fill_(3.0)  # P near 0.95
        model.save_pretrained(heads)
        del model
        apart = {"architectures": ["AutoDecoLlamaForCausalLM"], "autodeco": {"heads": str(heads)}}
        engines = {
            "bare": engine(folder),
            "autodeco": engine(
                folder,
                hf_overrides=apart,
                logits_processors=["autodeco.serving.vllm.requests:RequestOptions"],
                worker_extension_cls="autodeco.serving.vllm.requests.WorkerExtension",
            ),
        }
    rows = []
    for batch, new in {2: 4}.items() if arguments.quick else NEW.items():
        prompts = [f"Write a story about the number {number}." for number in range(batch)]
        parameters = SamplingParams(max_tokens=new, ignore_eos=True)
        sides = {
            side: lambda own=own, prompts=prompts, parameters=parameters: own.generate(
                prompts, parameters, use_tqdm=False
            )
            for side, own in engines.items()
        }
        seconds = interleaved(sides, 1 if arguments.quick else arguments.rounds)
        for side, own in seconds.items():
            rows.append(
                {
                    "batch": batch,
                    "side": side,
                    "tokens/s": spread([batch * new / value for value in own]),
                    "tokens/s, times bare": ratio(seconds["bare"], own),
                }
            )
    named = [{**row, "name": f"batch {row['batch']}: {row['side']}"} for row in rows]
    chart = None if arguments.quick else bars(named, "tokens/s, times bare", "name", "tokens/s, times the bare model's")
    save("vllm_throughput", "vLLM with heads, on CPU", rows, quick=arguments.quick, chart=chart)


if __name__ == "__main__":
    main()
