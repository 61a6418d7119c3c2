"""p-less sampling: truncation at the collision probability. No parameter to tune, no training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from autodeco.strategies.base import Truncation


@dataclass(frozen=True)
class PLess(Truncation):
    """Keeps the tokens with ``p >= Σ p²``, ``p`` being the distribution after the temperature.

    Tan, Wu and Howard, *p-less Sampling: A Robust Hyperparameter-Free Approach for LLM Decoding*, ICLR 2026 (arXiv
    2509.23234): the threshold is the chance that two draws are the same token. It never exceeds the largest
    probability; for rows where it equals it (uniform ones), the most likely tokens are kept against rounding.

    Attributes:
        temperature: applied first; the threshold moves with it.
    """

    name: ClassVar[str] = "p-less"

    def threshold(self, probabilities: Tensor) -> Tensor:
        """The smallest probability that stays, ``[..., 1]``, for probabilities ``[..., V]``."""
        return probabilities.square().sum(-1, keepdim=True)

    def kept(self, logits: Tensor, scaled: Tensor) -> Tensor:
        """See :meth:`Truncation.kept`."""
        probabilities = scaled.softmax(-1)
        return (probabilities >= self.threshold(probabilities)) | (scaled == scaled.amax(-1, keepdim=True))


@dataclass(frozen=True)
class PLessNorm(PLess):
    """The normalised variant: ``p >= (V·Σ p² - 1) / (V - 1)``, which keeps more tokens.

    Same paper; ``V`` is the size of the vocabulary, as in the authors' code. The threshold is 0 for a uniform row, so
    that all tokens stay, and nears p-less's own for a peaked one.
    """

    name: ClassVar[str] = "p-less-norm"

    def threshold(self, probabilities: Tensor) -> Tensor:
        """See :meth:`PLess.threshold`."""
        vocab_size = probabilities.shape[-1]
        return (vocab_size * super().threshold(probabilities) - 1) / max(1, vocab_size - 1)
