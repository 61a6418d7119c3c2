"""AutoDecoForCausalLM: any Transformers causal LM whose forward pass returns the distribution to sample from.

There is one mechanism for every architecture: a loaded model's class is replaced by a subclass of it whose ``forward``
passes the base's logits through the decoding heads. Everything else, ``generate`` with all its modes above all, stays
the base's own code. The heads read the input of ``lm_head`` from a hook, so no other hidden state is kept, and logits
exist for the positions that were asked for only.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers.utils import ModelOutput

from autodeco import distribution, lm_head, outputs, prompts
from autodeco.config import AutoDecoConfig
from autodeco.errors import CheckpointError
from autodeco.generation import generate_with_trace, neutral_generation_config
from autodeco.heads import DecodingHeads
from autodeco.objectives.output import ObjectiveOutput
from autodeco.prompt_states import kept_states, register
from autodeco.shaping import Shaping
from autodeco.steering import Decoding, steering
from autodeco.training_pass import TrainingPass


class AutoDecoForCausalLM(Shaping, TrainingPass):
    """A frozen causal LM with decoding heads. Made by :meth:`from_base` or :meth:`from_pretrained`, not directly.

    An instance is also an instance of the base model's class (``isinstance(model, LlamaForCausalLM)`` holds), so
    whatever works with the base works with it. ``model.decoding_heads`` holds the only trainable parameters.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError("use AutoDecoForCausalLM.from_base(...) or AutoDecoForCausalLM.from_pretrained(...).")

    @classmethod
    def from_base(
        cls,
        base: str | Path | nn.Module,
        *,
        heads: DecodingHeads | None = None,
        revision: str | None = None,
        temperature_head: bool = True,
        top_p_head: bool = True,
        statistics_features: bool = True,
        temperature_features: bool = False,
        prompt_summary: bool = False,
        prompt_layer: int = 0,
        **kwargs: Any,
    ) -> AutoDecoForCausalLM:
        """Puts heads on a base model: new ones, or those given.

        Args:
            base: hub id, local folder, ``"smollm2-135m"``, or a loaded Transformers causal LM (which is changed in
                place: its class becomes the AutoDeco class and its parameters are frozen).
            heads: existing heads; ``None`` makes new ones with PyTorch's default initialisation (T near 1, P near
                0.5), which have to be trained before the model is of use.
            revision: hub revision of the base.
            temperature_head: whether new heads include one for temperature.
            top_p_head: whether new heads include one for top-p.
            statistics_features: whether a new top-p head sees statistics of the logits.
            temperature_features: whether a new temperature head does.
            prompt_summary: whether new heads see a summary of the prompt (they cannot be merged). Heads that are given
                can be extended: ``heads.with_prompt_summary()``.
            prompt_layer: after which layer the prompt is summarised; 0: after the last.
            **kwargs: for Transformers' ``from_pretrained`` (``dtype``, ``device_map``, ``attn_implementation``, ...).

        Raises:
            ModelNotFoundError: ``base`` is neither a folder nor a hub id that can be loaded.
            CheckpointError: the heads are of another hidden or vocabulary size, or were trained with an adapter.
        """
        if heads is not None and heads.config.adapter_sha256 is not None:
            raise CheckpointError(
                "these heads were trained together with a LoRA adapter, and mean nothing without it. from_pretrained "
                "loads both; 'autodeco merge' makes one model of base, adapter and heads."
            )
        if isinstance(base, nn.Module):
            model, name = base, getattr(base.config, "_name_or_path", None) or None
        else:
            from autodeco.checkpoint import load_base  # loading is built on this module

            model, name = load_base(str(base), revision=revision, **kwargs), str(base)
        hidden_size, vocab_size = lm_head.shape_of(model)
        if heads is None:
            heads = DecodingHeads(
                AutoDecoConfig(
                    hidden_size=hidden_size,
                    vocab_size=vocab_size,
                    temperature_head=temperature_head,
                    top_p_head=top_p_head,
                    statistics_features=statistics_features,
                    temperature_features=temperature_features,
                    prompt_summary=prompt_summary,
                    prompt_layer=prompt_layer,
                    base_model_name_or_path=name,
                    base_model_revision=revision,
                )
            )
        return attach_heads(model, heads)

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path, **kwargs: Any) -> AutoDecoForCausalLM:
        """Loads heads with their base, a merged checkpoint, or a released checkpoint of either layout.

        Args:
            path_or_id: local folder or hub id.
            **kwargs: ``base_model`` (use this base instead of the recorded one), ``revision``; the rest goes to
                Transformers' ``from_pretrained`` for the base.

        Raises:
            ModelNotFoundError: nothing was found at ``path_or_id``.
            CheckpointError: a file is damaged, or heads and base do not belong together.
        """
        from autodeco.checkpoint import load_model

        return load_model(path_or_id, **kwargs)

    def save_pretrained(self, save_directory: str | Path, **_: Any) -> None:
        """Writes the heads (not the base) as a folder of a few MB: configuration, safetensors, model card.

        A LoRA adapter on the base, trained with the heads, is written beside them.

        Transformers' own keyword arguments (``max_shard_size``, ``state_dict``, ...) are accepted and have no effect.
        """
        from autodeco.checkpoint import save_heads, saved_adapter

        save_heads(self.decoding_heads, save_directory, saved_adapter(self))

    def push_to_hub(self, repo_id: str, *, max_shard_size: Any = None, **kwargs: Any) -> Any:
        """Uploads the heads, their configuration and model card to a hub repository, as Transformers does a model.

        Args:
            repo_id: the repository.
            max_shard_size: accepted as in Transformers, and of no effect.
            **kwargs: ``commit_message``, ``private``, ``token``, ``revision``, ``create_pr``, ``tags``, ...
        """
        from autodeco.checkpoint import push_heads, saved_adapter

        return push_heads(self.decoding_heads, repo_id, adapter=saved_adapter(self), **kwargs)

    def forward(
        self,
        *args: Any,
        objective: Callable[..., ObjectiveOutput] | None = None,
        prompt_mask: Tensor | None = None,
        prompt_summary: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Runs the base model and shapes its logits, or computes a training objective.

        Arguments are the base model's own. With ``labels`` alone, the loss is the base model's (of the unshaped
        logits). With ``objective``, nothing is shaped: the result holds the ``loss`` to train the heads with, and the
        objective's own output as ``objective``.

        Heads with ``prompt_summary`` take two more. Within ``generate`` the prompt is known. Elsewhere it is where
        ``prompt_mask`` is true, and without one all that the pass is given, padding left out; with an objective, all
        before each row's first label. A pass that goes on from a cache takes the first pass's ``prompt_summary``.

        Args:
            *args: the base model's.
            objective: one of :mod:`autodeco.objectives`, its settings bound.
            prompt_mask: ``[B, S]``, true at the prompt's positions among those of this pass.
            prompt_summary: the output's of an earlier pass over the prompt; not with an objective, which trains it.
            **kwargs: the base model's.

        Returns:
            The base model's output with ``logits`` shaped (``[B, S, V]`` float32) and three more fields:
            ``base_logits`` ``[B, S, V]``, ``temperature`` ``[B, S]``, ``top_p`` ``[B, S]``. ``S`` counts the positions
            that ``logits_to_keep`` asks for. Heads with ``prompt_summary`` add a field of that name, for later passes.

        Raises:
            ConfigError: the heads see a summary of the prompt, and it cannot be told; or a prompt is given to heads
                that see none.
        """
        prompts.check_wanted(self, prompt_mask, prompt_summary)
        if objective is not None:
            return self._training_output(
                objective, *args, prompt_mask=prompt_mask, prompt_summary=prompt_summary, **kwargs
            )
        if not self.heads_enabled:
            return super().forward(*args, **kwargs)
        return_dict = kwargs.pop("return_dict", None)
        seen_summary = None
        if self.autodeco_config.prompt_summary:
            prompt = prompts.prompt_of_pass(self, args, kwargs, prompt_mask, prompt_summary)
            with kept_states() as kept:
                output = super().forward(*args, return_dict=True, **kwargs)
            prompt_summary = prompt(kept[0])
            seen_summary = prompt_summary.unsqueeze(1)
        else:
            output = super().forward(*args, return_dict=True, **kwargs)
        seen = self.decoding_heads.input_of(lm_head.take_input(), seen_summary)
        shaped = self.shaper.shape(seen, output.logits)
        if (trace := outputs.active_trace()) is not None:
            last = (shaped.temperature[:, -1], shaped.top_p[:, -1], distribution.entropy(shaped.logits[:, -1]))
            trace.append(tuple(value.detach() for value in last))
        output = outputs.extend(
            output,
            base_logits=output.logits,
            logits=shaped.logits,
            temperature=shaped.temperature,
            top_p=shaped.top_p,
            prompt_summary=prompt_summary,
        )
        return output.to_tuple() if return_dict is False else output

    def generate(
        self,
        *args: Any,
        trace: bool = False,
        decoding: Decoding | None = None,
        prompt_summary: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor | ModelOutput:
        """Transformers' own ``generate``, unchanged.

        Args:
            *args: as in Transformers.
            trace: also return what the heads chose for each new token.
            decoding: steers the heads' choices in this call. ``"certain"``: T · 0.5, P · 0.9 at every token;
                ``"diverse"``: T · 1.5, P / 0.9, up to the heads' maximum and 1; ``{"temperature": 0.3}``,
                ``{"top_p": 0.9}`` or both: this value at every token, and the other head's choices as ever.
            prompt_summary: for heads that see one, that of an earlier call's output object, to go on with the same
                prompt's completion. Without it the prompt is everything before this call's tokens.
            **kwargs: as in Transformers.

        Returns:
            Transformers' result. With ``trace``, its output object (as with ``return_dict_in_generate=True``) with
            three more fields, ``temperature``, ``top_p`` and ``entropy`` (of the distribution sampled from, in nats),
            each ``[B, new tokens]``; NaN after a sequence's end. Output objects of heads with ``prompt_summary`` have a
            field of that name, a row a prompt.

        Raises:
            ConfigError: ``decoding`` is unknown or out of range, or given where not the heads decode; or the prompt's
                summary cannot be had.
        """
        if decoding is not None:
            with steering(self, decoding):
                return self.generate(*args, trace=trace, prompt_summary=prompt_summary, **kwargs)
        if self._strategy is not None and self._strategy.greedy:
            kwargs.setdefault("do_sample", False)
        with prompts.generating(self, args, kwargs, prompt_summary) as call:
            if trace:
                result = generate_with_trace(self, super().generate, args, kwargs, prompt_summary)
            else:
                result = super().generate(*args, **kwargs)
        if call is not None and isinstance(result, ModelOutput):
            result = outputs.extend(result, prompt_summary=call.of_prompts)
        return result


def attach_heads(model: Any, heads: DecodingHeads) -> AutoDecoForCausalLM:
    """Turns a loaded causal LM into its AutoDeco class, in place.

    Args:
        model: a Transformers causal LM with an output embedding.
        heads: for its hidden and vocabulary size; moved to the device of its ``lm_head``, kept in float32.

    Raises:
        CheckpointError: sizes differ, or the model has heads already.
    """
    if isinstance(model, AutoDecoForCausalLM):
        raise CheckpointError(f"{type(model).__name__} has decoding heads already; put new ones on a plain base model.")
    hidden_size, vocab_size = lm_head.shape_of(model)
    config = heads.config
    name = getattr(model.config, "_name_or_path", None) or type(model).__name__
    config.check_fits(hidden_size, vocab_size, f"'{name}'")
    output_embeddings = model.get_output_embeddings()
    model.requires_grad_(False)
    model.__class__ = autodeco_class(type(model))  # type: ignore[arg-type]
    model.autodeco_config = config
    model.decoding_heads = heads.to(device=output_embeddings.weight.device)
    output_embeddings.register_forward_pre_hook(lm_head.keep_input)
    if config.prompt_summary:
        register(model, config)
    model.generation_config = neutral_generation_config(model.generation_config)
    attached: AutoDecoForCausalLM = model.eval()
    return attached


@functools.cache
def autodeco_class(base_class: Any) -> type[AutoDecoForCausalLM]:
    """The AutoDeco subclass of a causal-LM class, named ``AutoDeco<BaseClass>``."""

    # Transformers reads forward's signature (to see whether it takes logits_to_keep, which arguments are valid, ...).
    @functools.wraps(base_class.forward)
    def forward(self: AutoDecoForCausalLM, *args: Any, **kwargs: Any) -> Any:
        return AutoDecoForCausalLM.forward(self, *args, **kwargs)

    forward.__signature__ = inspect.signature(base_class.forward)  # type: ignore[attr-defined]
    forward.__doc__ = AutoDecoForCausalLM.forward.__doc__
    members = {"forward": forward, "__module__": __name__, "__doc__": AutoDecoForCausalLM.__doc__}
    return type(f"AutoDeco{base_class.__name__}", (AutoDecoForCausalLM, base_class), members)
