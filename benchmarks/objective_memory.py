"""Memory of one loss with gradients at a large vocabulary, from 2,048 to 65,536 tokens: is it flat?

Random hidden states of width 896 and an ``lm_head`` of 151,936 tokens (the sizes of Qwen2.5-0.5B); float32. Memory is
the peak above what the process held with its inputs made, each in a process of its own. Eager code is shown where it
fits in memory.

    python benchmarks/objective_memory.py
"""

from __future__ import annotations

import json
import sys
import time

import torch
from harness import PeakMemory, Spread, bars, in_fresh_process, parser, save

from autodeco import AutoDecoConfig, DecodingHeads
from autodeco.objectives import eager, fused

HIDDEN, VOCABULARY = 896, 151_936
LENGTHS = (2_048, 16_384, 65_536)
EAGER_LENGTHS = (512,)  # 15 tensors of [tokens, vocabulary]: 4.6 GB


def measure(module: str, length: int) -> dict[str, float]:
    torch.manual_seed(0)
    heads = DecodingHeads(AutoDecoConfig(hidden_size=HIDDEN, vocab_size=VOCABULARY))
    weight = torch.randn(VOCABULARY, HIDDEN) * 0.1
    hidden = torch.randn(1, length, HIDDEN)
    labels = torch.randint(0, VOCABULARY, (1, length))
    objective = {"fused": fused, "eager": eager}[module].released
    objective(heads, hidden[:, :4], weight, labels[:, :4]).loss.backward()  # what is loaded at first use
    started = time.perf_counter()
    with PeakMemory() as peak:
        objective(heads, hidden, weight, labels).loss.backward()
    return {"megabytes": peak.megabytes, "seconds": time.perf_counter() - started}


def main() -> None:
    arguments = parser(__doc__).parse_args()
    if arguments.worker:
        print(json.dumps(measure(arguments.worker[0], int(arguments.worker[1]))))
        return
    rows = []
    cases = [("fused", length) for length in LENGTHS] + [("eager", length) for length in EAGER_LENGTHS]
    for module, length in [("fused", 64), ("eager", 16)] if arguments.quick else cases:
        print(f"  {module}, {length} tokens", file=sys.stderr, flush=True)
        found = in_fresh_process(__file__, module, str(length))
        rows.append(
            {
                "side": f"{module}, {length:,} tokens",
                "peak memory, MB": found["megabytes"],
                "ms a token": 1000 * found["seconds"] / length,
            }
        )
    named = [{**row, "peak memory, MB": Spread(*[row["peak memory, MB"]] * 3)} for row in rows]
    chart = None if arguments.quick else bars(named, "peak memory, MB", "side", "peak memory above the inputs, MB")
    title = f"Memory of one loss at a vocabulary of {VOCABULARY:,}"
    save("objective_memory", title, rows, quick=arguments.quick, chart=chart)


if __name__ == "__main__":
    main()
