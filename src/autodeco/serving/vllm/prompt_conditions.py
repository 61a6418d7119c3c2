"""What an engine has to be like for heads with ``prompt_summary``, checked when it starts. Reads no prompts."""

from __future__ import annotations

from typing import Any

from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import supports_eagle3
from vllm.platforms import current_platform

from autodeco.checkpoint.layout import SECTION
from autodeco.config import AutoDecoConfig
from autodeco.errors import CheckpointError
from autodeco.serving.vllm.requests import PromptOptions

_READER = f"{PromptOptions.__module__}:{PromptOptions.__qualname__}"


def prepare_engine(config: AutoDecoConfig, vllm_config: VllmConfig, cls: Any) -> None:
    """Checks, before a model is made, that the engine will compute the states of each prompt's every position.

    Args:
        config: of heads that see a summary.
        vllm_config: of the engine; gets a note in its ``additional_config``.
        cls: the base's class.

    Raises:
        CheckpointError: it does not; says what to change.
    """
    for found, reason in _obstacles(vllm_config):
        if found:
            raise CheckpointError(
                f"these heads see a summary of the prompt (prompt_summary), for which the engine has to compute the "
                f"states of its every position: {reason}. autodeco serve sets what they need by itself."
            )
    _check_layer(config, vllm_config, cls)
    # vLLM keeps compiled models, under a key that knows nothing of the layers whose states a model gives out: without
    # this, heads of another layer in the same folder would get the states of the one before.
    vllm_config.additional_config[SECTION] = {"prompt_layer": config.prompt_layer}


def _obstacles(vllm_config: VllmConfig) -> list[tuple[bool, str]]:
    """Whether each is there, and what to do about it."""
    model, parallel, cache = vllm_config.model_config, vllm_config.parallel_config, vllm_config.cache_config
    given = model.logits_processors or ()
    names = [one if isinstance(one, str) else f"{one.__module__}:{one.__qualname__}" for one in given]
    return [
        (
            not current_platform.is_cpu() or vllm_config.use_v2_model_runner,
            "only vLLM's V1 model runner on CPUs is known to. Serve them with --engine transformers",
        ),
        (
            cache.enable_prefix_caching,
            "its prefix cache leaves positions out. Give --no-enable-prefix-caching (enable_prefix_caching=False)",
        ),
        (
            not model.enforce_eager,
            "with a compiled model this has not been shown yet. Give --enforce-eager (enforce_eager=True)",
        ),
        (cache.kv_sharing_fast_prefill, "prompts are read in part. Leave --kv-sharing-fast-prefill out"),
        (vllm_config.kv_transfer_config is not None, "caches come from elsewhere. Leave --kv-transfer-config out"),
        (vllm_config.speculative_config is not None, "drafts add rows to a batch. Leave --speculative-config out"),
        (
            parallel.world_size > 1,
            f"{parallel.world_size} processes share its work. Leave --tensor-parallel-size and "
            f"--pipeline-parallel-size out",
        ),
        (model.enable_prompt_embeds, "prompts may have no tokens. Leave --enable-prompt-embeds out"),
        (
            _READER not in names,
            f"rows have to be followed. Give --logits-processors {_READER} (logits_processors=['{_READER}'])",
        ),
        (
            not isinstance(vllm_config.additional_config, dict),
            "vLLM's key for compiled models has to note it. Leave --additional-config out",
        ),
    ]


def _check_layer(config: AutoDecoConfig, vllm_config: VllmConfig, cls: Any) -> None:
    config.check_prompt_layer(vllm_config.model_config.get_total_num_hidden_layers())
    if config.prompt_layer and not supports_eagle3(cls):
        raise CheckpointError(
            f"these heads summarise the prompt as it is after layer {config.prompt_layer} (prompt_layer), and vLLM's "
            f"{cls.__name__} gives out the last states alone (it has no auxiliary hidden states). Serve them with "
            f"--engine transformers, or train heads with prompt_layer: 0."
        )
