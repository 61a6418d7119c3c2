"""The vLLM plug-in: every generative architecture that vLLM knows, with decoding heads, and nothing of vLLM patched.

vLLM calls :func:`register` (entry point ``vllm.general_plugins``) in each of its processes. It registers the name
``AutoDeco<Architecture>`` for each architecture; the class behind a name is made in ``models.py`` when it is asked for.

========================  ==============================================================================================
``models.py``             the factory: a vLLM causal LM becomes one whose logits are shaped
``released.py``           reads the authors' full checkpoints (``model_type: autodeco``) as their base's configuration
``requests.py``           options of single requests (off, a maximum temperature, a trace), for vLLM's V1 model runner
``state.py``              the same for its V2 model runner
``prompts.py``            what heads with ``prompt_summary`` see of each request's prompt
``prompt_conditions.py``  what an engine has to be like for them
``endpoint.py``           the route that hands out traces
========================  ==============================================================================================

This module imports no model and no kernel: vLLM's front end calls it, too.
"""

from __future__ import annotations

PREFIX = "AutoDeco"
# Key of the configuration's section that names a heads' folder, where base and heads are not merged.
HEADS_KEY = "heads"
# The suffixes by which vLLM itself tells generative architectures.
_GENERATIVE = ("ForCausalLM", "ForConditionalGeneration", "ChatModel", "LMHeadModel")


def register() -> None:
    """Registers ``AutoDeco<Architecture>`` for each architecture, and the released configuration. Idempotent."""
    from transformers import AutoConfig
    from vllm.model_executor.models import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    from autodeco.checkpoint.layout import RELEASED_MODEL_TYPE
    from autodeco.serving.vllm.released import ReleasedConfig

    for architecture in list(ModelRegistry.get_supported_archs()):
        if architecture.startswith(PREFIX) or not architecture.endswith(_GENERATIVE):
            continue
        name = PREFIX + architecture
        ModelRegistry.register_model(name, f"autodeco.serving.vllm.models:{name}")
        if architecture in MODELS_CONFIG_MAP:  # settings by name, such as GPT-OSS's quantisation method
            MODELS_CONFIG_MAP.setdefault(name, MODELS_CONFIG_MAP[architecture])
    AutoConfig.register(RELEASED_MODEL_TYPE, ReleasedConfig, exist_ok=True)
