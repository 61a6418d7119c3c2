"""Where in an answer the heads' temperature is high and where it is low: the mean by place and kind of token.

python benchmarks/adaptivity/where_it_acts.py HEADS ROLLOUTS/right.jsonl [...] [--dtype bfloat16]

Teacher-forced on rollouts that the heads were not trained on; 95 % intervals from resampling rollouts. The entropy is
the base's, at T = 1: how much there is to choose.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autodeco import AutoDecoForCausalLM
from autodeco.serving.load import load_tokenizer

OPENING = 3  # tokens
RESAMPLES = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads")
    parser.add_argument("rollouts", nargs="+", type=Path)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    model = AutoDecoForCausalLM.from_pretrained(given.heads, dtype=getattr(torch, given.dtype))
    tokenizer = load_tokenizer(model.autodeco_config.base_model_name_or_path or given.heads)
    print("| task | tokens | how many | mean T | spread over tokens | entropy of the base, nats |")
    print("| --- | --- | --- | --- | --- | --- |")
    for path in given.rollouts:
        places: dict[str, list[list[tuple[float, float]]]] = defaultdict(list)  # [rollouts][tokens]
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            found: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for place, temperature, entropy in _tokens(model, tokenizer, row):
                found[place].append((temperature, entropy))
                found["all"].append((temperature, entropy))
            for place, tokens in found.items():
                places[place].append(tokens)
        for place, tokens_of in sorted(places.items()):
            print(f"| {rows[0]['task']} | {place} | {_cells(tokens_of)} |")


def _tokens(model: Any, tokenizer: Any, row: dict[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Place, temperature and the base's entropy of each token of a completion."""
    prompt, completion = row["prompt_ids"], row["completion_ids"]
    input_ids = torch.tensor([[*prompt, *completion]])
    of_completion = slice(len(prompt) - 1, len(prompt) + len(completion) - 1)
    with torch.inference_mode():
        temperatures = model(input_ids).temperature.flatten()[of_completion].tolist()
        with model.disable_heads():
            logits = model(input_ids).logits[0, of_completion].float()
    entropies = torch.distributions.Categorical(logits=logits).entropy().tolist()
    texts = [tokenizer.decode([token]) for token in completion]
    for at, (text, temperature, entropy) in enumerate(zip(texts, temperatures, entropies, strict=True)):
        place = f"first {OPENING}" if at < OPENING else "digits" if text.strip().isdigit() else "others"
        yield place, temperature, entropy


def _cells(tokens_of: list[list[tuple[float, float]]]) -> str:
    count = np.array([len(tokens) for tokens in tokens_of])
    sums = np.array([np.sum(tokens, axis=0) for tokens in tokens_of])
    draws = np.random.default_rng(0).integers(len(count), size=(RESAMPLES, len(count)))
    low, high = np.quantile(sums[draws, 0].sum(axis=1) / count[draws].sum(axis=1), [0.025, 0.975])
    mean_temperature, mean_entropy = sums.sum(axis=0) / count.sum()
    spread = np.std([temperature for tokens in tokens_of for temperature, _ in tokens])
    return f"{count.sum():,} | {mean_temperature:.2f} ({low:.2f} to {high:.2f}) | {spread:.2f} | {mean_entropy:.2f}"


if __name__ == "__main__":
    main()
