"""Where in the frozen base a low or high command can be read: a linear probe of each layer, on the prompt and after it.

python benchmarks/control/where_it_is.py runs/control/smollm2/open/all.jsonl
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any, NamedTuple

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

MODEL = "smollm2-135m"
PLACES = ("prompt, its mean", "prompt, its last token", "completion, its mean")
PROMPTS, TOKENS, LAYERS = 100, 24, range(3, 31, 3)
PENALTY = 300.0  # of the ridge regression; 30 and 3,000 lead to the same order


class Probed(NamedTuple):
    """What a command changes, by place and layer: each commanded row's state less that without a command."""

    states: dict[tuple[str, int], NDArray]
    levels: NDArray
    is_held_out: NDArray


def main(data: str) -> None:
    base = load_base(MODEL, dtype="float32")
    seen, unseen = (_features(base, _groups(data, split)) for split in ("train", "validation"))
    print("| layer | state | held-out prompts | and unseen phrasings |\n| --- | --- | --- | --- |")
    for layer in LAYERS:
        for place in PLACES:
            cells = [_accuracy(seen, others, (place, layer)) for others in (seen, unseen)]
            print(f"| {layer} | {place} | {' | '.join(cells)} |")


def _groups(data: str, split: str) -> GroupedData:
    config = TrainingConfig(model=MODEL, data=data, output="unused")
    tokenizer, ends, max_length = load_tokenizer(config)
    versions = Versions(load_commands(), split, {"low": 2, "high": 2}, ["system", "before", "after"])
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
def _features(base: Any, grouped: GroupedData) -> Probed:
    states: dict[tuple[str, int], list[NDArray]] = defaultdict(list)
    levels, prompts = [], []
    for number, group in enumerate(grouped.groups[:: len(grouped.groups) // PROMPTS]):
        by_row = [_states(base, grouped.tokens.rows[row]) for row in group.rows]
        for key in by_row[0]:
            states[key] += [own[key] - by_row[0][key] for own in by_row[1:]]
        levels += [target.level for target in group.targets[1:]]
        prompts += [number] * (len(group.rows) - 1)
    return Probed({key: np.stack(own) for key, own in states.items()}, np.array(levels), np.array(prompts) % 4 == 0)


def _states(base: Any, row: TokenizedRow) -> dict[tuple[str, int], NDArray]:
    states = base.base_model(torch.tensor([row.input_ids]), output_hidden_states=True).hidden_states
    found, end = {}, row.prompt_length
    for layer in LAYERS:
        own = states[layer][0].numpy()
        for place, state in zip(PLACES, (own[:end].mean(0), own[end - 1], own[end:].mean(0)), strict=True):
            found[place, layer] = state
    return found


def _accuracy(fitted: Probed, others: Probed, key: tuple[str, int]) -> str:
    """Of the sign of a ridge regression on the prompts that are not held out, on those of ``others`` that are."""
    own, asked = fitted.states[key][~fitted.is_held_out], fitted.levels[~fitted.is_held_out]
    scale = own.std(0) + 1e-6
    own = own / scale
    weights = np.linalg.solve(own.T @ own + PENALTY * np.eye(own.shape[1]), own.T @ asked)
    guessed = others.states[key][others.is_held_out] / scale @ weights
    right = np.sign(guessed) == np.sign(others.levels[others.is_held_out])
    low, high = wilson_interval(int(right.sum()), len(right))
    return f"{right.mean():.0%} ({low:.0%} to {high:.0%})"


if __name__ == "__main__":
    main(sys.argv[1])
