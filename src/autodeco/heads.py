"""The decoding heads: hidden state (and statistics of the logits) → temperature and top-p of that token.

Imports neither Transformers nor anything that uses the heads, so that training, Transformers and inference engines
share them. Parameter names are those of the released checkpoints (``temp_head.mlp.0.weight`` and so on).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from autodeco import distribution
from autodeco.config import AutoDecoConfig
from autodeco.kernels import cpu


def _mlp(input_size: int, hidden_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(input_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))


class TemperatureHead(nn.Module):
    """``T = max_temperature · sigmoid(MLP(h))`` (paper, equation 3); with temperature features, ``MLP([h, stats])``."""

    def __init__(self, config: AutoDecoConfig) -> None:
        super().__init__()
        self.max_temperature = config.max_temperature
        self.temperature_features = config.temperature_features
        self.mlp = _mlp(config.temperature_input_size, config.mlp_hidden_size)

    def forward(self, hidden_states: Tensor, base_statistics: Tensor | None = None) -> Tensor:
        """Predicts temperatures.

        Args:
            hidden_states: ``[..., H]``.
            base_statistics: ``[..., 4]`` of ``softmax(l)``, needed if the head was built with temperature features.

        Returns:
            ``[...]`` in ``(0, max_temperature)``.
        """
        features = hidden_states
        if self.temperature_features:
            if base_statistics is None:
                raise ValueError("this temperature head takes statistics of softmax(l), and none were given.")
            features = torch.cat([hidden_states, base_statistics.detach().to(hidden_states.dtype)], dim=-1)
        values: Tensor = self.mlp(features).squeeze(-1)
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
        self._joined: tuple[Any, Tensor, Tensor, cpu.HeadLayers] | None = None

    def parameters_changed(self) -> None:
        """Has to be called after frozen parameters were overwritten through ``.data``, which leaves no trace."""
        self._joined = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_joined": None}  # holds addresses: of no use in a copy

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the heads' parameters, which hidden states are cast to."""
        return next(self.parameters()).dtype

    @property
    def needs_base_statistics(self) -> bool:
        """Whether :meth:`temperature` takes statistics of ``softmax(l)``."""
        return self.temp_head is not None and self.config.temperature_features

    def base_statistics(self, logits: Tensor) -> Tensor | None:
        """What :meth:`temperature` takes besides the hidden states.

        Args:
            logits: ``[..., V]`` of the base model.

        Returns:
            ``[..., 4]``, the statistics of ``softmax(l)``; ``None`` where the heads take none.
        """
        if not self.needs_base_statistics:
            return None
        ones = torch.ones(logits.shape[:-1], device=logits.device)
        return distribution.scale_rows(logits, ones, self.config.min_temperature).statistics

    def temperature(self, hidden_states: Tensor, base_statistics: Tensor | None = None) -> Tensor:
        """Predicts temperatures.

        Args:
            hidden_states: ``[..., H]``.
            base_statistics: of :meth:`base_statistics`.

        Returns:
            ``[...]``.
        """
        hidden_states = hidden_states.to(self.dtype)
        if self.temp_head is None:
            return hidden_states.new_ones(hidden_states.shape[:-1])
        temperature: Tensor = self.temp_head(hidden_states, base_statistics)
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
        if options is None and (kernels := self._kernels_for(hidden_states, logits)) is not None:
            return self._shape_at_once(kernels, hidden_states, logits)
        temperature = self.temperature(hidden_states, self.base_statistics(logits))
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

    def _kernels_for(self, hidden_states: Tensor, logits: Tensor) -> cpu.Kernels | None:
        """The CPU kernels, where they can do both heads and the nucleus in one call: both there, frozen, float32.

        Frozen, because what is kept of the parameters must not grow stale, and some trainers change them unseen. A
        temperature head that takes statistics cannot be run before the row has been passed over once.
        """
        if self.temp_head is None or self.top_p_head is None or self.dtype != torch.float32:
            return None
        if self.needs_base_statistics:
            return None
        if any(parameter.requires_grad for parameter in self.parameters()):
            return None
        return cpu.load() if cpu.can_take(logits, hidden_states) else None

    def _shape_at_once(self, kernels: cpu.Kernels, hidden_states: Tensor, logits: Tensor) -> ShapedLogits:
        """:meth:`shape` by one matrix product and one call: a decoding step of one row is mostly calls otherwise."""
        weight, bias, layers = self._joined_layers()
        first = torch.addmm(bias, hidden_states.reshape(-1, hidden_states.shape[-1]).float(), weight)
        shaped, temperature, top_p = kernels.shape(logits.reshape(-1, logits.shape[-1]), first, layers)
        leading = logits.shape[:-1]
        return ShapedLogits(shaped.view(logits.shape), temperature.view(leading), top_p.view(leading))

    def _joined_layers(self) -> tuple[Tensor, Tensor, cpu.HeadLayers]:
        """First layers of both heads as one ``[H, 2 m]`` product, and the rest; made anew when a parameter changed."""
        assert self.temp_head is not None
        assert self.top_p_head is not None
        version = tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in self.parameters())
        if self._joined is None or self._joined[0] != version:
            temperature_layers: Any = self.temp_head.mlp
            top_p_layers: Any = self.top_p_head.mlp
            temperature_first, top_p_first = temperature_layers[0], top_p_layers[0]
            hidden_size = self.config.hidden_size
            with torch.no_grad():
                read = torch.cat([temperature_first.weight, top_p_first.weight[:, :hidden_size]]).T.contiguous()
                bias = torch.cat([temperature_first.bias, top_p_first.bias])
                layers = cpu.HeadLayers.of(
                    temperature_layers[2],
                    top_p_layers[2],
                    top_p_first.weight[:, hidden_size:].T,
                    max_temperature=self.config.max_temperature,
                    min_temperature=self.config.min_temperature,
                    penalty=distribution.NUCLEUS_PENALTY,
                )
            self._joined = (version, read, bias, layers)
        return self._joined[1:]
