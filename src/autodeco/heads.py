"""The decoding heads: hidden state (and statistics of the logits) → temperature and top-p of that token.

Imports neither Transformers nor anything that uses the heads, so that training, Transformers and inference engines
share them. Parameter names are those of the released checkpoints (``temp_head.mlp.0.weight`` and so on).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from autodeco import distribution
from autodeco.config import AutoDecoConfig
from autodeco.errors import ConfigError
from autodeco.kernels import cpu
from autodeco.networks import PromptPooling, TemperatureHead, TopPHead


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

    Heads with ``prompt_summary`` take what :meth:`input_of` makes wherever ``hidden_states`` are named below: the
    summary is beside each hidden state, so that whatever passes hidden states on passes the summary on, too.

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

    def with_prompt_summary(self, layer: int = 0) -> DecodingHeads:
        """The same heads, copied, that also see a summary of the prompt; until they are trained, they choose alike.

        Args:
            layer: after which the prompt's hidden states are taken, counted from 1; 0 takes the last ones.

        Raises:
            ConfigError: the heads see a summary already, of another layer.
        """
        config = self.config
        if config.prompt_summary and config.prompt_layer != layer:
            raise ConfigError(
                f"these heads see a summary of the prompt after layer {config.prompt_layer} already (prompt_layer; 0: "
                f"the last), and {layer} is asked for. Start from them with the same prompt_layer, or from others."
            )
        extended = copy.deepcopy(self)
        extended.config = replace(config, prompt_summary=True, prompt_layer=layer)
        for head in (extended.temp_head, extended.top_p_head):
            if head is not None and head.prompt is None:
                head.prompt = PromptPooling(config.hidden_size, config.mlp_hidden_size)
        return extended.to(next(self.parameters()))

    def summarise_prompt(self, hidden_states: Tensor, prompt_mask: Tensor) -> Tensor | None:
        """What the prompt adds to the first layers of both heads. Computed once a request, and kept for all its tokens.

        Args:
            hidden_states: ``[B, S, H]``: the last ones (the input of ``lm_head``), or those after ``prompt_layer``.
            prompt_mask: ``[B, S]``, true at positions of the prompt.

        Returns:
            ``[B, 2 m]``, the temperature head's part first, 0 for an absent head; ``None`` where the heads see none.
        """
        if not self.config.prompt_summary:
            return None
        device = next(self.parameters()).device
        states, mask = hidden_states.to(device, self.dtype), prompt_mask.to(device, torch.bool)
        absent = states.new_zeros(len(states), self.config.mlp_hidden_size)
        heads = (self.temp_head, self.top_p_head)
        parts = [absent if head is None or head.prompt is None else head.prompt(states, mask) for head in heads]
        return torch.cat(parts, dim=-1)

    def input_of(self, hidden_states: Tensor, summary: Tensor | None) -> Tensor:
        """What the heads take: hidden states, with a summary beside each.

        Args:
            hidden_states: ``[..., H]``.
            summary: ``[..., 2 m]`` of :meth:`summarise_prompt`, of shape to be expanded to the hidden states'; ``None``
                gives the hidden states back.

        Returns:
            ``[..., H + 2 m]`` in the heads' precision.
        """
        if summary is None:
            return hidden_states
        beside = summary.expand(*hidden_states.shape[:-1], summary.shape[-1])
        return torch.cat([hidden_states.to(summary), beside], dim=-1)

    def _parts(self, hidden_states: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Hidden states in the heads' precision, and what the prompt adds to the temperature and to the top-p head."""
        hidden_states = hidden_states.to(self.dtype)
        if not self.config.prompt_summary:
            return hidden_states, None, None
        sizes = [self.config.hidden_size, *[self.config.mlp_hidden_size] * 2]
        if hidden_states.shape[-1] != sum(sizes):
            raise ConfigError(
                "these heads see a summary of the prompt (prompt_summary), and were given hidden states alone. "
                "AutoDecoForCausalLM computes it in forward, generate and training; what does not needs other heads."
            )
        states, temperature, top_p = torch.split(hidden_states, sizes, dim=-1)
        return states.contiguous(), temperature, top_p

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
        states, addition, _ = self._parts(hidden_states)
        if self.temp_head is None:
            return states.new_ones(states.shape[:-1])
        temperature: Tensor = self.temp_head(states, base_statistics, addition)
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
        states, _, addition = self._parts(hidden_states)
        top_p: Tensor = self.top_p_head(states, temperature, statistics, addition)
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
        states, *parts = self._parts(hidden_states)
        first = torch.addmm(bias, states.reshape(-1, states.shape[-1]), weight)
        if additions := [part for part in parts if part is not None]:
            first += torch.cat(additions, dim=-1).view_as(first)
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
