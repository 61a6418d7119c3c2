"""``generate`` with heads against default sampling of the bare model: SmolLM2-135M, batch 1, 16 and 64.

Both sides write the same number of new tokens from the same prompts (no stopping), float32.

    python benchmarks/generate.py
"""

from __future__ import annotations

import torch
from harness import bars, interleaved, parser, ratio, save, spread
from reference import real_model, real_token_ids

PROMPT, NEW = 32, {1: 48, 16: 24, 64: 12}


def main() -> None:
    arguments = parser(__doc__).parse_args()
    model, tokenizer = real_model()
    cases = {2: 4} if arguments.quick else NEW
    ids = real_token_ids(model, tokenizer, max(cases) * PROMPT).view(-1, PROMPT)
    rows = []
    for batch, new in cases.items():
        inputs = {"input_ids": ids[:batch], "attention_mask": torch.ones_like(ids[:batch])}
        length = {"max_new_tokens": new, "min_new_tokens": new}

        def bare(inputs: dict[str, torch.Tensor] = inputs, length: dict[str, int] = length) -> None:
            with model.disable_heads():
                model.generate(**inputs, **length)

        def with_heads(inputs: dict[str, torch.Tensor] = inputs, length: dict[str, int] = length) -> None:
            model.generate(**inputs, **length)

        seconds = interleaved({"bare": bare, "autodeco": with_heads}, 1 if arguments.quick else arguments.rounds)
        for side, own in seconds.items():
            rows.append(
                {
                    "batch": batch,
                    "side": side,
                    "tokens/s": spread([batch * new / value for value in own]),
                    "time, times bare": ratio(own, seconds["bare"]),
                }
            )
    named = [{**row, "name": f"batch {row['batch']}: {row['side']}"} for row in rows]
    chart = None if arguments.quick else bars(named, "time, times bare", "name", "time, times the bare model's")
    save("generate", "Generation with heads", rows, quick=arguments.quick, chart=chart)


if __name__ == "__main__":
    main()
