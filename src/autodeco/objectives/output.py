"""What every objective returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class ObjectiveOutput:
    """Losses and what they were computed from.

    Attributes:
        loss: scalar to minimise, in nats a token (times the rows' weights, where they have some); 0, with a gradient of
            0, if no position counts.
        temperature_loss: scalar, the temperature part; ``None`` for an objective that has a single loss.
        top_p_loss: scalar, the top-p part; ``None`` likewise.
        temperature: ``[N]`` temperatures at the ``N`` valid positions, detached.
        top_p: ``[N]`` top-p at the valid positions, detached.
        easy: ``[N]`` boolean: the base model's most likely token is the target.
        token_losses: ``[N]`` contribution of each valid position before averaging, all weights included, detached; 0
            where it was masked.
        rows: ``[N]`` index into the batch of each valid position.
        metrics: further scalars for the log, detached; those of micro-batches that have them are averaged.
    """

    loss: Tensor
    temperature_loss: Tensor | None
    top_p_loss: Tensor | None
    temperature: Tensor
    top_p: Tensor
    easy: Tensor
    token_losses: Tensor
    rows: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
