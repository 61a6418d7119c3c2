"""What a temperature head could gain at most on given trajectories, and what small heads find of it on new problems.

The base runs once over right and wrong rollouts. Of every completion token its hidden state, the four statistics of
``softmax(l)``, and ``g(β) = log softmax(β l)_y`` with its slope at 13 inverse temperatures β are kept, so everything
after that needs neither the model nor its logits. By cross-validation over problems, linear and two-layer heads on the
hidden state, the statistics or both are then fitted, for three signals ``u`` to maximise the mean of over tokens:

- ``right``: ``g(β)`` on right trajectories, plain cross-entropy, in nats;
- ``advantage``: ``A g(β)`` on all of them, A the trajectory's advantage. Tokens of wrong ones reward an ever lower
  log-probability, so few of them can carry it all to the lowest T;
- ``ratio``: ``A exp(g(β) - g(1))``, A times the importance ratio of the token, as PPO without a clip. It has the same
  gradient at T = 1, that of the expected reward, and no token can give more than its A by becoming impossible.

What is reported of each is its gain over the best constant T of the training problems, on problems it has not seen.
Each token's own best T, which the shares are of, is chosen knowing the token: no head can reach it. No AutoDeco heads
are trained or needed.

    python benchmarks/adaptivity/attainable.py --data rollouts.jsonl --output runs/attainable
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from measured_tokens import Tokens, measured_tokens
from torch import Tensor, nn

from autodeco import provenance
from autodeco.errors import DataError
from autodeco.evaluation.diagnosis import tokens
from autodeco.files import atomic_write_text
from autodeco.statistics import percentile_interval, resampled_counts

FOLDS = 5
RESAMPLES = 2000
INPUTS = ("hidden state", "statistics", "both")
HEADS = ("linear", "mlp")
_LOWEST, _HIGHEST = float(tokens.GRID[0]), float(tokens.GRID[-1])
_ONE = int((tokens.GRID == 1).nonzero())
_CANDIDATES = torch.logspace(np.log2(_LOWEST), np.log2(_HIGHEST), 200, base=2, dtype=torch.float64)
_BATCH, _LEARNING_RATE, _WEIGHT_DECAY, _MOST_EPOCHS, _PATIENCE = 1024, 3e-3, 1e-2, 60, 5


class Signal(NamedTuple):
    """What is to be maximised."""

    name: str
    weight: str  # the field of the tokens that weighs them
    ratio: bool  # of the importance ratio rather than of the log-probability

    def of(self, found: Tokens, betas: Tensor) -> Tensor:
        """``u`` of each token at ``betas`` ``[N]``; gradients reach these."""
        value = tokens.values_between(found.values, found.slopes, betas)
        if self.ratio:
            value = (value - found.values[:, _ONE]).exp()
        return getattr(found, self.weight) * value


SIGNALS = (
    Signal("right", "right", ratio=False),
    Signal("advantage", "advantage", ratio=False),
    Signal("ratio", "advantage", ratio=True),
)


def main() -> None:
    """Runs from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="base model that sampled the rollouts")
    parser.add_argument("--dtype", default="auto", help="of the base: auto, bfloat16, float32")
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="rollouts, right and wrong, T = 1")
    parser.add_argument("--output", type=Path, required=True, help="folder for the tokens and the results")
    parser.add_argument("--tokens", type=int, default=60_000, help="about so many completion tokens, by chance")
    parser.add_argument("--seed", type=int, default=0, help="of that choice, of folds and of fitting")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    kept = arguments.output / "tokens.safetensors"
    choice = {"dtype": arguments.dtype, "most_tokens": arguments.tokens, "seed": arguments.seed}
    found = measured_tokens(kept, arguments.model, arguments.data, **choice)
    rows = [
        row
        for signal in SIGNALS
        for row in attainable(found.at(getattr(found, signal.weight) != 0), signal, arguments.seed)
    ]
    settings = {name: str(value) for name, value in vars(arguments).items()}
    result = {"settings": settings, "rows": rows, "provenance": provenance.collect()}
    atomic_write_text(arguments.output / "attainable.json", json.dumps(result, indent=2) + "\n")
    atomic_write_text(arguments.output / "attainable.md", _table(rows))
    print(_table(rows))


def attainable(found: Tokens, signal: Signal, seed: int) -> list[dict[str, Any]]:
    """Cross-validated gains of every kind of head for one signal.

    Args:
        found: the tokens that the signal has a weight for.
        signal: what is to be maximised.
        seed: of folds and fitting.

    Returns:
        One row a kind of head; gains are means over tokens, their intervals over problems.
    """
    folds = _folds(found.problem, seed)
    count = len(folds)
    everywhere = torch.stack([signal.of(found, beta.expand(count)) for beta in _CANDIDATES])  # [C, N]
    constant = torch.zeros(count, dtype=torch.float64)
    for fold in range(FOLDS):
        constant[folds == fold] = _CANDIDATES[everywhere[:, folds != fold].mean(-1).argmax()]
    at_constant = signal.of(found, constant)
    possible = everywhere.amax(0) - at_constant
    over_one = at_constant - signal.of(found, torch.ones_like(constant))
    rows = [
        _row(signal, "best constant, over T = 1", over_one, found, 1 / constant, None),
        _row(signal, "each token's own best T", possible, found, None, float(possible.mean())),
    ]
    for inputs in INPUTS:
        for kind in HEADS:
            temperature = _cross_validated(found, signal, folds, constant, inputs, kind, seed)
            gain = signal.of(found, 1 / temperature) - at_constant
            rows.append(_row(signal, f"{kind} on {inputs}", gain, found, temperature, float(possible.mean())))
            print(_table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def _folds(problem: Tensor, seed: int) -> Tensor:
    """Which fold each token is in: all tokens of a problem in one."""
    ids = problem.unique().tolist()
    if len(ids) < 2 * FOLDS:
        raise DataError(f"{FOLDS} folds need at least {2 * FOLDS} problems with this signal, found {len(ids)}.")
    random.Random(seed).shuffle(ids)
    fold_of = {one: place % FOLDS for place, one in enumerate(ids)}
    return torch.tensor([fold_of[one] for one in problem.tolist()])


def _cross_validated(
    found: Tokens, signal: Signal, folds: Tensor, constant: Tensor, inputs: str, kind: str, seed: int
) -> Tensor:
    """T of each token, ``[N]``, by a head that was fitted on other problems."""
    temperature = torch.zeros_like(constant)
    for fold in range(FOLDS):
        held_out = folds == fold
        stop_by = folds == (fold + 1) % FOLDS
        torch.manual_seed(seed)
        start = float(constant[held_out][0])
        predict = _fitted(found.at(~held_out & ~stop_by), found.at(stop_by), signal, inputs, kind, start)
        temperature[held_out] = predict(found.at(held_out)).double()
    return temperature


def _features(found: Tokens, inputs: str) -> Tensor:
    chosen = {"hidden state": [0], "statistics": [1], "both": [0, 1]}[inputs]
    return torch.cat([found[place].float() for place in chosen], dim=-1)


class _Head(nn.Module):
    """``T = 2 sigmoid(.)`` of standardised inputs, the best constant at first: what is learnt is the deviation."""

    def __init__(self, features: Tensor, kind: str, beta: float) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("scale", features.std(0).clamp(min=1e-6))
        size = features.shape[-1]
        last = nn.Linear(256 if kind == "mlp" else size, 1)
        self.layers = nn.Sequential(nn.Linear(size, 256), nn.ReLU(), last) if kind == "mlp" else last
        with torch.no_grad():
            last.weight.zero_()
            last.bias.fill_(torch.tensor(min(1 / beta, 1.999) / 2).logit())

    def forward(self, features: Tensor) -> Tensor:
        share = self.layers((features - self.mean) / self.scale).squeeze(-1).sigmoid()
        return 2 * share.clamp(min=1 / (2 * _HIGHEST))  # what the grid holds; 1 / T has no gradient near 0


def _fitted(
    fitting: Tokens, stopping: Tokens, signal: Signal, inputs: str, kind: str, beta: float
) -> Callable[[Tokens], Tensor]:
    """A head as it was when it did best on the tokens to stop by; that may be before the first step."""
    features, stop_features = _features(fitting, inputs), _features(stopping, inputs)
    head = _Head(features, kind, beta)
    optimiser = torch.optim.AdamW(head.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)

    def loss(of: Tokens, own_features: Tensor) -> Tensor:
        return -signal.of(of, 1 / head(own_features)).mean()

    best, kept, waited = float("inf"), head.state_dict(), 0
    for _ in range(_MOST_EPOCHS + 1):
        with torch.no_grad():
            now = float(loss(stopping, stop_features))
        if now < best:
            best, waited = now, 0
            kept = {name: tensor.clone() for name, tensor in head.state_dict().items()}
        elif (waited := waited + 1) >= _PATIENCE:
            break
        for batch in torch.randperm(len(features)).split(_BATCH):
            optimiser.zero_grad()
            loss(fitting.at(batch), features[batch]).backward()
            optimiser.step()
    head.load_state_dict(kept)
    return lambda of: head(_features(of, inputs)).detach()


def _row(
    signal: Signal, name: str, gain: Tensor, found: Tokens, temperature: Tensor | None, possible: float | None
) -> dict[str, Any]:
    _, problem = np.unique(found.problem.numpy(), return_inverse=True)
    count = int(problem.max()) + 1
    sums, sizes = np.bincount(problem, gain.double().numpy(), count), np.bincount(problem, minlength=count)
    draws = resampled_counts(np.zeros(count, dtype=np.int64), RESAMPLES, np.random.default_rng(0))
    resampled = np.concatenate([(counts @ sums) / (counts @ sizes) for counts in draws])
    mean = float(gain.double().mean())
    return {
        "signal": signal.name,
        "head": name,
        "tokens": len(gain),
        "problems": count,
        "gain": mean,
        "interval": percentile_interval(resampled, count - 1),
        "share": mean / possible if possible else None,
        "mean_temperature": None if temperature is None else float(temperature.mean()),
        "spread": None if temperature is None else float(temperature.std()),
    }


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| signal | head | tokens | problems | gain a token (95 %) | of the possible | mean T | spread |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        low, high = row["interval"]
        share = "" if row["share"] is None else f"{row['share']:.1%}"
        numbers = ["" if row[key] is None else f"{row[key]:.3f}" for key in ("mean_temperature", "spread")]
        gain = f"{row['gain']:+.5f} ({low:+.5f} to {high:+.5f})"
        cells = [row["signal"], row["head"], f"{row['tokens']:,}", str(row["problems"]), gain, share, *numbers]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
