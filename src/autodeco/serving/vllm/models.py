"""AutoDeco<Architecture>, made of vLLM's own class when vLLM asks for it, as its adapters make embedding models."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.distributed import get_pp_group
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.weight_utils import default_weight_loader
from vllm.model_executor.models import ModelRegistry

from autodeco.checkpoint.heads import find_heads
from autodeco.checkpoint.layout import HEAD_TENSOR, HEADS_FILE, RELEASED_PREFIX, SECTION
from autodeco.checkpoint.source import Source
from autodeco.config import AutoDecoConfig
from autodeco.errors import CheckpointError
from autodeco.heads import DecodingHeads
from autodeco.kernels import cpu
from autodeco.serving.vllm import HEADS_KEY, PREFIX
from autodeco.serving.vllm.prompt_conditions import prepare_engine
from autodeco.serving.vllm.requests import Rows, rows_of


def __getattr__(name: str) -> type[nn.Module]:
    """Lets ``autodeco.serving.vllm.models:AutoDecoLlamaForCausalLM`` resolve, for any architecture that vLLM has."""
    architecture = name.removeprefix(PREFIX)
    if architecture == name or architecture not in ModelRegistry.get_supported_archs():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _model_class(architecture)


@functools.cache
def _model_class(architecture: str) -> type[nn.Module]:
    return as_autodeco_model(ModelRegistry.models[architecture].load_model_cls(), architecture)


def as_autodeco_model(cls: Any, architecture: str) -> type[nn.Module]:
    """Subclasses a vLLM causal LM so that its logits are the shaped ones.

    The heads live, in float32, on the last pipeline stage and on every tensor-parallel rank. They read the input of
    ``lm_head``, so they work wherever the class computes logits: decoding, prompt log-probabilities, draft rows.

    Args:
        cls: vLLM's class.
        architecture: its name.
    """

    class AutoDecoModel(cls):  # type: ignore[misc]
        def __init__(self, *, vllm_config: VllmConfig, prefix: str = "", **kwargs: Any) -> None:
            config, folder = _heads_config(vllm_config.model_config)
            if config.prompt_summary:
                prepare_engine(config, vllm_config, cls)
            super().__init__(vllm_config=vllm_config, prefix=prefix, **kwargs)
            if folder is not None:  # streamed by vLLM's own loader, after the base's
                self.secondary_weights = [
                    *getattr(self, "secondary_weights", ()),
                    DefaultModelLoader.Source(folder, None, allow_patterns_overrides=[HEADS_FILE]),
                ]
            self.decoding_heads: DecodingHeads | None = None
            self._vllm_config = vllm_config
            self._loaded_heads: set[str] = set()
            self._rows: Rows = rows_of(vllm_config)
            self._lm_head_input: Tensor | None = None
            if get_pp_group().is_last_rank:
                self.decoding_heads = self._rows.heads = _in_float32(config)
                for module in self.modules():
                    if isinstance(module, LogitsProcessor):
                        module.register_forward_pre_hook(self._keep_lm_head_input)
            if config.prompt_summary:
                if config.prompt_layer:
                    self.set_aux_hidden_state_layers((config.prompt_layer,))
                # A hook, as it runs outside of what is compiled.
                self.register_forward_hook(self._read_prompts)

        def _read_prompts(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
            """Takes what prompts are summarised from; gives the runner the last hidden states alone, as it expects."""
            assert self.decoding_heads is not None
            hidden_states = states = output
            if self.decoding_heads.config.prompt_layer:
                hidden_states, (states,) = output
            self._rows.prompts.read(self.decoding_heads, states)
            last: Tensor = hidden_states
            return last

        def _keep_lm_head_input(self, module: nn.Module, args: tuple[Any, ...]) -> None:
            # Some architectures normalise inside compute_logits: its argument is not yet the input of lm_head.
            if len(args) > 1:
                self._lm_head_input = args[1]

        def compute_logits(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor | None:
            """Shaped logits ``[rows, V]`` float32; ``None`` on ranks that have none."""
            logits: Tensor | None = super().compute_logits(hidden_states, *args, **kwargs)
            used, self._lm_head_input = self._lm_head_input, None
            if logits is None or self.decoding_heads is None:
                return logits
            # With LoRA on lm_head, vLLM replaces the hooked module; the argument is what it reads, too.
            seen = hidden_states if used is None else used
            config = self.decoding_heads.config
            if config.prompt_summary:
                if not config.prompt_layer and seen is not hidden_states:
                    raise CheckpointError(
                        f"{type(self).__name__}: the forward pass does not end with the input of lm_head, of which "
                        f"these heads summarise the prompt (prompt_layer 0). Serve them with --engine transformers."
                    )
                seen = self._rows.prompts.beside(self.decoding_heads, seen)
            return self._rows.shape(self.decoding_heads, seen, logits)

        @property
        def compute_logits_local(self) -> Any:
            # vLLM can sample from the logits of this method, if a model has it: tokens would be drawn unshaped.
            raise AttributeError(f"{type(self).__name__} has no compute_logits_local: the heads need whole rows")

        def get_model_state_cls(self) -> type:
            """For the V2 runner: the state that the base would have, which also sees options of requests."""
            from vllm.v1.worker.gpu.model_states import resolve_model_state_cls

            from autodeco.serving.vllm.state import state_class

            return state_class(self._rows, resolve_model_state_cls(self._vllm_config, super()))

        def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str] | None:
            """Takes the heads' tensors out of the stream and passes on the rest, without the released prefix."""
            parameters = {} if self.decoding_heads is None else dict(self.decoding_heads.named_parameters())
            loaded_heads: set[str] = set()

            def others() -> Iterator[tuple[str, Tensor]]:
                for name, tensor in weights:
                    if not HEAD_TENSOR.match(name):
                        yield name.removeprefix(RELEASED_PREFIX), tensor
                    elif name in parameters:
                        default_weight_loader(parameters[name], tensor)
                        loaded_heads.add(name)
                    elif self.decoding_heads is not None:
                        raise CheckpointError(f"'{name}' is no tensor of these heads ({', '.join(parameters)}).")

            loaded = super().load_weights(others())
            self._loaded_heads |= loaded_heads
            if loaded_heads and self.decoding_heads is not None:
                self.decoding_heads.parameters_changed()  # vLLM's loader writes through .data
            return None if loaded is None else loaded | {f"decoding_heads.{name}" for name in loaded_heads}

        def process_weights_after_loading(self) -> None:
            """Checks that the heads are whole; builds the kernels now rather than at the first request."""
            base = getattr(super(), "process_weights_after_loading", None)
            if base is not None:
                base()
            if self.decoding_heads is not None:
                dummy = self._vllm_config.load_config.load_format == "dummy"
                _check_heads(self.decoding_heads, set() if dummy else self._loaded_heads, dummy)
                cpu.load()

    AutoDecoModel.__name__ = AutoDecoModel.__qualname__ = PREFIX + architecture
    AutoDecoModel.__module__ = __name__
    return AutoDecoModel


def _heads_config(model_config: Any) -> tuple[AutoDecoConfig, str | None]:
    """The heads' configuration and, where they are not merged into the model, their folder.

    Raises:
        CheckpointError: there is none, or the heads are for a model of another size, or for one with an adapter.
    """
    section = dict(getattr(model_config.hf_config, SECTION, None) or {})
    if not section:
        raise CheckpointError(
            f"'{model_config.model}' has no section '{SECTION}' in its configuration. Serve a merged checkpoint, or "
            f"base and heads apart: autodeco serve BASE --heads FOLDER."
        )
    folder = section.pop(HEADS_KEY, None)
    config = AutoDecoConfig.from_dict(section) if folder is None else find_heads(Source.open(folder)).config
    if config.adapter_sha256 is not None:
        raise CheckpointError(
            f"the heads in {folder} were trained together with a LoRA adapter, which vLLM does not put on for them. "
            f"Make one model of all: autodeco merge --heads {folder} --output FOLDER; autodeco serve does it by itself."
        )
    if folder is None:
        config.check_merged(f"'{model_config.model}'")
    config.check_fits(model_config.get_hidden_size(), model_config.get_vocab_size(), f"'{model_config.model}'")
    return config, folder


def _in_float32(config: AutoDecoConfig) -> DecodingHeads:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # vLLM's loader sets the model's own, e.g. bfloat16
    try:
        return DecodingHeads(config).requires_grad_(False)
    finally:
        torch.set_default_dtype(default)


def _check_heads(heads: DecodingHeads, loaded: set[str], dummy: bool) -> None:
    missing = {name for name, _ in heads.named_parameters()} - loaded
    if missing and not dummy:
        raise CheckpointError(f"the checkpoint lacks the heads' tensors {', '.join(sorted(missing))}.")
    for name, parameter in heads.named_parameters():
        if not torch.isfinite(parameter).all():
            raise CheckpointError(f"'{name}' of the heads has values that are NaN or infinite.")
