"""Where in an answer the heads' temperature is high and where it is low: the mean by place and kind of token.

python benchmarks/adaptivity/where_it_acts.py HEADS ROLLOUTS/right.jsonl [...] [--dtype bfloat16]

Teacher-forced on rollouts that the heads were not trained on; 95 % intervals from resampling rollouts. The entropy is
the base's, at T = 1: how much there is to choose.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autodeco import AutoDecoForCausalLM
from autodeco.evaluation.trajectories import TeacherForced, read_trajectories, teacher_forced
from autodeco.serving.load import load_tokenizer
from autodeco.strategies import heads_choices

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
        for own in teacher_forced(model, read_trajectories(path, model, tokenizer)):
            found: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for place, temperature, entropy in _tokens(model, tokenizer, own):
                found[place].append((temperature, entropy))
                found["all"].append((temperature, entropy))
            for place, tokens in found.items():
                places[place].append(tokens)
        for place, tokens_of in sorted(places.items()):
            print(f"| {path.parent.name} | {place} | {_cells(tokens_of)} |")


def _tokens(model: AutoDecoForCausalLM, tokenizer: Any, own: TeacherForced) -> Iterator[tuple[str, float, float]]:
    """Place, temperature and the base's entropy of each token of a completion."""
    logits = model.compute_logits(own.hidden_states).float()
    seen = model.decoding_heads.input_of(own.hidden_states, own.summary)
    temperatures, _ = heads_choices(model.decoding_heads, seen, logits)
    entropies = torch.distributions.Categorical(logits=logits).entropy().tolist()
    texts = [tokenizer.decode([token]) for token in own.targets.tolist()]
    for at, (text, temperature, entropy) in enumerate(zip(texts, temperatures.tolist(), entropies, strict=True)):
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
