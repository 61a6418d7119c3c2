"""``model_type: autodeco`` of the authors' full checkpoints, read as the base model's own configuration."""

from __future__ import annotations

from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from autodeco.checkpoint.layout import RELEASED_MODEL_TYPE, SECTION
from autodeco.checkpoint.released import base_config
from autodeco.config import AutoDecoConfig
from autodeco.serving.vllm import PREFIX


class ReleasedConfig(PretrainedConfig):  # type: ignore[misc]
    """Stands for a released configuration; loading one gives the base model's, with the heads' in its section."""

    model_type = RELEASED_MODEL_TYPE

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """The base model's configuration object, its architecture the AutoDeco one."""
        base = base_config(config_dict, "config.json")
        heads = AutoDecoConfig(
            hidden_size=config_dict["hidden_size"],
            vocab_size=config_dict["vocab_size"],
            temperature_head=config_dict["enable_temperature_head"],
            top_p_head=config_dict["enable_top_p_head"],
            statistics_features=config_dict["use_enhanced_features"],
        )
        base["architectures"] = [PREFIX + base["architectures"][0]]
        base[SECTION] = heads.to_dict()
        return CONFIG_MAPPING[base["model_type"]].from_dict(base, **kwargs)
