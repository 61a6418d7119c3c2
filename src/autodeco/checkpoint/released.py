"""The configuration file of the method's authors' checkpoints: the base model's, flattened, plus seven settings.

In it ``temperature_hidden_size`` and ``top_p_hidden_size`` are the base's hidden size; the width of the heads' hidden
layer is in no setting (their code fixes it at 256), so it is read off the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from autodeco.checkpoint.layout import RELEASED_MODEL_TYPE
from autodeco.checkpoint.shards import StoredTensor
from autodeco.config import AutoDecoConfig
from autodeco.errors import CheckpointError

_ARCHITECTURE = "AutoDecoModelForCausalLM"
_OWN_KEYS = (
    "enable_temperature_head",
    "enable_top_p_head",
    "use_enhanced_features",
    "temperature_hidden_size",
    "top_p_hidden_size",
    "base_model_name_or_path",
    "base_model_type",
)
_FIXED = {
    "mlp_hidden_size": 256,
    "max_temperature": 2.0,
    "min_temperature": 0.01,
    "temperature_features": False,
    "prompt_summary": False,
}


def config_from_released(values: dict[str, Any], stored: Mapping[str, StoredTensor], where: str) -> AutoDecoConfig:
    """Reads the heads' configuration out of a released one.

    Args:
        values: the released ``config.json``.
        stored: the head tensors.
        where: the file, for errors.

    Raises:
        CheckpointError: a setting that says what the heads are is missing.
    """
    for name in ("base_model_type", "enable_temperature_head", "enable_top_p_head", "use_enhanced_features"):
        if name not in values:
            raise CheckpointError(f"{where}: '{name}' is missing, and model_type is '{RELEASED_MODEL_TYPE}'.")
    hidden_size, vocab_size = base_sizes(base_config(values, where), where)
    widths = {at.shape[0] for name, at in stored.items() if name.endswith(".mlp.0.weight") and at.shape}
    return AutoDecoConfig.from_dict(
        {
            "hidden_size": hidden_size,
            "vocab_size": vocab_size,
            "temperature_head": values["enable_temperature_head"],
            "top_p_head": values["enable_top_p_head"],
            "statistics_features": values["use_enhanced_features"],
            "mlp_hidden_size": widths.pop() if len(widths) == 1 else _FIXED["mlp_hidden_size"],
            "base_model_name_or_path": values.get("base_model_name_or_path"),
        },
        where,
    )


def base_config(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The base model's own ``config.json`` out of a released one.

    Raises:
        CheckpointError: ``base_model_type`` is missing.
    """
    model_type = values.get("base_model_type")
    if not isinstance(model_type, str):
        raise CheckpointError(f"{where}: 'base_model_type' must name the base's architecture, found {model_type!r}.")
    own = {name: value for name, value in values.items() if name not in (*_OWN_KEYS, "_name_or_path", "architectures")}
    return {"architectures": [causal_lm_class(model_type, where)], **own, "model_type": model_type}


def released_config(base: dict[str, Any], config: AutoDecoConfig, where: str) -> dict[str, Any]:
    """A released ``config.json``.

    Args:
        base: the base model's own ``config.json``.
        config: the heads' configuration.
        where: the heads' file, for errors.

    Raises:
        CheckpointError: the heads have a setting that the released layout cannot express.
    """
    for name, fixed in _FIXED.items():
        if getattr(config, name) != fixed:
            raise CheckpointError(
                f"{where}: {name} is {getattr(config, name)}, and the released layout has it fixed at {fixed}. These "
                f"heads can only be kept in this project's own layouts ('heads', 'merged')."
            )
    values = transformers_config(base, where).to_dict()
    values.pop("use_cache", None)  # not a property of the model; the released files do not have it
    name = config.base_model_name_or_path or ""
    return {
        **values,
        "_name_or_path": name,
        "architectures": [_ARCHITECTURE],
        "model_type": RELEASED_MODEL_TYPE,
        "enable_temperature_head": config.temperature_head,
        "enable_top_p_head": config.top_p_head,
        "top_p_hidden_size": config.hidden_size,
        "temperature_hidden_size": config.hidden_size,
        "use_enhanced_features": config.statistics_features,
        "base_model_name_or_path": name,
        "base_model_type": base["model_type"],
    }


def transformers_config(base: dict[str, Any], where: str) -> Any:
    """Transformers' configuration object of a base model's ``config.json``.

    Raises:
        CheckpointError: this version of Transformers does not know the architecture.
    """
    model_type = base.get("model_type")
    if model_type not in CONFIG_MAPPING:
        raise CheckpointError(
            f"{where}: Transformers {transformers.__version__} does not know the architecture '{model_type}'. A newer "
            f"version may."
        )
    return CONFIG_MAPPING[model_type].from_dict(base)


def base_sizes(base: dict[str, Any], where: str) -> tuple[int, int]:
    """Hidden size and vocabulary size that a base model's ``config.json`` gives; raises as above."""
    text = transformers_config(base, where).get_text_config()
    return text.hidden_size, text.vocab_size


def causal_lm_class(model_type: str, where: str) -> str:
    """Name of the Transformers class that is loaded for an architecture.

    Raises:
        CheckpointError: there is none.
    """
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    if name is None:
        raise CheckpointError(
            f"{where}: Transformers {transformers.__version__} has no causal language model for '{model_type}'."
        )
    return str(name)
