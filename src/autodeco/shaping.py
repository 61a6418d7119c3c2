"""Which of them shapes a model's logits: its heads, steered or not, a strategy in their place, or none of these."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from autodeco.heads import DecodingHeads
from autodeco.steering import Steered, active_steering
from autodeco.strategies import Strategy, get_strategy

if TYPE_CHECKING:
    from transformers import PreTrainedModel as _CausalLM
else:
    _CausalLM = object


class Shaping(_CausalLM):  # type: ignore[misc]
    """The part of :class:`autodeco.AutoDecoForCausalLM` that chooses what decodes."""

    decoding_heads: DecodingHeads
    heads_enabled = True  # off: the model is its bare base
    _strategy: Strategy | None = None  # stands in the heads' place where decode_with has put one

    @property
    def shaper(self) -> DecodingHeads | Strategy | Steered:
        """What shapes the logits while the heads are enabled: they, steered or not, or the strategy in their place."""
        if (steered := active_steering(self)) is not None:
            return steered
        return self.decoding_heads if self._strategy is None else self._strategy

    @contextmanager
    def decode_with(self, strategy: Strategy | str) -> Iterator[None]:
        """Within this context another decoding strategy stands in the heads' place, in ``forward`` and ``generate``.

        Args:
            strategy: a strategy or its spec (see :func:`autodeco.strategies.get_strategy`).

        Raises:
            ConfigError: there is no such strategy, or it needs a head that the model lacks.
        """
        before = self._strategy, self.heads_enabled
        self._strategy, self.heads_enabled = get_strategy(strategy).bind(self.decoding_heads), True
        try:
            yield
        finally:
            self._strategy, self.heads_enabled = before

    @contextmanager
    def disable_heads(self) -> Iterator[None]:
        """Within this context the model is its bare base, as with PEFT's ``disable_adapter``.

        The generation configuration stays neutral, so ``generate`` samples at temperature 1 unless told otherwise.
        """
        before, self.heads_enabled = self.heads_enabled, False
        try:
            yield
        finally:
            self.heads_enabled = before
