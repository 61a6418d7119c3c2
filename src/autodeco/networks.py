"""The networks of the decoding heads: one MLP each, and what it reads in the prompt. PyTorch alone.

Parameter names are those of the released checkpoints, and ``prompt.*`` of heads that also see a summary of the prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autodeco.config import AutoDecoConfig

PROMPT_QUERIES = 4  # K, summaries of a prompt: for one query values asked for and the direction of a command compete
PROMPT_FEATURES = 128  # what is read at each position
PROMPT_WIDTH = 64
_QUERY_STD = 0.5
_EPSILON = 1e-6


def _mlp(input_size: int, hidden_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(input_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))


def _output(mlp: nn.Sequential, features: Tensor, addition: Tensor | None) -> Tensor:
    """Output ``[...]`` of a head's MLP, with ``addition`` ``[..., m]`` to what its ReLU is given."""
    first, relu, last = mlp
    before = first(features) if addition is None else first(features) + addition
    values: Tensor = last(relu(before)).squeeze(-1)
    return values


def _pooling(config: AutoDecoConfig) -> PromptPooling | None:
    return PromptPooling(config.hidden_size, config.mlp_hidden_size) if config.prompt_summary else None


class PromptPooling(nn.Module):
    """What a prompt adds to the first layer of a head, before its ReLU: ``U D [s_1 … s_K]``.

    Each summary ``s_k = Σ_i a_i v_i`` is pooled by a query of its own, ``a = softmax_i(q_k · h_i / √H)`` over the
    prompt's positions, of what each position says, ``v_i = ReLU(R h_i + b)``; ``h_i`` is scaled to a root mean square
    of 1 (states after a middle layer have no norm of their own). That each position is read before the pooling is what
    lets a summary tell one number or one word from the many around it. Nothing bends between ``D`` and ``U``: the
    summaries are all positive, so that a few steps push all of ``D [s_1 … s_K]`` one way, where a ReLU died and a tanh
    was saturated. It is computed once a request: a decoding step costs one more addition of ``m`` numbers.

    ``U`` starts at zero, which leaves a head exactly what it is without a summary, so that trained heads can be
    extended. Queries have to differ to learn to look for different things, so they, ``R`` and ``D`` are drawn at random
    by a generator of their own: the same for all heads of one size, and no other draw changes.

    Args:
        hidden_size: ``H``.
        output_size: ``m``, width of the head's hidden layer.
    """

    def __init__(self, hidden_size: int, output_size: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def drawn(rows: int, columns: int, std: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns, generator=generator) * std)

        inputs = PROMPT_QUERIES * PROMPT_FEATURES
        self.query = drawn(PROMPT_QUERIES, hidden_size, _QUERY_STD)
        self.read = drawn(PROMPT_FEATURES, hidden_size, hidden_size**-0.5)
        self.read_bias = nn.Parameter(torch.zeros(PROMPT_FEATURES))
        self.down = drawn(PROMPT_WIDTH, inputs, inputs**-0.5)
        self.up = nn.Parameter(torch.zeros(output_size, PROMPT_WIDTH))

    def forward(self, hidden_states: Tensor, prompt_mask: Tensor) -> Tensor:
        """Pools.

        Args:
            hidden_states: ``[B, S, H]``; those outside the prompt have no influence, whatever they hold.
            prompt_mask: ``[B, S]`` boolean.

        Returns:
            ``[B, m]``; 0 in rows without a prompt.
        """
        outside = ~prompt_mask.unsqueeze(1)
        states = hidden_states.masked_fill(~prompt_mask.unsqueeze(-1), 0.0)
        states = nn.functional.rms_norm(states, states.shape[-1:], eps=_EPSILON)
        scores = self.query @ states.mT * states.shape[-1] ** -0.5
        # The smallest number rather than -inf: a row without a prompt is 0, not NaN.
        weights = scores.masked_fill(outside, torch.finfo(scores.dtype).min).softmax(-1) * ~outside
        values = (states @ self.read.T + self.read_bias).relu()
        added: Tensor = (weights @ values).flatten(1) @ self.down.T @ self.up.T
        return added


class TemperatureHead(nn.Module):
    """``T = max_temperature · sigmoid(MLP(h))`` (paper, equation 3); with temperature features, ``MLP([h, stats])``."""

    def __init__(self, config: AutoDecoConfig) -> None:
        super().__init__()
        self.max_temperature = config.max_temperature
        self.temperature_features = config.temperature_features
        self.mlp = _mlp(config.temperature_input_size, config.mlp_hidden_size)
        self.prompt = _pooling(config)

    def forward(
        self, hidden_states: Tensor, base_statistics: Tensor | None = None, addition: Tensor | None = None
    ) -> Tensor:
        """Predicts temperatures.

        Args:
            hidden_states: ``[..., H]``.
            base_statistics: ``[..., 4]`` of ``softmax(l)``, needed if the head was built with temperature features.
            addition: ``[..., m]``, what the prompt adds to the first layer.

        Returns:
            ``[...]`` in ``(0, max_temperature)``.
        """
        features = hidden_states
        if self.temperature_features:
            if base_statistics is None:
                raise ValueError("this temperature head takes statistics of softmax(l), and none were given.")
            features = torch.cat([hidden_states, base_statistics.detach().to(hidden_states.dtype)], dim=-1)
        return self.max_temperature * _output(self.mlp, features, addition).sigmoid()


class TopPHead(nn.Module):
    """``P = sigmoid(MLP([h, T, statistics]))`` (paper, equation 4; statistics as in the released heads)."""

    def __init__(self, config: AutoDecoConfig) -> None:
        super().__init__()
        self.statistics_features = config.statistics_features
        self.mlp = _mlp(config.top_p_input_size, config.mlp_hidden_size)
        self.prompt = _pooling(config)

    def forward(
        self,
        hidden_states: Tensor,
        temperature: Tensor,
        statistics: Tensor | None = None,
        addition: Tensor | None = None,
    ) -> Tensor:
        """Predicts top-p.

        Args:
            hidden_states: ``[..., H]``.
            temperature: ``[...]``; detached here, so that no gradient reaches the temperature head through it.
            statistics: ``[..., 4]`` of ``softmax(l / T)``, needed if the head was built with them; detached too.
            addition: ``[..., m]``, what the prompt adds to the first layer.

        Returns:
            ``[...]`` in ``(0, 1)``.
        """
        features = [hidden_states, temperature.detach().unsqueeze(-1).to(hidden_states.dtype)]
        if self.statistics_features:
            if statistics is None:
                raise ValueError("this top-p head takes statistics of softmax(l / T), and none were given.")
            features.append(statistics.detach().to(hidden_states.dtype))
        return _output(self.mlp, torch.cat(features, dim=-1), addition).sigmoid()
