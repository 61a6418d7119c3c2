"""Where in the frozen base a low or high command can be read: a linear probe of each layer, on the prompt and after it.

python benchmarks/control/where_it_is.py runs/control/smollm2/open/all.jsonl
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autodeco.checkpoint.base import load_base
from autodeco.control.commands import load_commands
from autodeco.control.groups import GroupedData, group_rows
from autodeco.control.versions import Versions
from autodeco.statistics import wilson_interval
from autodeco.training.config import TrainingConfig
from autodeco.training.rows import read_rows
from autodeco.training.run import load_tokenizer
from autodeco.training.tokenize import TokenizedRow

MODEL, SPLIT = "smollm2-135m", "train"
PROMPTS, TOKENS, LAYERS = 100, 24, range(3, 31, 3)
PENALTY = 300.0  # of the ridge regression; 30 and 3,000 lead to the same order


def main(data: str) -> None:
    grouped = _groups(data)
    features, levels, prompts = _features(grouped)
    held_out = prompts % 4 == 0
    print("| layer | prompt, its mean | prompt, its last token | completion, its mean |\n| --- | --- | --- | --- |")
    for layer in LAYERS:
        cells = [_accuracy(features[place, layer], levels, held_out) for place in ("prompt", "last", "completion")]
        print(f"| {layer} | {' | '.join(cells)} |")


def _groups(data: str) -> GroupedData:
    config = TrainingConfig(model=MODEL, data=data, output="unused")
    tokenizer, ends, max_length = load_tokenizer(config)
    versions = Versions(load_commands(), SPLIT, {"low": 2, "high": 2}, ["system", "before", "after"])
    return group_rows(
        read_rows(data, "train"),
        tokenizer,
        versions,
        seed=3,
        max_length=max_length,
        completion_tokens=TOKENS,
        end_of_text_ids=ends,
    )


@torch.no_grad()
def _features(grouped: GroupedData) -> tuple[dict[tuple[str, int], NDArray], NDArray, NDArray]:
    """By place and layer, each commanded row's state less that without a command; levels; numbers of the prompts."""
    base = load_base(MODEL, dtype="float32")
    features: dict[tuple[str, int], list[NDArray]] = defaultdict(list)
    levels, prompts = [], []
    for number, group in enumerate(grouped.groups[:: len(grouped.groups) // PROMPTS]):
        by_row = [_states(base, grouped.tokens.rows[row]) for row in group.rows]
        for place, layer in by_row[0]:
            features[place, layer] += [own[place, layer] - by_row[0][place, layer] for own in by_row[1:]]
        levels += [target.level for target in group.targets[1:]]
        prompts += [number] * (len(group.rows) - 1)
    return {key: np.stack(own) for key, own in features.items()}, np.array(levels), np.array(prompts)


def _states(base: Any, row: TokenizedRow) -> dict[tuple[str, int], NDArray]:
    states = base.base_model(torch.tensor([row.input_ids]), output_hidden_states=True).hidden_states
    found, end = {}, row.prompt_length
    for layer in LAYERS:
        own = states[layer][0].numpy()
        found["prompt", layer], found["last", layer] = own[:end].mean(0), own[end - 1]
        found["completion", layer] = own[end:].mean(0)
    return found


def _accuracy(features: NDArray, levels: NDArray, held_out: NDArray) -> str:
    scaled = features / (features[~held_out].std(0) + 1e-6)
    own = scaled[~held_out]
    weights = np.linalg.solve(own.T @ own + PENALTY * np.eye(own.shape[1]), own.T @ levels[~held_out])
    right = np.sign(scaled[held_out] @ weights) == np.sign(levels[held_out])
    low, high = wilson_interval(int(right.sum()), len(right))
    return f"{right.mean():.0%} ({low:.0%} to {high:.0%})"


if __name__ == "__main__":
    main(sys.argv[1])
