"""Trainers of control: the losses of decoding commands beside the decoding objective, with or without an adapter."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from torch import Tensor

from autodeco.checkpoint.adapter import adapter_disabled, adapter_parameters, set_adapter_weights
from autodeco.checkpoint.adapter_files import find_adapter
from autodeco.checkpoint.heads import find_heads
from autodeco.checkpoint.source import Source
from autodeco.control.groups import asked_of, sampled_labels, without_some
from autodeco.control.upper_layers import UpperLayers
from autodeco.errors import CheckpointError
from autodeco.objectives.control import ControlWeights, control
from autodeco.objectives.prompt import prompt_of
from autodeco.training.trainer import AutoDecoTrainer, Objective


class ControlTrainer(AutoDecoTrainer):
    """Adds the losses of decoding commands to the decoding objective.

    Args:
        weights: of the losses.
        sampled_tokens: how many tokens of each completion a step looks at; 0 for all.
        prompt_dropout: share of a prompt's positions that a step's summaries leave out.
        **kwargs: of :class:`AutoDecoTrainer`; its ``objective`` is for uncommanded rows.
    """

    def __init__(
        self, *, weights: ControlWeights, sampled_tokens: int = 0, prompt_dropout: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._weights = weights
        self._sampled_tokens = sampled_tokens
        self._prompt_dropout = prompt_dropout
        # A resumed run loads its checkpoint later, so these are the starting heads then, too.
        self._starting_heads = copy.deepcopy(self._autodeco_model.decoding_heads).requires_grad_(False)

    def _objective_of(self, inputs: dict[str, Tensor]) -> Objective:
        return functools.partial(
            control,
            asked=asked_of(inputs),
            weights=self._weights,
            decoding=self._objective,
            starting_heads=self._starting_heads,
        )

    def _sampled(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        sampled = dict(inputs)
        if self._sampled_tokens:
            sampled["labels"] = sampled_labels(inputs, self._sampled_tokens, generator)
        if self._autodeco_model.autodeco_config.prompt_summary:
            # Of all labels: the first that is left does not say where the prompt ends. Batches are padded on the right.
            mask = prompt_of(inputs["labels"]) if "prompt_mask" not in inputs else inputs["prompt_mask"]
            sampled["prompt_mask"] = without_some(mask, self._prompt_dropout, generator)
        return sampled


class AdapterControlTrainer(ControlTrainer):
    """Trains the LoRA adapter on the base, too. The base runs twice a step, with the adapter and without it.

    With ``upper_layers`` a step runs the last layers once, and the whole base over rows that it has not seen before.

    Args:
        adapter_learning_rate: peak learning rate of the adapter; its schedule is that of the heads.
        upper_layers: the layers that it is on, if these are the last alone.
        **kwargs: of :class:`ControlTrainer`; the model's base has an adapter.
    """

    def __init__(self, *, adapter_learning_rate: float, upper_layers: UpperLayers | None = None, **kwargs: Any) -> None:
        for parameter in adapter_parameters(kwargs["model"]):
            parameter.requires_grad_(True)
        super().__init__(**kwargs)
        self._adapter_learning_rate = adapter_learning_rate
        self._upper_layers = upper_layers

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """As of the class above, on hidden states of the last layers alone where the adapter is on these."""
        if self._upper_layers is not None and model.training:  # what it keeps is of the training rows
            own, base = self._upper_layers(inputs)
            inputs = {**inputs, "hidden_states": own, "base_hidden_states": base}
        return super().compute_loss(model, inputs, *args, **kwargs)

    def create_optimizer(self, model: Any = None) -> Any:
        """Transformers' own optimiser, with the adapter's weights in groups of their own learning rate."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if is_new:
            adapter = {id(parameter) for parameter in adapter_parameters(self._autodeco_model)}
            for group in list(optimizer.param_groups):
                own = [parameter for parameter in group["params"] if id(parameter) in adapter]
                group["params"] = [parameter for parameter in group["params"] if id(parameter) not in adapter]
                optimizer.add_param_group({**group, "params": own, "lr": self._adapter_learning_rate})
        return optimizer

    def _objective_of(self, inputs: dict[str, Tensor]) -> Objective:
        base = inputs.get("base_hidden_states")
        if base is None:
            # Before the pass with the adapter, whose graph must not see it switched off.
            with torch.no_grad(), adapter_disabled(self._autodeco_model):
                base = self._autodeco_model.lm_head_inputs(inputs["input_ids"], inputs["attention_mask"])
        return functools.partial(super()._objective_of(inputs), base_hidden_states=base)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        stored = find_adapter(find_heads(Source.open(resume_from_checkpoint)))
        if stored is None:
            raise CheckpointError(f"{resume_from_checkpoint} holds no adapter, and this run trains one.")
        set_adapter_weights(self._autodeco_model, stored.tensors(), f"{stored.label} is of another run")
