"""Temperatures that follow the entropy of the model's distribution: EDT and llama.cpp's dynatemp. No training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from autodeco import distribution
from autodeco.strategies.base import MIN_TEMPERATURE, Truncation, check_range


@dataclass(frozen=True)
class EntropyDynamicTemperature(Truncation):
    """``T = T₀ · N^(θ / H)``: low where the model is sure, nearing ``T₀`` where it is not.

    Zhang, Bao and Huang, *EDT: Improving Large Language Models' Generation by Entropy-based Dynamic Temperature
    Sampling*, 2024 (arXiv 2403.14541). ``H`` is the entropy of ``softmax(l)`` in nats. The paper tunes ``T₀`` and ``θ``
    for each task and fixes ``N = 0.8``, so ``θ`` has no default here. ``T`` is never below 0.01: it tends to 0 as ``H``
    does, which is greedy decoding in effect.

    Attributes:
        temperature: the paper's ``T₀``, which ``T`` stays below.
        theta: the paper's ``θ``, above 0; larger follows the entropy more.
        base: the paper's ``N``, above 0 and at most 1.
    """

    name: ClassVar[str] = "edt"

    theta: float = field(kw_only=True)
    base: float = field(default=0.8, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.name, "theta", self.theta, 0, above=True)
        check_range(self.name, "base", self.base, 0, 1, above=True)

    def temperatures(self, logits: Tensor) -> Tensor:
        """See :meth:`Truncation.temperatures`."""
        exponent = self.theta / distribution.entropy(logits)  # infinite where the entropy is 0; N to that power is 0
        return (self.temperature * self.base**exponent).clamp(min=MIN_TEMPERATURE)

    def kept(self, logits: Tensor, scaled: Tensor) -> None:
        """Every token."""
        return None


@dataclass(frozen=True)
class Dynatemp(Truncation):
    """``T = max(0, T₀ - Δ) + (T₀ + Δ - max(0, T₀ - Δ)) · (H / log V)^x``: llama.cpp's dynamic temperature.

    ``H`` is the entropy of ``softmax(l)`` in nats and ``V`` the number of candidates: the whole vocabulary, as in
    llama.cpp (``llama_sampler_init_temp_ext``) where no truncation comes before. ``T`` is never below 0.01.

    Attributes:
        temperature: ``T₀``, the middle of the range.
        range: ``Δ``, above 0 (llama.cpp's ``--dynatemp-range``).
        exponent: ``x``, above 0 (``--dynatemp-exp``); 1 is llama.cpp's default.
    """

    name: ClassVar[str] = "dynatemp"

    range: float = field(kw_only=True)
    exponent: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.name, "range", self.range, 0, above=True)
        check_range(self.name, "exponent", self.exponent, 0, above=True)

    def temperatures(self, logits: Tensor) -> Tensor:
        """See :meth:`Truncation.temperatures`."""
        low, high = max(0.0, self.temperature - self.range), self.temperature + self.range
        share = (distribution.entropy(logits) / math.log(max(2, logits.shape[-1]))).clamp(0, 1)
        return (low + (high - low) * share**self.exponent).clamp(min=MIN_TEMPERATURE)

    def kept(self, logits: Tensor, scaled: Tensor) -> None:
        """Every token."""
        return None
