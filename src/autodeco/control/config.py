"""ControlConfig: every setting of ``autodeco control train``, checked before anything is loaded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from autodeco.control.placement import Position
from autodeco.objectives.control import ControlWeights
from autodeco.training.config import TrainingConfig, checked_config

VersionKind = Literal["low", "high", "graded", "absolute", "lookalike", "ignored", "contradictory"]

# Defaults where training starts from trained heads.
_WITH_HEADS = {"decoding_weight": 0.0, "keep_weight": 3.0}


class ControlConfig(TrainingConfig):
    """Settings of a control training run: those of ``autodeco train``, and what follows.

    The paper gives no settings for its ranking loss that this project knows; these defaults are this project's.
    ``batch_size`` counts prompts, each with all its commanded versions; ``eval_data`` are met with validation
    phrasings. Where ``heads`` are given, ``decoding_weight`` is 0 and ``keep_weight`` 3 unless set: trained heads are
    kept as they are without a command. The decoding objective would go on to move them, P towards 1 above all, where a
    command has no room. Where an adapter is trained (``lora_rank``), the base runs at every step, twice: with the
    adapter, and without it for what is to stay as it was; with ``lora_layers``, once over each row and then its last
    layers alone.
    """

    FORMER: ClassVar[dict[str, Any]] = {"margin_ceiling": None, "prompt_dropout": 0.0}

    commands: Path | None = Field(None, description="own commands, a YAML file; default: the packaged phrasings")
    commands_per_prompt: dict[VersionKind, int] = Field(
        {"low": 1, "high": 1, "graded": 1, "absolute": 1, "lookalike": 1, "ignored": 1, "contradictory": 1},
        description="how many commands of each kind every prompt is met with, beside none",
    )
    positions: list[Position] = Field(
        ["system", "before", "after"],
        min_length=1,
        description="where commands are obeyed; elsewhere, and in quoted text, they are trained to change nothing",
    )
    completion_tokens: int = Field(128, ge=1, description="tokens of each completion that are used; the rest is cut")
    sampled_tokens: int = Field(
        24,
        ge=0,
        description="tokens of each completion that a step's losses look at, drawn anew at every step and the same in "
        "all versions of a prompt; 0: all. Statistics for P are a pass over the vocabulary for each",
    )

    prompt_dropout: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="share of a prompt's tokens that a step's summary leaves out, drawn anew (prompt_summary)",
    )

    steer: list[Literal["temperature", "top_p"]] = Field(
        ["temperature", "top_p"], min_length=1, description="heads that commands move"
    )
    temperature_margin: float = Field(0.2, gt=0, le=2, description="μ of T: difference that a level of 1 has to make")
    top_p_margin: float = Field(0.1, gt=0, le=1, description="μ of P")
    margin_ceiling: float | None = Field(
        2.0, ge=1, allow_inf_nan=False, description="κ: the difference may be so many times that; null: no bound"
    )
    decoding_weight: float = Field(1.0, ge=0, description="weight of the decoding objective on uncommanded rows")
    ranking_weight: float = Field(1.0, ge=0, description="weight of the ranking loss")
    hold_weight: float = Field(3.0, ge=0, description="weight of leaving look-alikes and ignored commands alone")
    absolute_weight: float = Field(1.0, ge=0, description="weight of the regression to values asked for")

    keep_weight: float = Field(
        0.0, ge=0, description="weight of keeping uncommanded rows at the starting heads' T and P"
    )

    lora_rank: int = Field(0, ge=0, description="rank of a LoRA adapter trained with the heads; 0: frozen base")
    lora_alpha: float = Field(16.0, gt=0, description="the adapter's change is scaled by lora_alpha / lora_rank")
    lora_targets: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="adapted layers, by the last parts of their names; all-linear: all but lm_head"
    )
    lora_layers: int = Field(
        0,
        ge=0,
        description="adapt so many of the last layers alone, and run those below once over each row; 0: all layers",
    )
    lora_learning_rate: float = Field(1e-4, gt=0, le=1, description="peak learning rate of the adapter")
    base_weight: float = Field(
        10.0, ge=0, description="weight of keeping the adapted base's token distribution at the frozen base's"
    )

    learning_rate: float = Field(1e-3, gt=0, le=1, description="peak learning rate of AdamW")
    batch_size: int = Field(4, ge=1, description="prompts a device and micro-step, each with all its versions")
    gradient_accumulation: int = Field(2, ge=1, description="micro-steps an optimiser step")
    hidden_state_store: Literal["auto", "on", "off"] = Field(
        "on", description="run the base once and train from its stored hidden states"
    )

    @field_validator("commands_per_prompt")
    @classmethod
    def _has_commands(cls, value: dict[str, int]) -> dict[str, int]:
        if min(value.values(), default=0) < 0 or not sum(value.values()):
            raise ValueError("each count must be 0 or more, and one at least above 0")
        return value

    @model_validator(mode="before")
    @classmethod
    def _trained_heads_are_kept(cls, values: Any) -> Any:
        return {**_WITH_HEADS, **values} if isinstance(values, dict) and values.get("heads") is not None else values

    @model_validator(mode="before")
    @classmethod
    def _adapted_states_are_not_stored(cls, values: Any) -> Any:
        adapted = isinstance(values, dict) and values.get("lora_rank")
        return {"hidden_state_store": "off", **values} if adapted else values

    @model_validator(mode="after")
    def _stores_only_what_stays(self) -> ControlConfig:
        if self.lora_rank and self.hidden_state_store != "off":
            raise ValueError(
                "lora_rank trains an adapter on the base, whose hidden states change at every step: hidden_state_store "
                "must be off"
            )
        return self

    @model_validator(mode="after")
    def _summarises_what_stays(self) -> ControlConfig:
        if self.lora_rank and self.prompt_layer:
            raise ValueError(
                "prompt_layer summarises the prompt after a layer that the adapter of lora_rank changes; with an "
                "adapter, leave it at 0"
            )
        return self

    @model_validator(mode="after")
    def _has_an_adapter_to_limit(self) -> ControlConfig:
        if self.lora_layers and not self.lora_rank:
            raise ValueError("lora_layers says where the adapter of lora_rank is, and lora_rank is 0: there is none")
        return self

    @model_validator(mode="after")
    def _keeps_what_is_there(self) -> ControlConfig:
        if self.keep_weight and self.heads is None:
            raise ValueError(
                "keep_weight keeps uncommanded rows where the heads named by 'heads' put them, and there are none named"
            )
        return self

    @model_validator(mode="after")
    def _steers_what_is_there(self) -> ControlConfig:
        for head in self.steer:
            if not getattr(self, f"{head}_head"):
                raise ValueError(f"steer names {head}, and {head}_head is false")
        return self

    @property
    def weights(self) -> ControlWeights:
        """Of the losses."""
        return ControlWeights(
            temperature="temperature" in self.steer,
            top_p="top_p" in self.steer,
            temperature_margin=self.temperature_margin,
            top_p_margin=self.top_p_margin,
            margin_ceiling=math.inf if self.margin_ceiling is None else self.margin_ceiling,
            decoding=self.decoding_weight,
            ranking=self.ranking_weight,
            hold=self.hold_weight,
            absolute=self.absolute_weight,
            keep=self.keep_weight,
            base=self.base_weight,
        )


def control_config(values: dict[str, Any], source: str = "the control configuration") -> ControlConfig:
    """Builds a :class:`ControlConfig`; errors as :func:`autodeco.training.config.checked_config`."""
    return checked_config(ControlConfig, values, source)
