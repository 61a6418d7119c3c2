"""The decoder layers of a base model: found by the name that Transformers gives them. Runs nothing."""

from __future__ import annotations

from typing import Any

from torch import nn

from autodeco.errors import ConfigError


def decoder_layers(model: Any, setting: str) -> nn.ModuleList:
    """The list of a base's layers, in order.

    Args:
        model: a loaded causal LM.
        setting: what needs them, for the error.

    Raises:
        ConfigError: the architecture does not keep them in one list named ``layers``.
    """
    layers = _layers_of(model)
    if layers is None:
        raise ConfigError(
            f"{setting}: {type(model.base_model).__name__} does not keep its layers in one list named 'layers', so "
            f"they cannot be told apart. Leave {setting} at 0."
        )
    return layers


def middle_layer(model: Any) -> int:
    """Number, from 1, of a base's layer in the middle; 0 where the layers are not in one list."""
    layers = _layers_of(model)
    return 0 if layers is None else len(layers) // 2 + 1


def _layers_of(model: Any) -> nn.ModuleList | None:
    layers = getattr(model.base_model, "layers", None)
    return layers if isinstance(layers, nn.ModuleList) else None
