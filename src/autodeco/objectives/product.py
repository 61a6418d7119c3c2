"""The product with ``lm_head``, chunk by chunk, for the fused objectives; knows nothing of what is done with logits."""

from __future__ import annotations

import torch
from torch import Tensor

from autodeco.objectives.eager import LMHead


class ChunkProduct:
    """``lm_head`` of one chunk after the other, into the same memory: fresh pages cost CPUs more than the product."""

    def __init__(self, lm_head: LMHead) -> None:
        self._lm_head = lm_head
        self._logits: Tensor | None = None
        self._scaled: Tensor | None = None

    def logits(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits ``[n, V]`` and, on CPUs, a float32 buffer of that shape to work in (the logits' own where it can)."""
        if callable(self._lm_head):
            logits = self._lm_head(hidden)
        else:
            weight = self._lm_head.detach()
            shape = (len(hidden), len(weight))
            if self._logits is None or self._logits.shape != shape:
                self._logits = torch.empty(shape, dtype=torch.result_type(hidden, weight), device=hidden.device)
            logits = torch.mm(hidden, weight.T, out=self._logits)
            if logits.dtype == torch.float32:
                return logits, logits
        if logits.device.type != "cpu":
            return logits, None
        if self._scaled is None or self._scaled.shape != logits.shape:
            self._scaled = torch.empty(logits.shape)
        return logits, self._scaled
