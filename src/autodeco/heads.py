"""The decoding heads: hidden state (and statistics of the logits) → temperature and top-p of that token.

Imports neither Transformers nor anything that uses the heads, so that training, Transformers and inference engines
share them. Parameter names are those of the released checkpoints (``temp_head.mlp.0.weight`` and so on).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from autodeco import distribution
from autodeco.config import AutoDecoConfig


def _mlp(input_size: int, hidden_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(input_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))


class TemperatureHead(nn.Module):
    """``T = max_temperature · sigmoid(MLP(h))`` (paper, equation 3)."""

    def __init__(self, config: AutoDecoConfig) -> None:
        super().__init__()
        self.max_temperature = config.max_temperature
        self.mlp = _mlp(config.hidden_size, config.mlp_hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Returns temperatures ``[...]`` in ``(0, max_temperature)`` for hidden states ``[..., H]``."""
        values: Tensor = self.mlp(hidden_states).squeeze(-1)
        return self.max_temperature * values.sigmoid()


class TopPHead(nn.Module):
    """``P = sigmoid(MLP([h, T, statistics]))`` (paper, equation 4; statistics as in the released heads)."""

    def __init__(self, config: AutoDecoConfig) -> None:
        super().__init__()
        self.statistics_features = config.statistics_features
        self.mlp = _mlp(config.top_p_input_size, config.mlp_hidden_size)

    def forward(self, hidden_states: Tensor, temperature: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Predicts top-p.

        Args:
            hidden_states: ``[..., H]``.
            temperature: ``[...]``; detached here, so that no gradient reaches the temperature head through it.
            statistics: ``[..., 4]`` of ``softmax(l / T)``, needed if the head was built with them; detached too.

        Returns:
            ``[...]`` in ``(0, 1)``.
        """
        features = [hidden_states, temperature.detach().unsqueeze(-1).to(hidden_states.dtype)]
        if self.statistics_features:
            if statistics is None:
                raise ValueError("this top-p head takes statistics of softmax(l / T), and none were given.")
            features.append(statistics.detach().to(hidden_states.dtype))
        values: Tensor = self.mlp(torch.cat(features, dim=-1)).squeeze(-1)
        return values.sigmoid()


class ShapedLogits(NamedTuple):
    """What the heads make of one batch of logits.

    Attributes:
        logits: ``[..., V]``: softmax of these is the distribution to sample from.
        temperature: ``[...]``.
        top_p: ``[...]``.
    """

    logits: Tensor
    temperature: Tensor
    top_p: Tensor


class RowOptions(NamedTuple):
    """What a caller sets for single rows.

    Attributes:
        enabled: ``[...]`` boolean; where false, T and P are 1: the row is not shaped.
        max_temperature: ``[...]``, an upper bound on T; infinite where there is none.
    """

    enabled: Tensor
    max_temperature: Tensor


class DecodingHeads(nn.Module):
    """Both heads. Either can be absent: then its value is 1 everywhere.

    Args:
        config: shape of the heads.
    """

    def __init__(self, config: AutoDecoConfig) -> None:
        super().__init__()
        self.config = config
        self.temp_head = TemperatureHead(config) if config.temperature_head else None
        self.top_p_head = TopPHead(config) if config.top_p_head else None

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the heads' parameters, which hidden states are cast to."""
        return next(self.parameters()).dtype

    def temperature(self, hidden_states: Tensor) -> Tensor:
        """Predicts temperatures ``[...]`` from hidden states ``[..., H]``."""
        hidden_states = hidden_states.to(self.dtype)
        if self.temp_head is None:
            return hidden_states.new_ones(hidden_states.shape[:-1])
        temperature: Tensor = self.temp_head(hidden_states)
        return temperature

    @property
    def needs_statistics(self) -> bool:
        """Whether :meth:`top_p` takes statistics of ``softmax(l / T)``."""
        return self.top_p_head is not None and self.config.statistics_features

    def top_p(self, hidden_states: Tensor, temperature: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Predicts top-p.

        Args:
            hidden_states: ``[..., H]``.
            temperature: ``[...]``; no gradient flows into it.
            statistics: ``[..., 4]`` of ``softmax(l / T)``, where :attr:`needs_statistics`.

        Returns:
            ``[...]``.
        """
        if self.top_p_head is None:
            return torch.ones_like(temperature)
        top_p: Tensor = self.top_p_head(hidden_states.to(self.dtype), temperature, statistics)
        return top_p

    def shape(self, hidden_states: Tensor, logits: Tensor, options: RowOptions | None = None) -> ShapedLogits:
        """Applies both heads to a batch of logits: scale by ``T``, cut the nucleus at ``P``.

        Args:
            hidden_states: ``[..., H]``, the input of ``lm_head``.
            logits: ``[..., V]``, its output (after any soft-capping or scaling of the base model).
            options: of single rows.

        Returns:
            The shaped logits, in float32, with the temperature and top-p that shaped them.
        """
        temperature = self.temperature(hidden_states)
        if options is not None:
            bounded = torch.minimum(temperature, options.max_temperature.to(temperature.dtype))
            temperature = torch.where(options.enabled, bounded, 1.0)
        if self.top_p_head is None:
            scaled = distribution.scale(logits, temperature, self.config.min_temperature)
            return ShapedLogits(scaled, temperature, torch.ones_like(temperature))
        rows = distribution.scale_rows(
            logits, temperature, self.config.min_temperature, statistics=self.needs_statistics
        )
        top_p = self.top_p(hidden_states, temperature, rows.statistics)
        if options is not None:
            top_p = torch.where(options.enabled, top_p, 1.0)
        return ShapedLogits(distribution.cut_nucleus(rows, top_p), temperature, top_p)
