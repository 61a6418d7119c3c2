"""What lies between the last hidden state and the logits of a Transformers causal LM: ``lm_head`` and a little more."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn

from autodeco.errors import CheckpointError, ConfigError

# Settings of base models that do more to logits than lm_head does; see logits_of.
_LOGIT_SETTINGS = ("logits_scaling", "logit_scale", "final_logit_softcapping")

# Where a forward pass finds the hidden states that this thread's last lm_head call was given. A module-level
# thread-local: two threads can run one model, and a model that holds one itself could not be deep-copied.
_INPUT = threading.local()


def shape_of(model: Any) -> tuple[int, int]:
    """Hidden size and vocabulary size of a causal LM, from its output embedding.

    Raises:
        CheckpointError: the model has none, so it is no causal LM.
    """
    lm_head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if lm_head is None:
        raise CheckpointError(f"{type(model).__name__} has no lm_head; a causal language model is needed.")
    if hasattr(lm_head, "in_features"):  # also right where quantised weights are packed
        return lm_head.in_features, lm_head.out_features
    vocab_size, hidden_size = lm_head.weight.shape
    return hidden_size, vocab_size


def plain_weight(model: Any) -> Tensor | None:
    """The weight ``[V, H]`` where logits are its product with the hidden state and no more; ``None`` otherwise."""
    lm_head: Any = model.get_output_embeddings()
    config = model.config.get_text_config()
    if type(lm_head) is not nn.Linear or any(getattr(config, name, None) is not None for name in _LOGIT_SETTINGS):
        return None
    bias: Any = lm_head.bias
    weight: Tensor = lm_head.weight  # on the meta device where Accelerate has moved it off
    return None if bias is not None or weight.device.type == "meta" else weight


def logits_of(model: Any, hidden_states: Tensor) -> Tensor:
    """The base model's logits ``[..., V]`` of hidden states ``[..., H]``: ``lm_head``, scaling and soft-capping."""
    logits: Tensor = model.get_output_embeddings()(hidden_states)
    config = model.config.get_text_config()
    if (divisor := getattr(config, "logits_scaling", None)) is not None:  # Granite
        logits = logits / divisor
    if (factor := getattr(config, "logit_scale", None)) is not None:  # Cohere
        logits = logits * factor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma
        logits = torch.tanh(logits / cap) * cap
    return logits


def check_logit_path(expected: Tensor, found: Tensor, model: str) -> None:
    """Checks that logits computed from hidden states are the base model's own.

    Training relies on it. It fails for an architecture that changes hidden states or logits around ``lm_head`` in a way
    that this package does not know; decoding is right even then, because it uses the base's own logits.

    Args:
        expected: the base model's logits, float32.
        found: those computed, of the same shape.
        model: the model's class, for the message.

    Raises:
        ConfigError: the two differ.
    """
    tolerance = 0.02 * expected.std().item() + 1e-4
    difference = (expected - found).abs().max().item()
    if difference > tolerance:
        raise ConfigError(
            f"{model} does something between its last hidden state and its logits that autodeco does not know (logits "
            f"differ by {difference:.3g}, tolerance {tolerance:.3g}). Heads for it cannot be trained yet; please "
            f"report the architecture."
        )


def keep_input(_: nn.Module, args: tuple[Tensor, ...]) -> None:
    """A forward pre-hook of ``lm_head``: keeps its input for :func:`take_input`."""
    _INPUT.hidden_states = args[0]


def take_input() -> Tensor:
    """The hidden states ``[..., H]`` that ``lm_head`` was given last in this thread; they are kept no longer."""
    hidden_states: Tensor = _INPUT.hidden_states
    _INPUT.hidden_states = None
    return hidden_states
