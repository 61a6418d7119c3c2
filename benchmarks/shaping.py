"""Shaping a batch of real logits at decode time (statistics, temperature, hard nucleus) against one softmax of it.

Real logits are those of SmolLM2-135M on the prompts of a demo task; for the vocabulary of 151,936 the same rows are
tiled (no real model of that size is at hand), which keeps their shape but triples the number of likely tokens.

    python benchmarks/shaping.py
"""

from __future__ import annotations

import torch
from harness import bars, interleaved, parser, ratio, save, spread
from reference import real_hidden_states, real_model

from autodeco import distribution

ROWS = 64


def naive(logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """The same, as it is usually written: softmaxes and one full sort."""
    scaled = logits / temperature.unsqueeze(-1)
    probabilities = scaled.softmax(-1)
    distribution.probability_statistics(probabilities)
    order = probabilities.sort(dim=-1, descending=True)
    outside = order.values.cumsum(-1) - order.values >= top_p.unsqueeze(-1)
    return scaled.masked_fill(torch.zeros_like(outside).scatter(-1, order.indices, outside), float("-inf"))


def shaped(logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    return distribution.cut_nucleus(distribution.scale_rows(logits, temperature), top_p)


def main() -> None:
    arguments = parser(__doc__).parse_args()
    model, tokenizer = real_model()
    stride = 4 if arguments.quick else 64
    hidden = real_hidden_states(model, tokenizer, stride * ROWS)[0, ::stride]
    with torch.no_grad():
        logits = model.compute_logits(hidden)
    generator = torch.Generator().manual_seed(0)
    temperature = 0.4 + 0.8 * torch.rand(ROWS, generator=generator)
    top_p = 0.8 + 0.2 * torch.rand(ROWS, generator=generator)
    batches = {"49,152": logits, "151,936": torch.cat([logits] * 4, dim=-1)[:, :151_936].contiguous()}
    rows = []
    for vocabulary, batch in batches.items():
        seconds = interleaved(
            {
                "softmax": lambda batch=batch: batch.softmax(-1),
                "autodeco": lambda batch=batch: shaped(batch, temperature, top_p),
                "naive": lambda batch=batch: naive(batch, temperature, top_p),
            },
            rounds=2 if arguments.quick else 4 * arguments.rounds,
        )
        for side, own in seconds.items():
            rows.append(
                {
                    "batch": f"{ROWS} × {vocabulary}",
                    "side": side,
                    "ms": spread([1000 * value for value in own]),
                    "times softmax": ratio(own, seconds["softmax"]),
                }
            )
    named = [{**row, "name": f"{row['batch']}: {row['side']}"} for row in rows]
    chart = None if arguments.quick else bars(named, "times softmax", "name", "times one softmax of the same batch")
    save("shaping", "Shaping a batch of logits", rows, quick=arguments.quick, chart=chart)


if __name__ == "__main__":
    main()
