"""The hidden states that a summary of the prompt is made of: the last, or those after one layer. Summarises nothing.

For models whose heads have ``prompt_summary``, and no others. Kept by thread: two threads can run one model.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from autodeco.config import AutoDecoConfig
from autodeco.layers import decoder_layers

_STATE = threading.local()


def register(model: Any, config: AutoDecoConfig) -> None:
    """Lets :func:`kept_states` see the states of all positions: those at ``lm_head`` are of a few positions only.

    Args:
        model: a loaded causal LM.
        config: of heads that see a summary; says after which layer.

    Raises:
        ConfigError: the base does not keep its layers in a list, and the heads name one.
        CheckpointError: it has fewer.
    """
    if not config.prompt_layer:
        model.base_model.register_forward_hook(_keep)
        return
    layers = decoder_layers(model, "prompt_layer")
    config.check_prompt_layer(len(layers))
    layers[config.prompt_layer - 1].register_forward_hook(_keep)


def _keep(_: nn.Module, __: Any, output: Any) -> None:
    if getattr(_STATE, "kept", None) is not None:
        _STATE.kept.append(output if isinstance(output, Tensor) else output[0])


@contextmanager
def kept_states() -> Iterator[list[Tensor]]:
    """Keeps, of each forward pass of the base in this context, the states ``[B, S, H]`` that the summary is made of."""
    before: list[Tensor] | None = getattr(_STATE, "kept", None)
    kept: list[Tensor] = []
    _STATE.kept = kept
    try:
        yield kept
    finally:
        _STATE.kept = before
