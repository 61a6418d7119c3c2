"""A training step against its floor: streaming, from stored hidden states, and as eager code does it.

SmolLM2-135M in float32, one sequence of 2,048 tokens of its own text, every position counts. The floor of streaming is
the base's forward pass and one ``lm_head`` product of the same tokens; the floor from the store is that product alone.
A step is the loss, its gradients and an AdamW update. Memory is the peak above the loaded model, each in a process of
its own.

    python benchmarks/training_step.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from harness import PeakMemory, bars, in_fresh_process, interleaved, parser, ratio, save, spread
from reference import product, real_model, real_token_ids

from autodeco.objectives import eager, fused

SIDES = ("base forward", "lm_head product", "eager, streaming", "streaming", "from the store")


def sides(length: int, objective: str) -> dict[str, Callable[[], Any]]:
    """Every side's step, by name."""
    model, tokenizer = real_model()
    ids = real_token_ids(model, tokenizer, length)
    stored = model.lm_head_inputs(ids).bfloat16()
    weight = model.get_output_embeddings().weight.detach()
    optimizer = torch.optim.AdamW(model.decoding_heads.parameters(), lr=1e-4)
    draws = torch.rand(1, length - 1)

    def step(module: Any, states: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            loss = getattr(module, objective)(model.decoding_heads, states(), weight, ids, draws).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return run

    streamed = lambda: model.lm_head_inputs(ids)  # noqa: E731
    return {
        "base forward": streamed,
        "lm_head product": product(stored[0].float(), weight),
        "eager, streaming": step(eager, streamed),
        "streaming": step(fused, streamed),
        "from the store": step(fused, lambda: stored.float()),
    }


def peak_memory(side: str, length: int, objective: str) -> float:
    """MB above the loaded model in this process."""
    step = sides(length, objective)[side]
    sides_of_small_size = sides(16, objective)[side]
    sides_of_small_size()  # what is loaded at first use is not the step's
    with PeakMemory() as peak:
        step()
    return peak.megabytes


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--objective", default="released", choices=["released", "end_to_end"])
    made.add_argument("--length", type=int, default=2048)
    arguments = made.parse_args()
    length = 96 if arguments.quick else arguments.length
    if arguments.worker:
        print(json.dumps(peak_memory(arguments.worker[0], int(arguments.worker[1]), arguments.objective)))
        return
    seconds = interleaved(sides(length, arguments.objective), 1 if arguments.quick else arguments.rounds)
    forward, lm_head = seconds["base forward"], seconds["lm_head product"]
    floor = [a + b for a, b in zip(forward, lm_head, strict=True)]
    floors = {"eager, streaming": floor, "streaming": floor, "from the store": lm_head}
    rows = []
    for side, own in seconds.items():
        measured = side in floors and not arguments.quick
        memory = in_fresh_process(__file__, side, str(length), "--objective", arguments.objective) if measured else None
        rows.append(
            {
                "side": side,
                "tokens/s": spread([length / value for value in own]),
                "share of its floor": ratio(floors[side], own) if side in floors else "",
                "times eager": ratio(seconds["eager, streaming"], own),
                "peak memory above the model, MB": memory if memory is not None else "",
            }
        )
    name = f"training_step_{arguments.objective}" if arguments.objective != "released" else "training_step"
    chart = None if arguments.quick else bars(rows, "tokens/s", "side", "tokens per second")
    save(
        name,
        f"One training step, {length:,} tokens, objective {arguments.objective}",
        rows,
        quick=arguments.quick,
        chart=chart,
    )


if __name__ == "__main__":
    main()
